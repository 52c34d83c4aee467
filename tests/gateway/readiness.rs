//! A replica is taken out of service only where it can answer no caller and another one could. What is ill
//! for all of them at once is told of in an answer of 200.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use atlas_simulator::{Answer, Asked, CLIENT_ID, Fault, ServiceAccount};
use http::StatusCode;
use serde_json::Value;

use crate::audit::relp::{Death, Receiver};
use crate::client;
use crate::client::Reply;
use crate::packages::manifests;
use crate::world::{OTHER_PROJECT, Plan, World, certs, set};

/// The parts in a list of the answer.
fn parts(reply: &Reply, list: &str) -> BTreeSet<String> {
    let report = reply.json();
    let faults = report[list].as_array().unwrap();
    let part = |fault: &Value| {
        assert!(fault["problem"].as_str().unwrap().len() > 5, "{fault}");
        fault["part"].as_str().unwrap().to_owned()
    };
    faults.iter().map(part).collect()
}

fn set_of(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn readyz(world: &World) -> Reply {
    world.admin("GET", "/readyz", "", "").await
}

/// Waits until exactly these parts are ill, with an answer of 200 and the gauges that say the same.
async fn until_degraded(world: &World, expected: &[&str]) -> Reply {
    let wanted = set_of(expected);
    loop {
        let reply = readyz(world).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        if parts(&reply, "degraded") == wanted {
            assert_eq!(reply.json()["ready"], true);
            assert_eq!(parts(&reply, "problems"), set_of(&[]));
            for part in ["atlas", "credentials", "keys", "second_sink", "audit"] {
                let shown = world.metric(&format!("degraded{{part=\"{part}\"}}")).await;
                assert_eq!(shown, u64::from(wanted.contains(part)), "{part}");
                let shown = world.metric(&format!("not_ready{{part=\"{part}\"}}")).await;
                assert_eq!(shown, 0, "{part}");
            }
            return reply;
        }
        world.advance(Duration::from_millis(100));
    }
}

/// Waits until the replica is out of service because of a part.
async fn until_not_ready(world: &World, part: &str) -> Reply {
    loop {
        let reply = readyz(world).await;
        if reply.status == 503 {
            assert_eq!(reply.json()["ready"], false);
            assert_eq!(parts(&reply, "problems"), set_of(&[part]));
            let shown = world.metric(&format!("not_ready{{part=\"{part}\"}}")).await;
            assert_eq!(shown, 1, "{part}");
            return reply;
        }
        world.advance(Duration::from_millis(100));
    }
}

/// A second issuer, whose keys cannot be had.
fn add_issuer_without_keys(plan: &mut Plan) {
    let issuer: toml::Table = r#"
        issuer = "https://other.example"
        audiences = ["atlas-cert-gateway"]
        algorithms = ["RS256"]
        jwks_url = "http://127.0.0.1:1/jwks"
    "#
    .parse()
    .unwrap();
    let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
    issuers.push(toml::Value::Table(issuer));
}

/// A second sink where nothing listens.
fn add_dead_sink(plan: &mut Plan) {
    set(
        &mut plan.config,
        "audit.second.to",
        "unix:///nowhere/at/all",
    );
}

fn change_secret(world: &World) {
    world.atlas.rules(|rules| {
        rules.service_accounts = vec![ServiceAccount::new(CLIENT_ID, "another-secret")];
    });
}

/// What Atlas answers to a credential that it does not name a reason for.
fn unlisted_401() -> Fault {
    let body =
        r#"{"error":401,"errorCode":"SOMETHING_NEW","reason":"x","detail":"x","parameters":[]}"#;
    let answer = Answer::new(StatusCode::UNAUTHORIZED, body);
    Fault::answer(answer.header("content-type", "application/json"))
}

#[tokio::test]
async fn a_replica_that_is_well_says_so() {
    let world = World::new().await;
    world.ask("app1").await;
    let reply = readyz(&world).await;
    let well = serde_json::json!({ "ready": true, "problems": [], "degraded": [] });
    assert_eq!((reply.status, reply.json()), (200, well));
}

#[tokio::test]
async fn an_issuer_without_keys_beside_one_with_keys_leaves_it_ready() {
    let world = World::with(add_issuer_without_keys).await;
    let reply = until_degraded(&world, &["keys"]).await;
    assert!(reply.text().contains("https://other.example"));
    assert_eq!(world.ask("app1").await.status, 200);
}

#[tokio::test]
async fn a_second_sink_that_is_gone_leaves_it_ready() {
    let world = World::with(add_dead_sink).await;
    until_degraded(&world, &["second_sink"]).await;
    assert_eq!(world.ask("app1").await.status, 200);
}

#[tokio::test]
async fn a_journal_that_fails_beside_a_sink_that_works_leaves_it_ready() {
    let receiver = Receiver::new(Death::Never);
    let world = World::with(|plan| {
        let to = format!("tcp://{}", receiver.address);
        set(&mut plan.config, "audit.second.to", to);
        set(&mut plan.config, "audit.second.format", "relp");
    })
    .await;
    world.ask("app1").await;
    fs::remove_dir_all(world.files.path().join("audit")).unwrap();
    until_degraded(&world, &["audit"]).await;
}

/// A write into a socket is no receipt.
#[tokio::test]
async fn a_journal_that_fails_beside_a_sink_that_does_not_makes_it_red() {
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::with(|plan| {
        let to = format!("tcp://{}", sink.local_addr().unwrap());
        set(&mut plan.config, "audit.second.to", to);
    })
    .await;
    let (_stream, _) = sink.accept().unwrap();
    fs::remove_dir_all(world.files.path().join("audit")).unwrap();
    until_not_ready(&world, "audit").await;
}

#[tokio::test]
async fn a_refused_service_account_leaves_it_ready() {
    let world = World::new().await;
    change_secret(&world);
    let refused = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(refused.status, 502);
    let reply = until_degraded(&world, &["credentials"]).await;
    assert!(reply.text().contains("platform: "), "{}", reply.text());
}

#[tokio::test]
async fn a_401_that_names_no_reason_leaves_it_ready() {
    let world = World::new().await;
    world.ask("app1").await;
    let everywhere = Asked::certificates().project(OTHER_PROJECT);
    world.atlas.on(everywhere).respond(unlisted_401());
    let target = certs(OTHER_PROJECT, "app1");
    let refused = world.get(&target, &[]);
    let refused = world.while_time_passes(refused).await;
    assert_eq!(refused.status, 401);
    until_degraded(&world, &["credentials"]).await;
    assert_eq!(world.ask("app1").await.status, 200);
}

#[tokio::test]
async fn an_atlas_that_is_gone_leaves_it_ready() {
    let world = World::new().await;
    world.ask("app1").await;
    world.atlas.stop_accepting().await.unwrap();
    world.while_time_passes(world.ask("many")).await;
    until_degraded(&world, &["atlas"]).await;
    world.atlas.resume().await.unwrap();
    while world.while_time_passes(world.ask("many")).await.status != 200 {
        world.advance(Duration::from_secs(1));
    }
    until_degraded(&world, &[]).await;
}

/// All dependencies ill at once: the token ended while Atlas is down, an issuer has no keys, the second
/// sink is gone.
#[tokio::test]
async fn with_every_dependency_down_it_is_ready_and_serves_from_the_cache() {
    let world = World::with(|plan| {
        add_issuer_without_keys(plan);
        add_dead_sink(plan);
        // A token of Atlas's ends within the hour, and a list is to be still there.
        set(&mut plan.config, "cache.stale_if_error", "12h");
    })
    .await;
    world.ask("app1").await;
    world.atlas.stop_accepting().await.unwrap();
    for _ in 0..61 {
        world.advance(Duration::from_mins(1));
        readyz(&world).await;
    }
    let stale = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(stale.status, 200, "{}", stale.text());
    let status = stale.header("cache-status").unwrap();
    assert!(status.ends_with("; detail=stale-if-error"), "{status}");
    // The shipped probe asks for this, and so the pod stays in its Service.
    let probe = manifests::probe("readinessProbe");
    let reply = world.admin("GET", &probe.path, "", "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let ill = parts(&reply, "degraded");
    for part in ["credentials", "keys", "second_sink"] {
        assert!(ill.contains(part), "{part} in {}", reply.text());
    }
    assert!(!reply.text().contains("app1") && !reply.text().contains(OTHER_PROJECT));
}

#[tokio::test]
async fn without_any_issuer_s_keys_it_is_not_ready() {
    let world = World::with(|plan| {
        add_issuer_without_keys(plan);
        let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
        issuers.remove(0);
    })
    .await;
    until_not_ready(&world, "keys").await;
}

#[tokio::test]
async fn a_trail_that_cannot_be_written_is_not_ready() {
    for second in [false, true] {
        let world = World::with(|plan| {
            if second {
                add_dead_sink(plan);
            }
        })
        .await;
        fs::remove_dir_all(world.files.path().join("audit")).unwrap();
        until_not_ready(&world, "audit").await;
    }
    // Where both have to have it, one that is gone is enough.
    let world = World::with(|plan| {
        add_dead_sink(plan);
        set(&mut plan.config, "audit.require", "all");
    })
    .await;
    until_not_ready(&world, "audit").await;
}

#[tokio::test]
async fn one_that_stops_is_not_ready() {
    let world = World::with(|plan| {
        set(&mut plan.config, "server.limits.drain_lead", "30s");
    })
    .await;
    let World {
        app, clock, atlas, ..
    } = world;
    let admin = app.admin_address();
    let stopping = tokio::spawn(app.stop());
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let reply = loop {
        let reply = client::exchange(admin, request).await;
        if reply.status == 503 {
            break reply;
        }
    };
    assert_eq!(parts(&reply, "problems"), set_of(&["draining"]));
    while !stopping.is_finished() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    drop(atlas);
}
