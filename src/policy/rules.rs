//! The rules as they are asked: a caller and a question go in, the rules that match come out.
//!
//! Few rules are simply tried one after another. Of many, most speak of other subjects, projects or
//! users: an index by each of the three names the rules that could match, and the shortest of the
//! three lists is tried. An index may name a rule too many, never one too few, for the rule itself
//! decides; so it cannot change an answer, only the time it takes.

mod by_text;
mod index;
mod names;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use index::Index;
use names::{Patterns, Projects};

use super::config::{Config, RuleConfig};
use super::glob::Glob;
use super::pattern::Pattern;
use super::{Aspect, Reach};
use crate::atlas::CertQuery;
use crate::identity::Caller;

/// Rules in the order of the file.
#[derive(Debug)]
pub(super) struct RuleSet {
    rules: Vec<Rule>,
    index: Option<Index>,
    needs_scopes: bool,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    name: Arc<str>,
    /// Where it stands among all rules.
    pub(super) position: usize,
    subjects: Patterns<Glob>,
    issuers: Box<[Box<str>]>,
    scopes: Box<[Box<str>]>,
    projects: Projects,
    usernames: Patterns<Pattern>,
    pub(super) admin: bool,
    /// Whether it has decided anything yet.
    used: AtomicBool,
    pub(super) force_refresh: bool,
    pub(super) lookups_per_minute: Option<u32>,
    pub(super) misses_per_minute: Option<u32>,
}

impl RuleSet {
    /// `rules` with their places among all rules.
    pub(super) fn new<'c>(
        config: &Config,
        rules: impl Iterator<Item = (usize, &'c RuleConfig)>,
    ) -> Self {
        let rules: Vec<Rule> = rules
            .map(|(position, rule)| Rule::new(config, position, rule))
            .collect();
        Self {
            index: (rules.len() > FEW).then(|| Index::new(&rules)),
            needs_scopes: rules.iter().any(|rule| !rule.scopes.is_empty()),
            rules,
        }
    }

    /// The rules, in the order of the file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The first rule that matches.
    pub(super) fn first(&self, caller: &Caller, query: &CertQuery) -> Option<&Rule> {
        self.find(caller, query, |rule| {
            rule.covers(caller, query) && rule.speaks_of(caller)
        })
    }

    /// Shows every rule that matches, in no order, and some of them more than once.
    pub(super) fn for_each<'r>(
        &'r self,
        caller: &Caller,
        query: &CertQuery,
        mut visit: impl FnMut(&'r Rule),
    ) {
        let mut visit = |rule: &'r Rule| {
            if rule.covers(caller, query) && rule.speaks_of(caller) {
                visit(rule);
            }
        };
        match &self.index {
            None => self.rules.iter().for_each(visit),
            Some(index) => index.for_each_list(caller, query, |list| {
                list.iter()
                    .filter_map(|number| self.numbered(*number))
                    .for_each(&mut visit);
            }),
        }
    }

    /// Whether a rule would match if the token had all scopes.
    pub(super) fn would_match(&self, caller: &Caller, query: &CertQuery) -> bool {
        self.needs_scopes
            && self
                .find(caller, query, |rule| {
                    rule.covers(caller, query) && rule.names_issuer_of(caller)
                })
                .is_some()
    }

    /// The first rule that grants the administration of `reach`.
    pub(super) fn first_administering(&self, caller: &Caller, reach: Reach<'_>) -> Option<&Rule> {
        self.administering(caller)
            .find(|rule| rule.contains(caller, reach))
    }

    /// Whether a rule grants the administration of anything.
    pub(super) fn makes_administrator(&self, caller: &Caller) -> bool {
        self.administering(caller).next().is_some()
    }

    fn administering(&self, caller: &Caller) -> impl Iterator<Item = &Rule> {
        self.about(caller).filter(|rule| rule.admin)
    }

    /// The rules that speak of the caller, whatever is asked about.
    pub(super) fn about(&self, caller: &Caller) -> impl Iterator<Item = &Rule> {
        self.rules
            .iter()
            .filter(|rule| rule.subjects.fit(&caller.subject, caller) && rule.speaks_of(caller))
    }

    fn numbered(&self, number: u32) -> Option<&Rule> {
        usize::try_from(number)
            .ok()
            .and_then(|at| self.rules.get(at))
    }

    fn find(
        &self,
        caller: &Caller,
        query: &CertQuery,
        matches: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        match &self.index {
            None => self.rules.iter().find(|rule| matches(rule)),
            Some(index) => self.find_in(index, caller, query, matches),
        }
    }

    // By itself, like the other ways for many: what few rules never need would make theirs longer.
    #[inline(never)]
    fn find_in(
        &self,
        index: &Index,
        caller: &Caller,
        query: &CertQuery,
        matches: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        let rule = |number| self.numbered(number);
        let mut first = u32::MAX;
        index.for_each_list(caller, query, |list| {
            let found = list
                .iter()
                .take_while(|number| **number < first)
                .find(|number| rule(**number).is_some_and(&matches));
            first = found.copied().unwrap_or(first);
        });
        rule(first)
    }
}

impl Rule {
    fn new(config: &Config, position: usize, rule: &RuleConfig) -> Self {
        let boxed = |texts: &[String]| texts.iter().map(|text| Box::from(text.as_str())).collect();
        Self {
            name: Arc::from(rule.name.as_str()),
            position,
            subjects: Patterns::globs(&rule.subjects),
            issuers: boxed(&rule.issuers),
            scopes: boxed(&rule.scopes),
            projects: Projects::new(config.projects_of(rule)),
            usernames: Patterns::of_usernames(&rule.usernames),
            admin: rule.admin,
            used: AtomicBool::new(false),
            force_refresh: rule.force_refresh,
            lookups_per_minute: rule.lookups_per_minute,
            misses_per_minute: rule.misses_per_minute,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Notes that the rule has decided something.
    pub(super) fn note_use(&self) {
        // Looked at first: a line that nobody writes to is in every core's cache.
        if !self.is_used() {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// What of the rule does not fit; nothing, if it matches.
    pub(super) fn misfits(&self, caller: &Caller, query: &CertQuery) -> Vec<Aspect> {
        [
            (Aspect::Subject, self.subjects.fit(&caller.subject, caller)),
            (Aspect::Issuer, self.names_issuer_of(caller)),
            (Aspect::Scopes, self.has_scopes_of(caller)),
            (Aspect::Project, self.projects.include(&query.project)),
            (
                Aspect::Username,
                self.usernames.fit(query.username.as_str(), caller),
            ),
        ]
        .into_iter()
        .filter_map(|(aspect, fits)| (!fits).then_some(aspect))
        .collect()
    }

    /// Whether the rule speaks of the question and of the subject.
    fn covers(&self, caller: &Caller, query: &CertQuery) -> bool {
        self.projects.include(&query.project)
            && self.subjects.fit(&caller.subject, caller)
            && self.usernames.fit(query.username.as_str(), caller)
    }

    /// Whether the rule, which speaks of the caller, takes in a name that stands in a record: of a project, of
    /// a user in it, or of either alone.
    pub(super) fn takes_in(
        &self,
        caller: &Caller,
        project: Option<&str>,
        username: Option<&str>,
    ) -> bool {
        let has_project = match project {
            Some(text) => match text.parse() {
                Ok(id) => self.projects.include(&id),
                Err(_) => self.projects.is_all(),
            },
            // A name without a project may be of any.
            None => username.is_some() && !self.projects.is_empty(),
        };
        let has_user = match username {
            Some(name) => self.usernames.fit(name, caller),
            None => self.usernames.is_everything,
        };
        has_project && has_user
    }

    /// Whether the caller's token is of an issuer and has the scopes that the rule asks for.
    fn speaks_of(&self, caller: &Caller) -> bool {
        self.names_issuer_of(caller) && self.has_scopes_of(caller)
    }

    fn has_scopes_of(&self, caller: &Caller) -> bool {
        self.scopes
            .iter()
            .all(|scope| caller.scopes.contains(scope))
    }

    fn names_issuer_of(&self, caller: &Caller) -> bool {
        self.issuers.is_empty() || self.issuers.iter().any(|name| **name == *caller.issuer)
    }

    /// Whether all of `reach` is the rule's.
    fn contains(&self, caller: &Caller, reach: Reach<'_>) -> bool {
        if self.projects.is_empty() && self.usernames.is_empty() {
            return true;
        }
        match reach {
            Reach::Everything => self.projects.is_all() && self.usernames.is_everything,
            Reach::Project(project) => {
                self.projects.include(project) && self.usernames.is_everything
            }
            Reach::CertQuery(query) => {
                self.projects.include(&query.project)
                    && self.usernames.fit(query.username.as_str(), caller)
            }
        }
    }

    /// Whether the rule, which speaks of the caller, takes in all of `reach`. What it takes in of a larger one
    /// is left out of what is done there.
    pub(super) fn forbids(&self, caller: &Caller, reach: Reach<'_>) -> bool {
        !(self.projects.is_empty() && self.usernames.is_empty()) && self.contains(caller, reach)
    }
}

/// Up to here trying each is faster than any index.
const FEW: usize = 12;
