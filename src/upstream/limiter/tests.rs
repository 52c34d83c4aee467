//! Turns as their callers see them: requests go in; who is served, and in which order, comes out.

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;
use crate::atlas::Timestamp;
use crate::system::ManualClock;

fn limiter(in_all: usize, per_project: usize, queue: usize) -> (ConcurrencyLimiter, ManualClock) {
    let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(0));
    let limits = Limits {
        concurrency: in_all,
        concurrency_per_project: per_project,
        queue,
        ..Limits::default()
    };
    (ConcurrencyLimiter::new(&limits, clock), manual_clock)
}

fn project(digit: char) -> ProjectId {
    digit.to_string().repeat(24).parse().unwrap()
}

/// A first page, of a walk that has no other calls.
fn request(project: ProjectId, urgency: Urgency) -> SlotRequest {
    SlotRequest {
        project,
        urgency,
        walk: WalkNumber(0),
        further: false,
    }
}

#[tokio::test]
async fn projects_take_turns_however_many_of_one_are_waiting() {
    let (limiter, _hands) = limiter(1, 4, 100);
    let held = limiter
        .take(request(project('a'), Urgency::Miss))
        .await
        .unwrap();
    let order = Mutex::new(String::new());
    let ask = |name: char| {
        let (limiter, order) = (&limiter, &order);
        async move {
            let slot = limiter
                .take(request(project(name), Urgency::Miss))
                .await
                .unwrap();
            order.lock().unwrap().push(name);
            drop(slot);
        }
    };
    let waiting = join_all("aaaaabc".chars().map(ask));
    let release = async { drop(held) };
    tokio::join!(waiting, release);
    assert_eq!(*order.lock().unwrap(), "abcaaaa");
}

#[tokio::test]
async fn the_more_urgent_goes_first() {
    let (limiter, _hands) = limiter(1, 1, 100);
    let held = limiter
        .take(request(project('a'), Urgency::Miss))
        .await
        .unwrap();
    let order = Mutex::new(Vec::new());
    let ask = |urgency| {
        let (limiter, order) = (&limiter, &order);
        async move {
            let _turn = limiter.take(request(project('a'), urgency)).await.unwrap();
            order.lock().unwrap().push(urgency);
        }
    };
    let waiting = join_all([Urgency::RefreshAhead, Urgency::Revalidate, Urgency::Miss].map(ask));
    tokio::join!(waiting, async { drop(held) });
    let expected = [Urgency::Miss, Urgency::Revalidate, Urgency::RefreshAhead];
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test]
async fn whoever_cannot_wait_in_the_queue_or_has_waited_too_long_is_told_so() {
    let (limiter, manual_clock) = limiter(1, 1, 1);
    let _held = limiter
        .take(request(project('a'), Urgency::Miss))
        .await
        .unwrap();
    let mut waiting = Box::pin(limiter.take(request(project('a'), Urgency::Miss)));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(
        limiter
            .take(request(project('a'), Urgency::Miss))
            .await
            .unwrap_err(),
        Busy
    );
    manual_clock.advance(Duration::from_secs(5));
    assert_eq!(waiting.await.unwrap_err(), Busy);
}

#[tokio::test]
async fn a_turn_that_reaches_someone_who_has_left_is_passed_on() {
    let (limiter, _hands) = limiter(1, 1, 10);
    let held = limiter
        .take(request(project('a'), Urgency::Miss))
        .await
        .unwrap();
    let mut leaves_early = Box::pin(limiter.take(request(project('a'), Urgency::Miss)));
    let mut leaves_late = Box::pin(limiter.take(request(project('a'), Urgency::Miss)));
    let mut stays = Box::pin(limiter.take(request(project('a'), Urgency::Miss)));
    for waiting in [&mut leaves_early, &mut leaves_late, &mut stays] {
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    drop(leaves_early);
    drop(held);
    // The turn is on its way to the second when that one leaves.
    drop(leaves_late);
    assert!(stays.now_or_never().unwrap().is_ok());
}

#[tokio::test]
async fn more_at_once_while_it_goes_well_and_fewer_when_it_does_not() {
    let (limiter, _hands) = limiter(100, 4, 100);
    let round = |how| {
        let limiter = &limiter;
        async move {
            let mut held = Vec::new();
            while let Some(slot) = limiter
                .take(request(project('a'), Urgency::Miss))
                .now_or_never()
            {
                held.push(slot.unwrap());
            }
            let at_once = held.len();
            held.drain(..).for_each(|slot| slot.ended(how));
            at_once
        }
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(round(TurnEnded::Well).await);
    }
    assert_eq!(seen, [4, 16, 20, 20]);
    round(TurnEnded::Strained).await;
    assert_eq!(round(TurnEnded::Well).await, 1);
}

#[tokio::test]
async fn the_pages_of_one_list_go_at_once_while_nobody_else_wants_anything_of_the_project() {
    let further = |walk: u64| SlotRequest {
        walk: WalkNumber(walk),
        further: true,
        ..request(project('a'), Urgency::Miss)
    };
    let at_once = |limiter: &ConcurrencyLimiter, walk: u64| {
        let mut held = Vec::new();
        while let Some(slot) = limiter.take(further(walk)).now_or_never() {
            held.push(slot.unwrap());
        }
        held
    };
    let (alone, _hands) = limiter(100, 4, 100);
    let pages = at_once(&alone, 1);
    assert_eq!(pages.len(), 20);
    // Nor does another list when they have ended well.
    for page in pages {
        page.ended(TurnEnded::Well);
    }
    assert_eq!(at_once(&alone, 2).len(), 20);
    let (shared, _hands) = limiter(100, 4, 100);
    let other = shared.take(further(1)).await.unwrap();
    assert_eq!(at_once(&shared, 2).len(), 3);
    drop(other);
    let (strained, _hands) = limiter(100, 4, 100);
    let bad = strained.take(further(1)).await.unwrap();
    bad.ended(TurnEnded::Strained);
    assert_eq!(at_once(&strained, 2).len(), 2);
    let (full, _hands) = limiter(10, 4, 100);
    assert_eq!(at_once(&full, 1).len(), 10);
}
