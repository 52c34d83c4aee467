//! An issuer's keys are to come from another place: those that are there stay until it has delivered.

use std::time::Duration;

use atlas_cert_gateway::config::Config;
use atlas_simulator::{Answer, Asked, Fault, Settings, Simulator};
use http::StatusCode;
use serde_json::json;

use super::Scene;
use crate::tokens::{ISSUER, Publisher, TestKey, jwks};
use crate::upstream::network::Authority;

type Issuer = toml::Table;

/// Reloads with a change of the issuer.
async fn reload(scene: &Scene, change: impl FnOnce(&mut Issuer)) {
    scene
        .reload(|config| {
            let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
            change(issuers[0].as_table_mut().unwrap());
        })
        .await;
}

/// Moves an issuer's keys to another place.
fn move_to(issuer: &mut Issuer, key: &str, place: &str) {
    for other in ["jwks_url", "discovery_url", "jwks_file"] {
        issuer.remove(other);
    }
    issuer.insert(key.to_owned(), place.into());
}

/// What becomes of a remembered token, of a new one, and of an operator.
async fn statuses(scene: &Scene, remembered: &str, name: &str) -> [u16; 3] {
    let new = scene.issuer.token(&format!("payments-{name}"));
    let operator = scene.issuer.token("operator");
    let search = scene.world.admin("GET", "/audit/lookups", &operator, "");
    [
        scene.ask(remembered).await.status,
        scene.ask(&new).await.status,
        search.await.status,
    ]
}

#[tokio::test]
async fn keys_stay_when_their_place_is_mistyped_until_it_is_put_right() {
    let scene = Scene::new(&jwks(&[&TestKey::rsa()])).await;
    let remembered = scene.issuer.token("payments-remembered");
    assert_eq!(scene.ask(&remembered).await.status, 200);
    let elsewhere = Publisher::serve(&json!({"keys": []})).await;
    let nowhere = "http://127.0.0.1:1/jwks".to_owned();
    let mistyped = [
        ("jwks_url", nowhere.clone()),
        ("jwks_url", elsewhere.url("/jwsk")),
        ("discovery_url", nowhere),
        ("discovery_url", elsewhere.url("/about")),
    ];
    for (number, (key, place)) in mistyped.iter().enumerate() {
        reload(&scene, |issuer| move_to(issuer, key, place)).await;
        let name = format!("during-{number}");
        assert_eq!(
            statuses(&scene, &remembered, &name).await,
            [200; 3],
            "{key} {place}"
        );
        // And when the first attempt there has failed.
        let failed = scene.world.metric("jwks_fetches_total{result=\"failed\"}");
        let failed = failed.await;
        scene.world.advance(Duration::from_secs(40));
        while scene
            .world
            .metric("jwks_fetches_total{result=\"failed\"}")
            .await
            == failed
        {}
        let name = format!("after-{number}");
        assert_eq!(
            statuses(&scene, &remembered, &name).await,
            [200; 3],
            "{key} {place}"
        );
    }
    assert_eq!(scene.world.metric("config_last_reload_successful").await, 1);
    reload(&scene, |_| ()).await;
    assert_eq!(statuses(&scene, &remembered, "back").await, [200; 3]);
}

#[tokio::test]
async fn keys_of_the_old_place_end_when_the_new_one_has_delivered() {
    let scene = Scene::new(&jwks(&[&TestKey::rsa()])).await;
    let remembered = scene.issuer.token("payments-remembered");
    assert_eq!(scene.ask(&remembered).await.status, 200);
    let next = Publisher::serve(&jwks(&[&TestKey::next_rsa()])).await;
    next.hold(true);
    reload(&scene, |issuer| {
        move_to(issuer, "jwks_url", &next.url("/jwks"));
    })
    .await;
    let during = statuses(&scene, &remembered, "during");
    assert_eq!(scene.world.while_time_passes(during).await, [200; 3]);
    // Whose key only the new place has waits for it.
    let new = scene.issuer.signing_with(TestKey::next_rsa());
    let new = new.token("payments-new");
    let (reply, ()) = tokio::join!(scene.ask(&new), async {
        scene.world.until(|_| next.requests() == 1).await;
        next.hold(false);
    });
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(statuses(&scene, &remembered, "later").await, [401; 3]);
}

#[tokio::test]
async fn keys_of_a_file_stay_until_the_url_that_replaces_it_has_delivered() {
    let scene = Scene::new(&json!({"keys": []})).await;
    let file = scene.world.files.path().join("keys.json");
    std::fs::write(&file, jwks(&[&TestKey::rsa()]).to_string()).unwrap();
    let path = file.display().to_string();
    reload(&scene, |issuer| move_to(issuer, "jwks_file", &path)).await;
    let remembered = scene.issuer.token("payments-remembered");
    assert_eq!(statuses(&scene, &remembered, "file").await, [200; 3]);
    reload(&scene, |_| ()).await;
    assert_eq!(statuses(&scene, &remembered, "moved").await, [200; 3]);
    // A day without word is too long, as it is for keys that were fetched.
    let minted = "token_mints_total{result=\"minted\"}";
    let before = scene.world.metric(minted).await;
    scene
        .world
        .advance(Duration::from_hours(24) + Duration::from_secs(1));
    // The token for Atlas is renewed ahead of any call, and would not outlive the next jump under way.
    while scene.world.metric(minted).await == before {}
    let now = scene.world.clock.now().wall.seconds();
    let later = crate::tokens::Issuer::new(now).token("payments-later");
    assert_eq!(scene.ask(&later).await.status, 503);
    // A file that cannot be read refuses the reload, and the keys stay.
    std::fs::write(&file, "nonsense").unwrap();
    scene.publisher.publish(&jwks(&[&TestKey::rsa()]));
    scene.world.advance(Duration::from_secs(31));
    let later = crate::tokens::Issuer::new(now).token("payments-fetched");
    let fetched = scene.ask(&later).await;
    assert_eq!(fetched.status, 200, "{}", fetched.text());
    let mut config = scene.config.clone();
    let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
    move_to(issuers[0].as_table_mut().unwrap(), "jwks_file", &path);
    let config = Config::parse(&config.to_string(), []).unwrap();
    assert!(scene.world.app.reload(&config).await.is_err());
    assert_eq!(scene.ask(&later).await.status, 200);
}

#[tokio::test]
async fn keys_stay_when_other_roots_are_named_and_are_fetched_by_them_at_once() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let settings = Settings {
        tls: Some(authority.tls("localhost", false)),
        ..Settings::default()
    };
    let server = Simulator::start(settings).await.unwrap();
    let keys = jwks(&[&TestKey::rsa()]).to_string();
    let keys = Answer::new(StatusCode::OK, keys);
    server.on(Asked::anything()).respond(Fault::answer(keys));
    let scene = Scene::new(&json!({"keys": []})).await;
    let trust = |issuer: &mut Issuer, authority: &Authority| {
        move_to(issuer, "jwks_url", &server.base_url());
        let roots = authority.roots().display().to_string();
        issuer.insert("ca_certificate".to_owned(), roots.into());
    };
    reload(&scene, |issuer| trust(issuer, &authority)).await;
    let remembered = scene.issuer.token("payments-remembered");
    assert_eq!(scene.ask(&remembered).await.status, 200);
    let fetches = || scene.world.metric("jwks_fetches_total{result=\"failed\"}");
    let failed = fetches().await;
    reload(&scene, |issuer| trust(issuer, &stranger)).await;
    while fetches().await == failed {}
    assert_eq!(statuses(&scene, &remembered, "strange").await, [200; 3]);
    assert_eq!(server.all_calls(), 1);
}

#[tokio::test]
async fn what_is_no_key_of_the_issuer_does_not_outlive_a_reload() {
    let scene = Scene::new(&jwks(&[&TestKey::rsa()])).await;
    let remembered = scene.issuer.token("payments-remembered");
    assert_eq!(scene.ask(&remembered).await.status, 200);
    let nowhere = |issuer: &mut Issuer| move_to(issuer, "jwks_url", "http://127.0.0.1:1/jwks");
    // Other settings hold at once, wherever the keys are.
    for (key, value) in [("algorithms", "ES256"), ("audiences", "another")] {
        reload(&scene, |issuer| {
            nowhere(issuer);
            issuer.insert(key.to_owned(), vec![value].into());
        })
        .await;
        assert_eq!(statuses(&scene, &remembered, key).await, [401; 3], "{key}");
    }
    // An issuer that was removed comes back without keys.
    reload(&scene, |issuer| {
        issuer.insert("issuer".to_owned(), "https://another.test".into());
    })
    .await;
    assert_eq!(statuses(&scene, &remembered, "removed").await, [401; 3]);
    reload(&scene, nowhere).await;
    assert_eq!(statuses(&scene, &remembered, "again").await, [503; 3]);
    // Nor does a shared secret stand for keys that are to be fetched.
    let secret = scene.world.files.path().join("hmac").display().to_string();
    reload(&scene, |issuer| {
        issuer.remove("jwks_url");
        issuer.insert("hmac_secret_file".to_owned(), secret.into());
        issuer.insert("algorithms".to_owned(), vec!["HS256"].into());
    })
    .await;
    let key = TestKey::hmac("any", crate::world::HMAC_SECRET.as_bytes());
    let shared = scene.issuer.signing_with(key).token("payments-shared");
    assert_eq!(scene.ask(&shared).await.status, 200);
    reload(&scene, nowhere).await;
    assert_eq!(scene.ask(&shared).await.status, 401);
    assert_eq!(statuses(&scene, &remembered, "secret").await, [503; 3]);
    let ready = scene.world.admin("GET", "/readyz", "", "").await.text();
    assert!(ready.contains(ISSUER), "{ready}");
}

#[tokio::test]
async fn of_two_entries_of_an_issuer_each_keeps_its_own_keys() {
    let scene = Scene::new(&jwks(&[&TestKey::rsa()])).await;
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-a")).await.status,
        200
    );
    let nowhere = "http://127.0.0.1:1/jwks";
    // The first one's place is mistyped while a second one, for another audience, is added.
    scene
        .reload(|config| {
            let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
            let mut second = issuers[0].as_table().unwrap().clone();
            move_to(issuers[0].as_table_mut().unwrap(), "jwks_url", nowhere);
            second.insert("audiences".to_owned(), vec!["another"].into());
            second.insert("algorithms".to_owned(), vec!["ES256"].into());
            move_to(&mut second, "jwks_url", "http://127.0.0.1:2/jwks");
            issuers.push(second.into());
        })
        .await;
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-b")).await.status,
        200
    );
    // It has none yet, and the other one's are not its own.
    let es256 = scene.issuer.signing_with(TestKey::p256());
    let for_another = es256.forge("payments-c", |_, claims| claims["aud"] = json!("another"));
    let reply = scene.world.while_time_passes(scene.ask(&for_another)).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
}
