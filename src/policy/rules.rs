//! The rules as they are asked: a caller and a question go in, the first rule that matches comes out.
//!
//! Few rules are simply tried one after another. Of many, most speak of other subjects, projects or
//! users: an index by each of the three names the rules that could match, and the shortest of the
//! three lists is tried. An index may name a rule too many, never one too few, for the rule itself
//! decides; so it cannot change an answer, only the time it takes.

mod by_text;

use std::collections::HashMap;
use std::sync::Arc;

use by_text::ByText;

use super::Reach;
use super::config::ANY;
use super::config::RuleConfig;
use super::glob::Glob;
use crate::atlas::ProjectId;
use crate::atlas::Question;
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
    subjects: Patterns,
    issuers: Box<[Box<str>]>,
    scopes: Box<[Box<str>]>,
    projects: Projects,
    usernames: Patterns,
    admin: bool,
    pub(super) force_refresh: bool,
    pub(super) lookups_per_minute: Option<u32>,
    pub(super) misses_per_minute: Option<u32>,
}

#[derive(Debug)]
enum Projects {
    All,
    These(Box<[ProjectId]>),
}

/// Patterns, any of which may fit.
#[derive(Debug)]
struct Patterns {
    globs: Box<[Glob]>,
    by_text: Option<ByText>,
    is_everything: bool,
}

/// The rules of a set by what they speak of.
#[derive(Debug)]
struct Index {
    subjects: ByText,
    usernames: ByText,
    projects: HashMap<ProjectId, Vec<u32>>,
    all_projects: Vec<u32>,
}

impl RuleSet {
    pub(super) fn new(configs: &[&RuleConfig]) -> Self {
        let rules: Vec<Rule> = configs.iter().map(|config| Rule::new(config)).collect();
        Self {
            index: (rules.len() > FEW).then(|| Index::new(&rules)),
            needs_scopes: rules.iter().any(|rule| !rule.scopes.is_empty()),
            rules,
        }
    }

    /// The first rule that matches.
    pub(super) fn first(&self, caller: &Caller, question: &Question) -> Option<&Rule> {
        self.find(caller, question, |rule| {
            rule.covers(caller, question) && rule.speaks_of(caller)
        })
    }

    /// Whether a rule would match if the token had all scopes.
    pub(super) fn would_match(&self, caller: &Caller, question: &Question) -> bool {
        self.needs_scopes
            && self
                .find(caller, question, |rule| {
                    rule.covers(caller, question) && rule.names_issuer_of(caller)
                })
                .is_some()
    }

    /// The first rule that grants the administration of `reach`.
    pub(super) fn first_administering(&self, caller: &Caller, reach: Reach<'_>) -> Option<&Rule> {
        self.administering(caller).find(|rule| rule.contains(reach))
    }

    /// Whether a rule grants the administration of anything.
    pub(super) fn makes_administrator(&self, caller: &Caller) -> bool {
        self.administering(caller).next().is_some()
    }

    fn administering(&self, caller: &Caller) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| {
            rule.admin && rule.subjects.fit(&caller.subject) && rule.speaks_of(caller)
        })
    }

    /// The first rule that forbids the administration of `reach`.
    pub(super) fn first_forbidding(&self, caller: &Caller, reach: Reach<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| {
            rule.subjects.fit(&caller.subject) && rule.speaks_of(caller) && rule.forbids(reach)
        })
    }

    fn find(
        &self,
        caller: &Caller,
        question: &Question,
        matches: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        match &self.index {
            None => self.rules.iter().find(|rule| matches(rule)),
            Some(index) => self.find_in(index, caller, question, matches),
        }
    }

    // By itself, like the other ways for many: what few rules never need would make theirs longer.
    #[inline(never)]
    fn find_in(
        &self,
        index: &Index,
        caller: &Caller,
        question: &Question,
        matches: impl Fn(&Rule) -> bool,
    ) -> Option<&Rule> {
        let rule = |number: u32| {
            usize::try_from(number)
                .ok()
                .and_then(|at| self.rules.get(at))
        };
        let mut first = u32::MAX;
        index.for_each_list(caller, question, |list| {
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
    fn new(config: &RuleConfig) -> Self {
        let boxed = |texts: &[String]| texts.iter().map(|text| Box::from(text.as_str())).collect();
        Self {
            name: Arc::from(config.name.as_str()),
            subjects: Patterns::new(&config.subjects),
            issuers: boxed(&config.issuers),
            scopes: boxed(&config.scopes),
            projects: Projects::new(&config.projects),
            usernames: Patterns::new(&config.usernames),
            admin: config.admin,
            force_refresh: config.force_refresh,
            lookups_per_minute: config.lookups_per_minute,
            misses_per_minute: config.misses_per_minute,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the rule speaks of the question and of the subject.
    fn covers(&self, caller: &Caller, question: &Question) -> bool {
        self.projects.include(&question.project)
            && self.subjects.fit(&caller.subject)
            && self.usernames.fit(question.username.as_str())
    }

    /// Whether the caller's token is of an issuer and has the scopes that the rule asks for.
    fn speaks_of(&self, caller: &Caller) -> bool {
        self.names_issuer_of(caller)
            && self
                .scopes
                .iter()
                .all(|scope| caller.scopes.contains(scope))
    }

    fn names_issuer_of(&self, caller: &Caller) -> bool {
        self.issuers.is_empty() || self.issuers.iter().any(|name| **name == *caller.issuer)
    }

    /// Whether all of `reach` is the rule's.
    fn contains(&self, reach: Reach<'_>) -> bool {
        if self.projects.is_empty() && self.usernames.is_empty() {
            return true;
        }
        match reach {
            Reach::Everything => self.projects.is_all() && self.usernames.is_everything,
            Reach::Project(project) => {
                self.projects.include(project) && self.usernames.is_everything
            }
            Reach::Question(question) => {
                self.projects.include(&question.project)
                    && self.usernames.fit(question.username.as_str())
            }
        }
    }

    /// Whether the rule takes a whole project, or the very key, out of `reach`. One that speaks of some
    /// users only does not, or a single denied user would keep everybody from purging a project.
    fn forbids(&self, reach: Reach<'_>) -> bool {
        match reach {
            Reach::Everything => self.usernames.is_everything,
            Reach::Project(project) => {
                self.projects.include(project) && self.usernames.is_everything
            }
            Reach::Question(question) => {
                self.projects.include(&question.project)
                    && self.usernames.fit(question.username.as_str())
            }
        }
    }
}

impl Projects {
    fn new(names: &[String]) -> Self {
        if names.iter().any(|name| name == ANY) {
            return Self::All;
        }
        // What is no project id was reported as a mistake and cannot match.
        let mut ids: Vec<ProjectId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        Self::These(ids.into_boxed_slice())
    }

    fn include(&self, project: &ProjectId) -> bool {
        match self {
            Self::All => true,
            Self::These(ids) => ids.binary_search(project).is_ok(),
        }
    }

    fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::These(ids) if ids.is_empty())
    }
}

impl Patterns {
    fn new(patterns: &[String]) -> Self {
        let globs: Box<[Glob]> = patterns.iter().map(|text| Glob::new(text)).collect();
        let by_text = (globs.len() > FEW).then(|| ByText::new((0..).zip(&globs)));
        Self {
            by_text,
            is_everything: globs.iter().any(Glob::is_everything),
            globs,
        }
    }

    fn fit(&self, text: &str) -> bool {
        self.is_everything
            || match &self.by_text {
                None => self.globs.iter().any(|glob| glob.matches(text)),
                Some(by_text) => self.fit_one_of_many(by_text, text),
            }
    }

    #[inline(never)]
    fn fit_one_of_many(&self, by_text: &ByText, text: &str) -> bool {
        let fits = |number: &u32| {
            usize::try_from(*number)
                .ok()
                .and_then(|at| self.globs.get(at))
                .is_some_and(|glob| glob.matches(text))
        };
        let mut found = false;
        by_text.for_each_list(text, |list| found = found || list.iter().any(fits));
        found
    }

    fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }
}

impl Index {
    fn new(rules: &[Rule]) -> Self {
        let of_rules = |patterns: fn(&Rule) -> &Patterns| {
            let rules = (0..).zip(rules);
            ByText::new(rules.flat_map(move |(number, rule)| {
                patterns(rule).globs.iter().map(move |glob| (number, glob))
            }))
        };
        let mut index = Self {
            subjects: of_rules(|rule| &rule.subjects),
            usernames: of_rules(|rule| &rule.usernames),
            projects: HashMap::new(),
            all_projects: Vec::new(),
        };
        for (number, rule) in (0..).zip(rules) {
            match &rule.projects {
                Projects::All => index.all_projects.push(number),
                Projects::These(ids) => {
                    for id in ids {
                        index.projects.entry(*id).or_default().push(number);
                    }
                }
            }
        }
        index
    }

    /// The lists that together name every rule that could match: the shortest of three ways.
    fn for_each_list(&self, caller: &Caller, question: &Question, mut visit: impl FnMut(&[u32])) {
        let of_project = self
            .projects
            .get(&question.project)
            .map_or(&[][..], Vec::as_slice);
        let username = question.username.as_str();
        let by_project = of_project.len() + self.all_projects.len();
        let by_subject = self.subjects.count(&caller.subject);
        let by_username = self.usernames.count(username);
        if by_project <= by_subject && by_project <= by_username {
            visit(of_project);
            visit(&self.all_projects);
        } else if by_subject <= by_username {
            self.subjects.for_each_list(&caller.subject, visit);
        } else {
            self.usernames.for_each_list(username, visit);
        }
    }
}

/// Up to here trying each is faster than any index.
const FEW: usize = 12;
