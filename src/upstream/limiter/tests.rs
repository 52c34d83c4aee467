//! The limits as a fetch meets them: grants, answers and minutes, and eviction.

mod slots;

use futures_util::FutureExt;

use super::projects::MOST_PROJECTS;
use super::*;
use crate::atlas::Timestamp;
use crate::system::ManualClock;

fn limiter(in_all: usize, per_project: usize, queue: usize) -> (ProjectLimiter, ManualClock) {
    let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(0));
    let limits = AtlasLimits {
        concurrency: in_all,
        concurrency_per_project: per_project,
        queue,
        ..AtlasLimits::default()
    };
    let limiter = ProjectLimiter::new(&limits, clock, Jitter::Fixed(0), None);
    (limiter, manual_clock)
}

fn project(digit: char) -> ProjectId {
    digit.to_string().repeat(24).parse().unwrap()
}

fn rates() -> Rates {
    Rates::new(&AtlasLimits::default())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn new_project() -> Project<Waiter> {
    Project::new(TokenBucket::new(rates(), Duration::ZERO), 4)
}

fn quota(limit: u64, remaining: u64) -> Quota {
    Quota {
        limit: Some(limit),
        remaining: Some(remaining),
    }
}

/// Makes as many calls as are granted, each answered without numbers; how many those were.
fn granted(project: &mut Project<Waiter>, urgency: Urgency, now: Duration) -> u64 {
    let mut granted = 0;
    while project.take(1, urgency, true, now).is_ok() {
        project.send(urgency, now).unwrap();
        project.bucket.ended();
        granted += 1;
    }
    granted
}

/// What Atlas says of its bucket in answer to a call of its own, which took no token of ours.
fn told(project: &mut Project<Waiter>, limit: Option<u64>, remaining: Option<u64>, now: Duration) {
    let ended_before = project.bucket.sent();
    let quota = Quota { limit, remaining };
    project.bucket.observe(ended_before, quota, now);
    project.bucket.ended();
}

#[test]
fn a_cold_start_may_spend_everything_but_the_reserve() {
    let mut project = new_project();
    assert_eq!(granted(&mut project, Urgency::Miss, Duration::ZERO), 1_000);
    assert_eq!(project.bucket.remaining, 200);
    assert_eq!(project.bucket.left(Duration::ZERO), (0, 1_000));
}

#[test]
fn a_refusal_says_when_a_call_will_be_granted_again_and_it_is() {
    for urgency in [Urgency::Miss, Urgency::Revalidate, Urgency::RefreshAhead] {
        let mut project = new_project();
        granted(&mut project, Urgency::Miss, Duration::ZERO);
        let mut now = Duration::ZERO;
        // Several rules hold a call back; each names its own wait.
        let mut waits = 0;
        while let Err(spent) = project.take(1, urgency, true, now) {
            now += spent.retry_after;
            waits += 1;
            assert!(waits <= 2, "{urgency:?} at {now:?}");
        }
    }
}

#[test]
fn in_the_long_run_we_take_our_share_of_the_refill_and_no_more() {
    let mut project = new_project();
    granted(&mut project, Urgency::Miss, Duration::ZERO);
    let mut taken = 0;
    for second in 1..=3_600 {
        taken += granted(&mut project, Urgency::Miss, seconds(second));
    }
    assert!((14_700..=15_000).contains(&taken), "{taken}");
}

#[test]
fn a_replica_that_is_alone_has_its_part_of_what_is_left_of_our_share() {
    let mut bucket = TokenBucket::new(rates(), Duration::ZERO);
    bucket.take(400, Duration::ZERO);
    for (replicas, left) in [(1, (600, 1_000)), (5, (120, 200)), (1, (600, 1_000))] {
        bucket.divide(replicas);
        assert_eq!(bucket.left(Duration::ZERO), left);
    }
    bucket.divide(5);
    // 250 calls in a minute, over all replicas.
    assert_eq!(bucket.left(seconds(12)), (130, 200));
    assert_eq!(bucket.own_refill(), 50);
    let other = AtlasLimits {
        refill_per_minute: 1_000,
        ..AtlasLimits::default()
    };
    bucket.replace_rates(
        Rates::new(&other).in_place_of(rates().of_one_in(5)),
        seconds(12),
    );
    assert_eq!(
        (bucket.own_refill(), bucket.left(seconds(12))),
        (100, (130, 200))
    );
}

#[test]
fn what_others_take_is_missing_from_ours() {
    let mut project = new_project();
    told(&mut project, Some(1_200), Some(203), Duration::ZERO);
    assert_eq!(granted(&mut project, Urgency::Miss, Duration::ZERO), 3);
    // Nothing is expected back before a whole period, then all that a period brings.
    assert_eq!(granted(&mut project, Urgency::Miss, seconds(59)), 0);
    assert!(granted(&mut project, Urgency::Miss, seconds(60)) > 100);
}

#[test]
fn numbers_that_cannot_be_are_ignored_and_a_smaller_bucket_is_adopted() {
    let mut project = new_project();
    told(&mut project, None, None, Duration::ZERO);
    told(&mut project, Some(1_200), Some(1_201), Duration::ZERO);
    told(&mut project, Some(0), None, Duration::ZERO);
    assert_eq!(project.bucket.remaining, 1_200);
    told(&mut project, Some(5_000), Some(4_000), Duration::ZERO);
    assert_eq!(project.bucket.remaining, 1_200);
    told(&mut project, Some(120), Some(119), Duration::ZERO);
    assert_eq!(granted(&mut project, Urgency::Miss, Duration::ZERO), 99);
}

#[test]
fn answers_in_any_order_count_each_call_once() {
    let mut project = new_project();
    project
        .take(10, Urgency::Miss, true, Duration::ZERO)
        .unwrap();
    let one = |project: &mut Project<Waiter>| project.send(Urgency::Miss, Duration::ZERO).unwrap();
    let sent: Vec<u64> = (0..10).map(|_| one(&mut project)).collect();
    for (number, sent) in sent.into_iter().enumerate().rev() {
        let remaining = 1_199 - u64::try_from(number).unwrap();
        project
            .bucket
            .observe(sent, quota(1_200, remaining), Duration::ZERO);
        project.bucket.ended();
        assert_eq!(project.bucket.remaining, 1_190);
    }
    assert_eq!(granted(&mut project, Urgency::Miss, Duration::ZERO), 990);
}

#[test]
fn what_was_granted_is_not_sent_once_others_have_taken_it() {
    let mut project = new_project();
    let now = Duration::ZERO;
    project.take(100, Urgency::Miss, true, now).unwrap();
    let first = project.send(Urgency::Miss, now).unwrap();
    project.bucket.observe(first, quota(1_200, 210), now);
    project.bucket.ended();
    let mut sent = 0;
    for _ in 0..99 {
        match project.send(Urgency::Miss, now) {
            Ok(_) => sent += 1,
            Err(_) => project.bucket.give_back(),
        }
    }
    assert_eq!((sent, project.bucket.remaining), (10, 200));
}

#[test]
fn a_bucket_that_was_filled_is_noticed_at_the_next_answer() {
    let mut project = new_project();
    told(&mut project, Some(1_200), Some(300), Duration::ZERO);
    assert_eq!(project.bucket.remaining, 300);
    told(&mut project, Some(1_200), Some(799), seconds(20));
    assert_eq!(project.bucket.remaining, 799);
}

#[test]
fn what_nobody_waits_for_stops_first_and_a_callers_miss_last() {
    let at = |remaining| {
        let mut project = new_project();
        told(&mut project, Some(1_200), Some(remaining), Duration::ZERO);
        [Urgency::RefreshAhead, Urgency::Revalidate, Urgency::Miss]
            .map(|urgency| project.take(1, urgency, true, Duration::ZERO).is_ok())
    };
    assert_eq!(at(600), [true, true, true]);
    assert_eq!(at(480), [false, true, true]);
    assert_eq!(at(240), [false, false, true]);
    assert_eq!(at(200), [false, false, false]);
}

#[test]
fn a_probe_passes_the_cooldown_whatever_is_believed_to_be_left() {
    let mut project = new_project();
    project.bucket.emptied(Duration::ZERO);
    let request = CooldownRequest {
        cause: CooldownCause::RateLimited,
        wait: Some(seconds(5)),
    };
    project
        .cooldown
        .begin(request, |_| Duration::ZERO, Duration::ZERO);
    assert_eq!(granted(&mut project, Urgency::Miss, seconds(4)), 0);
    assert_eq!(granted(&mut project, Urgency::Miss, seconds(5)), 1);
    assert!(project.cooldown.succeeded(seconds(5)));
    project.bucket.reopened();
    told(&mut project, Some(1_200), Some(210), seconds(5));
    let second_second = granted(&mut project, Urgency::Miss, seconds(6));
    assert_eq!(second_second, 2);
    assert_eq!(granted(&mut project, Urgency::Miss, seconds(20)), 8);
}

#[test]
fn an_evicted_project_does_not_start_full() {
    let mut project: Project<Waiter> =
        Project::new(TokenBucket::evicted(rates(), Duration::ZERO), 4);
    assert_eq!(granted(&mut project, Urgency::Miss, Duration::ZERO), 200);
    assert!(!project.is_idle(Duration::ZERO));
}

fn numbered(number: usize) -> ProjectId {
    format!("{number:024x}").parse().unwrap()
}

#[test]
fn ten_thousand_projects_are_known_and_none_starts_full_after_one_in_use_was_evicted() {
    let (limiter, clock) = limiter(32, 4, 100);
    let left = |number: usize| {
        let limits = limiter.for_fetch(numbered(number), Urgency::Miss);
        limits.with_project(|_| ());
        limiter.view(&numbered(number)).remaining
    };
    for number in 0..MOST_PROJECTS {
        assert_eq!(left(number), 1_000);
    }
    assert_eq!(left(MOST_PROJECTS), 1_000);
    assert_eq!(limiter.state().projects.len(), 1);
    for number in 0..2 * MOST_PROJECTS {
        let limits = limiter.for_fetch(numbered(number), Urgency::Miss);
        let reserved = limits.reserve(1, true).now_or_never().unwrap().unwrap();
        for reservation in reserved {
            sent_and_ended(reservation);
        }
    }
    assert!(limiter.state().projects.len() <= MOST_PROJECTS);
    assert_eq!(left(3 * MOST_PROJECTS), 200);
    clock.advance(rates().time_to_full());
    assert_eq!(left(4 * MOST_PROJECTS), 1_000);
}

/// So that its token is not given back.
fn sent_and_ended(mut reservation: Reservation) {
    let limits = reservation.limits.clone();
    limits.with_project(|project| project.bucket.sent());
    reservation.is_sent = true;
}
