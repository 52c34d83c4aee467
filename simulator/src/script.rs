//! The script of faults: which requests are concerned, and which of those by their number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::fault::{Effect, Fault};
use crate::gate::Gate;
use crate::held::Held;
use crate::numbers::Numbers;
use crate::target::Endpoint;

/// Says which requests a rule is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    endpoint: Option<Endpoint>,
    page: Option<u32>,
    project: Option<String>,
    username: Option<String>,
}

impl Asked {
    /// Every request.
    pub fn anything() -> Self {
        Self::default()
    }

    /// Requests to this endpoint.
    pub fn of(endpoint: Endpoint) -> Self {
        Self {
            endpoint: Some(endpoint),
            ..Self::default()
        }
    }

    /// Lists of certificates.
    pub fn certificates() -> Self {
        Self::of(Endpoint::Certificates)
    }

    /// Mints of tokens.
    pub fn token() -> Self {
        Self::of(Endpoint::Token)
    }

    /// Revocations of tokens.
    pub fn revoke() -> Self {
        Self::of(Endpoint::Revoke)
    }

    /// Only for this page.
    #[must_use]
    pub fn page(self, page: u32) -> Self {
        Self {
            page: Some(page),
            ..self
        }
    }

    /// Only in this project.
    #[must_use]
    pub fn project(self, project: &str) -> Self {
        Self {
            project: Some(project.to_owned()),
            ..self
        }
    }

    /// Only for this user.
    #[must_use]
    pub fn user(self, username: &str) -> Self {
        Self {
            username: Some(username.to_owned()),
            ..self
        }
    }

    fn matches(&self, call: &Call<'_>) -> bool {
        self.endpoint
            .is_none_or(|endpoint| endpoint == call.endpoint)
            && self.page.is_none_or(|page| page == call.page)
            && self
                .project
                .as_deref()
                .is_none_or(|project| Some(project) == call.project)
            && self
                .username
                .as_deref()
                .is_none_or(|username| Some(username) == call.username)
    }
}

/// A request as the script sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) page: u32,
    pub(crate) project: Option<&'a str>,
    pub(crate) username: Option<&'a str>,
}

/// The rules in force, in the order in which they were stated.
#[derive(Debug, Default)]
pub(crate) struct Script(Held<Vec<Arc<Rule>>>);

impl Script {
    /// What befalls this call.
    pub(crate) fn effects(&self, call: &Call<'_>) -> Vec<Effect> {
        self.0.with(|rules| {
            rules.retain(|rule| !rule.withdrawn.load(Ordering::Relaxed));
            rules
                .iter()
                .filter(|rule| rule.applies(call))
                .map(|rule| rule.effect.clone())
                .collect()
        })
    }

    pub(crate) fn on(&self, asked: Asked) -> On<'_> {
        On {
            script: self,
            asked,
            turn: Turn::Always,
        }
    }

    pub(crate) fn clear(&self) {
        self.0.with(Vec::clear);
    }
}

/// A rule that still lacks its fault; see [`Simulator::on`](crate::Simulator::on).
#[derive(Debug)]
#[must_use = "a rule does nothing until it says how to respond"]
pub struct On<'a> {
    script: &'a Script,
    asked: Asked,
    turn: Turn,
}

impl On<'_> {
    /// Every matching request from now on; the default.
    pub fn always(self) -> Self {
        Self {
            turn: Turn::Always,
            ..self
        }
    }

    /// Only the matching request with this number, counted from 1 and from now.
    pub fn nth(self, number: usize) -> Self {
        Self {
            turn: Turn::Between {
                first: number,
                last: number,
            },
            ..self
        }
    }

    /// The next `count` matching requests.
    pub fn times(self, count: usize) -> Self {
        Self {
            turn: Turn::Between {
                first: 1,
                last: count,
            },
            ..self
        }
    }

    /// The next matching request.
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// All matching requests after the next `count`.
    pub fn after(self, count: usize) -> Self {
        Self {
            turn: Turn::Between {
                first: count + 1,
                last: usize::MAX,
            },
            ..self
        }
    }

    /// About one matching request in `every`, the same ones for the same seed.
    pub fn one_in(self, every: u64, seed: u64) -> Self {
        Self {
            turn: Turn::OneIn { every, seed },
            ..self
        }
    }

    /// States the rule.
    pub fn respond(self, fault: Fault) -> Planted {
        let Self {
            script,
            asked,
            turn,
        } = self;
        let rule = Arc::new(Rule {
            asked,
            turn,
            effect: fault.0,
            matched: AtomicUsize::new(0),
            applied: AtomicUsize::new(0),
            withdrawn: AtomicBool::new(false),
        });
        script.0.with(|rules| rules.push(Arc::clone(&rule)));
        Planted(rule)
    }

    /// States that such requests wait at a gate, and returns it.
    pub fn hold(self) -> Gate {
        let gate = Gate::new();
        self.respond(Fault::hold(&gate));
        gate
    }
}

/// A rule in force.
#[derive(Clone, Debug)]
pub struct Planted(Arc<Rule>);

impl Planted {
    /// How many requests it has been applied to.
    pub fn applied(&self) -> usize {
        self.0.applied.load(Ordering::Relaxed)
    }

    /// Ends it; requests that it already holds stay held.
    pub fn withdraw(&self) {
        self.0.withdrawn.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Rule {
    asked: Asked,
    turn: Turn,
    effect: Effect,
    matched: AtomicUsize,
    applied: AtomicUsize,
    withdrawn: AtomicBool,
}

impl Rule {
    fn applies(&self, call: &Call<'_>) -> bool {
        if !self.asked.matches(call) {
            return false;
        }
        let number = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        let applies = self.turn.comes(number);
        if applies {
            self.applied.fetch_add(1, Ordering::Relaxed);
        }
        applies
    }
}

/// Which of the matching requests a rule takes.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Always,
    Between { first: usize, last: usize },
    OneIn { every: u64, seed: u64 },
}

impl Turn {
    fn comes(self, number: usize) -> bool {
        match self {
            Self::Always => true,
            Self::Between { first, last } => (first..=last).contains(&number),
            Self::OneIn { every, seed } => {
                let number = u64::try_from(number).unwrap_or(u64::MAX);
                Numbers::seeded(seed ^ number.wrapping_mul(0x9e37_79b9))
                    .next()
                    .is_multiple_of(every.max(1))
            }
        }
    }
}
