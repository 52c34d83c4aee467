//! The way to an issuer's keys: a token for them, a proxy with a password, another host that gets neither.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::Scene;
use super::keys::fetched;
use crate::log::listen;
use crate::tokens::{ISSUER, Publisher, TestKey, jwks};
use crate::world::{Plan, set};

fn secret(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn issuer(plan: &mut Plan) -> &mut toml::Table {
    let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
    issuers[0].as_table_mut().unwrap()
}

#[tokio::test]
async fn k6_keys_are_asked_for_with_the_token_that_is_in_the_file_now() {
    let directory = tempfile::tempdir().unwrap();
    let file = secret(&directory, "token", "first\n");
    let scene = Scene::with(&jwks(&[&TestKey::rsa()]), |plan| {
        issuer(plan).insert("bearer_file".to_owned(), file.to_str().unwrap().into());
    })
    .await;
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-a")).await.status,
        200
    );
    assert_eq!(scene.publisher.authorization().unwrap(), "Bearer first");
    secret(&directory, "token", "second");
    scene.world.app.fetch_keys();
    // Not twice in a second.
    scene.world.advance(Duration::from_secs(1));
    fetched(&scene.world, 2).await;
    assert_eq!(scene.publisher.authorization().unwrap(), "Bearer second");
    // Without it there is no fetch, and the keys stay.
    let (log, _listening) = listen();
    fs::remove_file(&file).unwrap();
    scene.world.advance(Duration::from_mins(5));
    scene
        .world
        .until(|_| {
            log.text()
                .contains("the token of `bearer_file` cannot be used")
        })
        .await;
    assert_eq!(scene.publisher.requests(), 2);
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-b")).await.status,
        200
    );
}

#[tokio::test]
async fn k6_the_token_for_keys_goes_to_no_host_that_a_document_names() {
    let directory = tempfile::tempdir().unwrap();
    let file = secret(&directory, "token", "canary");
    let elsewhere = Publisher::serve(&jwks(&[&TestKey::rsa()])).await;
    let document = json!({"issuer": ISSUER, "jwks_uri": elsewhere.url("/jwks")});
    let about = Publisher::serve(&document).await;
    let scene = Scene::with(&json!({}), |plan| {
        let issuer = issuer(plan);
        issuer.remove("jwks_url");
        issuer.insert("discovery_url".to_owned(), about.url("/about").into());
        issuer.insert("bearer_file".to_owned(), file.to_str().unwrap().into());
    })
    .await;
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-a")).await.status,
        200
    );
    assert_eq!(about.authorization().unwrap(), "Bearer canary");
    assert_eq!((elsewhere.requests(), elsewhere.authorization()), (1, None));
}

/// The head of the first request that a proxy is sent.
async fn head_at(proxy: &TcpListener) -> String {
    let (mut stream, _) = proxy.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn k6_a_proxy_is_told_user_and_password_for_an_issuer_and_for_atlas() {
    let directory = tempfile::tempdir().unwrap();
    let file = secret(&directory, "password", "p@ss:canary\n");
    let file = file.to_str().unwrap();
    let proxies = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let [for_issuer, for_atlas] = proxies.each_ref().map(|proxy| {
        let port = proxy.local_addr().unwrap().port();
        format!("http://gate%40way@127.0.0.1:{port}")
    });
    let (log, _listening) = listen();
    let scene = Scene::with(&json!({}), |plan| {
        let issuer = issuer(plan);
        issuer.insert("jwks_url".to_owned(), "https://idp.test/jwks".into());
        issuer.insert("proxy".to_owned(), for_issuer.into());
        issuer.insert("proxy_password_file".to_owned(), file.into());
        set(&mut plan.config, "atlas.proxy", for_atlas);
        set(&mut plan.config, "atlas.proxy_password_file", file);
    })
    .await;
    let basic = format!(
        "proxy-authorization: basic {}",
        STANDARD.encode("gate@way:p@ss:canary")
    );
    let basic = basic.to_lowercase();
    let head = head_at(&proxies[0]).await;
    assert!(
        head.starts_with("connect idp.test:443 http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(&basic), "{head}");
    // The other issuer's caller costs a call to Atlas.
    let mut other = scene.issuer.signing_with(TestKey::next_rsa());
    other.name = crate::forgeries::OTHER_ISSUER.to_owned();
    let token = other.token("payments-a");
    let head = tokio::select! {
        head = head_at(&proxies[1]) => head,
        reply = scene.ask(&token) => panic!("{}", reply.text()),
    };
    assert!(head.starts_with("post http://127.0.0.1:"), "{head}");
    assert!(head.contains(&basic), "{head}");
    assert!(!log.text().contains("canary"), "{}", log.text());
}

#[tokio::test]
async fn k6_a_password_that_cannot_be_read_is_a_mistake_with_its_place() {
    let scene = Scene::new(&json!({"keys": []})).await;
    let mut config = scene.config.clone();
    set(&mut config, "atlas.base_url", scene.world.atlas.base_url());
    set(
        &mut config,
        "atlas.proxy",
        "http://gateway@egress.test:3128",
    );
    set(
        &mut config,
        "atlas.proxy_password_file",
        "/nowhere/password",
    );
    let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
    let issuer = issuers[0].as_table_mut().unwrap();
    issuer.insert("jwks_url".to_owned(), "https://idp.test/jwks".into());
    issuer.insert("proxy".to_owned(), "http://gateway@egress.test:3128".into());
    issuer.insert("proxy_password_file".to_owned(), "/nowhere/password".into());
    let config = atlas_cert_gateway::config::Config::parse(&config.to_string(), []).unwrap();
    let clock = atlas_cert_gateway::system::Clock::system();
    let config_errors = atlas_cert_gateway::app::App::check(&config, &clock).unwrap_err();
    let places: Vec<&str> = config_errors
        .iter()
        .map(|config_error| config_error.place.as_str())
        .collect();
    assert_eq!(
        places,
        [
            "identity.issuers[0].proxy_password_file",
            "atlas.proxy_password_file"
        ]
    );
    for config_error in &config_errors {
        assert!(
            config_error.message.contains("cannot read the file"),
            "{config_error}"
        );
    }
}
