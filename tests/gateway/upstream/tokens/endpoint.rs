//! A token endpoint that limits, refuses or talks nonsense.

use std::time::Duration;

use atlas_cert_gateway::telemetry::metrics::upstream::MintResult;
use atlas_cert_gateway::upstream::{CredentialFailure, CredentialUnavailable};
use atlas_simulator::{Answer, Asked, Endpoint, Fault};
use http::StatusCode;

use crate::upstream::world::{World, outcome};
use crate::world::other_threads;

#[tokio::test]
async fn f20_a_429_of_the_token_endpoint_is_obeyed_and_the_old_token_used_to_its_end() {
    for (fault, wait) in [
        (limited(Some("90")), 90),
        (limited(None), 60),
        (Fault::oauth_error(429, "rate_limited", "Slowly."), 60),
    ] {
        let world = World::new().await;
        world.ask().await.unwrap();
        let planted = world.atlas.on(Asked::token()).respond(fault);
        world.manual_clock.advance(Duration::from_mins(50));
        for _ in 0..20 {
            world.ask().await.unwrap();
        }
        // The renewal has a task of its own, and has to hear the answer before more time passes.
        let limited = [("result", MintResult::Limited)];
        while world.metrics.token_mints.get_or_create(&limited).get() == 0 {
            other_threads().await;
        }
        assert_eq!(world.atlas.calls(Endpoint::Token), 2);
        world.manual_clock.advance(Duration::from_mins(10));
        assert_eq!(outcome(&world.ask().await), "credential MintLimited");
        assert_eq!(outcome(&world.ask().await), "credential MintLimited");
        assert_eq!(world.atlas.calls(Endpoint::Token), 3);
        planted.withdraw();
        world.manual_clock.advance(Duration::from_secs(wait));
        world.ask().await.unwrap();
    }
}

fn limited(retry_after: Option<&str>) -> Fault {
    let body = r#"{"error":429,"errorCode":"RATE_LIMITED","parameters":["/api/oauth/token",10,1]}"#;
    let answer = Answer::new(StatusCode::TOO_MANY_REQUESTS, body);
    let answer = answer.header("content-type", "application/json");
    Fault::answer(match retry_after {
        Some(seconds) => answer.header("retry-after", seconds),
        None => answer,
    })
}

#[tokio::test]
async fn f21_too_many_live_tokens_stop_minting_for_five_minutes() {
    let world = World::with(|settings| settings.rules.tokens.live = 0, |_| ()).await;
    for _ in 0..5 {
        assert_eq!(outcome(&world.ask().await), "credential MintLimited");
        world.manual_clock.advance(Duration::from_secs(50));
    }
    assert_eq!(world.atlas.calls(Endpoint::Token), 1);
    let why = CredentialUnavailable::Token(CredentialFailure::MintLimited(StatusCode::FORBIDDEN));
    assert_eq!(world.upstream.readiness()[0].why, why);
    world.atlas.rules(|rules| rules.tokens.live = 100);
    world.manual_clock.advance(Duration::from_secs(50));
    world.ask().await.unwrap();
    assert_eq!(world.upstream.readiness(), []);
}

#[tokio::test]
async fn f22_odd_answers_of_the_token_endpoint_are_no_tokens() {
    for (fault, expected) in [
        (Fault::oauth_error(400, "invalid_client", "No."), "Refused"),
        (Fault::oauth_error(401, "invalid_client", "No."), "Refused"),
        (
            Fault::oauth_error(500, "server_error", "No."),
            "Unavailable",
        ),
        (Fault::html(503), "Unavailable"),
        (Fault::redirect(302, "http://127.0.0.1:1/"), "Unavailable"),
        (Fault::silence(), "Unavailable"),
    ] {
        no_token_comes_of(fault, expected).await;
    }
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    for (token, expires_in, kind) in [
        ("\"a\"", "0", "Bearer"),
        ("\"a\"", "-1", "Bearer"),
        ("\"a\"", "\"3600\"", "Bearer"),
        ("\"a\"", "null", "Bearer"),
        ("\"a\"", "3600", "mac"),
        ("\"a\\r\\nb\"", "3600", "Bearer"),
        (long.as_str(), "3600", "Bearer"),
    ] {
        let body = format!(
            r#"{{"access_token":{token},"expires_in":{expires_in},"token_type":"{kind}"}}"#
        );
        let answer = Answer::new(StatusCode::OK, body).header("content-type", "application/json");
        no_token_comes_of(Fault::answer(answer), "Unavailable").await;
    }
}

async fn no_token_comes_of(fault: Fault, expected: &str) {
    let world = World::new().await;
    world.atlas.on(Asked::token()).respond(fault.clone());
    let result = world.ask().await;
    assert_eq!(
        outcome(&result),
        format!("credential {expected}"),
        "{fault:?}"
    );
    assert_eq!(world.atlas.certificate_calls(), 0);
    assert_eq!(world.upstream.readiness().len(), 1);
    world.atlas.clear_script();
    world.manual_clock.advance(Duration::from_mins(2));
    world.ask().await.unwrap();
}

#[tokio::test]
async fn f22_a_lifetime_of_ages_is_believed_for_an_hour() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::token())
        .respond(Fault::json(|document| {
            document["expires_in"] = serde_json::json!(1_000_000_000_000_u64);
        }));
    world.ask().await.unwrap();
    world.manual_clock.advance(Duration::from_mins(61));
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 2);
}
