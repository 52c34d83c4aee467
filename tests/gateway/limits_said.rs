//! Who is limited learns whose limit it is, how large, and when it is worth asking again.

use std::time::Duration;

use atlas_simulator::{Answer, Asked, Fault};
use http::StatusCode;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::world::{PROJECT, World, certs, set_rule, token_of};

/// The sentence, and the parameters without the seconds, which have to be those of `Retry-After`.
fn said(reply: &Reply) -> (String, Vec<Value>) {
    let document = reply.json();
    let mut parameters = document["parameters"].as_array().unwrap().clone();
    let seconds = parameters.pop().unwrap();
    let wait = reply.header("retry-after").unwrap();
    assert_eq!(seconds.to_string(), wait);
    let detail = document["detail"].as_str().unwrap();
    let plural = if wait == "1" { "" } else { "s" };
    let again = format!("; ask again in {wait} second{plural}.");
    let cause = detail.strip_suffix(&again).expect(detail);
    (cause.to_owned(), parameters)
}

async fn limited(world: &World, by: &str) -> u64 {
    let name = format!("lookups_limited_total{{by=\"{by}\"}}");
    world.metric(&name).await
}

#[tokio::test]
async fn every_limit_is_counted_from_the_start() {
    let world = World::new().await;
    for by in [
        "lookups_per_minute",
        "misses_per_minute",
        "fair_share",
        "bucket",
        "gate",
    ] {
        assert_eq!(limited(&world, by).await, 0, "{by}");
    }
}

#[tokio::test]
async fn a_caller_s_own_limit_is_named_with_its_rule_and_its_size() {
    for (limit, sentence) in [
        (
            "lookups_per_minute",
            "This caller may look up 2 times a minute by the rule \"payments reads its own users\"",
        ),
        (
            "misses_per_minute",
            "This caller may look up 2 times a minute what is not in memory by the rule \"payments reads \
             its own users\"",
        ),
    ] {
        let world = World::with(|plan| {
            set_rule(plan, 0, "name", "payments reads its own users");
            set_rule(plan, 0, limit, 2);
        })
        .await;
        for name in ["nobody-1", "nobody-2"] {
            assert_eq!(world.ask(name).await.status, 404);
        }
        let reply = world.ask("nobody-3").await;
        assert_eq!(
            (reply.status, &*reply.error_code()),
            (429, "RATE_LIMITED"),
            "{limit}"
        );
        assert_eq!(reply.header("retry-after"), Some("30"));
        let expected = (sentence.to_owned(), vec![json!(limit), json!(2)]);
        assert_eq!(said(&reply), expected);
        assert_eq!(limited(&world, limit).await, 1);
    }
}

#[tokio::test]
async fn a_fair_share_is_told_from_the_caller_s_own_limit() {
    let world = World::new().await;
    world.ask("app1").await;
    world.atlas.drain_bucket(PROJECT, 800);
    let ask = async |subject: &str, name: &str| {
        let token = token_of(&json!({ "sub": subject }));
        world.send("GET", &certs(PROJECT, name), &token, &[]).await
    };
    for number in 0..9 {
        let subject = format!("payments-{number}");
        assert_eq!(ask(&subject, &subject).await.status, 404);
    }
    let mut asked = 0;
    let reply = loop {
        let reply = ask("payments-greedy", &format!("nobody-{asked}")).await;
        if reply.status != 404 {
            break reply;
        }
        asked += 1;
    };
    assert_eq!(reply.status, 429);
    let (sentence, parameters) = said(&reply);
    assert_eq!(
        sentence,
        "Little is left of Atlas's rate limit for this project, and this caller has had its fair share of 22 \
         calls a minute"
    );
    assert_eq!(parameters, [json!("fair_share"), json!(22)]);
    assert_eq!(limited(&world, "fair_share").await, 1);
}

#[tokio::test]
async fn our_share_of_a_project_s_bucket_is_no_limit_of_the_caller() {
    let world = World::new().await;
    // One caller each, so that none of them has had its share.
    let mut asked = 0;
    let reply = loop {
        let token = token_of(&json!({ "sub": format!("payments-{asked}") }));
        let target = certs(PROJECT, &format!("nobody-{asked}"));
        let reply = world.send("GET", &target, &token, &[]).await;
        if reply.status != 404 {
            break reply;
        }
        asked += 1;
    };
    assert_eq!((reply.status, &*reply.error_code()), (429, "RATE_LIMITED"));
    let (sentence, parameters) = said(&reply);
    assert_eq!(
        sentence,
        "This gateway's share of Atlas's rate limit for this project, 250 calls a minute, is spent"
    );
    assert_eq!(parameters, [json!("project")]);
    assert_eq!(limited(&world, "bucket").await, 1);
}

#[tokio::test]
async fn a_cooldown_names_atlas_and_atlas_s_own_429_is_passed_on() {
    for (fault, status, sentence) in [
        (
            Fault::rate_limited(60),
            429,
            "Atlas's rate limit for this project is spent: it has answered 429, and is not asked before the \
             time that it gave",
        ),
        (
            Fault::answer(
                Answer::new(StatusCode::SERVICE_UNAVAILABLE, LATER)
                    .header("content-type", "application/json")
                    .header("retry-after", "60"),
            ),
            503,
            "Atlas is not available for this project: it has answered 503, and is not asked before the time \
             that it gave",
        ),
    ] {
        let world = World::new().await;
        world.atlas.on(Asked::certificates()).once().respond(fault);
        let first = world.while_time_passes(world.ask("nobody")).await;
        assert_eq!(
            (first.status, first.header("x-error-origin")),
            (status, Some("atlas"))
        );
        let held_back = world.ask("nobody-else").await;
        assert_eq!(
            (held_back.status, held_back.header("x-error-origin")),
            (status, Some("gateway"))
        );
        let expected = (sentence.to_owned(), vec![json!("project")]);
        assert_eq!(said(&held_back), expected);
        let counted = if status == 429 { 2 } else { 1 };
        assert_eq!(limited(&world, "gate").await, counted);
        world.advance(Duration::from_mins(2));
        assert_eq!(world.ask("app1").await.status, 200);
    }
}

const LATER: &str = r#"{"detail":"Later.","error":503,"errorCode":"SERVICE_UNAVAILABLE","parameters":[],"reason":"Service Unavailable"}"#;
