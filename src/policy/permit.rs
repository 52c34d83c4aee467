//! The proof that a caller may look a list up, with the rights that come with it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use super::rule::Rule;
use crate::atlas::CertQuery;

/// Proof that a caller may ask a question. The cache accepts nothing else.
///
/// Only [`Policy::authorize`](super::Policy::authorize) makes one:
///
/// ```compile_fail,E0451
/// use std::borrow::Cow;
/// use std::sync::Arc;
/// use atlas_cert_gateway::policy::Permit;
///
/// fn forge(genuine: &Permit<'_>) -> Permit<'static> {
///     Permit {
///         query: Cow::Owned(genuine.query().clone()),
///         rule: Cow::Owned(Arc::from("mine")),
///         force_refresh: true,
///         lookups: None,
///         misses: None,
///     }
/// }
/// ```
///
/// It borrows, so that a hit counts no references; a caller that waits takes [`Permit::into_owned`] along.
#[derive(Clone, Debug)]
pub struct Permit<'p> {
    query: Cow<'p, CertQuery>,
    rule: Cow<'p, Arc<str>>,
    force_refresh: bool,
    lookups: Option<RateLimit<'p>>,
    misses: Option<RateLimit<'p>>,
}

/// That a caller may ask about a project as a whole, which says nothing of any list in it.
#[derive(Debug)]
pub(crate) struct ProjectGrant<'p> {
    rule: &'p Arc<str>,
    lookups: Option<RateLimit<'p>>,
    inventory: bool,
}

/// What a rule allows each caller in a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit<'p> {
    pub(crate) per_minute: u32,
    pub(crate) rule: Cow<'p, Arc<str>>,
}

impl<'p> Permit<'p> {
    pub(super) fn by(rule: &'p Rule, query: &'p CertQuery) -> Self {
        Self {
            query: Cow::Borrowed(query),
            rule: Cow::Borrowed(&rule.name),
            force_refresh: rule.config.force_refresh,
            lookups: limit(rule, rule.config.lookups_per_minute),
            misses: limit(rule, rule.config.misses_per_minute),
        }
    }

    pub(super) fn and_by(self, rule: &'p Rule) -> Self {
        Self {
            force_refresh: self.force_refresh || rule.config.force_refresh,
            lookups: most_generous(self.lookups, limit(rule, rule.config.lookups_per_minute)),
            misses: most_generous(self.misses, limit(rule, rule.config.misses_per_minute)),
            ..self
        }
    }

    /// The same, for when what it was read from is gone.
    #[must_use]
    pub fn into_owned(self) -> Permit<'static> {
        Permit {
            query: Cow::Owned(self.query.into_owned()),
            rule: Cow::Owned(self.rule.into_owned()),
            force_refresh: self.force_refresh,
            lookups: self.lookups.map(RateLimit::into_owned),
            misses: self.misses.map(RateLimit::into_owned),
        }
    }

    /// What may be asked.
    pub fn query(&self) -> &CertQuery {
        &self.query
    }

    pub(crate) fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    pub(crate) fn may_force_refresh(&self) -> bool {
        self.force_refresh
    }

    pub(crate) fn lookups_per_minute(&self) -> Option<&RateLimit<'p>> {
        self.lookups.as_ref()
    }

    pub(crate) fn misses_per_minute(&self) -> Option<&RateLimit<'p>> {
        self.misses.as_ref()
    }
}

impl<'p> ProjectGrant<'p> {
    /// `None` without rules; the first of them is named.
    pub(super) fn by(rules: impl Iterator<Item = &'p Rule>) -> Option<Self> {
        let grants = rules.map(|rule| Self {
            rule: &rule.name,
            lookups: limit(rule, rule.config.lookups_per_minute),
            inventory: rule.config.inventory,
        });
        grants.reduce(|all, grant| Self {
            lookups: most_generous(all.lookups, grant.lookups),
            inventory: all.inventory || grant.inventory,
            ..all
        })
    }

    /// Whether the caller may ask about every user, not only those that are known.
    pub(crate) fn has_inventory(&self) -> bool {
        self.inventory
    }

    pub(crate) fn rule(&self) -> &Arc<str> {
        self.rule
    }

    pub(crate) fn lookups_per_minute(&self) -> Option<&RateLimit<'p>> {
        self.lookups.as_ref()
    }
}

impl RateLimit<'_> {
    fn into_owned(self) -> RateLimit<'static> {
        RateLimit {
            per_minute: self.per_minute,
            rule: Cow::Owned(self.rule.into_owned()),
        }
    }
}

fn limit(rule: &Rule, limit: Option<u32>) -> Option<RateLimit<'_>> {
    limit.map(|per_minute| RateLimit {
        per_minute,
        rule: Cow::Borrowed(&rule.name),
    })
}

/// The higher limit, of equal ones the first; none at all is more than any.
fn most_generous<'p>(
    earlier: Option<RateLimit<'p>>,
    later: Option<RateLimit<'p>>,
) -> Option<RateLimit<'p>> {
    let (earlier, later) = (earlier?, later?);
    Some(if later.per_minute > earlier.per_minute {
        later
    } else {
        earlier
    })
}
