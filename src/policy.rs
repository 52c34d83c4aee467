//! May they: a [`Caller`] and a question go in, a [`Permit`] comes out.
//!
//! Nothing is allowed that no rule grants; any rule that matches grants; a rule with `deny` wins over
//! all that grant, and the [deny list](deny_list) over all rules. What rules give adds up: whoever may force a
//! refresh by one rule may, whatever the others say, and of limits the most generous holds. The first rule, in
//! the order of the file, that grants is the one that is named in the record.
//!
//! A policy is a value that never changes: [`Policy::build`] makes a new one, and whoever holds the
//! present one swaps it whole. It is asked on every request, before the cache is looked at, and again
//! by a caller that has waited (G9): it reads no clock, takes no lock and waits for nobody.

mod config;
mod deny_list;
mod explanation;
mod glob;
mod pattern;
mod rights;
mod rules;

pub mod allowance;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use crate::atlas::{CertQuery, ProjectId};
use crate::identity::Caller;
use crate::settings::ConfigError;

pub use config::{Config, Included, RuleConfig};
pub use deny_list::{BadLine, DenyList, ListedBy};
pub use explanation::{Aspect, Effect, Explanation, Limit, RuleVerdict};
pub use rights::RateLimit;

use rights::Rights;
use rules::{Rule, RuleSet};

/// The access rules of one configuration, and who is denied whatever they say.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Arc<Rules>,
    deny_list: Arc<DenyList>,
}

#[derive(Debug)]
struct Rules {
    /// As they were configured, by their places.
    configured: Vec<RuleConfig>,
    denials: RuleSet,
    grants: RuleSet,
}

/// Proof that a caller may ask a question. The cache accepts nothing else.
///
/// Only [`Policy::authorize`] makes one:
///
/// ```compile_fail,E0451
/// use std::borrow::Cow;
/// use std::sync::Arc;
/// use atlas_cert_gateway::policy::Permit;
///
/// fn forge(genuine: &Permit<'_>) -> Permit<'static> {
///     Permit {
///         question: Cow::Owned(genuine.question().clone()),
///         rule: Cow::Owned(Arc::from("mine")),
///         force_refresh: true,
///         lookups: None,
///         misses: None,
///     }
/// }
/// ```
///
/// It borrows, so that an answer from memory counts no references to what outlives it; who has to wait
/// takes [`Permit::into_owned`] along.
#[derive(Clone, Debug)]
pub struct Permit<'p> {
    query: Cow<'p, CertQuery>,
    rule: Cow<'p, Arc<str>>,
    force_refresh: bool,
    lookups: Option<RateLimit<'p>>,
    misses: Option<RateLimit<'p>>,
}

/// Proof that a caller may administer what was asked about.
#[derive(Clone, Debug)]
pub struct Administrator {
    rule: Arc<str>,
}

/// What a caller is denied, to be left out of an answer that it may have.
#[derive(Clone, Debug)]
pub struct Hidden {
    rules: Arc<Rules>,
    caller: Arc<Caller>,
    /// Whether any rule denies this caller anything.
    any: bool,
}

/// What somebody wants to administer.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// All there is.
    Everything,
    /// All of a project.
    Project(&'a ProjectId),
    /// One key.
    CertQuery(&'a CertQuery),
}

/// Why something is not allowed. For the log and the audit trail; the caller learns no more than that
/// it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller stands on the deny list.
    #[error("{}", .0.reason())]
    Listed(ListedBy),
    /// A rule with `deny` says so.
    #[error("denied by rule \"{0}\"")]
    ByRule(Arc<str>),
    /// A rule would grant it to a token with more scopes.
    #[error("the token lacks a scope")]
    InsufficientScope,
    /// No rule grants it.
    #[error("no rule grants it")]
    NoRule,
}

impl Policy {
    /// Takes the rules over, or says everything that is wrong with them. Nobody is on its deny list.
    pub fn build(config: &Config) -> Result<Self, Vec<ConfigError>> {
        let config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let of_kind = |deny| {
            let rules = config.rules.iter().enumerate();
            RuleSet::new(config, rules.filter(move |(_, rule)| rule.deny == deny))
        };
        Ok(Self {
            rules: Arc::new(Rules {
                denials: of_kind(true),
                grants: of_kind(false),
                configured: config.rules.clone(),
            }),
            deny_list: Arc::default(),
        })
    }

    /// The same rules with another deny list.
    #[must_use]
    pub fn with_deny_list(&self, list: Arc<DenyList>) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
            deny_list: list,
        }
    }

    /// Takes over from the one before: its deny list, and which of the rules that stay have been used.
    #[must_use]
    pub fn following(self, earlier: &Self) -> Self {
        let used: HashSet<&RuleConfig> = earlier
            .rules
            .all()
            .filter(|rule| rule.is_used())
            .filter_map(|rule| earlier.rules.configured.get(rule.position))
            .collect();
        for rule in self.rules.all() {
            let configured = self.rules.configured.get(rule.position);
            if configured.is_some_and(|rule| used.contains(rule)) {
                rule.note_use();
            }
        }
        self.with_deny_list(Arc::clone(&earlier.deny_list))
    }

    /// Whether `caller` may ask `query`.
    pub fn authorize<'p>(
        &'p self,
        caller: &Caller,
        query: &'p CertQuery,
    ) -> Result<Permit<'p>, Denied> {
        let rights = self.rights(caller, query, Rule::note_use)?;
        Ok(Permit {
            query: Cow::Borrowed(query),
            rule: Cow::Borrowed(rights.rule()),
            force_refresh: rights.force_refresh,
            lookups: rights.lookups_per_minute(),
            misses: rights.misses_per_minute(),
        })
    }

    /// What all rules together give `caller` for `query`. Shows `decides` each rule that had a say.
    fn rights(
        &self,
        caller: &Caller,
        query: &CertQuery,
        decides: impl Fn(&Rule),
    ) -> Result<Rights<'_>, Denied> {
        self.pass_deny_list(caller)?;
        if let Some(rule) = self.rules.denials.first(caller, query) {
            decides(rule);
            return Err(Denied::ByRule(Arc::clone(rule.name())));
        }
        let mut rights: Option<Rights<'_>> = None;
        self.rules.grants.for_each(caller, query, |rule| {
            decides(rule);
            rights = Some(match rights.take() {
                None => Rights::of(rule),
                Some(sum) => sum.add(rule),
            });
        });
        match rights {
            Some(rights) => Ok(rights),
            None if self.rules.grants.would_match(caller, query) => Err(Denied::InsufficientScope),
            None => Err(Denied::NoRule),
        }
    }

    /// Who is denied, whatever the rules say.
    pub fn deny_list(&self) -> &DenyList {
        &self.deny_list
    }

    /// Whether the deny list lets `caller` pass.
    pub fn pass_deny_list(&self, caller: &Caller) -> Result<(), Denied> {
        match self.deny_list.find(caller) {
            Some(listed) => Err(Denied::Listed(listed)),
            None => Ok(()),
        }
    }

    /// Whether any rule makes the caller an administrator of anything.
    pub fn administrates(&self, caller: &Caller) -> Result<(), Denied> {
        self.pass_deny_list(caller)?;
        if self.rules.grants.makes_administrator(caller) {
            Ok(())
        } else {
            Err(Denied::NoRule)
        }
    }

    /// Whether `caller` may administer `reach`: purge it, or look into it.
    ///
    /// A rule with `admin` reaches as far as its projects and usernames do, and everywhere if it names
    /// neither. A rule with `deny` wins that takes in all of `reach`; of one that takes in a part, that part
    /// is [hidden](Policy::hidden).
    pub fn may_administer(
        &self,
        caller: &Caller,
        reach: Reach<'_>,
    ) -> Result<Administrator, Denied> {
        let rule = self.administering_rule(caller, reach, Rule::note_use)?;
        Ok(Administrator {
            rule: Arc::clone(rule.name()),
        })
    }

    fn administering_rule(
        &self,
        caller: &Caller,
        reach: Reach<'_>,
        decides: impl Fn(&Rule),
    ) -> Result<&Rule, Denied> {
        self.pass_deny_list(caller)?;
        let mut denials = self.rules.denials.about(caller);
        if let Some(rule) = denials.find(|rule| rule.forbids(caller, reach)) {
            decides(rule);
            return Err(Denied::ByRule(Arc::clone(rule.name())));
        }
        let rule = self.rules.grants.first_administering(caller, reach);
        let rule = rule.ok_or(Denied::NoRule)?;
        decides(rule);
        Ok(rule)
    }

    /// What rules deny the caller.
    pub fn hidden(&self, caller: &Arc<Caller>) -> Hidden {
        Hidden {
            rules: Arc::clone(&self.rules),
            caller: Arc::clone(caller),
            any: self.rules.denials.about(caller).next().is_some(),
        }
    }

    /// The names of the rules that have decided nothing yet, in the order of the file.
    pub fn unused(&self) -> Vec<&Arc<str>> {
        let mut unused: Vec<_> = self.rules.all().filter(|rule| !rule.is_used()).collect();
        unused.sort_unstable_by_key(|rule| rule.position);
        unused.into_iter().map(Rule::name).collect()
    }
}

/// Whether `text` fits `pattern`, in which `*` is any text.
pub fn fits_pattern(pattern: &str, text: &str) -> bool {
    glob::Glob::new(pattern).matches(text)
}

impl Rules {
    fn all(&self) -> impl Iterator<Item = &Rule> {
        self.denials.iter().chain(self.grants.iter())
    }
}

impl Hidden {
    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// Whether a name that stands in a record is hidden: of a project, of a user in it, or of either alone.
    pub fn has(&self, project: Option<&str>, username: Option<&str>) -> bool {
        let (rules, caller) = (&self.rules, &self.caller);
        self.any
            && rules
                .denials
                .about(caller)
                .any(|rule| rule.takes_in(caller, project, username))
    }
}

impl Permit<'_> {
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

    /// The name of the first rule that granted it.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Whether the caller may ask Atlas anew before an entry's time.
    pub fn may_force_refresh(&self) -> bool {
        self.force_refresh
    }

    /// How many lookups a minute the rules allow each caller, if they say.
    pub fn lookups_per_minute(&self) -> Option<&RateLimit<'_>> {
        self.lookups.as_ref()
    }

    /// How many lookups a minute that the cache cannot answer the rules allow each caller, if they say.
    pub fn misses_per_minute(&self) -> Option<&RateLimit<'_>> {
        self.misses.as_ref()
    }
}

impl Administrator {
    /// The name of the rule that granted it.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }
}

impl Denied {
    /// The rule that denied it, if one did.
    pub fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::ByRule(rule) => Some(rule),
            Self::InsufficientScope | Self::Listed(_) | Self::NoRule => None,
        }
    }

    /// A stable word for the log and the audit record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ByRule(_) => "denied by a rule",
            Self::InsufficientScope => "insufficient scope",
            Self::Listed(listed) => listed.reason(),
            Self::NoRule => "no rule grants it",
        }
    }
}

#[cfg(test)]
mod tests;
