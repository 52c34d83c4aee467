//! `[access]`: the rules, and errors and warnings about them, each with its place.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::glob::{Glob, has_placeholders, unknown_placeholders};
use crate::atlas::{ProjectId, Username};
use crate::settings::{self, ConfigError, Ranges};

/// `[access]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct Config {
    #[serde(skip_serializing)]
    pub include: Vec<String>,
    pub deny_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub project_groups: BTreeMap<String, Vec<String>>,
    pub rules: Vec<RuleConfig>,
    /// Which of the rules are of which included file.
    #[serde(skip)]
    pub included: Vec<Included>,
}

/// An included file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Included {
    pub(crate) path: PathBuf,
    pub(crate) rules: usize,
}

/// One of `[[access.rules]]`. It matches if all that it names matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of its own in the file"
)]
pub struct RuleConfig {
    pub name: String,
    pub subjects: Vec<String>,
    #[serde(default)]
    pub issuers: Vec<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub projects: Vec<String>,
    #[serde(default)]
    pub usernames: Vec<String>,
    #[serde(default)]
    pub force_refresh: bool,
    #[serde(default)]
    pub admin: bool,
    #[serde(default)]
    pub deny: bool,
    #[serde(default)]
    pub inventory: bool,
    #[serde(default, deserialize_with = "settings::whole_if_any")]
    pub lookups_per_minute: Option<u32>,
    #[serde(default, deserialize_with = "settings::whole_if_any")]
    pub misses_per_minute: Option<u32>,
}

impl Config {
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        if self.rules.is_empty() {
            config_errors.push(ConfigError::at(
                "access.rules",
                "no caller may ask anything without a rule; add [[access.rules]]",
            ));
        }
        let mut names = HashMap::new();
        self.report_groups(&mut config_errors);
        for (index, rule) in self.rules.iter().enumerate() {
            let place = self.place(index);
            rule.report(&place, &self.project_groups, &mut config_errors);
            if let Some(earlier) = names.insert(rule.name.as_str(), index) {
                let earlier = self.place(earlier);
                config_errors.push(ConfigError::at(
                    format!("{place}.name"),
                    format!("{earlier} has this name; records name the rule"),
                ));
            }
        }
        config_errors
    }

    pub(crate) fn named_projects(&self) -> Vec<ProjectId> {
        let rules = self.rules.iter().filter(|rule| !rule.deny);
        let names = rules.flat_map(|rule| self.projects_of(rule));
        let mut projects: Vec<ProjectId> = names.filter_map(|name| name.parse().ok()).collect();
        projects.sort_unstable();
        projects.dedup();
        projects
    }

    fn report_groups(&self, config_errors: &mut Vec<ConfigError>) {
        for (name, projects) in &self.project_groups {
            let place = format!("access.project_groups.{name}");
            if projects.is_empty() {
                let message = "holds no project; name one, or leave the group out";
                config_errors.push(ConfigError::at(&place, message));
            }
            for (at, project) in projects.iter().enumerate() {
                if project.parse::<ProjectId>().is_err() {
                    let message = "is no project's id: 24 lower-case hexadecimal digits";
                    config_errors.push(ConfigError::at(format!("{place}[{at}]"), message));
                }
            }
        }
    }

    /// The projects that a rule names, those of its groups included. What is no group's name is left as it is.
    pub(super) fn projects_of<'c>(
        &'c self,
        rule: &'c RuleConfig,
    ) -> impl Iterator<Item = &'c str> + Clone {
        rule.projects.iter().flat_map(|name| {
            let group = name
                .strip_prefix(GROUP)
                .and_then(|name| self.project_groups.get(name));
            let itself = group.is_none().then_some(name);
            itself
                .into_iter()
                .chain(group.into_iter().flatten())
                .map(String::as_str)
        })
    }

    fn place(&self, index: usize) -> String {
        let of_files: usize = self.included.iter().map(|file| file.rules).sum();
        let mut at = index;
        let own = self.rules.len().saturating_sub(of_files);
        if at < own {
            return format!("access.rules[{at}]");
        }
        at -= own;
        for file in &self.included {
            if at < file.rules {
                return format!("{}: rules[{at}]", file.path.display());
            }
            at -= file.rules;
        }
        format!("access.rules[{index}]")
    }

    /// What is allowed and seldom meant. `issuers` are those whose tokens are believed; `has_credential` says
    /// whether there is a credential for a project.
    pub(crate) fn warnings(
        &self,
        issuers: &[&str],
        has_credential: impl Fn(&ProjectId) -> bool,
    ) -> Vec<ConfigError> {
        let mut warnings = Vec::new();
        let denies_all = self
            .rules
            .iter()
            .position(|rule| rule.deny && rule.matches_all());
        for (index, rule) in self.rules.iter().enumerate() {
            let place = self.place(index);
            let mut warn = |key: &str, message: &str| {
                warnings.push(ConfigError::at(format!("{place}{key}"), message));
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
            for (at, name) in rule.issuers.iter().enumerate() {
                if !issuers.contains(&&**name) {
                    let message = "is no issuer whose tokens are believed, so it never matches";
                    warn(&format!(".issuers[{at}]"), message);
                }
            }
            if rule.issuers.is_empty() && issuers.len() > 1 && !rule.deny {
                warn(
                    ".issuers",
                    "there are several issuers, and a subject of any of them matches; name one",
                );
            }
            for project in self.projects_of(rule) {
                if project.parse().is_ok_and(|id| !has_credential(&id)) {
                    // Known to be an id, so that it can be nothing else.
                    let message = format!(
                        "no credential is for project {project}, so no caller gets anything of it; name it in \
                         atlas.credentials"
                    );
                    warn(".projects", &message);
                }
            }
            for (at, name) in rule.usernames.iter().enumerate() {
                if !name.contains(['*', '{']) && name.parse::<Username>().is_err() {
                    let message = "is no database user's name, so it never matches";
                    warn(&format!(".usernames[{at}]"), message);
                }
            }
        }
        warnings
    }
}

impl RuleConfig {
    fn report(
        &self,
        place: &str,
        groups: &BTreeMap<String, Vec<String>>,
        config_errors: &mut Vec<ConfigError>,
    ) {
        let mut wrong = |key: &str, message: &str| {
            config_errors.push(ConfigError::at(format!("{place}.{key}"), message));
        };
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            wrong("name", "a rule needs a name of printable characters");
        }
        if self.subjects.is_empty() {
            wrong(
                "subjects",
                "the rule matches no caller; [\"*\"] is every caller",
            );
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
        self.report_projects(groups, &mut wrong);
        self.report_what_fits_nothing(&mut wrong);
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
        let mut ranges = Ranges::of(place, config_errors);
        for (key, limit, example) in [
            ("lookups_per_minute", self.lookups_per_minute, 600),
            ("misses_per_minute", self.misses_per_minute, 125),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit > 0) {
                ranges.check(key, limit, 1..=MOST_A_MINUTE, example);
            }
        }
    }

    fn report_projects(
        &self,
        groups: &BTreeMap<String, Vec<String>>,
        wrong: &mut impl FnMut(&str, &str),
    ) {
        for (at, project) in self.projects.iter().enumerate() {
            let key = format!("projects[{at}]");
            if let Some(group) = project.strip_prefix(GROUP) {
                if !groups.contains_key(group) {
                    wrong(&key, "names no group of access.project_groups");
                }
            } else if project != ANY && project.parse::<ProjectId>().is_err() {
                wrong(
                    &key,
                    "is neither 24 lower-case hexadecimal digits nor \"*\", nor \"@\" and the name of a \
                     group",
                );
            }
        }
    }

    /// What no token and no username can have: in a rule that denies it would deny nothing.
    fn report_what_fits_nothing(&self, wrong: &mut impl FnMut(&str, &str)) {
        let lists = [
            ("subjects", &self.subjects),
            ("issuers", &self.issuers),
            ("scopes", &self.scopes),
            ("usernames", &self.usernames),
        ];
        for (key, texts) in lists {
            for (at, text) in texts.iter().enumerate() {
                let mut wrong = |message: &str| wrong(&format!("{key}[{at}]"), message);
                let of_token = key != "usernames";
                if text.is_empty() {
                    wrong("is empty, which fits nothing; \"*\" is any");
                } else if of_token && text.trim() != text {
                    wrong("has blanks around it, which nothing has that it could fit");
                } else if of_token && text.chars().any(char::is_control) {
                    wrong("has a control character, which no token may have");
                } else if key == "scopes" && text.contains(' ') {
                    wrong("has a blank in it, which separates scopes; make it several entries");
                } else if key == "subjects" && has_placeholders(text) {
                    wrong("has {subject} or {client_id} in it, which are for `usernames`");
                } else if !of_token && unknown_placeholders(text).next().is_some() {
                    wrong(
                        "has a word in braces that stands for nothing; there are {subject} and \
                         {client_id}",
                    );
                }
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

const MOST_A_MINUTE: u32 = 1_000_000_000;

pub(super) const ANY: &str = "*";

const GROUP: char = '@';
