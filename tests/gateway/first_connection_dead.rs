//! Whoever is called can have one connection on which nothing comes back while others are well: an issuer,
//! Atlas's token endpoint, Atlas. After a call in vain the next one uses another connection.

use std::path::PathBuf;
use std::time::Duration;

use atlas_simulator::{Answer, Asked, Fault, Settings, Simulator, Tls};
use http::{StatusCode, Version};
use serde_json::{Value, json};

use crate::dead_connection::{DeadFirst, Death, Proxy};
use crate::forgeries;
use crate::identity::Scene;
use crate::tokens::{TestKey, jwks};
use crate::upstream::network::Authority;
use crate::upstream::world::{World, api_key, outcome};

const DEATHS: [Death; 5] = [
    Death::NoBody,
    Death::NoStream,
    Death::NoTls,
    Death::Resets,
    Death::Unavailable,
];

/// An issuer over TLS, which answers everything with `document`.
async fn issuer(tls: &Tls, document: &Value) -> Simulator {
    let settings = Settings {
        tls: Some(tls.clone()),
        ..Settings::default()
    };
    // Any server will do that speaks TLS.
    let issuer = Simulator::start(settings).await.unwrap();
    publish(&issuer, document);
    issuer
}

fn publish(issuer: &Simulator, document: &Value) {
    issuer.clear_script();
    let keys = Answer::new(StatusCode::OK, document.to_string());
    issuer.on(Asked::anything()).respond(Fault::answer(keys));
}

/// Callers have tokens of an issuer whose keys are at `place`, as `key` of the configuration says.
async fn scene(key: &str, place: String, roots: PathBuf) -> Scene {
    Scene::with(&json!({}), |plan| {
        let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
        let issuer = issuers[0].as_table_mut().unwrap();
        issuer.remove("jwks_url");
        issuer.insert(key.to_owned(), place.into());
        let roots = roots.display().to_string();
        issuer.insert("ca_certificate".to_owned(), roots.into());
    })
    .await
}

/// A new token of the same issuer; what its caller is answered, and how long that took.
async fn call(scene: &Scene, subject: &str) -> u16 {
    let token = scene.issuer.token(subject);
    scene
        .world
        .while_time_passes(scene.ask(&token))
        .await
        .status
}

#[tokio::test]
async fn at_the_start_keys_are_fetched_on_the_second_connection() {
    let authority = Authority::new();
    let tls = authority.tls("localhost", false);
    for death in DEATHS {
        let issuer = issuer(&tls, &forgeries::published()).await;
        let front = DeadFirst::before(issuer.local_addr().port(), &tls, death);
        let scene = scene("jwks_url", front.url("/jwks"), authority.roots()).await;
        assert_eq!(call(&scene, "payments-first").await, 503, "{death:?}");
        scene.world.advance(Duration::from_secs(1));
        assert_eq!(call(&scene, "payments-second").await, 200, "{death:?}");
        assert_eq!(front.accepted(), 2, "{death:?}");
        assert_eq!(issuer.requests()[0].version, Version::HTTP_2);
    }
}

#[tokio::test]
async fn a_discovery_document_is_fetched_on_the_second_connection() {
    let authority = Authority::new();
    let tls = authority.tls("localhost", false);
    for death in DEATHS {
        let issuer = issuer(&tls, &json!({})).await;
        let front = DeadFirst::before(issuer.local_addr().port(), &tls, death);
        let mut document = forgeries::published();
        // One document is both.
        document["issuer"] = json!(crate::tokens::ISSUER);
        document["jwks_uri"] = json!(front.url("/jwks"));
        publish(&issuer, &document);
        let scene = scene("discovery_url", front.url("/about"), authority.roots()).await;
        assert_eq!(call(&scene, "payments-first").await, 503, "{death:?}");
        scene.world.advance(Duration::from_secs(1));
        assert_eq!(call(&scene, "payments-second").await, 200, "{death:?}");
        assert_eq!(front.accepted(), 2, "{death:?}");
    }
}

#[tokio::test]
async fn a_connection_that_dies_before_keys_change_is_left_after_one_fetch() {
    let authority = Authority::new();
    let tls = authority.tls("localhost", false);
    let issuer = issuer(&tls, &jwks(&[&TestKey::rsa()])).await;
    let scene = scene(
        "jwks_url",
        format!("{}/jwks", issuer.base_url()),
        authority.roots(),
    )
    .await;
    assert_eq!(call(&scene, "payments-old").await, 200);
    // The connection stays and answers pings; what is asked on it is never answered.
    publish(&issuer, &jwks(&[&TestKey::rsa(), &TestKey::next_rsa()]));
    let silence = issuer.on(Asked::anything()).once().hold();
    let new = scene.issuer.signing_with(TestKey::next_rsa());
    let token = new.token("payments-new");
    let ask = || scene.world.while_time_passes(scene.ask(&token));
    assert_eq!(ask().await.status, 401);
    assert_eq!(silence.arrivals(), 1);
    assert_eq!(issuer.connections_accepted(), 1);
    scene.world.advance(Duration::from_secs(1));
    scene.world.until(|_| issuer.all_calls() >= 3).await;
    assert_eq!(ask().await.status, 200);
    assert_eq!(issuer.connections_accepted(), 2);
    assert_eq!(call(&scene, "payments-old-again").await, 200);
}

/// Atlas over TLS behind a server whose first connection is dead.
async fn atlas(death: Death, account: bool, proxy: Option<&Proxy>) -> (World, DeadFirst) {
    let authority = Authority::new();
    let (tls, roots) = (authority.tls("localhost", false), authority.roots());
    let mut front = None;
    let world = World::with(
        |settings| settings.tls = Some(tls.clone()),
        |config| {
            let port = config.base_url.rsplit(':').next().unwrap().parse().unwrap();
            let before = DeadFirst::before(port, &tls, death);
            config.base_url = before.url("");
            front = Some(before);
            config.ca_certificate = Some(roots);
            config.proxy = proxy.map(Proxy::url);
            if !account {
                config.credentials = vec![api_key()];
            }
        },
    )
    .await;
    (world, front.unwrap())
}

#[tokio::test]
async fn atlas_is_asked_on_the_second_connection() {
    for death in [Death::NoBody, Death::NoStream, Death::NoTls, Death::Resets] {
        let (world, front) = atlas(death, false, None).await;
        world.ask().await.ok();
        world.manual_clock.advance(Duration::from_secs(30));
        assert_eq!(outcome(&world.ask().await), "2 certificates", "{death:?}");
        assert_eq!(front.accepted(), 2, "{death:?}");
    }
}

#[tokio::test]
async fn a_token_is_minted_on_the_second_connection() {
    for death in [Death::NoBody, Death::NoStream, Death::NoTls, Death::Resets] {
        let (world, front) = atlas(death, true, None).await;
        let first = outcome(&world.ask().await);
        assert_eq!(first, "credential Unavailable", "{death:?}");
        world.manual_clock.advance(Duration::from_secs(30));
        assert_eq!(outcome(&world.ask().await), "2 certificates", "{death:?}");
        assert_eq!(front.accepted(), 2, "{death:?}");
        assert_eq!(world.atlas.mints(), 1, "{death:?}");
    }
}

#[tokio::test]
async fn behind_a_proxy_a_dead_tunnel_is_left_for_a_new_one() {
    for death in [Death::NoBody, Death::NoStream, Death::NoTls, Death::Resets] {
        let proxy = Proxy::start();
        let (world, front) = atlas(death, false, Some(&proxy)).await;
        world.ask().await.ok();
        world.manual_clock.advance(Duration::from_secs(30));
        assert_eq!(outcome(&world.ask().await), "2 certificates", "{death:?}");
        assert_eq!((front.accepted(), proxy.tunnels()), (2, 2), "{death:?}");
    }
}
