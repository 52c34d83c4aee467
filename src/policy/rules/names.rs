//! What a rule names: projects, and patterns of subjects and of usernames.

use super::FEW;
use super::by_text::ByText;
use crate::atlas::ProjectId;
use crate::identity::Caller;
use crate::policy::config::ANY;
use crate::policy::glob::Glob;
use crate::policy::pattern::Pattern;

/// The projects of a rule.
#[derive(Debug)]
pub(super) enum Projects {
    All,
    These(Box<[ProjectId]>),
}

/// Patterns, any of which may fit.
#[derive(Debug)]
pub(super) struct Patterns<P> {
    pub(super) list: Box<[P]>,
    by_text: Option<ByText>,
    pub(super) is_everything: bool,
}

impl Projects {
    pub(super) fn new<'n>(mut names: impl Iterator<Item = &'n str> + Clone) -> Self {
        if names.clone().any(|name| name == ANY) {
            return Self::All;
        }
        // What is no project id was reported as a mistake and cannot match.
        let mut ids: Vec<ProjectId> = names
            .by_ref()
            .filter_map(|name| name.parse().ok())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        Self::These(ids.into_boxed_slice())
    }

    pub(super) fn include(&self, project: &ProjectId) -> bool {
        match self {
            Self::All => true,
            Self::These(ids) => ids.binary_search(project).is_ok(),
        }
    }

    pub(super) fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::These(ids) if ids.is_empty())
    }
}

impl Patterns<Glob> {
    pub(super) fn globs(texts: &[String]) -> Self {
        let globs: Box<[Glob]> = texts.iter().map(|text| Glob::new(text)).collect();
        Self {
            by_text: (globs.len() > FEW).then(|| ByText::new((0..).zip(&globs))),
            is_everything: globs.iter().any(Glob::is_everything),
            list: globs,
        }
    }
}

impl Patterns<Pattern> {
    pub(super) fn of_usernames(texts: &[String]) -> Self {
        let patterns: Box<[Pattern]> = texts.iter().map(|text| Pattern::new(text)).collect();
        let globs = || patterns.iter().map(Pattern::glob);
        Self {
            by_text: (patterns.len() > FEW).then(|| ByText::new((0..).zip(globs()))),
            is_everything: patterns.iter().any(Pattern::is_everything),
            list: patterns,
        }
    }
}

/// What a text of a caller's is held against.
pub(super) trait Fits {
    fn fits(&self, text: &str, caller: &Caller) -> bool;
}

impl Fits for Glob {
    fn fits(&self, text: &str, _: &Caller) -> bool {
        self.matches(text)
    }
}

impl Fits for Pattern {
    fn fits(&self, text: &str, caller: &Caller) -> bool {
        self.matches(text, caller)
    }
}

impl<P: Fits> Patterns<P> {
    pub(super) fn fit(&self, text: &str, caller: &Caller) -> bool {
        self.is_everything
            || match &self.by_text {
                None => self.list.iter().any(|it| it.fits(text, caller)),
                Some(by_text) => self.fit_one_of_many(by_text, text, caller),
            }
    }

    #[inline(never)]
    fn fit_one_of_many(&self, by_text: &ByText, text: &str, caller: &Caller) -> bool {
        let fits = |number: &u32| {
            usize::try_from(*number)
                .ok()
                .and_then(|at| self.list.get(at))
                .is_some_and(|pattern| pattern.fits(text, caller))
        };
        let mut found = false;
        by_text.for_each_list(text, |list| found = found || list.iter().any(fits));
        found
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
