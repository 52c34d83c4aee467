//! Lists and fetches that replicas share.

use std::time::Duration;

use atlas_simulator::{Answer, Asked, Fault};
use http::StatusCode;
use rustix::process::Signal;
use serde_json::Value;

use super::{two_replicas, until_connected, until_connected_is};
use crate::client::Reply;
use crate::harness::engine::Engine;
use crate::world::{PROJECT, Plan, World, certs, operator_token, set};

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
    assert!(second.records().iter().all(|it| it["kind"] != "fetch"));
}

#[tokio::test]
async fn a_list_ends_at_the_same_moment_at_every_replica() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    first.ask("app1").await;
    let adopted = second.ask("app1").await;
    let ttl_of_second = ttl(&adopted);
    let again = first.ask("app1").await;
    // Of what a second is divided by.
    assert!(ttl(&again).abs_diff(ttl_of_second) <= 1);
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

#[tokio::test]
async fn a_forced_refresh_at_one_replica_is_seen_at_the_others() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    let before = [first.ask("app1").await, second.ask("app1").await];
    assert_eq!(before[0].body, before[1].body);
    let atlas = &first.atlas;
    atlas.world(|world| {
        world.project(PROJECT).user("app1").certificates(1);
    });
    let forced = forced(&first).await;
    assert_ne!(forced.body, before[0].body);
    assert_eq!(atlas.certificate_calls(), 2);
    // The other one is told, and adopts.
    while second.ask("app1").await.body != forced.body {
        tokio::task::yield_now().await;
    }
    // A fetch that was just forced will do for whoever forces one there.
    assert_eq!(self::forced(&second).await.body, forced.body);
    assert_eq!(atlas.certificate_calls(), 2);
}

#[tokio::test]
async fn a_list_is_refreshed_ahead_once_for_all() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    first.ask("app1").await;
    second.ask("app1").await;
    let calls = first.atlas.certificate_calls();
    let lives = ttl(&second.ask("app1").await);
    first.advance(Duration::from_secs(lives * 99 / 100));
    // The engine has a clock of its own.
    let key = keys(&engine, "e:").await.remove(0);
    let soon = engine_millis(&engine).await + 5_000;
    let fresh_until = format!("{soon:016}");
    engine
        .command(&["SETRANGE", &key, "33", &fresh_until])
        .await;
    for world in [&first, &second] {
        while world.ask("app1").await.header("age") != Some("0") {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(first.atlas.certificate_calls(), calls + 1);
}

#[tokio::test]
async fn without_the_engine_each_replica_goes_on_alone_and_comes_back() {
    let Some(mut engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    first.ask("app1").await;
    engine.kill();
    until_connected_is(&first, 0).await;
    until_connected_is(&second, 0).await;
    let report = first.admin("GET", "/readyz", "", "").await;
    assert_eq!(report.status, 200);
    assert!(
        report.text().contains("\"part\":\"fleet\""),
        "{}",
        report.text()
    );
    assert_eq!(
        second.ask("app1").await.header("x-upstream-calls"),
        Some("1")
    );
    let (token, body) = (operator_token(), "{\"all\":true}");
    let purged = first
        .admin("POST", "/cache/purge", &token, body)
        .await
        .text();
    assert_eq!(purged, "{\"entries\":1,\"replicas\":5,\"confirmed\":1}\n");
    engine.resume().await;
    for world in [&first, &second] {
        world.while_time_passes(until_connected(world)).await;
    }
    first.ask("many").await;
    let adopted = second.ask("many").await;
    assert_eq!(adopted.header("x-upstream-calls"), Some("0"));
}

#[tokio::test]
async fn an_engine_that_says_nothing_holds_up_one_fetch_for_a_moment_and_no_more() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    first.ask("app1").await;
    engine.signal(Signal::STOP);
    // What is in memory does not ask the engine.
    assert_eq!(first.ask("app1").await.status, 200);
    let began = first.clock.now().elapsed;
    let asked = first.while_time_passes(second.ask("app1")).await;
    assert_eq!(asked.status, 200);
    let waited = first.clock.now().elapsed.saturating_sub(began);
    assert!(waited <= Duration::from_secs(2), "{waited:?}");
    // From then on no fetch asks it.
    assert_eq!(second.metric("fleet_connected").await, 0);
    assert_eq!(second.ask("many").await.status, 200);
    engine.signal(Signal::CONT);
    first.while_time_passes(until_connected(&second)).await;
}

#[tokio::test]
async fn a_new_replica_serves_what_the_others_had_while_atlas_is_down() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    let fetched = first.ask("app1").await;
    // By the engine's clock, too, the list has had its time.
    let key = keys(&engine, "e:").await.remove(0);
    engine
        .command(&["SETRANGE", &key, "33", "0000000000000001"])
        .await;
    let outage = first.atlas.on(Asked::certificates()).always();
    outage.respond(Fault::status(503));
    let served = first.while_time_passes(second.ask("app1")).await;
    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(served.body, fetched.body);
}

async fn forced(world: &World) -> Reply {
    let path = certs(PROJECT, "app1");
    let headers = [("Cache-Control", "no-cache")];
    world.send("GET", &path, &operator_token(), &headers).await
}

/// The keys of the engine that end in a part of this kind.
async fn keys(engine: &Engine, kind: &str) -> Vec<String> {
    let keys = engine.command(&["KEYS", &format!("*}}:{kind}*")]).await;
    redis::from_redis_value(keys).unwrap()
}

/// The time by the engine's clock, in milliseconds.
async fn engine_millis(engine: &Engine) -> u64 {
    let time = engine.command(&["TIME"]).await;
    let (seconds, _): (u64, u64) = redis::from_redis_value(time).unwrap();
    seconds * 1_000
}

/// The `ttl` that an answer says.
fn ttl(reply: &Reply) -> u64 {
    let said = reply.header("cache-status").unwrap();
    let (_, rest) = said.split_once("ttl=").unwrap();
    let digits = rest.split(';').next().unwrap();
    digits.parse().unwrap()
}

#[tokio::test]
async fn a_list_is_adopted_although_every_fetch_of_its_project_hangs() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let one_at_a_time = |plan: &mut Plan| {
        set(&mut plan.config, "atlas.limits.concurrency_per_project", 1);
    };
    let [first, second] = two_replicas(&engine, one_at_a_time).await;
    first.ask("app1").await;
    let held = first.atlas.on(Asked::certificates()).hold();
    let hanging = async {
        let answered = second.ask("many").await;
        assert_eq!(answered.status, 200);
    };
    let adopting = async {
        held.arrived(1).await;
        let adopted = second.ask("app1").await;
        assert_eq!(adopted.header("x-upstream-calls"), Some("0"));
        held.open();
    };
    tokio::join!(hanging, adopting);
}
