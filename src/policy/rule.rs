//! One access rule, and what of a request it applies to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::config::{ANY, Config, RuleConfig};
use super::glob::{Glob, has_placeholders};
use crate::atlas::{CertQuery, ProjectId};
use crate::identity::Caller;

#[derive(Debug)]
pub(super) struct Rule {
    pub(super) config: RuleConfig,
    pub(super) name: Arc<str>,
    subjects: Patterns,
    projects: RuleProjects,
    usernames: Patterns,
    used: AtomicBool,
}

#[derive(Debug)]
enum RuleProjects {
    All,
    Named(Box<[ProjectId]>),
}

#[derive(Debug)]
struct Patterns {
    is_everything: bool,
    /// Patterns without a star, sorted: a rule may name a hundred thousand users.
    exact: Box<[Box<str>]>,
    globs: Box<[Glob]>,
    templates: Box<[Glob]>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach<'a> {
    Everything,
    Project(&'a ProjectId),
    CertQuery(&'a CertQuery),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Aspect {
    Issuer,
    Project,
    Scopes,
    Subject,
    Username,
}

impl Rule {
    pub(super) fn new(config: &Config, rule: &RuleConfig) -> Self {
        Self {
            config: rule.clone(),
            name: Arc::from(rule.name.as_str()),
            subjects: Patterns::new(&rule.subjects),
            projects: RuleProjects::new(config.projects_of(rule)),
            usernames: Patterns::new(&rule.usernames),
            used: AtomicBool::new(false),
        }
    }

    pub(super) fn note_use(&self) {
        // Read first: a cache line that no core writes to is shared by all.
        if !self.is_used() {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the rule is about `caller`, whatever it asks: by subject, issuer and scopes.
    pub(super) fn applies_to(&self, caller: &Caller) -> bool {
        self.fits_scopes(caller) && self.fits_issuer(caller) && self.fits_subject(caller)
    }

    /// Whether a caller that the rule applies to asks what the rule is about.
    pub(super) fn covers(&self, caller: &Caller, query: &CertQuery) -> bool {
        self.projects.include(&query.project) && self.usernames.fit(query.username.as_str(), caller)
    }

    /// Whether the rule grants lists of a project to a caller that it applies to.
    pub(super) fn grants_in(&self, project: &ProjectId) -> bool {
        self.projects.include(project) && !self.config.usernames.is_empty()
    }

    pub(super) fn lacks_only_scopes(&self, caller: &Caller, query: &CertQuery) -> bool {
        !self.fits_scopes(caller)
            && self.covers(caller, query)
            && self.fits_issuer(caller)
            && self.fits_subject(caller)
    }

    /// What of the rule does not fit; nothing, if it matches.
    pub(super) fn misfits(&self, caller: &Caller, query: &CertQuery) -> Vec<Aspect> {
        let username = query.username.as_str();
        let fits = [
            (Aspect::Subject, self.fits_subject(caller)),
            (Aspect::Issuer, self.fits_issuer(caller)),
            (Aspect::Scopes, self.fits_scopes(caller)),
            (Aspect::Project, self.projects.include(&query.project)),
            (Aspect::Username, self.usernames.fit(username, caller)),
        ];
        let misfits = fits.into_iter().filter(|(_, fits)| !fits);
        misfits.map(|(aspect, _)| aspect).collect()
    }

    /// Whether all of `reach` is within the rule's projects and usernames. A rule that names neither has all.
    pub(super) fn contains(&self, caller: &Caller, reach: Reach<'_>) -> bool {
        if self.is_about_nothing() {
            return true;
        }
        match reach {
            Reach::Everything => self.projects.is_all() && self.usernames.is_everything,
            Reach::Project(project) => {
                self.projects.include(project) && self.usernames.is_everything
            }
            Reach::CertQuery(query) => self.covers(caller, query),
        }
    }

    /// As [`Rule::contains`], of a rule that denies: what names neither projects nor usernames denies nothing.
    pub(super) fn forbids(&self, caller: &Caller, reach: Reach<'_>) -> bool {
        !self.is_about_nothing() && self.contains(caller, reach)
    }

    /// Whether a name in a record is within the rule: of a project, of a user in it, or of either alone.
    pub(super) fn contains_name(
        &self,
        caller: &Caller,
        project: Option<&str>,
        username: Option<&str>,
    ) -> bool {
        let has_project = match project.map(str::parse) {
            Some(Ok(id)) => self.projects.include(&id),
            Some(Err(_)) => self.projects.is_all(),
            // A name without a project may be of any.
            None => username.is_some() && !self.projects.is_empty(),
        };
        has_project
            && match username {
                Some(name) => self.usernames.fit(name, caller),
                None => self.usernames.is_everything,
            }
    }

    fn is_about_nothing(&self) -> bool {
        self.projects.is_empty() && self.config.usernames.is_empty()
    }

    fn fits_subject(&self, caller: &Caller) -> bool {
        self.subjects.fit(&caller.subject, caller)
    }

    fn fits_issuer(&self, caller: &Caller) -> bool {
        let issuers = &self.config.issuers;
        issuers.is_empty() || issuers.iter().any(|name| **name == *caller.issuer)
    }

    fn fits_scopes(&self, caller: &Caller) -> bool {
        let has = |scope: &String| caller.scopes.iter().any(|own| **own == **scope);
        self.config.scopes.iter().all(has)
    }
}

impl Aspect {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Issuer => "issuers",
            Self::Project => "projects",
            Self::Scopes => "scopes",
            Self::Subject => "subjects",
            Self::Username => "usernames",
        }
    }
}

impl RuleProjects {
    fn new<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let names: Vec<&str> = names.collect();
        if names.contains(&ANY) {
            return Self::All;
        }
        let ids = names.iter().map(|name| name.parse());
        let ids: Result<Vec<ProjectId>, _> = ids.collect();
        let mut ids = ids.expect("what is no project id was refused as a configuration error");
        ids.sort_unstable();
        Self::Named(ids.into_boxed_slice())
    }

    fn include(&self, project: &ProjectId) -> bool {
        match self {
            Self::All => true,
            Self::Named(ids) => ids.binary_search(project).is_ok(),
        }
    }

    fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Named(ids) if ids.is_empty())
    }
}

impl Patterns {
    fn new(texts: &[String]) -> Self {
        let (mut exact, mut globs, mut templates) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            if has_placeholders(text) {
                templates.push(Glob::new(text));
            } else if text.contains('*') {
                globs.push(Glob::new(text));
            } else {
                exact.push(Box::from(text.as_str()));
            }
        }
        exact.sort_unstable();
        Self {
            is_everything: globs.iter().any(Glob::is_everything),
            exact: exact.into_boxed_slice(),
            globs: globs.into_boxed_slice(),
            templates: templates.into_boxed_slice(),
        }
    }

    fn fit(&self, text: &str, caller: &Caller) -> bool {
        let fits_filled = |template: &Glob| {
            let glob = template.filled_for(caller);
            glob.is_some_and(|glob| glob.matches(text))
        };
        self.is_everything
            || self.globs.iter().any(|glob| glob.matches(text))
            || self
                .exact
                .binary_search_by(|name| (**name).cmp(text))
                .is_ok()
            || self.templates.iter().any(fits_filled)
    }
}
