//! Why a caller may look a list up, or may not, rule by rule: for `check --as` and `/access/explain`.

use std::fmt;

use serde::Serialize;

use super::Policy;
use super::permit::{Permit, RateLimit};
use super::rule::{Aspect, Reach, Rule};
use crate::atlas::CertQuery;
use crate::identity::Caller;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccessExplanation {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
    pub(crate) rule: Option<String>,
    pub(crate) force_refresh: bool,
    /// Whether it may purge the entry of the question, and look into it.
    pub(crate) admin: bool,
    pub(crate) lookups_per_minute: Option<RateLimit<'static>>,
    /// How many of them the cache need not be able to answer.
    pub(crate) misses_per_minute: Option<RateLimit<'static>>,
    /// The rules that match, and those of which one thing alone does not fit, in the order of the file.
    pub(crate) rules: Vec<RuleVerdict>,
    pub(crate) others: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleVerdict {
    pub(crate) name: String,
    pub(crate) effect: Effect,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) does_not_fit: Option<Aspect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    Deny,
    Grant,
}

impl Policy {
    /// Why `caller` may ask `query`, or may not. No rule counts as used by it.
    pub(crate) fn explain(&self, caller: &Caller, query: &CertQuery) -> AccessExplanation {
        let permit = self.judge(caller, query, |_| {}).map(Permit::into_owned);
        let admin = self.administering_rule(caller, Reach::CertQuery(query), |_| {});
        let rules = self.rules.list.iter();
        let verdicts: Vec<RuleVerdict> = rules
            .filter_map(|rule| verdict(rule, &rule.misfits(caller, query)))
            .collect();
        let others = self.rules.list.len() - verdicts.len();
        let explanation = AccessExplanation {
            allowed: permit.is_ok(),
            reason: String::new(),
            rule: None,
            force_refresh: false,
            admin: admin.is_ok(),
            lookups_per_minute: None,
            misses_per_minute: None,
            rules: verdicts,
            others,
        };
        match permit {
            Ok(permit) => AccessExplanation {
                reason: format!("granted by rule \"{}\"", permit.rule()),
                rule: Some(permit.rule().to_string()),
                force_refresh: permit.may_force_refresh(),
                lookups_per_minute: permit.lookups_per_minute().cloned(),
                misses_per_minute: permit.misses_per_minute().cloned(),
                ..explanation
            },
            Err(denied) => AccessExplanation {
                reason: denied.to_string(),
                rule: denied.rule().map(ToString::to_string),
                ..explanation
            },
        }
    }
}

impl fmt::Display for RuleVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let does = match self.effect {
            Effect::Deny => "denies",
            Effect::Grant => "grants",
        };
        match self.does_not_fit {
            None => write!(f, "\"{}\" {does} it", self.name),
            Some(aspect) => write!(
                f,
                "\"{}\" {does} it but for its `{}`, which do not fit",
                self.name,
                aspect.key()
            ),
        }
    }
}

fn verdict(rule: &Rule, misfits: &[Aspect]) -> Option<RuleVerdict> {
    let does_not_fit = match misfits {
        [] => None,
        [one] => Some(*one),
        _ => return None,
    };
    Some(RuleVerdict {
        name: rule.name.to_string(),
        effect: if rule.config.deny {
            Effect::Deny
        } else {
            Effect::Grant
        },
        does_not_fit,
    })
}
