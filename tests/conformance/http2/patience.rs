//! Callers that take without giving: more streams than there are, no window, no body, no requests.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{
    END_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, PREFACE, REFUSED_STREAM, STATUS_400, Spammer, block,
    frame, get, lookup, settings,
};
use crate::client::Connection;
use crate::world::{PROJECT, World, certs, token};

#[tokio::test]
async fn the_stream_beyond_the_limit_is_refused_and_the_others_are_answered() {
    let world = World::new().await;
    // Without a window the answers stay, and with them their streams.
    let mut caller = Spammer::with_settings(&world, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    caller.until(|_| true).await;
    let all: Vec<u8> = (0..101).flat_map(|round| lookup(round * 2 + 1)).collect();
    caller.send(&all).await;
    let seen = caller
        .until(|seen| seen.heads.len() == 100 && !seen.resets.is_empty())
        .await;
    assert_eq!(seen.resets, BTreeMap::from([(201, REFUSED_STREAM)]), "X07");
    assert_eq!(seen.goaway, None);
}

#[tokio::test]
async fn a_caller_that_grants_no_window_is_not_waited_for_for_ever() {
    let world = World::new().await;
    let mut caller = Spammer::with_settings(&world, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    caller.send(&lookup(1)).await;
    caller.until(|seen| !seen.heads.is_empty()).await;
    let ends = caller.until(|seen| !seen.resets.is_empty() || seen.goaway.is_some());
    let seen = world.while_time_passes(ends).await;
    assert!(seen.resets.contains_key(&1), "X08: {seen:?}");
    let passed = world.clock.passed();
    assert!(passed >= Duration::from_secs(10), "X08: {passed:?}");
    assert!(passed < Duration::from_secs(15), "X08: {passed:?}");
    assert_eq!(world.refused("write_stall").await, 1);
}

#[tokio::test]
async fn a_preface_that_stops_short_ends_its_connection_at_once() {
    let world = World::new().await;
    let whole = [PREFACE, &settings(&[])].concat();
    for length in [1, 23, 24, 32] {
        let said = &whole[..length];
        let mut caller = Connection::open(world.address()).await;
        caller.send(said).await;
        caller.finish().await;
        let is_closed = tokio::time::timeout(Duration::from_secs(10), caller.is_closed()).await;
        assert!(is_closed.is_ok_and(|is_closed| is_closed), "{said:?}");
    }
}

#[tokio::test]
async fn a_body_that_never_comes_is_waited_for_a_few_seconds() {
    let world = World::new().await;
    let mut caller = Spammer::open(&world).await;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let block = block(&get(&path, &authorization));
    caller.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
    let answer = caller.until(|seen| !seen.heads.is_empty());
    let seen = world.while_time_passes(answer).await;
    assert_eq!(seen.heads[&1][0], STATUS_400, "X11");
    assert!(world.clock.passed() < Duration::from_secs(10), "X11");
}

#[tokio::test]
async fn a_connection_that_only_answers_pings_is_idle() {
    let world = World::new().await;
    let mut caller = Spammer::open(&world).await;
    caller.until(|_| true).await;
    let seen = world
        .while_time_passes(caller.until(|seen| seen.closed))
        .await;
    assert_eq!(seen.goaway, Some(0), "X12");
    let passed = world.clock.passed();
    let expected = Duration::from_mins(1)..Duration::from_mins(30);
    assert!(expected.contains(&passed), "X12: {passed:?}");
}
