//! A call that a rule of ours holds back is no failure of Atlas, and each cause has its own words.

use std::time::Duration;

use atlas_cert_gateway::cache::Staleness;
use atlas_cert_gateway::upstream::HeldBack;
use atlas_simulator::{Answer, Asked, Fault};
use http::StatusCode;
use serde_json::Value;

use super::{PAST_TTL, advance_on_record, quiet_world};
use crate::client::Reply;
use crate::world::{OTHER_PROJECT, PROJECT, World, certs, operator_token};

/// Others leave so many calls in the project's bucket, which the next answer tells.
async fn leave(world: &World, calls: u64) {
    let remaining = world.atlas.bucket_remaining(PROJECT);
    world.atlas.drain_bucket(PROJECT, remaining - calls - 1);
    assert_eq!(world.ask("somebody").await.status, 404);
}

async fn stale_answers(world: &World, reason: &str) -> u64 {
    let name = format!("cache_stale_answers_total{{reason=\"{reason}\"}}");
    world.metric(&name).await
}

async fn withheld(world: &World, reason: &str) -> u64 {
    let name = format!("upstream_fetches_withheld_total{{reason=\"{reason}\"}}");
    world.metric(&name).await
}

async fn explained(world: &World, username: &str) -> Value {
    let target = format!("/cache/explain?groupId={PROJECT}&username={username}");
    world
        .admin("GET", &target, &operator_token(), "")
        .await
        .json()
}

fn last_lookup(world: &World) -> Value {
    world.lookups().pop().unwrap()
}

/// What Atlas answers to the next call for a project: a status, and when to come back.
fn plant(world: &World, status: StatusCode, retry_after: &str) {
    let body = format!(
        r#"{{"error":{},"errorCode":"SOMETHING","reason":"x","detail":"x","parameters":[]}}"#,
        status.as_u16()
    );
    let answer = Answer::new(status, body)
        .header("content-type", "application/json")
        .header("retry-after", retry_after);
    world
        .atlas
        .on(Asked::certificates().project(PROJECT))
        .once()
        .respond(Fault::answer(answer));
}

fn status_of(reply: &Reply) -> &str {
    reply.header("cache-status").unwrap()
}

#[tokio::test]
async fn a_fresh_list_stays_a_hit_when_its_renewal_is_held_back() {
    let world = quiet_world().await;
    world.ask("app1").await;
    world.ask("app1").await;
    advance_on_record(&world, Duration::from_secs(210)).await;
    while explained(&world, "app1").await["state"] != "due" {
        world.advance(Duration::from_secs(1));
    }
    leave(&world, 230).await;
    let calls = world.atlas.certificate_calls();
    let due = world.ask("app1").await;
    while withheld(&world, "bucket_low").await == 0 {}
    assert_eq!(world.atlas.certificate_calls(), calls, "it was not asked");
    for reply in [due, world.ask("app1").await] {
        assert_eq!(reply.status, 200);
        let status = status_of(&reply);
        assert!(
            status.starts_with("atlas-cert-gateway; hit; ttl=") && !status.contains("detail"),
            "{status}"
        );
    }
    assert_eq!(last_lookup(&world)["cache"], "hit");
    assert_eq!(stale_answers(&world, "error").await, 0);
    assert!(withheld(&world, "bucket_low").await >= 1);
    // A caller that forces a refresh is not told that Atlas failed, either: it was not asked.
    let target = certs(PROJECT, "app1");
    let no_cache = [("Cache-Control", "no-cache")];
    world.advance(Duration::from_secs(1));
    let forced = world
        .send("GET", &target, &operator_token(), &no_cache)
        .await;
    let status = status_of(&forced);
    assert!(!status.contains("stale-if-error"), "{status}");
}

#[tokio::test]
async fn a_stale_list_says_that_its_refresh_was_held_back() {
    let world = quiet_world().await;
    world.ask("app1").await;
    advance_on_record(&world, PAST_TTL).await;
    leave(&world, 230).await;
    let calls = world.atlas.certificate_calls();
    for _ in 0..2 {
        let old = world.ask("app1").await;
        assert_eq!(old.status, 200);
        let status = status_of(&old);
        assert!(status.ends_with("; detail=stale-bucket-low"), "{status}");
        let record = last_lookup(&world);
        assert_eq!(
            (&record["cache"], &record["reason"], &record["outcome"]),
            (&"stale".into(), &"bucket_low".into(), &"answered".into())
        );
    }
    assert_eq!(world.atlas.certificate_calls(), calls);
    assert_eq!(stale_answers(&world, "bucket_low").await, 2);
    assert_eq!(stale_answers(&world, "error").await, 0);
    assert_eq!(withheld(&world, "bucket_low").await, 1);
    assert_eq!(world.metric("upstream_breakers_open").await, 0);
    let list = &explained(&world, "app1").await["list"];
    assert_eq!(list["heldBackBy"], "bucket_low");
    assert!(list["failedSecondsAgo"].is_null(), "{list}");
}

#[tokio::test]
async fn after_a_503_that_says_when_to_come_back_others_get_503_with_that_time() {
    let world = quiet_world().await;
    world.ask("app1").await;
    plant(&world, StatusCode::SERVICE_UNAVAILABLE, "40");
    let first = world.ask("many").await;
    assert_eq!(
        (first.status, first.header("x-error-origin")),
        (503, Some("atlas"))
    );
    world.advance(Duration::from_secs(10));
    let calls = world.atlas.certificate_calls();
    for user in ["user-1", "user-2", "many"] {
        let other = world.ask(user).await;
        assert_eq!(
            (other.status, &*other.error_code()),
            (503, "SERVICE_UNAVAILABLE"),
            "{}",
            other.text()
        );
        let wait: u64 = other.header("retry-after").unwrap().parse().unwrap();
        assert!((30..=34).contains(&wait), "{wait}");
        let record = last_lookup(&world);
        assert_eq!(record["reason"], "cooldown_503");
    }
    assert_eq!(world.atlas.certificate_calls(), calls);
    assert_eq!(withheld(&world, "cooldown_503").await, 3);
    assert_eq!(world.ask("app1").await.status, 200, "a hit as ever");
    let elsewhere = world.get(&certs(OTHER_PROJECT, "app1"), &[]).await;
    assert_eq!(elsewhere.status, 200, "{}", elsewhere.text());
    let budget = &explained(&world, "app1").await["budget"];
    assert_eq!(budget["gateClosedByStatus"], 503);
    assert!(budget["remaining"].as_u64().unwrap() > 900, "{budget}");
    world.advance(Duration::from_secs(35));
    assert_eq!(world.ask("many").await.status, 200);
    // The slow start after it is no spent bucket, either.
    let again = world.ask("user-1").await;
    assert_eq!(
        (again.status, &*again.error_code()),
        (503, "SERVICE_UNAVAILABLE")
    );
}

#[tokio::test]
async fn after_a_429_others_get_429_and_a_stale_list_names_the_cooldown() {
    let world = quiet_world().await;
    world.ask("app1").await;
    advance_on_record(&world, PAST_TTL).await;
    plant(&world, StatusCode::TOO_MANY_REQUESTS, "40");
    assert_eq!(world.ask("many").await.status, 429);
    let other = world.ask("user-1").await;
    assert_eq!((other.status, &*other.error_code()), (429, "RATE_LIMITED"));
    assert_eq!(last_lookup(&world)["reason"], "cooldown_429");
    let old = world.ask("app1").await;
    let status = status_of(&old);
    assert!(status.ends_with("; detail=stale-cooldown-429"), "{status}");
    assert_eq!(last_lookup(&world)["reason"], "cooldown_429");
    assert_eq!(stale_answers(&world, "error").await, 0);
    let budget = &explained(&world, "app1").await["budget"];
    assert_eq!(budget["gateClosedByStatus"], 429);
}

#[tokio::test]
async fn a_retry_that_may_not_be_made_does_not_hide_what_atlas_said() {
    let world = quiet_world().await;
    leave(&world, 201).await;
    let calls = world.atlas.certificate_calls();
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::unexpected_error());
    let reply = world.while_time_passes(world.ask("many")).await;
    assert_eq!(
        world.atlas.certificate_calls(),
        calls + 1,
        "one and no more"
    );
    assert_eq!(
        (reply.status, reply.header("x-error-origin")),
        (500, Some("atlas")),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn every_cause_is_on_the_metrics_page_before_it_first_counts() {
    let world = quiet_world().await;
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let series = |name: &str, reason: &str| {
        let line = format!("atlas_cert_gateway_{name}{{reason=\"{reason}\"}} 0\n");
        assert!(page.contains(&line), "{line} in\n{page}");
    };
    for why in Staleness::ALL {
        series("cache_stale_answers_total", why.word());
    }
    for why in HeldBack::ALL {
        series("upstream_fetches_withheld_total", why.word());
    }
    series("upstream_fetches_withheld_total", "breaker_open");
}
