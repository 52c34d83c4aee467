//! A budget as its callers see it: grants, answers and minutes go in; what is granted after them comes
//! out.

use super::gate::CooldownCause;
use super::*;
use crate::upstream::config::Limits;

fn rates() -> Rates {
    Rates::new(&Limits::default())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Makes as many calls as are granted, each answered without numbers; how many those were.
fn granted(budget: &mut Budget, urgency: Urgency, now: Duration) -> u64 {
    let mut granted = 0;
    while budget.take(1, urgency, true, now).is_ok() {
        budget.send(urgency, now).unwrap();
        budget.ended();
        granted += 1;
    }
    granted
}

/// What Atlas says of its bucket in answer to a call of its own.
fn told(budget: &mut Budget, limit: Option<u64>, remaining: Option<u64>, now: Duration) {
    let sent = Sent {
        ended_before: budget.ended,
    };
    budget.granted += 1;
    budget.sent += 1;
    budget.observe(sent, limit, remaining, now);
    budget.ended();
}

#[test]
fn a_cold_start_may_spend_everything_but_the_reserve() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    assert_eq!(granted(&mut budget, Urgency::Miss, Duration::ZERO), 1_000);
    assert_eq!(budget.remaining, 200);
    let view = budget.view(Duration::ZERO);
    assert_eq!(
        (view.remaining, view.capacity, view.refill_per_minute),
        (0, 1_000, 250)
    );
}

#[test]
fn a_refusal_says_when_a_call_will_be_granted_again_and_it_is() {
    for urgency in [Urgency::Miss, Urgency::Revalidate, Urgency::RefreshAhead] {
        let mut budget = Budget::new(rates(), Duration::ZERO);
        granted(&mut budget, Urgency::Miss, Duration::ZERO);
        let mut now = Duration::ZERO;
        // Several rules hold a call back; each names its own wait.
        let mut waits = 0;
        while let Err(spent) = budget.take(1, urgency, true, now) {
            now += spent.retry_after;
            waits += 1;
            assert!(waits <= 2, "{urgency:?} at {now:?}");
        }
    }
}

#[test]
fn in_the_long_run_we_take_our_share_of_the_refill_and_no_more() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    granted(&mut budget, Urgency::Miss, Duration::ZERO);
    let mut taken = 0;
    for second in 1..=3_600 {
        taken += granted(&mut budget, Urgency::Miss, seconds(second));
    }
    assert!((14_700..=15_000).contains(&taken), "{taken}");
}

#[test]
fn what_others_take_is_missing_from_ours() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    told(&mut budget, Some(1_200), Some(203), Duration::ZERO);
    assert_eq!(granted(&mut budget, Urgency::Miss, Duration::ZERO), 3);
    // Nothing is expected back before a whole period, then all that a period brings.
    assert_eq!(granted(&mut budget, Urgency::Miss, seconds(59)), 0);
    assert!(granted(&mut budget, Urgency::Miss, seconds(60)) > 100);
}

#[test]
fn numbers_that_cannot_be_are_ignored_and_a_smaller_bucket_is_adopted() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    told(&mut budget, None, None, Duration::ZERO);
    told(&mut budget, Some(1_200), Some(1_201), Duration::ZERO);
    told(&mut budget, Some(0), None, Duration::ZERO);
    assert_eq!(budget.remaining, 1_200);
    told(&mut budget, Some(5_000), Some(4_000), Duration::ZERO);
    assert_eq!(budget.remaining, 1_200);
    told(&mut budget, Some(120), Some(119), Duration::ZERO);
    assert_eq!(granted(&mut budget, Urgency::Miss, Duration::ZERO), 99);
}

#[test]
fn answers_in_any_order_count_each_call_once() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    budget
        .take(10, Urgency::Miss, true, Duration::ZERO)
        .unwrap();
    let one = |budget: &mut Budget| budget.send(Urgency::Miss, Duration::ZERO).unwrap();
    let sent: Vec<Sent> = (0..10).map(|_| one(&mut budget)).collect();
    for (number, sent) in sent.into_iter().enumerate().rev() {
        let remaining = 1_199 - u64::try_from(number).unwrap();
        budget.observe(sent, Some(1_200), Some(remaining), Duration::ZERO);
        budget.ended();
        assert_eq!(budget.remaining, 1_190);
    }
    assert_eq!(granted(&mut budget, Urgency::Miss, Duration::ZERO), 990);
}

#[test]
fn what_was_granted_is_not_sent_once_others_have_taken_it() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    let now = Duration::ZERO;
    budget.take(100, Urgency::Miss, true, now).unwrap();
    let first = budget.send(Urgency::Miss, now).unwrap();
    budget.observe(first, Some(1_200), Some(210), now);
    budget.ended();
    let mut sent = 0;
    for _ in 0..99 {
        match budget.send(Urgency::Miss, now) {
            Ok(_) => sent += 1,
            Err(_) => budget.give_back(1),
        }
    }
    assert_eq!((sent, budget.remaining), (10, 200));
}

#[test]
fn a_bucket_that_was_filled_is_noticed_at_the_next_answer() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    told(&mut budget, Some(1_200), Some(300), Duration::ZERO);
    assert_eq!(budget.remaining, 300);
    told(&mut budget, Some(1_200), Some(799), seconds(20));
    assert_eq!(budget.remaining, 799);
}

#[test]
fn what_nobody_waits_for_stops_first_and_a_callers_miss_last() {
    let at = |remaining| {
        let mut budget = Budget::new(rates(), Duration::ZERO);
        told(&mut budget, Some(1_200), Some(remaining), Duration::ZERO);
        [Urgency::RefreshAhead, Urgency::Revalidate, Urgency::Miss]
            .map(|urgency| budget.take(1, urgency, true, Duration::ZERO).is_ok())
    };
    assert_eq!(at(600), [true, true, true]);
    assert_eq!(at(480), [false, true, true]);
    assert_eq!(at(240), [false, false, true]);
    assert_eq!(at(200), [false, false, false]);
}

#[test]
fn a_probe_passes_the_gate_whatever_is_believed_to_be_left() {
    let mut budget = Budget::new(rates(), Duration::ZERO);
    budget.close_gate(
        CooldownCause::RateLimited,
        Some(seconds(5)),
        |_| Duration::ZERO,
        Duration::ZERO,
    );
    assert_eq!(granted(&mut budget, Urgency::Miss, seconds(4)), 0);
    assert_eq!(granted(&mut budget, Urgency::Miss, seconds(5)), 1);
    budget.succeeded(seconds(5));
    told(&mut budget, Some(1_200), Some(210), seconds(5));
    let second_second = granted(&mut budget, Urgency::Miss, seconds(6));
    assert_eq!(second_second, 2);
    assert_eq!(granted(&mut budget, Urgency::Miss, seconds(20)), 8);
}

#[test]
fn a_forgotten_project_does_not_start_full() {
    let mut budget = Budget::forgotten(rates(), Duration::ZERO);
    assert_eq!(granted(&mut budget, Urgency::Miss, Duration::ZERO), 200);
    assert!(!budget.is_untouched(Duration::ZERO));
}
