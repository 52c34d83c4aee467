//! Who may ask what: `access.rules` goes in, mistakes and warnings with their place come out.

use std::collections::HashMap;

use serde::Deserialize;
use serde::Serialize;

use super::glob::Glob;
use crate::atlas::ProjectId;
use crate::atlas::Username;
use crate::settings;
use crate::settings::Mistake;
use crate::settings::Ranges;

/// `[access]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[[access.rules]]`: what no rule grants is denied.
    pub rules: Vec<RuleConfig>,
}

/// One of `[[access.rules]]`. It matches if all that it names matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// What the audit record calls it.
    pub name: String,
    /// Patterns, one of which `sub` must fit.
    pub subjects: Vec<String>,
    /// Issuers, one of which the token must be of; empty: any.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Scopes, all of which the token must have.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Project ids, or `"*"`.
    #[serde(default)]
    pub projects: Vec<String>,
    /// Patterns, one of which the username must fit.
    #[serde(default)]
    pub usernames: Vec<String>,
    /// Whether `Cache-Control: no-cache` is obeyed.
    #[serde(default)]
    pub force_refresh: bool,
    /// Whether it grants the admin listener.
    #[serde(default)]
    pub admin: bool,
    /// Whether it denies instead of granting.
    #[serde(default)]
    pub deny: bool,
    /// How many lookups a minute each caller may make.
    #[serde(
        default,
        deserialize_with = "settings::whole_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub lookups_per_minute: Option<u32>,
    /// How many of them the cache need not be able to answer.
    #[serde(
        default,
        deserialize_with = "settings::whole_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub misses_per_minute: Option<u32>,
}

impl Config {
    /// Everything that cannot be meant.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.rules.is_empty() {
            mistakes.push(Mistake::at(
                "access.rules",
                "nobody may ask anything without a rule; add [[access.rules]]",
            ));
        }
        let mut names = HashMap::new();
        for (index, rule) in self.rules.iter().enumerate() {
            rule.report(&format!("access.rules[{index}]"), &mut mistakes);
            if let Some(earlier) = names.insert(rule.name.as_str(), index) {
                mistakes.push(Mistake::at(
                    format!("access.rules[{index}].name"),
                    format!("access.rules[{earlier}] has this name; records name the rule"),
                ));
            }
        }
        mistakes
    }

    /// What is allowed and seldom meant. `issuers` are those whose tokens are believed.
    pub fn warnings(&self, issuers: &[&str]) -> Vec<Mistake> {
        let mut warnings = Vec::new();
        let denies_all = self
            .rules
            .iter()
            .position(|rule| rule.deny && rule.matches_all());
        for (index, rule) in self.rules.iter().enumerate() {
            let place = format!("access.rules[{index}]");
            let mut warn = |key: &str, message: &str| {
                warnings.push(Mistake::at(format!("{place}{key}"), message));
            };
            if !rule.deny && rule.matches_all() {
                warn("", "this rule grants everything to everybody with a token");
            }
            if !rule.deny && denies_all.is_some() {
                warn(
                    "",
                    "this rule can never grant: another rule denies everything",
                );
            }
            if let Some(unknown) = rule
                .issuers
                .iter()
                .find(|name| !issuers.contains(&&***name))
            {
                warn(
                    ".issuers",
                    &format!("no token of \"{unknown}\" is believed, so this never matches"),
                );
            }
            if rule.issuers.is_empty() && issuers.len() > 1 && !rule.deny {
                warn(
                    ".issuers",
                    "there are several issuers, and a subject of any of them matches; name one",
                );
            }
            for name in &rule.usernames {
                if !name.contains('*') && name.parse::<Username>().is_err() {
                    warn(
                        ".usernames",
                        &format!("{name:?} is no database user's name, so this never matches"),
                    );
                }
            }
        }
        warnings
    }
}

impl RuleConfig {
    fn report(&self, place: &str, mistakes: &mut Vec<Mistake>) {
        let mut wrong = |key: &str, message: &str| {
            mistakes.push(Mistake::at(format!("{place}.{key}"), message));
        };
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            wrong("name", "a rule needs a name of printable characters");
        }
        if self.subjects.is_empty() {
            wrong("subjects", "the rule matches nobody; [\"*\"] is everybody");
        }
        // An admin rule may leave both out: it looks nothing up, and administers everything.
        let nowhere_is_meant = self.admin && !self.deny;
        let both_or_neither = self.projects.is_empty() == self.usernames.is_empty();
        if self.projects.is_empty() && !(nowhere_is_meant && both_or_neither) {
            wrong(
                "projects",
                "the rule matches no project; [\"*\"] is every one",
            );
        }
        if self.usernames.is_empty() && !(nowhere_is_meant && both_or_neither) {
            wrong(
                "usernames",
                "the rule matches no user; [\"*\"] is every one",
            );
        }
        for project in &self.projects {
            if project != ANY && project.parse::<ProjectId>().is_err() {
                wrong(
                    "projects",
                    &format!("{project:?} is neither 24 lower-case hexadecimal digits nor \"*\""),
                );
            }
        }
        if self.deny && (self.admin || self.force_refresh) {
            wrong(
                "deny",
                "a rule that denies grants no `admin` and no `force_refresh`",
            );
        }
        for (key, limit) in [
            ("lookups_per_minute", self.lookups_per_minute),
            ("misses_per_minute", self.misses_per_minute),
        ] {
            if limit == Some(0) {
                wrong(key, "0 would deny what the rule grants; use `deny = true`");
            } else if limit.is_some() && self.deny {
                wrong(key, "a rule that denies has no limit");
            }
        }
        let mut ranges = Ranges::of(place, mistakes);
        for (key, limit, example) in [
            ("lookups_per_minute", self.lookups_per_minute, 600),
            ("misses_per_minute", self.misses_per_minute, 125),
        ] {
            // Of 0 more is to be said, above.
            if let Some(limit) = limit.filter(|limit| *limit > 0) {
                ranges.check(key, limit, 1..=MOST_A_MINUTE, example);
            }
        }
    }

    fn matches_all(&self) -> bool {
        let all = |patterns: &[String]| patterns.iter().any(|text| Glob::new(text).is_everything());
        self.issuers.is_empty()
            && self.scopes.is_empty()
            && self.projects.iter().any(|project| project == ANY)
            && all(&self.subjects)
            && all(&self.usernames)
    }
}

/// Nobody's limit.
const MOST_A_MINUTE: u32 = 1_000_000_000;

pub(super) const ANY: &str = "*";
