//! Allowances over time.

use super::*;
use crate::atlas::{CertQuery, Timestamp};
use crate::identity::RuleListNumber;
use crate::policy::{Config, Policy, RuleConfig};

const FULL: BucketView = BucketView {
    remaining: 1_200,
    capacity: 1_200,
    refill_per_minute: 500,
};
const LOW: BucketView = BucketView {
    remaining: 479,
    ..FULL
};

pub(super) fn at(seconds: u64) -> Moment {
    Moment {
        elapsed: Duration::from_secs(seconds),
        wall: Timestamp::default(),
    }
}

pub(super) fn caller(subject: &str) -> Caller {
    Caller {
        subject: Box::from(subject),
        issuer: Arc::from("https://idp.test"),
        client_id: None,
        token_id: None,
        key_id: None,
        scopes: Box::default(),
        expires_at: Timestamp::default(),
        rule_list: RuleListNumber::default(),
    }
}

pub(super) fn permit(lookups: Option<u32>, misses: Option<u32>) -> Permit<'static> {
    let everybody = || vec!["*".to_owned()];
    let rule = RuleConfig {
        name: "rule".to_owned(),
        subjects: everybody(),
        projects: everybody(),
        usernames: everybody(),
        lookups_per_minute: lookups,
        misses_per_minute: misses,
        ..RuleConfig::default()
    };
    let query = CertQuery {
        project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
        username: "u".parse().unwrap(),
    };
    Policy::build(&Config {
        rules: vec![rule],
        ..Config::default()
    })
    .unwrap()
    .authorize(&caller("a"), &query)
    .unwrap()
    .into_owned()
}

#[test]
fn a_rule_s_limit_holds_for_each_caller_and_says_when_to_come_again() {
    let allowance = Allowance::default();
    let permit = permit(Some(6), Some(3));
    for (name, most) in [("a", 6), ("b", 6)] {
        for _ in 0..most {
            allowance
                .admit_lookup(&caller(name), &permit, at(0))
                .unwrap();
        }
        let spent = allowance
            .admit_lookup(&caller(name), &permit, at(0))
            .unwrap_err();
        assert_eq!(spent.retry_after, Duration::from_secs(10));
    }
    allowance
        .admit_lookup(&caller("a"), &permit, at(10))
        .unwrap();
    assert!(
        allowance
            .admit_lookup(&caller("a"), &permit, at(10))
            .is_err()
    );
    for _ in 0..3 {
        allowance
            .admit_miss(&caller("a"), &permit, FULL, at(0))
            .unwrap();
    }
    let spent = allowance
        .admit_miss(&caller("a"), &permit, FULL, at(0))
        .unwrap_err();
    assert_eq!(spent.retry_after, Duration::from_secs(20));
}

#[test]
fn a_limit_is_never_exceeded_over_any_minute_but_the_first() {
    let allowance = Allowance::default();
    let permit = permit(Some(60), None);
    let admitted = |from: u64| {
        (from * 10..(from + 60) * 10)
            .filter(|tenths| {
                let now = Moment {
                    elapsed: Duration::from_millis(tenths * 100),
                    ..at(0)
                };
                allowance.admit_lookup(&caller("a"), &permit, now).is_ok()
            })
            .count()
    };
    assert_eq!(admitted(0), 119, "a full bucket and its refill");
    assert_eq!(admitted(60), 60);
    assert_eq!(admitted(120), 60);
}

#[test]
fn without_limits_no_caller_is_held_back_while_there_is_plenty() {
    let allowance = Allowance::default();
    let permit = permit(None, None);
    for _ in 0..10_000 {
        allowance
            .admit_lookup(&caller("a"), &permit, at(0))
            .unwrap();
        allowance
            .admit_miss(&caller("a"), &permit, FULL, at(0))
            .unwrap();
    }
}

#[test]
fn while_the_bucket_is_low_one_caller_cannot_spend_it_for_all() {
    let allowance = Allowance::default();
    let permit = permit(None, None);
    // One caller alone takes the whole refill and no more.
    let greedy = (0..1_000)
        .filter(|_| {
            allowance
                .admit_miss(&caller("greedy"), &permit, LOW, at(0))
                .is_ok()
        })
        .count();
    assert_eq!(greedy, 500);
    // Four others come: a fifth each.
    for name in ["b", "c", "d", "e"] {
        allowance
            .admit_miss(&caller(name), &permit, LOW, at(5))
            .unwrap();
    }
    let more = (0..1_000)
        .filter(|_| {
            allowance
                .admit_miss(&caller("b"), &permit, LOW, at(5))
                .is_ok()
        })
        .count();
    assert_eq!(more, 99);
    let spent = allowance
        .admit_miss(&caller("greedy"), &permit, LOW, at(5))
        .unwrap_err();
    assert_eq!(spent.retry_after, Duration::from_secs(55));
    // A minute later the five hundred are forgotten.
    allowance
        .admit_miss(&caller("greedy"), &permit, LOW, at(60))
        .unwrap();
}

#[test]
fn a_fetch_of_many_pages_counts_as_many_calls() {
    let allowance = Allowance::default();
    let permit = permit(None, None);
    allowance
        .admit_miss(&caller("a"), &permit, LOW, at(0))
        .unwrap();
    allowance.charge(&caller("a"), &permit, 499, at(0));
    assert!(
        allowance
            .admit_miss(&caller("a"), &permit, LOW, at(0))
            .is_err()
    );
    // Another project is another bucket, and so is another caller's share.
    allowance
        .admit_miss(&caller("b"), &permit, LOW, at(0))
        .unwrap();
}

#[test]
fn everybody_gets_at_least_one_call_a_minute() {
    let allowance = Allowance::default();
    let permit = permit(None, None);
    for number in 0..1_000 {
        let one = caller(&format!("caller-{number}"));
        allowance.admit_miss(&one, &permit, LOW, at(0)).unwrap();
        let again = allowance.admit_miss(&one, &permit, LOW, at(0));
        assert_eq!(again.is_err(), number >= 250, "{number}");
    }
}

#[test]
fn memory_is_bounded_however_many_callers_come() {
    let allowance = Allowance::default();
    let permit = permit(Some(1), Some(1));
    for number in 0..100_000 {
        let one = caller(&number.to_string());
        let _ = allowance.admit_lookup(&one, &permit, at(0));
        let _ = allowance.admit_miss(&one, &permit, FULL, at(0));
    }
    assert!(lock(&allowance.lookups).accounts.len() <= 65_537);
    assert!(lock(&allowance.shares).callers() <= 1_025);
    // Once their minute is over, later callers have accounts of their own again.
    for number in 0..10 {
        let one = caller(&format!("new-{number}"));
        allowance.admit_lookup(&one, &permit, at(120)).unwrap();
    }
}
