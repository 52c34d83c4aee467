//! What several rules give together: rules go in one after the other, the sum of their rights comes out.

use std::borrow::Cow;
use std::sync::Arc;

use super::rules::Rule;

/// What a rule allows each caller in a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit<'p> {
    /// How many.
    pub per_minute: u32,
    /// The name of the rule that says so.
    pub rule: Cow<'p, Arc<str>>,
}

/// The sum of what the rules that match give.
#[derive(Clone, Debug)]
pub(super) struct Rights<'p> {
    /// The first of the rules, in the order of the file.
    first: &'p Rule,
    pub(super) force_refresh: bool,
    lookups: Most<'p>,
    misses: Most<'p>,
}

/// The most generous limit: a rule's, or none at all, which is more than any.
#[derive(Clone, Copy, Debug)]
struct Most<'p>(Option<(u32, &'p Rule)>);

impl<'p> Rights<'p> {
    pub(super) fn of(rule: &'p Rule) -> Self {
        let limit = |limit: Option<u32>| Most(limit.map(|most| (most, rule)));
        Self {
            first: rule,
            force_refresh: rule.force_refresh,
            lookups: limit(rule.lookups_per_minute),
            misses: limit(rule.misses_per_minute),
        }
    }

    /// Adds those of another rule. In whatever order rules come, and however often, the sum is the same.
    pub(super) fn add(self, rule: &'p Rule) -> Self {
        let other = Self::of(rule);
        Self {
            first: earlier(self.first, other.first),
            force_refresh: self.force_refresh || other.force_refresh,
            lookups: self.lookups.or(other.lookups),
            misses: self.misses.or(other.misses),
        }
    }

    /// The name of the first rule.
    pub(super) fn rule(&self) -> &'p Arc<str> {
        self.first.name()
    }

    pub(super) fn lookups_per_minute(&self) -> Option<RateLimit<'p>> {
        self.lookups.limit()
    }

    pub(super) fn misses_per_minute(&self) -> Option<RateLimit<'p>> {
        self.misses.limit()
    }
}

impl<'p> Most<'p> {
    fn or(self, other: Self) -> Self {
        let (Some((ours, our_rule)), Some((theirs, their_rule))) = (self.0, other.0) else {
            return Self(None);
        };
        Self(Some(match ours.cmp(&theirs) {
            std::cmp::Ordering::Less => (theirs, their_rule),
            std::cmp::Ordering::Equal => (ours, earlier(our_rule, their_rule)),
            std::cmp::Ordering::Greater => (ours, our_rule),
        }))
    }

    fn limit(self) -> Option<RateLimit<'p>> {
        self.0.map(|(per_minute, rule)| RateLimit {
            per_minute,
            rule: Cow::Borrowed(rule.name()),
        })
    }
}

impl RateLimit<'_> {
    /// The same, for when what it was read from is gone.
    pub(super) fn into_owned(self) -> RateLimit<'static> {
        RateLimit {
            per_minute: self.per_minute,
            rule: Cow::Owned(self.rule.into_owned()),
        }
    }
}

fn earlier<'p>(one: &'p Rule, other: &'p Rule) -> &'p Rule {
    if other.position < one.position {
        other
    } else {
        one
    }
}
