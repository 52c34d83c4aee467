//! Why a caller may ask, or may not: a caller and a question go in, what each rule has to say comes out.

use std::fmt;

use serde::Serialize;

use super::rights::Rights;
use super::rules::Rule;
use super::{Policy, RateLimit, Reach};
use crate::atlas::CertQuery;
use crate::identity::Caller;

/// Why a caller may ask a question, or may not.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Whether it may.
    pub allowed: bool,
    /// Why, in words.
    pub reason: String,
    /// The rule that is named on record.
    pub rule: Option<String>,
    /// Whether it may have Atlas asked anew.
    pub force_refresh: bool,
    /// Whether it may purge the entry of the question, and look into it.
    pub admin: bool,
    /// How many lookups a minute it may make.
    pub lookups_per_minute: Option<Limit>,
    /// How many of them the cache need not be able to answer.
    pub misses_per_minute: Option<Limit>,
    /// The rules that match, and those of which one thing alone does not fit, in the order of the file.
    pub rules: Vec<RuleVerdict>,
    /// How many rules there are besides.
    pub others: usize,
}

/// A limit, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// How many.
    pub per_minute: u32,
    /// The name of the rule.
    pub rule: String,
}

/// What one rule has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleVerdict {
    /// Its name.
    pub name: String,
    /// What it does where it matches.
    pub effect: Effect,
    /// What does not fit; `None`: it matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub does_not_fit: Option<Aspect>,
}

/// What a rule does where it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It denies.
    Deny,
    /// It grants.
    Grant,
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// `issuers`.
    Issuer,
    /// `projects`.
    Project,
    /// `scopes`.
    Scopes,
    /// `subjects`.
    Subject,
    /// `usernames`.
    Username,
}

impl Policy {
    /// Why `caller` may ask `query`, or may not. No rule counts as used by it.
    pub fn explain(&self, caller: &Caller, query: &CertQuery) -> Explanation {
        let rights = self.rights(caller, query, |_| {});
        let admin = self.administering_rule(caller, Reach::CertQuery(query), |_| {});
        let mut verdicts: Vec<(usize, RuleVerdict)> = Vec::new();
        let sets = [
            (Effect::Deny, &self.rules.denials),
            (Effect::Grant, &self.rules.grants),
        ];
        for (effect, set) in sets {
            let verdicts_of_set = set.iter().filter_map(|rule| {
                let verdict = verdict(rule, effect, &rule.misfits(caller, query))?;
                Some((rule.position, verdict))
            });
            verdicts.extend(verdicts_of_set);
        }
        verdicts.sort_unstable_by_key(|(position, _)| *position);
        let rule = match &rights {
            Ok(rights) => Some(rights.rule()),
            Err(denied) => denied.rule(),
        };
        Explanation {
            allowed: rights.is_ok(),
            reason: match &rights {
                Ok(rights) => format!("granted by rule \"{}\"", rights.rule()),
                Err(denied) => denied.to_string(),
            },
            rule: rule.map(ToString::to_string),
            admin: admin.is_ok(),
            force_refresh: rights.as_ref().is_ok_and(|rights| rights.force_refresh),
            lookups_per_minute: limit(rights.as_ref().ok().and_then(Rights::lookups_per_minute)),
            misses_per_minute: limit(rights.as_ref().ok().and_then(Rights::misses_per_minute)),
            others: self.rules.all().count().saturating_sub(verdicts.len()),
            rules: verdicts.into_iter().map(|(_, verdict)| verdict).collect(),
        }
    }
}

impl Aspect {
    /// The rule's key for it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Issuer => "issuers",
            Self::Project => "projects",
            Self::Scopes => "scopes",
            Self::Subject => "subjects",
            Self::Username => "usernames",
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

/// Of a rule that fits, or of which one thing does not.
fn verdict(rule: &Rule, effect: Effect, misfits: &[Aspect]) -> Option<RuleVerdict> {
    let does_not_fit = match misfits {
        [] => None,
        [one] => Some(*one),
        _ => return None,
    };
    Some(RuleVerdict {
        name: rule.name().to_string(),
        effect,
        does_not_fit,
    })
}

fn limit(limit: Option<RateLimit<'_>>) -> Option<Limit> {
    limit.map(|limit| Limit {
        per_minute: limit.per_minute,
        rule: limit.rule.to_string(),
    })
}
