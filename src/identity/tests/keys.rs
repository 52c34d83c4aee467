//! Where keys come from and how long they are good: issuers that change them, are down, or talk
//! nonsense.

use super::*;
use crate::identity::issuer_keys::KeyFault;

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
        scene.manual_clock.advance(Duration::from_secs(30));
        let unknown = scene
            .issuer
            .forge("a", |header, _| header["kid"] = json!("x"));
        assert!(scene.verify(&unknown).await.is_err());
        assert!(scene.publisher.requests() > before + 1);
    }
}

#[tokio::test]
async fn f35_a_new_key_is_found_by_its_first_token_and_a_removed_one_is_forgotten_with_its_tokens()
{
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
async fn f36_another_key_under_the_same_name_replaces_the_old_one_at_the_next_refresh() {
    let scene = Scene::new(&keys_of(&[TestKey::rsa()])).await;
    let old = scene.issuer.token("payments-api");
    scene.verify(&old).await.unwrap();
    let replacement = TestKey::next_rsa().called("rsa-1");
    let replacements = [replacement.clone()];
    scene.publisher.publish(&keys_of(&replacements));
    scene.pass(Duration::from_mins(5)).await;
    assert_eq!(scene.verify(&old).await.unwrap_err(), Unverified::Signature);
    let new = scene.issuer.signing_with(replacement).token("payments-api");
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
async fn f31_to_f34_an_issuer_that_is_down_or_talks_nonsense_keeps_its_keys_for_a_day() {
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
            assert!(!scene.faults().contains(&KeyFault::NoKeys));
        }
        scene.pass(Duration::from_mins(61)).await;
        scene.manual_clock.set_wall(Timestamp::from_seconds(NOW));
        assert_eq!(
            scene.verify(&long_lived).await.unwrap_err(),
            Unverified::NoKeys
        );
        assert_eq!(scene.faults(), [KeyFault::NoKeys]);
        // The issuer is back: so are its callers, at the next attempt.
        scene.publisher.publish(&good);
        scene.pass(Duration::from_secs(30)).await;
        scene.verify(&long_lived).await.unwrap();
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn f30_g32_no_token_of_an_issuer_that_is_down_passes_until_it_is_up() {
    let scene = Scene::new(&json!({})).await;
    let token = scene.issuer.token("payments-api");
    assert_eq!(scene.verify(&token).await.unwrap_err(), Unverified::NoKeys);
    // What is no token of that issuer is still its sender's fault.
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
        scene
            .identity
            .reload(&Config {
                issuers,
                ..Config::default()
            })
            .unwrap();
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
        ..Config::default()
    };
    scene.identity.reload(&config).unwrap();
    let mut shared = scene
        .issuer
        .signing_with(TestKey::hmac("any", SECRET.as_bytes()));
    shared.name = "https://shared.test".to_owned();
    let mut replacement = shared.signing_with(TestKey::hmac("any", &[b'x'; 32]));
    replacement.name = "https://shared.test".to_owned();
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
    // Twice, for a background task may be in the middle of its first reading.
    for _ in 0..2 {
        let mut attempts = attempts.clone();
        scene.manual_clock.advance(Duration::from_secs(2));
        for attempt in &mut attempts {
            attempt.changed().await.unwrap();
        }
    }
    scene.verify(&next.token("a")).await.unwrap();
    scene.verify(&replacement.token("a")).await.unwrap();
    assert!(scene.verify(&scene.issuer.token("a")).await.is_err());
    assert!(scene.verify(&shared.token("a")).await.is_err());
}

fn keys_of(keys: &[TestKey]) -> Value {
    jwks(&keys.iter().collect::<Vec<_>>())
}
