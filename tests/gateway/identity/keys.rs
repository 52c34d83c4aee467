//! Keys as issuers have them: without a name, among odd ones, two secrets at a time, and taken down.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::Scene;
use crate::client;
use crate::log::listen;
use crate::program::{Program, command, output, request_for, world_with};
use crate::tokens::{AUDIENCE, ISSUER, Issuer, Publisher, TestKey, base64url, jwks};
use crate::world::{PROJECT, Plan, World, certs, set};

fn unnamed(keys: &[&TestKey]) -> Value {
    let mut document = jwks(keys);
    for key in document["keys"].as_array_mut().unwrap() {
        key.as_object_mut().unwrap().remove("kid");
    }
    document
}

/// Waits until so many fetches have come to their end.
pub(super) async fn fetched(world: &World, count: u64) {
    while world.metric("jwks_fetches_total{result=\"fetched\"}").await < count {
        tokio::task::yield_now().await;
    }
}

fn without_kid(issuer: &Issuer, subject: &str) -> String {
    issuer.forge(subject, |header, _| {
        header.as_object_mut().unwrap().remove("kid");
    })
}

#[tokio::test]
async fn k2_a_key_without_a_name_is_tried_for_tokens_with_and_without_one() {
    let scene = Scene::new(&unnamed(&[&TestKey::rsa(), &TestKey::p256()])).await;
    let stranger = scene.issuer.signing_with(TestKey::next_rsa());
    let es256 = scene.issuer.signing_with(TestKey::p256());
    for (what, token, status) in [
        (
            "without a name",
            without_kid(&scene.issuer, "payments-a"),
            200,
        ),
        ("with a name", scene.issuer.token("payments-b"), 200),
        ("of another kind", without_kid(&es256, "payments-c"), 200),
        (
            "by an unknown key",
            without_kid(&stranger, "payments-d"),
            401,
        ),
    ] {
        let reply = scene.ask(&token).await;
        assert_eq!(reply.status, status, "{what}: {:?}", scene.world.lookups());
    }
    // That last one might have been signed with a new key: the issuer was asked, once.
    let asked = |scene: &Scene| scene.publisher.requests();
    fetched(&scene.world, 2).await;
    for number in 0..20 {
        let token = without_kid(&stranger, &format!("payments-{number}"));
        assert_eq!(scene.ask(&token).await.status, 401);
    }
    assert_eq!(asked(&scene), 2);
    // And it is taken up when it is one.
    scene.publisher.publish(&unnamed(&[&TestKey::next_rsa()]));
    scene.world.advance(Duration::from_secs(31));
    // This one did not wait for it.
    assert_eq!(
        scene
            .ask(&without_kid(&stranger, "payments-e"))
            .await
            .status,
        401
    );
    fetched(&scene.world, 3).await;
    let token = without_kid(&stranger, "payments-f");
    assert_eq!(scene.ask(&token).await.status, 200);
}

#[tokio::test]
async fn k2_among_keys_with_names_one_without_is_no_hindrance() {
    let mut document = jwks(&[&TestKey::rsa()]);
    let nameless = unnamed(&[&TestKey::p256()])["keys"][0].clone();
    document["keys"].as_array_mut().unwrap().push(nameless);
    let scene = Scene::new(&document).await;
    let es256 = scene.issuer.signing_with(TestKey::p256());
    assert_eq!(
        scene.ask(&without_kid(&es256, "payments-a")).await.status,
        200
    );
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-b")).await.status,
        200
    );
    // A new name is looked for at once, though a key without one might have it.
    scene.publisher.publish(&jwks(&[&TestKey::next_rsa()]));
    let next = scene.issuer.signing_with(TestKey::next_rsa());
    assert_eq!(scene.ask(&next.token("payments-c")).await.status, 200);
    // J18: a token that names no key does not mean one that has a name.
    assert_eq!(
        scene.ask(&without_kid(&next, "payments-d")).await.status,
        401
    );
}

/// A good key among odd ones.
fn odd() -> Value {
    let mut document = jwks(&[&TestKey::rsa()]);
    let mut private = TestKey::p256().jwk();
    private["kid"] = json!("leaked\n");
    private["d"] = json!("canary");
    let curve = json!({"kty": "EC", "crv": "P-521", "kid": "big", "x": "AA", "y": "AA"});
    let secret = json!({"kty": "oct", "k": base64url("canary")});
    document["keys"]
        .as_array_mut()
        .unwrap()
        .extend([private, curve, secret, json!(7)]);
    document
}

const LEFT_OUT: [&str; 4] = [
    "kid \"leaked\\n\", kty \"EC\": it is a secret or a private key",
    "kid \"big\", kty \"EC\": its curve is none of",
    "no kid, kty \"oct\": it is a secret or a private key",
    "no kid, no kty: a member that it needs is missing",
];

#[tokio::test]
async fn k2_each_key_that_is_left_out_is_told_of_and_the_others_stay_good() {
    let (log, _listening) = listen();
    let scene = Scene::new(&odd()).await;
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-a")).await.status,
        200
    );
    for told in LEFT_OUT {
        assert!(log.text().contains(told), "{told}: {}", log.text());
    }
    assert_eq!(scene.world.metric("jwks_keys_ignored_total").await, 4);
    // Without a good one the reasons are there, once each.
    let mut bad = odd();
    bad["keys"].as_array_mut().unwrap().remove(0);
    scene.publisher.publish(&bad);
    scene.world.advance(Duration::from_mins(5));
    let failed = |_: &World| log.text().contains("could not bring the keys");
    scene.world.until(failed).await;
    let text = log.text();
    let line = text
        .lines()
        .find(|line| line.contains("could not bring the keys"))
        .unwrap();
    assert_eq!(
        line.matches("none of its keys can be used").count(),
        1,
        "{line}"
    );
    assert_eq!(line.matches("its curve is none of").count(), 1, "{line}");
    assert!(!text.contains("canary"), "{text}");
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-b")).await.status,
        200
    );
}

/// The settings of an issuer, for a program.
fn entry(source: &str, place: &str) -> toml::Table {
    let settings = json!({
        "issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["RS256"], source: place,
    });
    toml::Table::try_from(settings).unwrap()
}

fn check(files: &Path, online: bool) -> (Option<i32>, String, String) {
    let mut check = command();
    check.arg("check").args(online.then_some("--online"));
    let output = output(check.arg("--config").arg(files.join("gateway.toml")));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

// The publisher answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn k2_check_says_which_keys_can_be_used_and_why_the_others_cannot() {
    let publisher = Publisher::serve(&odd()).await;
    let by_url = entry("jwks_url", &publisher.url("/jwks"));
    let (_atlas, files) =
        world_with(|config| set(config, "identity.issuers", vec![by_url.clone()])).await;
    let (code, said, complained) = check(files.path(), true);
    assert_eq!(code, Some(0), "{complained}");
    let told = format!("# issuer {ISSUER}: its keys are there: kid \"rsa-1\" (RS256)");
    assert!(said.contains(&told), "{said}");
    for told in LEFT_OUT {
        assert!(complained.contains(told), "{told}: {complained}");
    }
    assert!(!complained.contains("canary"), "{complained}");
    publisher.publish(&jwks(&[&TestKey::p256()]));
    let (code, _, complained) = check(files.path(), true);
    assert_eq!(code, Some(1));
    assert!(
        complained.contains("none of its keys fits its `algorithms`"),
        "{complained}"
    );
    drop(publisher);
    let gone = entry("jwks_url", "http://127.0.0.1:1/jwks");
    let (_atlas, files) = world_with(|config| set(config, "identity.issuers", vec![gone])).await;
    let (code, _, complained) = check(files.path(), true);
    assert_eq!(code, Some(1));
    let told = format!("{ISSUER}: could not fetch the keys: ");
    assert!(complained.contains(&told), "{complained}");
    assert!(
        complained.contains("(http://127.0.0.1:1/jwks)"),
        "{complained}"
    );
    // For a file no issuer is asked.
    let keys = files.path().join("keys.json");
    fs::write(&keys, odd().to_string()).unwrap();
    let by_file = entry("jwks_file", keys.to_str().unwrap());
    let (_atlas, files) = world_with(|config| set(config, "identity.issuers", vec![by_file])).await;
    let (code, _, complained) = check(files.path(), false);
    assert_eq!(code, Some(0), "{complained}");
    for told in LEFT_OUT {
        assert!(complained.contains(told), "{told}: {complained}");
    }
}

#[tokio::test]
async fn two_shared_secrets_pass_at_a_time_and_an_old_one_no_longer_once_it_is_gone() {
    let secrets = [
        "the-newer-secret-of-the-tests-0123456789",
        "the-older-secret-of-the-tests-0123456789",
    ];
    let mut files = None;
    let world = World::with(|plan: &mut Plan| {
        let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
        let issuer = issuers[0].as_table_mut().unwrap();
        let old = issuer.remove("hmac_secret_file").unwrap();
        let paths = ["newer", "older"].map(|name| format!("{}-{name}", old.as_str().unwrap()));
        for (path, secret) in paths.iter().zip(secrets) {
            fs::write(path, secret).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        issuer.insert("hmac_secret_files".to_owned(), paths.to_vec().into());
        files = Some(paths);
    })
    .await;
    let now = world.clock.now().wall.seconds();
    let token = |secret: &str, subject: &str| {
        let mut issuer = Issuer::new(now).signing_with(TestKey::hmac("any", secret.as_bytes()));
        issuer.name = "https://idp.internal.example".to_owned();
        issuer.token(subject)
    };
    let ask = async |token: &str| {
        let reply = world.send("GET", &certs(PROJECT, "app1"), token, &[]).await;
        reply.status
    };
    let [newer, older] = secrets.map(|secret| token(secret, "payments-a"));
    assert_eq!([ask(&newer).await, ask(&older).await], [200, 200]);
    assert_eq!(
        ask(&token("a-secret-of-nobody-at-all-0123456789", "payments-b")).await,
        401
    );
    // The next secret takes the first place, and the one that was newer the second.
    let next = "the-newest-secret-of-the-tests-0123456789";
    let [first, second] = files.unwrap();
    fs::write(&second, secrets[0]).unwrap();
    fs::write(&first, next).unwrap();
    let newest = token(next, "payments-c");
    let taken_up = async {
        while ask(&newest).await != 200 {
            tokio::task::yield_now().await;
        }
    };
    world.while_time_passes(taken_up).await;
    assert_eq!([ask(&newer).await, ask(&older).await], [200, 401]);
}

// The publisher answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn k7_on_sighup_keys_that_were_taken_down_are_forgotten_whatever_the_configuration() {
    let publisher = Publisher::serve(&jwks(&[&TestKey::rsa(), &TestKey::next_rsa()])).await;
    let issuer = entry("jwks_url", &publisher.url("/jwks"));
    let (_atlas, files) =
        world_with(|config| set(config, "identity.issuers", vec![issuer.clone()])).await;
    let mut program = Program::start(files.path());
    let now = atlas_cert_gateway::system::Clock::system()
        .now()
        .wall
        .seconds();
    let issuer = Issuer::new(now);
    let [first, second] = [
        issuer.token("payments-api"),
        issuer
            .signing_with(TestKey::next_rsa())
            .token("payments-api"),
    ];
    let address = program.address;
    let ask = async |token: &str| {
        let request = request_for("app1", token, "close");
        client::exchange(address, &request).await.status
    };
    assert_eq!([ask(&first).await, ask(&second).await], [200, 200]);
    publisher.publish(&jwks(&[&TestKey::next_rsa()]));
    // A good configuration, and one that is refused.
    program.signal("-HUP");
    program.until_it_says("have changed");
    assert_eq!([ask(&first).await, ask(&second).await], [401, 200]);
    let path = files.path().join("gateway.toml");
    fs::write(&path, "no configuration").unwrap();
    publisher.publish(&jwks(&[&TestKey::p256()]));
    program.signal("-HUP");
    program.until_it_says("have changed");
    assert_eq!(ask(&second).await, 401);
}
