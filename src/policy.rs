//! May they: a [`Caller`] and a question go in, a [`Permit`] comes out.
//!
//! Nothing is allowed that no rule grants; any rule that matches grants; a rule with `deny` wins over
//! all that grant. The first rule, in the order of the file, that grants is the one that is named in
//! the record, and whose limits and rights apply.
//!
//! A policy is a value that never changes: [`Policy::build`] makes a new one, and whoever holds the
//! present one swaps it whole. It is asked on every request, before the cache is looked at, and again
//! by a caller that has waited (G9): it reads no clock, takes no lock and waits for nobody.

mod config;
mod glob;
mod rules;

pub mod allowance;

use std::borrow::Cow;
use std::sync::Arc;

use crate::atlas::ProjectId;
use crate::atlas::Question;
use crate::identity::Caller;
use crate::settings::Mistake;

pub use config::Config;
pub use config::RuleConfig;

use rules::RuleSet;

/// The access rules of one configuration.
#[derive(Debug)]
pub struct Policy {
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
///         lookups_per_minute: None,
///         misses_per_minute: None,
///     }
/// }
/// ```
///
/// It borrows, so that an answer from memory counts no references to what outlives it; who has to wait
/// takes [`Permit::kept`] along.
#[derive(Clone, Debug)]
pub struct Permit<'p> {
    question: Cow<'p, Question>,
    rule: Cow<'p, Arc<str>>,
    force_refresh: bool,
    lookups_per_minute: Option<u32>,
    misses_per_minute: Option<u32>,
}

/// Proof that a caller may administer what was asked about.
#[derive(Clone, Debug)]
pub struct Administrator {
    rule: Arc<str>,
}

/// What somebody wants to administer.
#[derive(Clone, Copy, Debug)]
pub enum Reach<'a> {
    /// All there is.
    Everything,
    /// All of a project.
    Project(&'a ProjectId),
    /// One key.
    Question(&'a Question),
}

/// Why something is not allowed. For the log and the audit trail; the caller learns no more than that
/// it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
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
    /// Takes the rules over, or says everything that is wrong with them.
    pub fn build(config: &Config) -> Result<Self, Vec<Mistake>> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let (denials, grants): (Vec<_>, Vec<_>) = config.rules.iter().partition(|rule| rule.deny);
        Ok(Self {
            denials: RuleSet::new(&denials),
            grants: RuleSet::new(&grants),
        })
    }

    /// Whether `caller` may ask `question`.
    pub fn authorize<'p>(
        &'p self,
        caller: &Caller,
        question: &'p Question,
    ) -> Result<Permit<'p>, Denied> {
        if let Some(rule) = self.denials.first(caller, question) {
            return Err(Denied::ByRule(Arc::clone(rule.name())));
        }
        match self.grants.first(caller, question) {
            Some(rule) => Ok(Permit {
                question: Cow::Borrowed(question),
                rule: Cow::Borrowed(rule.name()),
                force_refresh: rule.force_refresh,
                lookups_per_minute: rule.lookups_per_minute,
                misses_per_minute: rule.misses_per_minute,
            }),
            None if self.grants.would_match(caller, question) => Err(Denied::InsufficientScope),
            None => Err(Denied::NoRule),
        }
    }

    /// Whether `caller` may administer `reach`: purge it, or look into it.
    ///
    /// Whether any rule makes the caller an administrator of anything.
    pub fn is_administrator(&self, caller: &Caller) -> bool {
        self.grants.makes_administrator(caller)
    }

    /// A rule with `admin` reaches as far as its projects and usernames do, and everywhere if it names
    /// neither. A rule with `deny` wins that covers the very key, the project or a whole project of
    /// all; one that covers some users of a project does not keep anybody from purging it.
    pub fn may_administer(
        &self,
        caller: &Caller,
        reach: Reach<'_>,
    ) -> Result<Administrator, Denied> {
        if let Some(rule) = self.denials.first_forbidding(caller, reach) {
            return Err(Denied::ByRule(Arc::clone(rule.name())));
        }
        self.grants
            .first_administering(caller, reach)
            .map(|rule| Administrator {
                rule: Arc::clone(rule.name()),
            })
            .ok_or(Denied::NoRule)
    }
}

impl Permit<'_> {
    /// The same, for when what it was read from is gone.
    #[must_use]
    pub fn kept(self) -> Permit<'static> {
        Permit {
            question: Cow::Owned(self.question.into_owned()),
            rule: Cow::Owned(self.rule.into_owned()),
            force_refresh: self.force_refresh,
            lookups_per_minute: self.lookups_per_minute,
            misses_per_minute: self.misses_per_minute,
        }
    }

    /// What may be asked.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The name of the rule that granted it.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Whether the caller may ask Atlas anew before an entry's time.
    pub fn may_force_refresh(&self) -> bool {
        self.force_refresh
    }

    /// How many lookups a minute the rule allows each caller, if it says.
    pub fn lookups_per_minute(&self) -> Option<u32> {
        self.lookups_per_minute
    }

    /// How many lookups a minute that the cache cannot answer the rule allows each caller, if it says.
    pub fn misses_per_minute(&self) -> Option<u32> {
        self.misses_per_minute
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
            Self::InsufficientScope | Self::NoRule => None,
        }
    }

    /// A stable word for the log and the audit record.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ByRule(_) => "denied by a rule",
            Self::InsufficientScope => "insufficient scope",
            Self::NoRule => "no rule grants it",
        }
    }
}

#[cfg(test)]
mod tests;
