//! The cases in which the gateway is compared with bare hyper.

use crate::load::{Ask, Protocol};
use crate::process::Cores;
use crate::site::{Site, Tuning, Users};

/// One comparison.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) cores: Cores,
    pub(crate) tuning: Tuning,
    /// What every answer's status is.
    pub(crate) status: u16,
    /// The users that are asked about.
    users: Users,
    /// How many callers ask.
    tokens: usize,
    variant: Variant,
    pub(crate) once: Once,
    pub(crate) beside: Beside,
}

/// What the gateway is compared with.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    /// Hyper, which only answers.
    Hyper,
    /// Hyper that asks Atlas each time, through the client library that the gateway asks with.
    HyperAndClient,
}

/// How a list is asked for.
#[derive(Clone, Copy)]
enum Variant {
    Plain,
    Gzip,
    Zstd,
    /// With the validator of the list.
    Unchanged,
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Once {
    /// As often as there is time for: all is warm after the first round.
    RateLimitedLog,
    /// The token is new each time.
    Token,
    /// The user is new each time.
    User,
    /// The user is new every twentieth time.
    TwentiethUser,
}

impl Case {
    /// The requests, of which a run with `slices` slices uses no more than there are, where they must not
    /// be repeated.
    pub(crate) fn asks(&self, site: &Site, slices: usize, each: usize) -> Vec<Ask> {
        let fresh = slices * each;
        match self.once {
            Once::RateLimitedLog => {
                let asks = site.asks(self.users, &site.tokens(self.tokens));
                asks.into_iter().map(|ask| self.variant.on(ask)).collect()
            }
            Once::Token => site.asks(self.users, &site.tokens(fresh)),
            Once::User => {
                let users = Users {
                    count: fresh,
                    ..self.users
                };
                site.asks(users, &site.tokens(self.tokens))
            }
            Once::TwentiethUser => {
                let tokens = site.tokens(self.tokens);
                let new = Users {
                    name: "payments-seldom",
                    count: fresh.div_ceil(20),
                    ..self.users
                };
                let known = site.asks(self.users, &tokens);
                let mut known = known.iter().cycle();
                let mut asks = Vec::with_capacity(fresh);
                for ask in site.asks(new, &tokens) {
                    asks.push(ask);
                    asks.extend(known.by_ref().take(19).cloned());
                }
                asks
            }
        }
    }

    /// One that is answered with the list and from then on by memory.
    pub(crate) fn plain(&self, site: &Site) -> Ask {
        let one = Users {
            count: 1,
            ..self.users
        };
        site.asks(one, &site.tokens(1)).remove(0)
    }
}

impl Variant {
    fn on(self, ask: Ask) -> Ask {
        match self {
            Self::Plain => ask,
            Self::Gzip => ask.with("accept-encoding", "gzip"),
            Self::Zstd => ask.with("accept-encoding", "gzip, deflate, br, zstd"),
            Self::Unchanged => ask.with("if-none-match", "*"),
        }
    }
}

/// The names of all cases.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|case| case.name)
}

/// All cases; the first is the one that the others differ from.
#[expect(clippy::too_many_lines, reason = "a table")]
pub(crate) fn all() -> impl Iterator<Item = Case> {
    let hit = || Case {
        name: "hit",
        about: "one list of two certificates, one token, remembered",
        protocol: Protocol::Http1,
        cores: Cores::One,
        tuning: Tuning::USUAL,
        status: 200,
        users: Users {
            name: "payments-small",
            count: 1,
            certificates: 2,
        },
        tokens: 1,
        variant: Variant::Plain,
        once: Once::RateLimitedLog,
        beside: Beside::Hyper,
    };
    let large = || Users {
        name: "payments-large",
        certificates: 540,
        ..hit().users
    };
    let keys = || Users {
        name: "payments-many",
        count: 1_000,
        ..hit().users
    };
    [
        hit(),
        Case {
            name: "hit-keys",
            about: "1,000 lists, 256 tokens",
            users: keys(),
            tokens: 256,
            ..hit()
        },
        Case {
            name: "hit-tokens",
            about: "one list, 256 tokens",
            tokens: 256,
            ..hit()
        },
        Case {
            name: "hit-10k-tokens",
            about: "1,000 lists, 10,000 tokens",
            users: keys(),
            tokens: 10_000,
            ..hit()
        },
        Case {
            name: "hit-scope-rules",
            about: "beside 10,000 rules that ask for other scopes",
            tuning: Tuning { scope_rules: 10_000, ..Tuning::USUAL },
            ..hit()
        },
        Case {
            name: "large-keys",
            about: "100 lists of 540 certificates, 90 kB each",
            users: Users { name: "payments-larger", count: 100, ..large() },
            tokens: 100,
            ..hit()
        },
        Case {
            name: "hit-http2",
            about: "over HTTP/2, four streams to a connection",
            protocol: Protocol::Http2,
            ..hit()
        },
        Case {
            name: "hit-cores",
            about: "on two processors, which the generator shares",
            cores: Cores::Two,
            ..hit()
        },
        Case {
            name: "hit-unsynced",
            about: "audit.sync = \"never\"",
            tuning: Tuning { sync: "never", ..Tuning::USUAL },
            ..hit()
        },
        Case {
            name: "hit-synced",
            about: "audit.sync = \"always\": on the disk before each answer",
            tuning: Tuning { sync: "always", ..Tuning::USUAL },
            ..hit()
        },
        Case {
            name: "large",
            about: "one list of 540 certificates, 90 kB",
            users: large(),
            ..hit()
        },
        Case {
            name: "large-gzip",
            about: "the same, gzip accepted; bare hyper sends it plain",
            users: large(),
            variant: Variant::Gzip,
            ..hit()
        },
        Case {
            name: "large-zstd",
            about: "the same, zstd accepted too",
            users: large(),
            variant: Variant::Zstd,
            ..hit()
        },
        Case {
            name: "large-unchanged",
            about: "the same, and the caller has it: 304",
            users: large(),
            status: 304,
            variant: Variant::Unchanged,
            ..hit()
        },
        Case {
            name: "unchanged",
            about: "the list of two, and the caller has it: 304",
            status: 304,
            variant: Variant::Unchanged,
            ..hit()
        },
        Case {
            name: "mix",
            about: "95 % of 1,000 lists in memory, 5 % asked of Atlas (0 ms)",
            users: keys(),
            tokens: 256,
            once: Once::TwentiethUser,
            ..hit()
        },
        Case {
            name: "first-token",
            about: "a list in memory, an RS256 token never seen before",
            once: Once::Token,
            ..hit()
        },
        Case {
            name: "miss",
            about: "a list of one page asked of Atlas (0 ms); bare hyper only answers",
            users: Users {
                name: "payments-new",
                ..keys()
            },
            tokens: 1,
            once: Once::User,
            ..hit()
        },
        Case {
            name: "miss-client",
            about: "the same; bare hyper asks Atlas too, by the same library, and hands the list on",
            users: Users {
                name: "payments-newer",
                ..keys()
            },
            tokens: 1,
            once: Once::User,
            beside: Beside::HyperAndClient,
            ..hit()
        },
    ]
    .into_iter()
}
