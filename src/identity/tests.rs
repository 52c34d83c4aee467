//! Identity as its callers see it: settings, an issuer on a real socket, and tokens.

mod vectors;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use super::forgeries;
use super::forgeries::forgeries;
use super::tokens::AUDIENCE;
use super::tokens::Answer;
use super::tokens::ISSUER;
use super::tokens::Issuer as TestIssuer;
use super::tokens::Publisher as TestPublisher;
use super::tokens::SECRET;
use super::tokens::TestKey;
use super::tokens::jwks;
use super::*;
use crate::clock::Hands;

const NOW: i64 = 1_790_000_000;

/// An identity with one published issuer and one in a file, on a clock that a test moves.
struct Scene {
    identity: Arc<Identity>,
    issuer: TestIssuer,
    publisher: TestPublisher,
    hands: Hands,
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
        };
        let (clock, hands) = Clock::manual(Timestamp::from_seconds(NOW));
        let identity = Identity::build(&config, clock.clone(), IdentityMetrics::default()).unwrap();
        let identity = Arc::new(identity);
        let run = tokio::spawn(Arc::clone(&identity).run(CancellationToken::new()));
        Self {
            identity,
            issuer: TestIssuer::new(NOW),
            publisher,
            hands,
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
        self.hands.advance(span);
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

fn keys_of(keys: &[TestKey]) -> Value {
    jwks(&keys.iter().collect::<Vec<_>>())
}

#[tokio::test]
async fn every_forgery_is_refused_for_its_reason_and_asks_nobody_for_keys_but_once() {
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
    // Refused tokens push nobody out, and are refused again.
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
    scene.hands.set_wall(Timestamp::from_seconds(NOW + 629));
    assert!(Arc::ptr_eq(&first, &scene.verify(&token).await.unwrap()));
    scene.hands.set_wall(Timestamp::from_seconds(NOW + 630));
    assert_eq!(scene.verify(&token).await.unwrap_err(), Unverified::Expired);
    // Part of a remembered token, or more than it, is another token.
    scene.hands.set_wall(Timestamp::from_seconds(NOW));
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
        }
    };
    let changes: [(Change, Unverified); 5] = [
        (
            |issuer| issuer.audiences = vec!["another".to_owned()],
            Unverified::WrongAudience,
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
    let mistakes = scene.identity.reload(&broken).unwrap_err();
    assert_eq!(mistakes[0].place, "identity.issuers[0].audiences");
    scene.verify(&token).await.unwrap();
}

#[tokio::test]
async fn g13_a_thousand_unknown_keys_cost_one_fetch_whatever_it_brings() {
    let good = forgeries::published();
    for answer in [
        Answer::json(&good),
        Answer::json(&json!({"keys": []})),
        Answer::with(500, "no"),
        Answer::with(200, "<html>"),
    ] {
        let scene = Scene::new(&good).await;
        let token = scene.issuer.token("payments-api");
        scene.verify(&token).await.unwrap();
        scene.publisher.answer(answer);
        let before = scene.publisher.requests();
        for number in 0..1_000 {
            let unknown = scene.issuer.forge("payments-api", |header, _| {
                header["kid"] = json!(format!("kid-{number}"));
            });
            let verdict = scene.verify(&unknown).await;
            assert_eq!(verdict.unwrap_err(), Unverified::UnknownKey);
            if number % 100 == 0 {
                scene
                    .verify(&scene.issuer.token(&number.to_string()))
                    .await
                    .unwrap();
            }
        }
        assert_eq!(scene.publisher.requests(), before + 1);
        // Thirty seconds after that attempt there may be another.
        scene.hands.advance(Duration::from_secs(30));
        let unknown = scene
            .issuer
            .forge("a", |header, _| header["kid"] = json!("x"));
        assert!(scene.verify(&unknown).await.is_err());
        assert!(scene.publisher.requests() > before + 1);
    }
}

#[tokio::test]
async fn a_new_key_is_found_by_its_first_token_and_a_removed_one_is_forgotten_with_its_tokens() {
    let scene = Scene::new(&keys_of(&[TestKey::rsa()])).await;
    let old = scene.issuer.token("payments-api");
    scene.verify(&old).await.unwrap();
    scene.publisher.publish(&keys_of(&[TestKey::next_rsa()]));
    let new = scene.issuer.signing_with(TestKey::next_rsa());
    // Fifty callers come with the new key at once; all wait for one fetch.
    scene.publisher.hold(true);
    let waiting: Vec<_> = (0..50)
        .map(|number| {
            let (identity, now) = (Arc::clone(&scene.identity), scene.clock.now());
            let token = new.token(&format!("caller-{number}"));
            tokio::spawn(async move { identity.verify(token.as_bytes(), now).await })
        })
        .collect();
    // Known keys answer while that fetch is under way.
    scene.verify(&old).await.unwrap();
    scene.verify(&scene.issuer.token("another")).await.unwrap();
    scene.publisher.hold(false);
    for caller in waiting {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(scene.publisher.requests(), 2);
    assert_eq!(
        scene.verify(&old).await.unwrap_err(),
        Unverified::UnknownKey
    );
}

#[tokio::test]
async fn another_key_under_the_same_name_replaces_the_old_one_at_the_next_refresh() {
    let scene = Scene::new(&keys_of(&[TestKey::rsa()])).await;
    let old = scene.issuer.token("payments-api");
    scene.verify(&old).await.unwrap();
    let successor = TestKey::next_rsa().called("rsa-1");
    let successors = [successor.clone()];
    scene.publisher.publish(&keys_of(&successors));
    scene.pass(Duration::from_mins(5)).await;
    assert_eq!(scene.verify(&old).await.unwrap_err(), Unverified::Signature);
    let new = scene.issuer.signing_with(successor).token("payments-api");
    scene.verify(&new).await.unwrap();
}

#[tokio::test]
async fn two_keys_of_one_name_are_both_tried() {
    let keys = [TestKey::rsa(), TestKey::next_rsa().called("rsa-1")];
    let scene = Scene::new(&keys_of(&keys)).await;
    for key in keys {
        let token = scene.issuer.signing_with(key).token("payments-api");
        scene.verify(&token).await.unwrap();
    }
}

#[tokio::test]
async fn an_issuer_that_is_down_or_talks_nonsense_keeps_its_keys_for_a_day() {
    let good = keys_of(&[TestKey::rsa()]);
    let many: Vec<Value> = (0..10_000).map(|n| json!({"kid": n.to_string()})).collect();
    let mut redirect = Answer::with(302, "");
    let elsewhere = TestPublisher::serve(&keys_of(&[TestKey::next_rsa()])).await;
    redirect.location = Some(elsewhere.url("/jwks"));
    for answer in [
        Answer::with(503, ""),
        Answer::with(200, "garbage"),
        Answer::with(200, vec![b' '; 10 << 20]),
        Answer::json(&json!({"keys": []})),
        Answer::json(&json!({"keys": many})),
        Answer::json(&json!({"keys": [{"kty": "oct", "kid": "rsa-1", "k": "AAAA"}]})),
        redirect,
    ] {
        let scene = Scene::new(&good).await;
        let long_lived = scene.issuer.forge("payments-api", |_, claims| {
            claims["exp"] = json!(NOW + 24 * 3_600);
        });
        scene.verify(&long_lived).await.unwrap();
        scene.publisher.answer(answer);
        for hours in [1, 22] {
            scene.pass(Duration::from_hours(hours)).await;
            scene.verify(&long_lived).await.unwrap();
            assert!(
                scene
                    .identity
                    .issuers_without_keys(scene.clock.now())
                    .is_empty()
            );
        }
        scene.pass(Duration::from_mins(61)).await;
        scene.hands.set_wall(Timestamp::from_seconds(NOW));
        assert_eq!(
            scene.verify(&long_lived).await.unwrap_err(),
            Unverified::NoKeys
        );
        let without = scene.identity.issuers_without_keys(scene.clock.now());
        assert_eq!(without, [Arc::from(ISSUER)]);
        // The issuer is back: so are its callers, at the next attempt.
        scene.publisher.publish(&good);
        scene.pass(Duration::from_secs(30)).await;
        scene.verify(&long_lived).await.unwrap();
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn g32_an_issuer_that_is_down_at_the_start_makes_nobody_a_caller_until_it_is_up() {
    let scene = Scene::new(&json!({})).await;
    let token = scene.issuer.token("payments-api");
    assert_eq!(scene.verify(&token).await.unwrap_err(), Unverified::NoKeys);
    // What is no token of that issuer is still nobody's fault but its sender's.
    assert_eq!(
        scene.verify("null").await.unwrap_err(),
        Unverified::Malformed
    );
    let other = TestIssuer {
        name: forgeries::OTHER_ISSUER.to_owned(),
        ..scene.issuer.signing_with(TestKey::next_rsa())
    };
    scene.verify(&other.token("payments-api")).await.unwrap();
    scene.publisher.publish(&forgeries::published());
    scene.pass(Duration::from_secs(30)).await;
    scene.verify(&token).await.unwrap();
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_only_for_the_issuer_that_is_meant() {
    let keys = TestPublisher::serve(&keys_of(&[TestKey::rsa()])).await;
    for (issuer, place, expected) in [
        (ISSUER, keys.url("/jwks"), Ok(())),
        (
            "https://idp.test/",
            keys.url("/jwks"),
            Err(Unverified::NoKeys),
        ),
        (
            ISSUER,
            "http://idp.test/jwks".to_owned(),
            Err(Unverified::NoKeys),
        ),
        (
            ISSUER,
            "file:///etc/passwd".to_owned(),
            Err(Unverified::NoKeys),
        ),
    ] {
        let document = json!({"issuer": issuer, "jwks_uri": place});
        let scene = Scene::new(&document).await;
        let config = IssuerConfig {
            jwks_url: None,
            discovery_url: Some(scene.publisher.url("/.well-known/openid-configuration")),
            ..published("")
        };
        let issuers = vec![config];
        scene.identity.reload(&Config { issuers }).unwrap();
        let token = scene.issuer.token("payments-api");
        let verdict = scene.verify(&token).await.map(|_| ());
        assert_eq!(verdict, expected, "{document}");
    }
}

#[tokio::test]
async fn keys_and_secrets_in_files_are_read_again_when_they_change() {
    let scene = Scene::new(&json!({})).await;
    let keys = scene.directory.path().join("keys.json");
    let secret = scene.directory.path().join("secret");
    let write = |path: &std::path::Path, text: &str| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&keys, &keys_of(&[TestKey::rsa()]).to_string());
    write(&secret, SECRET);
    let config = Config {
        issuers: vec![
            IssuerConfig {
                jwks_url: None,
                jwks_file: Some(keys.clone()),
                ..published("")
            },
            IssuerConfig {
                issuer: "https://shared.test".to_owned(),
                jwks_url: None,
                hmac_secret_file: Some(secret.clone()),
                algorithms: vec![Algorithm::HS256],
                ..published("")
            },
        ],
    };
    scene.identity.reload(&config).unwrap();
    let mut shared = scene
        .issuer
        .signing_with(TestKey::hmac("any", SECRET.as_bytes()));
    shared.name = "https://shared.test".to_owned();
    let mut successor = shared.signing_with(TestKey::hmac("any", &[b'x'; 32]));
    successor.name = "https://shared.test".to_owned();
    let next = scene.issuer.signing_with(TestKey::next_rsa());
    scene.verify(&scene.issuer.token("a")).await.unwrap();
    scene.verify(&shared.token("a")).await.unwrap();

    write(&keys, &keys_of(&[TestKey::next_rsa()]).to_string());
    write(&secret, &"x".repeat(32));
    let attempts = {
        let issuers = scene.identity.current.load();
        [
            issuers.list[0].keys.attempts(),
            issuers.list[1].keys.attempts(),
        ]
    };
    // Twice, for a keeper may be in the middle of its first reading.
    for _ in 0..2 {
        let mut attempts = attempts.clone();
        scene.hands.advance(Duration::from_secs(2));
        for attempt in &mut attempts {
            attempt.changed().await.unwrap();
        }
    }
    scene.verify(&next.token("a")).await.unwrap();
    scene.verify(&successor.token("a")).await.unwrap();
    assert!(scene.verify(&scene.issuer.token("a")).await.is_err());
    assert!(scene.verify(&shared.token("a")).await.is_err());
}
