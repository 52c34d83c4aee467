//! The cache of verified tokens: who they make the caller, as long as all that made it so still holds (G14).
//!
//! A token is found by all of its bytes, so two are never confused; the hash has a seed of its own, so that
//! no caller can aim at a slot. What is refused is never kept: strangers evict no caller. The cache is
//! bounded in bytes (`identity.token_cache_size`), and what was used least recently goes first.

use std::sync::Arc;

use ahash::RandomState;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::caller::Caller;
use super::certificate::Thumbprint;
use super::key_set::KeySet;
use crate::memory::Reclaim;
use crate::settings::Size;
use crate::system::Moment;

#[derive(Clone)]
pub(crate) struct TokenCache(Cache<TokenBytes, Arc<VerifiedToken>, RandomState>);

type TokenBytes = Box<[u8]>;

pub(super) struct VerifiedToken {
    pub(super) caller: Arc<Caller>,
    pub(super) bound_to: Option<Thumbprint>,
    pub(super) keys: Arc<KeySet>,
    pub(super) generation: u64,
}

impl TokenCache {
    pub(super) fn new(max_size: Size) -> Self {
        let cache = Cache::builder()
            .max_capacity(max_size.0)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|token: &TokenBytes, verified: &Arc<VerifiedToken>| weight(token, verified));
        Self(cache.build_with_hasher(RandomState::new()))
    }

    /// The caller of `token`, if it was verified under `generation`, is still good, and is shown with the
    /// certificate that it is bound to.
    pub(super) fn get(
        &self,
        token: &[u8],
        holder: Option<&Thumbprint>,
        generation: u64,
        now: Moment,
    ) -> Option<Arc<Caller>> {
        let verified = self.0.get(token)?;
        let is_holder = verified.bound_to.is_none() || verified.bound_to.as_ref() == holder;
        (is_holder && verified.holds(generation, now)).then(|| Arc::clone(&verified.caller))
    }

    pub(super) fn insert(&self, token: &[u8], verified: VerifiedToken) {
        self.0.insert(Box::from(token), Arc::new(verified));
    }

    pub(super) fn sweep(&self, generation: u64, now: Moment) {
        for (token, verified) in &self.0 {
            if !verified.holds(generation, now) {
                self.0.invalidate(&**token);
            }
        }
    }
}

impl VerifiedToken {
    fn holds(&self, generation: u64, now: Moment) -> bool {
        self.generation == generation && now.wall < self.caller.expires_at && self.keys.holds(now)
    }
}

impl Reclaim for TokenCache {
    fn held(&self) -> u64 {
        self.0.weighted_size()
    }

    /// In no order: each costs one signature check when it is shown again.
    fn reclaim(&self, bytes: u64) {
        let mut left = bytes;
        for (token, verified) in &self.0 {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(weight(&token, &verified).into());
            self.0.invalidate(&**token);
        }
    }
}

fn weight(token: &[u8], verified: &VerifiedToken) -> u32 {
    let caller = &verified.caller;
    let names = [&caller.client_id, &caller.token_id, &caller.key_id];
    let scopes = caller.scopes.iter().map(|scope| OF_A_TEXT + scope.len());
    let names = names.into_iter().flatten().chain([&caller.subject]);
    let names = names.map(|name| OF_A_TEXT + name.len());
    let weight = OF_AN_ENTRY + token.len() + names.sum::<usize>() + scopes.sum::<usize>();
    u32::try_from(weight).expect("a token is at most 8 KiB, and its texts are parts of it")
}

/// What an entry takes besides its texts, moka's own part and what an allocator rounds up included; measured.
const OF_AN_ENTRY: usize = size_of::<VerifiedToken>() + size_of::<Caller>() + 440;
const OF_A_TEXT: usize = 24;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::caller::RuleListNumber;
    use super::*;
    use crate::atlas::Timestamp;

    fn at(seconds: i64) -> Moment {
        Moment {
            elapsed: Duration::ZERO,
            wall: Timestamp::from_seconds(seconds),
        }
    }

    fn verified(ends: i64) -> VerifiedToken {
        let caller = Caller {
            subject: Box::from("payments-api"),
            issuer: Arc::from("https://idp.test"),
            client_id: None,
            token_id: None,
            key_id: None,
            scopes: Box::default(),
            expires_at: Timestamp::from_seconds(ends),
            rule_list: RuleListNumber::default(),
        };
        VerifiedToken {
            caller: Arc::new(caller),
            bound_to: None,
            keys: Arc::new(KeySet::for_tests(Vec::new())),
            generation: 1,
        }
    }

    #[test]
    fn a_token_is_found_whole_by_its_generation_and_until_it_ends() {
        let cache = TokenCache::new(Size::mebibytes(1));
        let long = "t".repeat(200);
        cache.insert(long.as_bytes(), verified(10));
        let get = |token: &str, generation, now| cache.get(token.as_bytes(), None, generation, now);
        assert!(get(&long, 1, at(9)).is_some());
        assert!(get(&long, 1, at(10)).is_none());
        assert!(get(&long, 2, at(9)).is_none());
        for other in [
            format!("x{long}"),
            long.replacen("tt", "", 1),
            String::new(),
        ] {
            assert!(get(&other, 1, at(9)).is_none(), "{other}");
        }
    }

    #[test]
    fn the_cache_holds_what_its_setting_says_and_gives_back_what_it_is_asked_for() {
        let cache = TokenCache::new(Size::mebibytes(96));
        let token = |number: usize| format!("{number:0>1000}").into_bytes();
        let known = |number| cache.get(&token(number), None, 1, at(0)).is_some();
        let size = || {
            cache.0.run_pending_tasks();
            cache.held()
        };
        for number in 0..50_000 {
            cache.insert(&token(number), verified(10));
        }
        assert!(size() <= 96 << 20);
        assert!((0..50_000).all(known), "all of the default's 50,000");
        for number in 50_000..100_000 {
            cache.insert(&token(number), verified(20));
        }
        assert!(size() <= 96 << 20);
        assert!(!known(0) && known(99_999), "the oldest has gone");
        cache.sweep(1, at(10));
        assert!(size() > 0);
        let before = size();
        cache.reclaim(before / 8);
        let freed = before - size();
        assert!((before / 8..before / 7).contains(&freed), "{freed}");
        cache.sweep(1, at(20));
        assert_eq!(size(), 0);
    }
}
