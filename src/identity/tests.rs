//! Identity as its callers see it: settings, an issuer on a real socket, and tokens.

mod faults;
mod keys;
mod queue;
mod time;
mod vectors;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use super::forgeries::forgeries;
use super::tokens::{
    AUDIENCE, Answer, ISSUER, Issuer as TestIssuer, Publisher as TestPublisher, SECRET, TestKey,
    jwks,
};
use super::{forgeries, *};
use crate::atlas::Timestamp;
use crate::system::ManualClock;

const NOW: i64 = 1_790_000_000;

/// An identity with one published issuer and one in a file, on a clock that a test moves.
struct Scene {
    identity: Arc<Identity>,
    issuer: TestIssuer,
    publisher: TestPublisher,
    manual_clock: ManualClock,
    clock: Clock,
    directory: TempDir,
    _run: AbortOnDropHandle<()>,
}

impl Scene {
    async fn new(document: &Value) -> Self {
        let publisher = TestPublisher::serve(document).await;
        let directory = tempfile::tempdir().unwrap();
        let others = directory.path().join("others.json");
        fs::write(&others, jwks(&[&TestKey::next_rsa()]).to_string()).unwrap();
        let config = Config {
            issuers: vec![
                published(&publisher.url("/jwks")),
                IssuerConfig {
                    issuer: forgeries::OTHER_ISSUER.to_owned(),
                    jwks_file: Some(others),
                    jwks_url: None,
                    ..published("")
                },
            ],
            ..Config::default()
        };
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(NOW));
        let identity = Identity::build(&config, clock.clone(), IdentityMetrics::default()).unwrap();
        let identity = Arc::new(identity);
        let run = tokio::spawn(Arc::clone(&identity).run(CancellationToken::new()));
        Self {
            identity,
            issuer: TestIssuer::new(NOW),
            publisher,
            manual_clock,
            clock,
            directory,
            _run: AbortOnDropHandle::new(run),
        }
    }

    async fn verify(&self, token: &str) -> Result<Arc<Caller>, Unverified> {
        self.identity
            .verify(token.as_bytes(), self.clock.now())
            .await
    }

    /// Lets `span` pass, and waits for the fetch that is due by then.
    async fn pass(&self, span: Duration) {
        let mut attempts = self.attempts();
        attempts.mark_unchanged();
        self.manual_clock.advance(span);
        attempts.changed().await.unwrap();
    }

    fn attempts(&self) -> tokio::sync::watch::Receiver<u64> {
        let issuers = self.identity.current.load();
        issuers.list[0].keys.attempts()
    }
}

type Change = fn(&mut IssuerConfig);

fn published(url: &str) -> IssuerConfig {
    let written = json!({
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "algorithms": forgeries::ALGORITHMS,
        "jwks_url": url,
    });
    serde_json::from_value(written).unwrap()
}

#[tokio::test]
async fn every_forgery_is_refused_for_its_reason_and_costs_one_fetch() {
    let scene = Scene::new(&forgeries::published()).await;
    let good = scene.issuer.token("payments-api");
    assert_eq!(&*scene.verify(&good).await.unwrap().subject, "payments-api");
    let all = forgeries(NOW);
    assert!(all.len() > 150, "{}", all.len());
    for forgery in &all {
        let reason = scene.verify(&forgery.token).await.unwrap_err().reason();
        assert_eq!(reason, forgery.reason, "{}: {}", forgery.row, forgery.what);
    }
    // The second is for the first unknown `kid`; time stands still, so there is no third.
    assert_eq!(scene.publisher.requests(), 2);
    // Refused tokens evict no other, and are refused again.
    scene.verify(&good).await.unwrap();
}

#[tokio::test]
async fn good_tokens_of_every_algorithm_and_shape_pass() {
    let scene = Scene::new(&forgeries::published()).await;
    let issuer = &scene.issuer;
    for key in [
        TestKey::rsa(),
        TestKey::p256(),
        TestKey::p384(),
        TestKey::ed25519(),
    ] {
        let token = issuer.signing_with(key.clone()).token("payments-api");
        assert!(scene.verify(&token).await.is_ok(), "{:?}", key.algorithm);
    }
    for (what, change) in [
        ("typ JWT", json!([{"typ": "JWT"}, {}])),
        ("typ in capitals", json!([{"typ": "AT+JWT"}, {}])),
        (
            "a whole media type",
            json!([{"typ": "application/at+jwt"}, {}]),
        ),
        (
            "our own jku",
            json!([{"jku": scene.publisher.url("/jwks")}, {}]),
        ),
        ("an audience in a list", json!([{}, {"aud": [AUDIENCE]}])),
        ("the last second of leeway", json!([{}, {"exp": NOW - 29}])),
        (
            "a clock 30 s ahead",
            json!([{}, {"nbf": NOW + 30, "iat": NOW + 30}]),
        ),
        ("a whole day", json!([{}, {"exp": NOW + 24 * 3_600}])),
        (
            "times with fractions (K1)",
            json!([{}, {"exp": 1_790_000_600.5, "iat": 1_789_999_999.25, "nbf": 1_789_999_999.0}]),
        ),
        (
            "times as powers of ten (K1)",
            json!([{}, {"exp": 1.790_000_6e9, "iat": 1.79e9, "nbf": 1.79e9}]),
        ),
        (
            "nested objects",
            json!([{}, {"realm_access": {"roles": ["a"]}}]),
        ),
    ] {
        let token = issuer.forge("payments-api", |header, claims| {
            for (part, change) in [(header, &change[0]), (claims, &change[1])] {
                let members = change.as_object().unwrap().clone();
                part.as_object_mut().unwrap().extend(members);
            }
        });
        let verdict = scene.verify(&token).await;
        assert!(verdict.is_ok(), "{what}: {verdict:?}");
    }
}

#[tokio::test]
async fn a_caller_is_what_its_token_says() {
    let scene = Scene::new(&forgeries::published()).await;
    let token = scene.issuer.forge("payments-api", |_, claims| {
        claims["scope"] = json!("certs:read  certs:read other");
        claims["scp"] = json!(["scp:1", "with space"]);
        claims["roles"] = json!(["role", "other"]);
        claims.as_object_mut().unwrap().remove("client_id");
        claims["azp"] = json!("the client");
    });
    let caller = scene.verify(&token).await.unwrap();
    assert_eq!(&*caller.subject, "payments-api");
    assert_eq!(&*caller.issuer, ISSUER);
    assert_eq!(caller.client_id.as_deref(), Some("the client"));
    assert_eq!(
        caller.token_id.as_deref(),
        Some(&*format!("payments-api-{NOW}"))
    );
    assert_eq!(caller.key_id.as_deref(), Some("rsa-1"));
    let scopes: Vec<&str> = caller.scopes.iter().map(|scope| &**scope).collect();
    assert_eq!(
        scopes,
        ["certs:read", "other", "scp:1", "with space", "role"]
    );
    assert_eq!(caller.expires_at, Timestamp::from_seconds(NOW + 630));
}

#[tokio::test]
async fn a_token_is_verified_once_until_it_ends() {
    let scene = Scene::new(&forgeries::published()).await;
    let token = scene.issuer.token("payments-api");
    let first = scene.verify(&token).await.unwrap();
    let second = scene.verify(&token).await.unwrap();
    assert!(
        Arc::ptr_eq(&first, &second),
        "remembered, not verified anew"
    );
    scene
        .manual_clock
        .set_wall(Timestamp::from_seconds(NOW + 629));
    assert!(Arc::ptr_eq(&first, &scene.verify(&token).await.unwrap()));
    scene
        .manual_clock
        .set_wall(Timestamp::from_seconds(NOW + 630));
    assert_eq!(scene.verify(&token).await.unwrap_err(), Unverified::Expired);
    // Part of a remembered token, or more than it, is another token.
    scene.manual_clock.set_wall(Timestamp::from_seconds(NOW));
    let longer = format!("x{token}");
    assert!(scene.verify(&longer).await.is_err());
}

#[tokio::test]
async fn a_reloaded_configuration_judges_the_next_token_and_keeps_the_keys() {
    let scene = Scene::new(&forgeries::published()).await;
    let token = scene.issuer.token("payments-api");
    scene.verify(&token).await.unwrap();
    let config = |change: Change| {
        let mut issuer = published(&scene.publisher.url("/jwks"));
        change(&mut issuer);
        Config {
            issuers: vec![issuer],
            ..Config::default()
        }
    };
    let changes: [(Change, Unverified); 5] = [
        (
            |issuer| issuer.audiences = vec!["another".to_owned()],
            Unverified::WrongAudience("aud".into()),
        ),
        (
            |issuer| issuer.algorithms = vec![Algorithm::ES256],
            Unverified::Algorithm,
        ),
        (
            |issuer| issuer.token_types = vec!["JWT".to_owned()],
            Unverified::TokenType,
        ),
        (
            |issuer| issuer.max_lifetime = Duration::from_mins(5),
            Unverified::LivesTooLong,
        ),
        (
            |issuer| issuer.issuer = "https://another".to_owned(),
            Unverified::UnknownIssuer,
        ),
    ];
    for (change, expected) in changes {
        scene.identity.reload(&config(change)).unwrap();
        assert_eq!(scene.verify(&token).await.unwrap_err(), expected);
        scene.identity.reload(&config(|_| {})).unwrap();
        scene.verify(&token).await.unwrap();
    }
    // A configuration with a mistake changes nothing.
    let broken = config(|issuer| issuer.audiences.clear());
    let config_errors = scene.identity.reload(&broken).unwrap_err();
    assert_eq!(config_errors[0].place, "identity.issuers[0].audiences");
    scene.verify(&token).await.unwrap();
}
