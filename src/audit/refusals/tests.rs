//! Which refusals are folded, and with whom.

use super::*;
use crate::identity::network;

fn source(address: &str) -> RefusedParty {
    RefusedParty::Source(network(address.parse().unwrap()))
}

fn caller(subject: &str) -> RefusedParty {
    RefusedParty::Caller {
        issuer: Arc::from("https://idp.internal.example"),
        subject: Box::from(subject),
    }
}

fn at(millis: u64) -> Moment {
    let elapsed = Duration::from_millis(millis);
    Moment {
        elapsed,
        wall: Timestamp::from_seconds(1_000).plus(elapsed),
    }
}

fn is_folded(refusals: &mut Minute, party: RefusedParty, millis: u64) -> bool {
    refusals.refuse(party, "CODE", at(millis), false).is_some()
}

#[test]
fn each_source_and_caller_has_its_number_each_minute() {
    let mut refusals = Minute::new(2);
    for (party, millis, folded) in [
        (source("192.0.2.1"), 0, false),
        (source("192.0.2.1"), 1, false),
        (source("192.0.2.1"), 2, true),
        (source("::ffff:192.0.2.1"), 3, true),
        (source("192.0.2.2"), 4, false),
        (source("2001:db8::1"), 5, false),
        (source("2001:db8::2"), 6, false),
        (source("2001:db8::3"), 7, true),
        (source("2001:db8:0:1::3"), 8, false),
        (caller("payments"), 9, false),
        (caller("payments"), 10, false),
        (caller("payments"), 11, true),
        (caller("billing"), 12, false),
        (source("192.0.2.1"), 59_999, true),
        (source("192.0.2.1"), 60_000, false),
        // Overtaken on its way here by one of the next minute.
        (source("192.0.2.1"), 59_998, false),
        (source("192.0.2.1"), 60_001, true),
    ] {
        assert_eq!(
            is_folded(&mut refusals, party.clone(), millis),
            folded,
            "{party:?} {millis}"
        );
    }
}

#[test]
fn a_fold_counts_by_code_and_is_due_once_its_minute_is_over() {
    let mut refusals = Minute::new(0);
    for (millis, code) in [(100, "A"), (30_000, "B"), (200, "A")] {
        let told = refusals.refuse(source("192.0.2.1"), code, at(millis), false);
        let told = told.unwrap();
        assert_eq!(told.retry_after, Duration::from_millis(60_000 - millis));
        assert_eq!(told.limit, Some(0));
    }
    assert!(refusals.take_due(Duration::from_secs(59)).is_empty());
    let due = refusals.take_due(Duration::from_mins(1));
    let fold = Fold {
        count: 3,
        codes: BTreeMap::from([(Arc::from("A"), 2), (Arc::from("B"), 1)]),
        first: at(100).wall,
        last: at(30_000).wall,
    };
    assert_eq!(due, HashMap::from([(source("192.0.2.1"), fold)]));
    assert!(refusals.take_due(Duration::from_mins(2)).is_empty());
}

#[test]
fn beyond_ten_thousand_sources_the_rest_is_folded_as_one() {
    let mut refusals = Minute::new(1);
    let number = |number: u32| RefusedParty::Source(IpAddr::V4(number.into()));
    for known in 0..10_000 {
        assert!(!is_folded(&mut refusals, number(known), 0));
    }
    for beyond in 10_000..10_010 {
        assert!(is_folded(&mut refusals, number(beyond), 0));
        let told = refusals.refuse(number(beyond), "CODE", at(0), false);
        assert_eq!(told.unwrap().limit, None);
    }
    // Those party are tracked still are, and callers have places of their own.
    assert!(is_folded(&mut refusals, number(7), 0));
    assert!(!is_folded(&mut refusals, caller("payments"), 0));
    let due = refusals.take_due(Duration::from_mins(1));
    assert_eq!(due[&RefusedParty::OtherSources].count, 20);
    assert_eq!(due[&number(7)].count, 1);
    assert_eq!(due.len(), 2);
    assert!(!is_folded(&mut refusals, number(20_000), 60_000));
}

#[test]
fn while_the_disk_is_short_all_are_folded_into_one() {
    let mut refusals = Minute::new(5);
    for party in [
        source("192.0.2.1"),
        source("2001:db8::1"),
        caller("payments"),
    ] {
        let told = refusals.refuse(party, "CODE", at(0), true).unwrap();
        assert_eq!(told.limit, None);
    }
    let due = refusals.take_due(Duration::from_mins(1));
    assert_eq!(due.len(), 1);
    assert_eq!(due[&RefusedParty::All].count, 3);
}

#[test]
fn what_could_not_be_written_is_due_again_and_added_to() {
    let mut refusals = Minute::new(0);
    for minute in 1..=3 {
        assert!(is_folded(
            &mut refusals,
            source("192.0.2.1"),
            minute * 60_000 - 1
        ));
        for (party, fold) in refusals.take_due(Duration::from_mins(minute)) {
            assert_eq!(fold.count, minute);
            refusals.put_back(party, fold);
        }
    }
}

#[test]
fn what_waits_to_be_written_is_bounded() {
    let mut refusals = Minute::new(0);
    for minute in 0..5_u32 {
        for number in 0..10_000 {
            let party = RefusedParty::Source(IpAddr::V4((minute * 10_000 + number).into()));
            assert!(is_folded(&mut refusals, party, u64::from(minute) * 60_000));
        }
    }
    let due = refusals.close();
    assert!(due.len() <= MOST_DUE + 1, "{}", due.len());
    assert_eq!(due.values().map(|fold| fold.count).sum::<u64>(), 50_000);
}

#[test]
fn a_closed_table_gives_all_it_has_and_takes_no_more() {
    let mut refusals = Minute::new(0);
    assert!(is_folded(&mut refusals, source("192.0.2.1"), 0));
    assert_eq!(refusals.close().len(), 1);
    assert!(!is_folded(&mut refusals, source("192.0.2.1"), 0));
    assert!(refusals.close().is_empty());
}
