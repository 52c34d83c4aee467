//! Legacy API keys: HTTP Digest as Atlas speaks it.

use std::collections::HashMap;

use atlas_cert_gateway::upstream::CredentialUnavailable;
use atlas_simulator::{DigestRules, Endpoint, PRIVATE_KEY};
use futures_util::future::join_all;
use http::HeaderValue;

use crate::upstream::world::{PROJECT, World, api_key, outcome, serials};

/// What is different about a server.
type Change = fn(&mut DigestRules);

async fn world(change: impl FnOnce(&mut DigestRules)) -> World {
    World::with(
        |settings| change(&mut settings.rules.digest),
        |config| config.credentials = vec![api_key()],
    )
    .await
}

#[tokio::test]
async fn one_challenge_serves_many_calls_with_a_rising_count() {
    let world = world(|_| ()).await;
    for _ in 0..20 {
        let fetched = world.ask().await.unwrap();
        assert_eq!(serials(&fetched), world.held());
    }
    assert_eq!(world.atlas.digest_challenges(), 1);
    assert_eq!(world.atlas.certificate_calls(), 21);
    assert_eq!(world.atlas.all_calls(), 21);
    assert!(!world.atlas.saw_anywhere(PRIVATE_KEY));
}

#[tokio::test]
async fn the_challenge_is_counted_as_a_call() {
    let world = world(|_| ()).await;
    assert_eq!(world.ask().await.unwrap().stats.calls, 2);
    assert_eq!(world.ask().await.unwrap().stats.calls, 1);
}

#[tokio::test]
async fn names_of_every_kind_are_signed_as_they_are_sent() {
    let name = "C=US,O=PAN Inc./x,CN=ü\"\\";
    let world = World::with(
        |settings| {
            settings.world.project(PROJECT).user(name).certificates(1);
        },
        |config| config.credentials = vec![api_key()],
    )
    .await;
    let urgency = atlas_cert_gateway::upstream::Urgency::Miss;
    for _ in 0..2 {
        assert_eq!(
            outcome(&world.ask_for(PROJECT, name, urgency).await),
            "1 certificates"
        );
    }
}

#[tokio::test]
async fn u66_counts_arrive_in_order_also_when_a_hundred_ask_at_once() {
    let world = world(|_| ()).await;
    let asked = join_all((0..100).map(|_| world.ask_at_once()));
    assert!(world.pass_time(asked).await.iter().all(Result::is_ok));
    let asked = join_all((0..100).map(|_| world.ask_at_once()));
    assert!(world.pass_time(asked).await.iter().all(Result::is_ok));
    assert_eq!(world.atlas.digest_repeats(), 0);
    // No more challenges than calls that were ever under way at once.
    assert!(world.atlas.digest_challenges() <= 20);
    let mut counts: HashMap<String, u32> = HashMap::new();
    for seen in world.atlas.requests() {
        assert_eq!(seen.endpoint, Endpoint::Certificates);
        let Some(value) = seen.headers.get("authorization") else {
            continue;
        };
        let text = value.to_str().unwrap();
        let after = |key: &str| text.split_once(key).unwrap().1;
        let nonce = after("nonce=\"").split_once('"').unwrap().0;
        let count = after("nc=").split_once(',').unwrap().0;
        let count = u32::from_str_radix(count, 16).unwrap();
        let before = counts.insert(nonce.to_owned(), count).unwrap_or(0);
        assert_eq!(count, before + 1);
    }
}

#[tokio::test]
async fn u60_u62_challenges_that_are_weaker_or_stranger_are_not_answered() {
    let changes: [Change; 6] = [
        |rules| rules.qop = None,
        |rules| rules.qop = Some("auth-int".to_owned()),
        |rules| rules.algorithm = "MD5-sess".to_owned(),
        |rules| rules.algorithm = "SHA-256-sess".to_owned(),
        |rules| rules.algorithm = "SHA1".to_owned(),
        |rules| rules.nonce_length = 64 << 10,
    ];
    for change in changes {
        let world = world(change).await;
        let result = world.ask().await;
        assert!(result.is_err(), "{}", outcome(&result));
        assert!(world.atlas.certificate_calls() <= 3);
        let credentials = world.atlas.requests();
        assert!(
            credentials
                .iter()
                .all(|seen| !seen.headers.contains_key("authorization"))
        );
    }
}

#[tokio::test]
async fn sha_256_and_a_choice_of_protections_are_answered() {
    let changes: [Change; 3] = [
        |rules| rules.algorithm = "SHA-256".to_owned(),
        |rules| rules.qop = Some("auth,auth-int".to_owned()),
        |rules| rules.other_challenges = vec![HeaderValue::from_static("Basic realm=\"x\"")],
    ];
    for change in changes {
        let world = world(change).await;
        assert_eq!(outcome(&world.ask().await), "2 certificates");
    }
}

#[tokio::test]
async fn u64_an_expired_nonce_and_a_changed_realm_cost_one_challenge() {
    let world = world(|rules| rules.changing_realm = true).await;
    world.ask().await.unwrap();
    world.ask().await.unwrap();
    world
        .manual_clock
        .advance(std::time::Duration::from_mins(6));
    assert_eq!(world.ask().await.unwrap().stats.calls, 2);
    assert_eq!(world.ask().await.unwrap().stats.calls, 1);
    assert_eq!(world.atlas.digest_challenges(), 2);
}

#[tokio::test]
async fn u65_nonces_that_are_always_stale_are_given_up() {
    let world = world(|rules| rules.always_stale = true).await;
    let result = world.ask().await;
    assert_eq!(outcome(&result), "401 UNEXPECTED_ERROR");
    assert_eq!(world.atlas.certificate_calls(), 3);
}

#[tokio::test]
async fn a_wrong_key_is_tried_once_per_question_and_named_in_readiness() {
    let world = World::with(
        |_| (),
        |config| {
            let mut credential = api_key();
            credential.api_key.as_mut().unwrap().private_key = Some("wrong".to_owned().into());
            config.credentials = vec![credential];
        },
    )
    .await;
    assert_eq!(outcome(&world.ask().await), "401 UNEXPECTED_ERROR");
    assert_eq!(world.atlas.certificate_calls(), 2);
    assert_eq!(
        world.upstream.readiness()[0].why,
        CredentialUnavailable::Key
    );
}
