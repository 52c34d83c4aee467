//! Lists and fetches that replicas share.

use std::time::Duration;

use atlas_simulator::{Answer, Asked, Fault};
use http::StatusCode;
use serde_json::Value;

use super::two_replicas;
use crate::harness::engine::Engine;

#[tokio::test]
async fn a_list_that_one_replica_has_fetched_is_adopted_by_the_others() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    for username in ["app1", "many", "secret-keeper", "n\u{fc}ll \u{1f512}"] {
        let fetched = first.ask(username).await;
        let calls = first.atlas.certificate_calls();
        first.advance(Duration::from_secs(7));
        let adopted = second.ask(username).await;
        assert_eq!(adopted.status, fetched.status, "{username}");
        assert_eq!(adopted.body, fetched.body, "{username}");
        assert_eq!(first.atlas.certificate_calls(), calls, "{username}");
        if fetched.status == 200 {
            let said = adopted.header("cache-status").unwrap();
            assert!(said.contains("hit; ttl="), "{said}");
            assert!(said.ends_with("detail=fleet"), "{said}");
            assert_eq!(adopted.header("age"), Some("7"));
            assert_eq!(adopted.header("x-upstream-calls"), Some("0"));
            assert_eq!(adopted.header("etag"), fetched.header("etag"));
            // What is in memory by then is a hit like any other.
            let said = second.ask(username).await;
            let said = said.header("cache-status").unwrap();
            assert!(!said.contains("fleet"), "{said}");
        }
    }
    let [fetched, adopted] = [&first, &second].map(|world| world.lookups().remove(0));
    assert_eq!(adopted["cache"], "hit");
    assert_eq!(adopted["fill_id"], fetched["fill_id"]);
    assert_eq!(adopted["fill_replica"], "gateway-1");
    assert_eq!(fetched["fill_replica"], Value::Null);
    assert_eq!(adopted["age_ms"], 7_000);
    let fetches = second
        .records()
        .into_iter()
        .filter(|it| it["kind"] == "fetch");
    assert_eq!(fetches.count(), 0);
}

#[tokio::test]
async fn a_list_ends_at_the_same_moment_at_every_replica() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    let fetched = first.ask("app1").await;
    let adopted = second.ask("app1").await;
    let ttl = |said: Option<&str>| {
        let said = said.unwrap();
        let at = said.find("ttl=").unwrap() + 4;
        let end = said[at..].find(';').map_or(said.len(), |end| at + end);
        said[at..end].parse::<u64>().unwrap()
    };
    let ttl_of_second = ttl(adopted.header("cache-status"));
    let again = first.ask("app1").await;
    assert_eq!(ttl(again.header("cache-status")), ttl_of_second);
    drop(fetched);
}

#[tokio::test]
async fn callers_of_all_replicas_share_one_fetch() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    let held = first.atlas.on(Asked::certificates()).hold();
    let callers = (0..20).map(|at| {
        let world = if at % 2 == 0 { &first } else { &second };
        world.ask("app1")
    });
    let answers = futures_util::future::join_all(callers);
    let released = async {
        held.arrived(1).await;
        while first.metric("cache_waiters").await + second.metric("cache_waiters").await < 20 {
            tokio::task::yield_now().await;
        }
        held.open();
    };
    let (answers, ()) = tokio::join!(answers, released);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(first.atlas.certificate_calls(), 1);
    let waited = "fleet_lists_total{result=\"waited\"}";
    let (one, other) = (first.metric(waited).await, second.metric(waited).await);
    assert_eq!(one + other, 1);
}

#[tokio::test]
async fn a_failed_fetch_fails_for_those_who_wait_for_it_at_other_replicas_too() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    let atlas = &first.atlas;
    let denial = atlas.on(Asked::certificates()).once();
    let document =
        r#"{"error":403,"errorCode":"USER_UNAUTHORIZED","parameters":[],"reason":"Forbidden"}"#;
    let answer = Answer::new(StatusCode::FORBIDDEN, document);
    denial.respond(Fault::answer(
        answer.header("content-type", "application/json"),
    ));
    let held = atlas.on(Asked::certificates()).hold();
    let released = async {
        held.arrived(1).await;
        while second.metric("cache_waiters").await < 1 {
            tokio::task::yield_now().await;
        }
        held.open();
    };
    let (one, other, ()) = tokio::join!(first.ask("app1"), second.ask("app1"), released);
    assert_eq!([one.status, other.status], [403, 403]);
    assert_eq!(one.body, other.body);
    assert_eq!(first.atlas.certificate_calls(), 1);
}
