//! Trails that chance has written: several replicas, days and kinds of records, shipped to one database.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use atlas_cert_gateway::audit::{
    AdminAction, AdminRecord, Arrival, CacheUse, Closing, FetchRecord, Origin, Outcome,
};
use uuid::Uuid;

use crate::audit::central::shipped::{central_trail, until_shipped};
use crate::audit::trail::{Trail, caller, query};
use crate::harness::postgres::Postgres;

/// Splitmix: the same seed gives the same trails.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(bound).unwrap()).unwrap()
    }

    pub(super) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    pub(super) fn is(&mut self, part: usize) -> bool {
        self.below(part) == 0
    }
}

/// Three replicas, each with so many records.
pub(super) async fn replicas(
    postgres: &Postgres,
    records: usize,
    chance: &mut Chance,
) -> Vec<Trail> {
    let mut trails = Vec::new();
    for _ in 0..3 {
        let trail = central_trail(postgres, |_| ());
        // One after the other, so that their numbers in the database are in this order.
        until_shipped(&trail, postgres).await;
        for _ in 0..records {
            record(&trail, chance).await;
            trail.manual_clock.advance(Duration::from_millis(
                u64::try_from(chance.below(3) * chance.below(600_000)).unwrap(),
            ));
        }
        until_shipped(&trail, postgres).await;
        trails.push(trail);
    }
    trails
}

async fn record(trail: &Trail, chance: &mut Chance) {
    match chance.below(10) {
        0 => {
            fetch(trail, chance);
            // It is on record once this one is.
            lookup(trail, chance).await;
        }
        1 => admin(trail, chance).await,
        _ => lookup(trail, chance).await,
    }
}

async fn lookup(trail: &Trail, chance: &mut Chance) {
    let query = query(chance.one(&USERNAMES));
    let peer = chance.one(&PEERS).parse().unwrap();
    let mut entry = trail.audit.entry(Arrival {
        request_id: Uuid::from_u128(u128::try_from(chance.below(400)).unwrap()).into(),
        origin: Cow::Owned(Origin::new(peer, None)),
        ..trail.arrival()
    });
    let mut caller = caller(chance.one(&SUBJECTS));
    if chance.is(3) {
        Arc::get_mut(&mut caller).unwrap().client_id = Some(Box::from(CLIENT));
    }
    entry.set_caller(&caller);
    entry.set_query(&query);
    let rule = Arc::from(chance.one(&RULES));
    entry.set_rule((!chance.is(4)).then_some(&rule));
    let (outcome, status) = [
        (Outcome::Answered, 200),
        (Outcome::Answered, 404),
        (Outcome::Denied, 403),
        (Outcome::Failed, 503),
    ][chance.below(4)];
    let answered = outcome == Outcome::Answered;
    let is_hit = chance.is(2);
    let certificates = [0, 1, 2, 500, 501, 1_200][chance.below(6)];
    let closing = Closing {
        outcome,
        status,
        cache: if is_hit {
            CacheUse::Hit
        } else {
            CacheUse::Miss
        },
        fill_id: answered.then(|| fill(chance)),
        certificates: (answered && status == 200).then_some(certificates),
        upstream_calls: if is_hit {
            0
        } else {
            chance.below(5).try_into().unwrap()
        },
        ..trail.closing()
    };
    entry.close(closing).await.unwrap();
}

pub(super) fn fetch(trail: &Trail, chance: &mut Chance) {
    let failed = chance.is(5);
    let appeared: Vec<i64> = (0..chance.below(4)).map(|_| serial(chance)).collect();
    let vanished: Vec<i64> = (0..chance.below(3)).map(|_| serial(chance)).collect();
    trail.audit.record_fetch(&FetchRecord {
        fill_id: fill(chance),
        query: &query(chance.one(&USERNAMES)),
        outcome: if failed {
            Outcome::Failed
        } else {
            Outcome::Answered
        },
        credential: "default",
        status: Some(if failed { 503 } else { 200 }),
        error_code: failed.then_some("UNAVAILABLE"),
        pages: 1,
        upstream_calls: 1,
        certificates: (!failed).then_some(2),
        list: None,
        before: chance.is(2).then(|| fill(chance)),
        appeared: &appeared,
        vanished: &vanished,
        expired: &[],
        duration: Duration::from_millis(7),
        now: trail.clock.now(),
    });
}

async fn admin(trail: &Trail, chance: &mut Chance) {
    let operator = caller(chance.one(&SUBJECTS));
    let record = AdminRecord {
        action: AdminAction::Purge,
        outcome: Outcome::Answered,
        caller: Some(&operator),
        peer: Some(chance.one(&PEERS).parse().unwrap()),
        request_id: None,
        status: Some(200),
        rule: Some(chance.one(&RULES)),
        group_id: Some(PROJECT),
        username: Some(chance.one(&USERNAMES)),
        entries: Some(1),
        filters: None,
        told_by: None,
        now: trail.clock.now(),
    };
    trail.audit.record_admin(&record).await.unwrap();
}

/// One of a few fetches.
pub(super) fn fill(chance: &mut Chance) -> Uuid {
    Uuid::from_u128(u128::try_from(1_000 + chance.below(40)).unwrap())
}

pub(super) fn serial(chance: &mut Chance) -> i64 {
    i64::try_from(chance.below(6)).unwrap()
}

pub(super) const CLIENT: &str = "client \"two\"";
pub(super) const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
pub(super) const PEERS: [&str; 5] = [
    "192.0.2.7:50123",
    "192.0.2.8:50123",
    "192.0.2.70:50123",
    "[::ffff:192.0.2.7]:443",
    "[2001:db8::1]:443",
];
pub(super) const RULES: [&str; 3] = ["reads", "reads \\ writes", "r\u{e9}gle"];
pub(super) const SUBJECTS: [&str; 7] = [
    "payments",
    "payment",
    "\u{fc}n\u{ef}\"c\u{f4}d\u{e9}",
    "ci\u{1b}",
    "nul\0",
    "\u{1f600} \"quoted\"",
    "x\",\"outcome\":\"failed\",\"y\":\"",
];
pub(super) const USERNAMES: [&str; 4] = ["app\\one", "CN=app", "zo\u{eb}", "app"];
