//! Who asks for what: some hundred callers of three issuers, some thousand users of twenty projects. Drawn
//! the same each time.

use std::sync::Arc;

use atlas_cert_gateway::atlas::CertQuery;
use atlas_cert_gateway::audit::{ListTag, Origin};
use atlas_cert_gateway::identity::Caller;
use uuid::Uuid;

use crate::any_caller;

/// Callers and users, and how often each of them is drawn.
pub(crate) struct Site {
    pub(crate) askers: Vec<Requester>,
    pub(crate) users: Vec<User>,
    chance: Chance,
    often: Box<[usize]>,
    wanted: Box<[usize]>,
}

/// Somebody who asks.
pub(crate) struct Requester {
    pub(crate) caller: Arc<Caller>,
    pub(crate) origin: Origin,
    pub(crate) rule: Arc<str>,
}

/// A database user.
pub(crate) struct User {
    pub(crate) query: CertQuery,
    /// `None` where Atlas has no such user.
    pub(crate) certificates: Option<u64>,
    pub(crate) list: ListTag,
    /// The last fetch, and when it was, in microseconds.
    pub(crate) filled: Option<(Uuid, u64)>,
}

impl Site {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let askers = (0..ASKERS).map(|number| Requester::new(number, &mut chance));
        let askers = askers.collect();
        let users = (0..USERS).map(|number| User::new(number, &mut chance));
        Self {
            askers,
            users: users.collect(),
            chance,
            often: ranks(ASKERS, 0.8),
            wanted: ranks(USERS, 1.6),
        }
    }

    /// The next number that is drawn.
    pub(crate) fn draw(&mut self) -> u64 {
        self.chance.next()
    }

    /// Who asks, and about whom: each team has users that it asks about often.
    pub(crate) fn pair(&self, drawn: u64) -> (usize, usize) {
        let of = |ranks: &[usize], drawn: u64| {
            ranks[usize::try_from(drawn & 0xffff).unwrap() % ranks.len()]
        };
        let asker = of(&self.often, drawn);
        let user = (of(&self.wanted, drawn >> 16) + asker % TEAMS * 97) % USERS;
        (asker, user)
    }

    /// Tokens are used for an hour, connections as well.
    pub(crate) fn turn_over(&mut self) {
        for number in 0..ASKERS {
            self.askers[number] = Requester::new(number, &mut self.chance);
        }
    }
}

impl Requester {
    fn new(number: usize, chance: &mut Chance) -> Self {
        let drawn = chance.next();
        let (host, port) = (number.to_be_bytes(), 32_768 + (drawn & 0x3fff));
        let peer = ([10, 20, host[6], host[7]], port.try_into().unwrap());
        let token = Uuid::from_u64_pair(drawn, chance.next());
        let caller = Caller {
            client_id: Some(Box::from(format!("team-{}", number % TEAMS))),
            token_id: Some(Box::from(token.to_string())),
            ..any_caller::caller(&subject(number), ISSUERS[number % ISSUERS.len()])
        };
        Self {
            caller: Arc::new(caller),
            origin: Origin::new(peer.into(), None),
            rule: Arc::from(format!("team {} reads its own users", number % TEAMS)),
        }
    }
}

impl User {
    fn new(number: usize, chance: &mut Chance) -> Self {
        let project = format!("32b6e34b3d91647abb2{:05x}", number % PROJECTS);
        let name = match number % 3 {
            0 => format!("CN=service-{number},OU=apps,O=Example"),
            1 => format!("CN=batch-{number}.jobs.internal.example"),
            _ => format!("report-{number}"),
        };
        let certificates = match number % 97 {
            0 => None,
            1 => Some(1_200),
            2..10 => Some(40),
            _ => Some(2),
        };
        let mut user = Self {
            query: CertQuery {
                project: project.parse().unwrap(),
                username: name.parse().unwrap(),
            },
            certificates,
            list: [b'A'; 16],
            filled: None,
        };
        user.change(chance.next());
        user
    }

    /// It has other certificates from now on.
    pub(crate) fn change(&mut self, mut drawn: u64) {
        for place in &mut self.list {
            *place = b'a' + u8::try_from(drawn % 16).unwrap();
            drawn /= 16;
        }
    }
}

/// The subject of the caller with this number.
pub(crate) fn subject(number: usize) -> String {
    format!("system:serviceaccount:team-{}:app-{number}", number % TEAMS)
}

/// Which rank is drawn, for numbers that are all as likely: rank n in proportion to n to the power of
/// `-exponent` (Zipf).
fn ranks(count: usize, exponent: f64) -> Box<[usize]> {
    let weights = 1..=u32::try_from(count).unwrap();
    let weights: Vec<f64> = weights.map(|it| f64::from(it).powf(-exponent)).collect();
    let whole: f64 = weights.iter().sum();
    let (mut rank, mut sum) = (0, 0.0);
    let places = (0..DRAWN).map(|place| {
        while sum + weights[rank] < whole * f64::from(place) / f64::from(DRAWN) {
            sum += weights[rank];
            rank += 1;
        }
        rank
    });
    places.collect()
}

/// `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

const ISSUERS: [&str; 3] = [
    "https://idp.internal.example",
    "https://oidc.eks.eu-central-1.amazonaws.com/id/4F1C7A",
    "https://kubernetes.default.svc",
];
pub(crate) const ASKERS: usize = 300;
const USERS: usize = 4_000;
const PROJECTS: usize = 20;
const TEAMS: usize = 40;
const DRAWN: u32 = 1 << 16;
