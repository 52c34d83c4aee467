//! Identity seen from outside: every token that must not pass, keys that change under load, and rules
//! that change while somebody waits.

mod bound;
mod changes;
mod check;
mod claims;
mod issuers;
mod keys;
mod moved;
mod random;
mod rotation;
mod shapes;
mod way;

use std::time::Duration;

use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::config::Config;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Reply;
use crate::forgeries;
use crate::forgeries::forgeries;
use crate::tokens::{AUDIENCE, Answer, ISSUER, Issuer, Publisher, TestKey, jwks};
use crate::world::{NOW, PROJECT, Plan, World, certs, set_rule};

/// A world whose callers have tokens of a published issuer.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) issuer: Issuer,
    pub(crate) publisher: Publisher,
    config: toml::Table,
    _others: TempDir,
}

impl Scene {
    pub(crate) async fn new(document: &Value) -> Self {
        Self::with(document, |_| {}).await
    }

    pub(crate) async fn with(document: &Value, change: impl FnOnce(&mut Plan)) -> Self {
        let publisher = Publisher::serve(document).await;
        let directory = tempfile::tempdir().unwrap();
        let others = directory.path().join("others.json");
        std::fs::write(&others, jwks(&[&TestKey::next_rsa()]).to_string()).unwrap();
        let issuer = |name: &str, source: &str, place: &str| {
            toml::Table::try_from(json!({
                "issuer": name,
                "audiences": [AUDIENCE],
                "algorithms": forgeries::ALGORITHMS,
                source: place,
            }))
            .unwrap()
        };
        let issuers = vec![
            issuer(ISSUER, "jwks_url", &publisher.url("/jwks")),
            issuer(
                forgeries::OTHER_ISSUER,
                "jwks_file",
                others.to_str().unwrap(),
            ),
        ];
        let mut config = toml::Table::new();
        let world = World::with(|plan| {
            crate::world::set(&mut plan.config, "identity.issuers", issuers);
            change(plan);
            config = plan.config.clone();
        })
        .await;
        Self {
            world,
            issuer: Issuer::new(Timestamp::parse(NOW).unwrap().seconds()),
            publisher,
            config,
            _others: directory,
        }
    }

    pub(crate) async fn ask(&self, token: &str) -> Reply {
        self.world
            .send("GET", &certs(PROJECT, "app1"), token, &[])
            .await
    }

    pub(crate) async fn reload(&self, change: impl FnOnce(&mut toml::Table)) {
        let mut config = self.config.clone();
        change(&mut config);
        let config = Config::parse(&config.to_string(), []).unwrap();
        self.world.app.reload(&config).await.unwrap();
    }
}

/// What a caller can tell two refusals apart by: all but the request's own id and the date.
fn face(mut reply: Reply) -> Reply {
    let own = ["x-request-id", "date"];
    reply.headers.retain(|(name, _)| !own.contains(&&**name));
    reply
}

#[tokio::test]
async fn every_forged_token_is_answered_alike_and_on_record_with_its_reason() {
    let scene = Scene::new(&forgeries::published()).await;
    let good = scene.ask(&scene.issuer.token("payments-api")).await;
    assert_eq!(good.status, 200, "{}", good.text());
    let calls = scene.world.atlas.certificate_calls();
    let mut faces = Vec::new();
    let mut expected = Vec::new();
    for forgery in forgeries(scene.issuer.now) {
        let what = format!("{}: {}", forgery.row, forgery.what);
        let reply = scene.ask(&forgery.token).await;
        if forgery.token.len() > 15_000 {
            // Too much for a request's head.
            assert!([0, 431].contains(&reply.status), "{what}: {}", reply.status);
        } else if forgery.token.contains(['\n', ' ']) {
            // No bearer token at all, as HTTP has it, and a head cut in two is no head.
            assert!([0, 400].contains(&reply.status), "{what}: {}", reply.status);
        } else {
            assert_eq!(reply.status, 401, "{what}: {}", reply.text());
            expected.push((what, forgery.reason));
            faces.push(face(reply));
        }
    }
    assert!(faces.len() > 150);
    let challenge = faces[0].header("www-authenticate");
    assert_eq!(challenge, Some("Bearer error=\"invalid_token\""));
    assert!(faces.iter().all(|other| *other == faces[0]));
    let records: Vec<Value> = scene
        .world
        .lookups()
        .into_iter()
        .filter(|record| record["outcome"] == "unauthenticated")
        .collect();
    assert_eq!(records.len(), expected.len());
    for (record, (what, reason)) in records.iter().zip(&expected) {
        assert_eq!(record["reason"], *reason, "{what}");
        // Nothing that an unverified token says is on record.
        assert!(record["subject"].is_null(), "{what}");
        assert!(record["token_id"].is_null(), "{what}");
    }
    assert_eq!(scene.world.atlas.certificate_calls(), calls);
    assert_eq!(scene.publisher.requests(), 2);
}

#[tokio::test]
async fn the_ways_to_write_a_credential() {
    let scene = Scene::new(&forgeries::published()).await;
    let token = scene.issuer.token("payments-api");
    let other = scene.issuer.token("payments-other");
    let invalid = Some("Bearer error=\"invalid_token\"");
    for (row, lines, status, challenge) in [
        ("J01", String::new(), 401, Some("Bearer")),
        ("J02", "Authorization: Basic eDp5\r\n".to_owned(), 401, None),
        (
            "J02",
            format!("Authorization: Digest {token}\r\n"),
            401,
            None,
        ),
        (
            "J02",
            format!("Authorization: Bearer{token}\r\n"),
            401,
            None,
        ),
        (
            "J02",
            format!("Authorization: bearer {token}\r\n"),
            200,
            None,
        ),
        (
            "J02",
            format!("Authorization: BEARER {token}\r\n"),
            200,
            None,
        ),
        (
            "J02",
            format!("Authorization: Bearer  {token}\r\n"),
            400,
            None,
        ),
        (
            "J02",
            format!("Authorization: Bearer\t{token}\r\n"),
            400,
            None,
        ),
        (
            "J03",
            format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"),
            400,
            None,
        ),
        (
            "J03",
            format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {other}\r\n"),
            400,
            None,
        ),
        (
            "J04",
            format!("Authorization: Bearer {token}, Bearer {other}\r\n"),
            400,
            None,
        ),
        (
            "J04",
            format!("Authorization: Bearer {token} \r\n"),
            200,
            None,
        ),
        (
            "J06",
            "Authorization: Bearer null\r\n".to_owned(),
            401,
            invalid,
        ),
        (
            "J06",
            "Authorization: Bearer undefined\r\n".to_owned(),
            401,
            invalid,
        ),
        ("J06", "Authorization: Bearer\r\n".to_owned(), 401, None),
        ("J06", "Authorization: Bearer \r\n".to_owned(), 401, None),
    ] {
        let target = certs(PROJECT, "app1");
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: gateway.test\r\n{lines}Connection: close\r\n\r\n"
        );
        let reply = scene.world.raw(request.as_bytes()).await;
        assert_eq!(reply.status, status, "{row} {lines}");
        if let Some(challenge) = challenge {
            assert_eq!(reply.header("www-authenticate"), Some(challenge), "{row}");
        }
        if status == 401 {
            let given = reply.header("www-authenticate").unwrap();
            assert!(given.starts_with("Bearer"), "{row} {lines} {given}");
        }
    }
}

#[tokio::test]
async fn a_good_token_without_the_scope_is_told_so_and_one_used_twice_is_on_record_twice() {
    let scene = Scene::with(&forgeries::published(), |plan| {
        set_rule(plan, 0, "scopes", vec!["certs:read", "prod"]);
    })
    .await;
    let plain = scene.issuer.token("payments-api");
    let reply = scene.ask(&plain).await;
    assert_eq!(
        (reply.status, &*reply.error_code()),
        (403, "ACCESS_FORBIDDEN")
    );
    assert_eq!(
        reply.header("www-authenticate"),
        Some("Bearer error=\"insufficient_scope\""),
        "J45"
    );
    for (row, name, value, status) in [
        ("J46", "scope", json!("certs:read prod"), 200),
        ("J46", "scope", json!("prod certs:read prod"), 200),
        ("J46", "scope", json!(["certs:read", "prod"]), 200),
        ("J46", "scp", json!(["prod"]), 200),
        ("J46", "roles", json!(["prod"]), 200),
        ("J46", "roles", json!(["prod or not"]), 403),
        ("J46", "scope", json!("certs:read production"), 403),
    ] {
        let token = scene.issuer.forge("payments-api", |_, claims| {
            claims[name] = value.clone();
        });
        assert_eq!(
            scene.ask(&token).await.status,
            status,
            "{row} {name} {value}"
        );
    }
    let token = scene.issuer.forge("payments-api", |_, claims| {
        claims["roles"] = json!(["prod"]);
        claims["jti"] = json!("once and again");
    });
    for _ in 0..2 {
        assert_eq!(scene.ask(&token).await.status, 200);
    }
    let records = scene.world.lookups();
    let same = records
        .iter()
        .filter(|record| record["token_id"] == "once and again");
    assert_eq!(same.count(), 2, "J49");
}

#[tokio::test]
async fn without_any_key_the_answer_is_503_and_readiness_names_the_issuer() {
    let scene = Scene::new(&json!({"keys": []})).await;
    let token = scene.issuer.token("payments-api");
    let reply = scene.ask(&token).await;
    assert_eq!(
        (reply.status, &*reply.error_code()),
        (503, "SERVICE_UNAVAILABLE")
    );
    assert!(reply.header("retry-after").is_some());
    let ready = scene.world.admin("GET", "/readyz", "", "").await;
    // Callers of the other issuer are answered as ever.
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json()["degraded"][0]["part"], "keys");
    assert!(ready.text().contains(ISSUER), "{}", ready.text());
    let metrics = scene.world.admin("GET", "/metrics", "", "").await.text();
    for told in ["degraded{part=\"keys\"} 1", "not_ready{part=\"keys\"} 0"] {
        assert!(metrics.contains(told), "{told} in {metrics}");
    }
    assert_eq!(scene.ask("null").await.status, 401);
    scene.publisher.publish(&forgeries::published());
    // An unknown key, or none at all, is worth one fetch in thirty seconds.
    scene.world.advance(Duration::from_secs(31));
    assert_eq!(scene.ask(&token).await.status, 200);
}

#[tokio::test]
async fn a_thousand_unknown_keys_cost_one_fetch_and_no_call_to_atlas() {
    let scene = Scene::new(&forgeries::published()).await;
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-api")).await.status,
        200
    );
    let (fetches, calls) = (
        scene.publisher.requests(),
        scene.world.atlas.certificate_calls(),
    );
    scene.publisher.answer(Answer::with(500, "down"));
    let tokens: Vec<String> = (0..1_000)
        .map(|number| {
            scene.issuer.forge("payments-api", |header, _| {
                header["kid"] = json!(format!("kid-{number}"));
            })
        })
        .collect();
    for some in tokens.chunks(50) {
        let replies = join_all(some.iter().map(|token| scene.ask(token))).await;
        assert!(replies.iter().all(|reply| reply.status == 401));
    }
    assert_eq!(scene.publisher.requests(), fetches + 1);
    assert_eq!(scene.world.atlas.certificate_calls(), calls);
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-api")).await.status,
        200
    );
}
