//! Slots, and the order in which they are given out.

use futures_util::future::join_all;

use super::*;

/// A slot for a first page, of a fetch that has no other calls.
async fn slot(
    limiter: &ProjectLimiter,
    project: ProjectId,
    urgency: Urgency,
) -> Result<Slot, FetchErrorKind> {
    limiter.for_fetch(project, urgency).slot(false).await
}

fn end(mut slot: Slot, well: bool) {
    slot.went_well = Some(well);
}

fn is_busy(slot: &Result<Slot, FetchErrorKind>) -> bool {
    let busy = HeldBack::Busy;
    matches!(slot, Err(FetchErrorKind::HeldBack { why, .. }) if *why == busy)
}

#[tokio::test]
async fn projects_take_turns_however_many_of_one_are_waiting() {
    let (limiter, _clock) = limiter(1, 4, 100);
    let held = slot(&limiter, project('a'), Urgency::Miss).await.unwrap();
    let order = Mutex::new(String::new());
    let ask = |name: char| {
        let (limiter, order) = (&limiter, &order);
        async move {
            let slot = slot(limiter, project(name), Urgency::Miss).await.unwrap();
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
    let (limiter, _clock) = limiter(1, 1, 100);
    let held = slot(&limiter, project('a'), Urgency::Miss).await.unwrap();
    let order = Mutex::new(Vec::new());
    let ask = |urgency| {
        let (limiter, order) = (&limiter, &order);
        async move {
            let _turn = slot(limiter, project('a'), urgency).await.unwrap();
            order.lock().unwrap().push(urgency);
        }
    };
    let waiting = join_all([Urgency::RefreshAhead, Urgency::Revalidate, Urgency::Miss].map(ask));
    tokio::join!(waiting, async { drop(held) });
    let expected = [Urgency::Miss, Urgency::Revalidate, Urgency::RefreshAhead];
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test]
async fn who_cannot_wait_or_has_waited_too_long_is_told_so() {
    let (limiter, manual_clock) = limiter(1, 1, 1);
    let _held = slot(&limiter, project('a'), Urgency::Miss).await.unwrap();
    let mut waiting = Box::pin(slot(&limiter, project('a'), Urgency::Miss));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(is_busy(&slot(&limiter, project('a'), Urgency::Miss).await));
    manual_clock.advance(Duration::from_secs(5));
    assert!(is_busy(&waiting.await));
}

#[tokio::test]
async fn a_slot_that_reaches_a_caller_who_has_left_is_passed_on() {
    let (limiter, _clock) = limiter(1, 1, 10);
    let held = slot(&limiter, project('a'), Urgency::Miss).await.unwrap();
    let mut leaves_early = Box::pin(slot(&limiter, project('a'), Urgency::Miss));
    let mut leaves_late = Box::pin(slot(&limiter, project('a'), Urgency::Miss));
    let mut stays = Box::pin(slot(&limiter, project('a'), Urgency::Miss));
    for waiting in [&mut leaves_early, &mut leaves_late, &mut stays] {
        assert!(waiting.as_mut().now_or_never().is_none());
    }
    drop(leaves_early);
    drop(held);
    // The slot is on its way to the second when that one leaves.
    drop(leaves_late);
    assert!(stays.now_or_never().unwrap().is_ok());
}

#[tokio::test]
async fn more_at_once_while_it_goes_well_and_fewer_when_it_does_not() {
    let (limiter, _clock) = limiter(100, 4, 100);
    let round = |well| {
        let limiter = &limiter;
        async move {
            let mut held = Vec::new();
            while let Some(slot) = slot(limiter, project('a'), Urgency::Miss).now_or_never() {
                held.push(slot.unwrap());
            }
            let at_once = held.len();
            for slot in held {
                end(slot, well);
            }
            at_once
        }
    };
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(round(true).await);
    }
    assert_eq!(seen, [4, 16, 20, 20]);
    round(false).await;
    assert_eq!(round(true).await, 1);
}

#[tokio::test]
async fn the_pages_of_one_list_go_at_once_while_no_other_fetch_is_there() {
    let at_once = |limits: &FetchLimits| {
        let mut held = Vec::new();
        while let Some(slot) = limits.slot(true).now_or_never() {
            held.push(slot.unwrap());
        }
        held
    };
    let fetch = |limiter: &ProjectLimiter| limiter.for_fetch(project('a'), Urgency::Miss);
    let (alone, _clock) = limiter(100, 4, 100);
    let pages = at_once(&fetch(&alone));
    assert_eq!(pages.len(), 20);
    // Nor does another list when they have ended well.
    for page in pages {
        end(page, true);
    }
    assert_eq!(at_once(&fetch(&alone)).len(), 20);
    let (shared, _clock) = limiter(100, 4, 100);
    let other = fetch(&shared).slot(true).await.unwrap();
    assert_eq!(at_once(&fetch(&shared)).len(), 3);
    drop(other);
    let (strained, _clock) = limiter(100, 4, 100);
    end(fetch(&strained).slot(true).await.unwrap(), false);
    assert_eq!(at_once(&fetch(&strained)).len(), 2);
    let (full, _clock) = limiter(10, 4, 100);
    assert_eq!(at_once(&fetch(&full)).len(), 10);
}
