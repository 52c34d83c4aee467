//! Which rules apply to a caller, found once per token and policy generation.
//!
//! Most of a rule is about the caller (subject, issuer, scopes), which does not change while a token lives. So a
//! hit looks only at the projects and usernames of the few rules that apply, however many there are. Callers that
//! the same rules apply to share one list; the caller itself keeps only the list's number, so what is kept is
//! bounded here, and goes with the policy that it belongs to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::identity::Caller;

type RuleList = Arc<[usize]>;

#[derive(Debug)]
pub(super) struct RuleLists {
    /// Unique in this process and never 0, which no caller has noted then.
    generation: u32,
    lists: ArcSwap<Vec<RuleList>>,
    numbers: Mutex<HashMap<RuleList, u32>>,
}

impl RuleLists {
    pub(super) fn new() -> Self {
        static GENERATIONS: AtomicU32 = AtomicU32::new(1);
        Self {
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            lists: ArcSwap::default(),
            numbers: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Shows `judge` the rules that apply to `caller`; `find` says which, where it is not known yet.
    pub(super) fn with<R>(
        &self,
        caller: &Caller,
        find: impl FnOnce() -> Vec<usize>,
        judge: impl FnOnce(&[usize]) -> R,
    ) -> R {
        if let Some(number) = caller.rule_list.get(self.generation) {
            let lists = self.lists.load();
            let number = usize::try_from(number).expect("a u32 is a usize");
            return judge(lists.get(number).expect("a number is noted after its list"));
        }
        let list = find();
        if let Some(number) = self.number(&list) {
            caller.rule_list.set(self.generation, number);
        }
        judge(&list)
    }

    fn number(&self, list: &[usize]) -> Option<u32> {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = numbers.get(list) {
            return Some(*number);
        }
        let kept: usize = numbers.keys().map(|list| list.len() + 1).sum();
        if kept + list.len() >= MOST_KEPT {
            return None;
        }
        let list = RuleList::from(list);
        let mut lists = Vec::clone(&self.lists.load());
        let number = u32::try_from(lists.len()).expect("MOST_KEPT is less");
        lists.push(Arc::clone(&list));
        self.lists.store(Arc::new(lists));
        numbers.insert(list, number);
        Some(number)
    }
}

/// Positions in all lists together, and one for each list: some 10 MB.
const MOST_KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::caller;

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_is_found_each_time() {
        let lists = RuleLists::new();
        assert_eq!(lists.number(&vec![0; MOST_KEPT - 2]), Some(0));
        assert_eq!(lists.number(&[1, 2]), None);
        let caller = caller("a");
        for _ in 0..2 {
            let found = lists.with(&caller, || vec![1, 2], <[usize]>::to_vec);
            assert_eq!(found, [1, 2]);
        }
        assert_eq!(caller.rule_list.get(lists.generation), None);
    }
}
