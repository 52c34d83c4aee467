//! Authorization: which caller may look up what (access rules, deny by default).
//!
//! Nothing is allowed that no rule grants; any rule that matches grants; a rule with `deny` wins over
//! all that grant, and the [deny list](deny_list) over all rules. Rights add up: a caller that may force a
//! refresh by one rule may, whatever the others say, and of limits the most generous holds. The first rule, in
//! the order of the file, that grants is the one that is named in the record.
//!
//! A policy never changes: [`Policy::build`] makes a new one, which is swapped in whole. It is asked on
//! every request, before the cache is looked at, and again after a wait (G9): it reads no clock and waits
//! for nothing.

mod config;
mod deny_list;
mod explanation;
mod glob;
mod permit;
mod rule;
mod rule_lists;

pub mod allowance;

use std::collections::HashSet;
use std::sync::Arc;

use crate::atlas::{CertQuery, ProjectId};
use crate::identity::Caller;
use crate::settings::ConfigError;

pub use config::{Config, Included, RuleConfig};
pub use deny_list::{BadLine, DenyList, ListedBy};
pub(crate) use permit::ProjectGrant;
pub use permit::{Permit, RateLimit};
pub(crate) use rule::Reach;

pub(crate) use explanation::AccessExplanation;

use rule::Rule;
use rule_lists::RuleLists;

/// The access rules of one configuration, and who is denied whatever they say.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Arc<RuleSet>,
    deny_list: Arc<DenyList>,
}

#[derive(Debug)]
struct RuleSet {
    list: Vec<Rule>,
    lists: RuleLists,
}

#[derive(Clone, Debug)]
pub(crate) struct Administrator {
    rule: Arc<str>,
}

/// What a caller is denied, to be left out of an answer that it may have.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    rules: Arc<RuleSet>,
    caller: Arc<Caller>,
    denials: Vec<usize>,
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
    /// Takes the rules over, or says everything that is wrong with them. Its deny list is empty.
    pub fn build(config: &Config) -> Result<Self, Vec<ConfigError>> {
        let config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let rules = config.rules.iter().map(|rule| Rule::new(config, rule));
        Ok(Self {
            rules: Arc::new(RuleSet {
                list: rules.collect(),
                lists: RuleLists::new(),
            }),
            deny_list: Arc::default(),
        })
    }

    #[must_use]
    pub(crate) fn with_deny_list(&self, list: Arc<DenyList>) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
            deny_list: list,
        }
    }

    #[must_use]
    pub(crate) fn following(self, earlier: &Self) -> Self {
        let used = earlier.rules.list.iter().filter(|rule| rule.is_used());
        let used: HashSet<&RuleConfig> = used.map(|rule| &rule.config).collect();
        let rules = self.rules.list.iter();
        for rule in rules.filter(|rule| used.contains(&rule.config)) {
            rule.note_use();
        }
        self.with_deny_list(Arc::clone(&earlier.deny_list))
    }

    /// Whether `caller` may ask `query`.
    pub fn authorize<'p>(
        &'p self,
        caller: &Caller,
        query: &'p CertQuery,
    ) -> Result<Permit<'p>, Denied> {
        self.judge(caller, query, Rule::note_use)
    }

    /// Whether `caller` may ask about a project as a whole: whether a rule grants it anything there.
    pub(crate) fn authorize_in(
        &self,
        caller: &Caller,
        project: &ProjectId,
    ) -> Result<ProjectGrant<'_>, Denied> {
        self.pass_deny_list(caller)?;
        let applying = self.rules.applying_to(caller);
        let rules = self.rules.at(&applying);
        let grants = rules.filter(|rule| !rule.config.deny && rule.grants_in(project));
        ProjectGrant::by(grants).ok_or(Denied::NoRule)
    }

    fn judge<'p>(
        &'p self,
        caller: &Caller,
        query: &'p CertQuery,
        decides: impl Fn(&Rule),
    ) -> Result<Permit<'p>, Denied> {
        self.pass_deny_list(caller)?;
        let rules = &*self.rules;
        let find = || rules.applying_to(caller);
        rules.lists.with(caller, find, |applying| {
            let mut permit: Option<Permit<'p>> = None;
            let covering = rules.at(applying).filter(|rule| rule.covers(caller, query));
            for rule in covering {
                decides(rule);
                if rule.config.deny {
                    return Err(Denied::ByRule(Arc::clone(&rule.name)));
                }
                permit = Some(match permit {
                    None => Permit::by(rule, query),
                    Some(permit) => permit.and_by(rule),
                });
            }
            permit.ok_or_else(|| rules.why_not(caller, query))
        })
    }

    pub(crate) fn deny_list(&self) -> &DenyList {
        &self.deny_list
    }

    pub(crate) fn pass_deny_list(&self, caller: &Caller) -> Result<(), Denied> {
        match self.deny_list.find(caller) {
            Some(listed) => Err(Denied::Listed(listed)),
            None => Ok(()),
        }
    }

    /// Whether any rule makes the caller an administrator of anything.
    pub(crate) fn administrates(&self, caller: &Caller) -> Result<Administrator, Denied> {
        self.pass_deny_list(caller)?;
        let mut rules = self.rules.list.iter();
        let rule = rules.find(|rule| rule.config.admin && rule.applies_to(caller));
        let rule = Arc::clone(&rule.ok_or(Denied::NoRule)?.name);
        Ok(Administrator { rule })
    }

    /// Whether `caller` may administer `reach`: purge it, or look into it.
    ///
    /// A rule with `admin` reaches as far as its projects and usernames do, and everywhere if it names
    /// neither. A rule with `deny` wins that covers all of `reach`; of one that covers a part, that part
    /// is [hidden](Policy::hidden).
    pub(crate) fn may_administer(
        &self,
        caller: &Caller,
        reach: Reach<'_>,
    ) -> Result<Administrator, Denied> {
        let rule = self.administering_rule(caller, reach, Rule::note_use)?;
        Ok(Administrator {
            rule: Arc::clone(&rule.name),
        })
    }

    fn administering_rule(
        &self,
        caller: &Caller,
        reach: Reach<'_>,
        decides: impl Fn(&Rule),
    ) -> Result<&Rule, Denied> {
        self.pass_deny_list(caller)?;
        let applying = self.rules.applying_to(caller);
        let mut rules = self.rules.at(&applying);
        let decisive = rules.find(|rule| {
            if rule.config.deny {
                rule.forbids(caller, reach)
            } else {
                rule.config.admin && rule.contains(caller, reach)
            }
        });
        let rule = decisive.ok_or(Denied::NoRule)?;
        decides(rule);
        if rule.config.deny {
            return Err(Denied::ByRule(Arc::clone(&rule.name)));
        }
        Ok(rule)
    }

    pub(crate) fn hidden(&self, caller: &Arc<Caller>) -> Hidden {
        let mut denials = self.rules.applying_to(caller);
        denials.retain(|position| self.rules.at(&[*position]).any(|rule| rule.config.deny));
        Hidden {
            rules: Arc::clone(&self.rules),
            caller: Arc::clone(caller),
            denials,
        }
    }

    /// The names of those that grant something, in the order of the file.
    pub(crate) fn granting(&self) -> impl Iterator<Item = &Arc<str>> {
        let granting = self.rules.list.iter().filter(|rule| !rule.config.deny);
        granting.map(|rule| &rule.name)
    }

    pub(crate) fn unused(&self) -> Vec<&Arc<str>> {
        let unused = self.rules.list.iter().filter(|rule| !rule.is_used());
        unused.map(|rule| &rule.name).collect()
    }
}

pub(crate) fn fits_pattern(pattern: &str, text: &str) -> bool {
    glob::Glob::new(pattern).matches(text)
}

impl RuleSet {
    /// The positions of the rules that apply to `caller`: those that deny, then those that grant, each in the
    /// order of the file.
    fn applying_to(&self, caller: &Caller) -> Vec<usize> {
        let numbered = self.list.iter().enumerate();
        let applying = numbered.filter(|(_, rule)| rule.applies_to(caller));
        let (mut denials, grants): (Vec<_>, Vec<_>) =
            applying.partition(|(_, rule)| rule.config.deny);
        denials.extend(grants);
        denials.into_iter().map(|(position, _)| position).collect()
    }

    fn at<'r, 'l>(
        &'r self,
        positions: &'l [usize],
    ) -> impl Iterator<Item = &'r Rule> + use<'r, 'l> {
        let list = &self.list;
        positions
            .iter()
            .map(|position| list.get(*position).expect("positions are of this list"))
    }

    fn why_not(&self, caller: &Caller, query: &CertQuery) -> Denied {
        let mut grants = self.list.iter().filter(|rule| !rule.config.deny);
        if grants.any(|rule| rule.lacks_only_scopes(caller, query)) {
            Denied::InsufficientScope
        } else {
            Denied::NoRule
        }
    }
}

impl Hidden {
    pub(crate) fn is_empty(&self) -> bool {
        self.denials.is_empty()
    }

    /// Whether a name that stands in a record is hidden: of a project, of a user in it, or of either alone.
    pub(crate) fn has(&self, project: Option<&str>, username: Option<&str>) -> bool {
        let mut denials = self.rules.at(&self.denials);
        denials.any(|rule| rule.contains_name(&self.caller, project, username))
    }
}

impl Administrator {
    pub(crate) fn rule(&self) -> &Arc<str> {
        &self.rule
    }
}

impl Denied {
    pub(crate) fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::ByRule(rule) => Some(rule),
            Self::InsufficientScope | Self::Listed(_) | Self::NoRule => None,
        }
    }

    pub(crate) fn reason(&self) -> &'static str {
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
