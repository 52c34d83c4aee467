//! A purge does not come back with a restart.

use std::time::Duration;

use atlas_simulator::{Asked, Fault};
use serde_json::json;

use super::{ask, atlas_is_down, cache_status, keep_lists, refused, snapshots, world};
use crate::client;
use crate::fleet::{join, until_connected};
use crate::harness::engine::Engine;
use crate::program::{Program, request, world_with};
use crate::world::{PROJECT, World, every, operator_token, set, token_at, use_api_key};

async fn purge(world: &World, body: &serde_json::Value) {
    let body = body.to_string();
    let reply = world
        .admin("POST", "/cache/purge", &operator_token(), &body)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn killed_after_a_purge_the_next_process_does_not_have_the_list() {
    let (atlas, files) = world_with(|config| {
        use_api_key(config);
        keep_lists(config);
        set(config, "cache.snapshot_interval", "1s");
        set(config, "audit.sync", "interval");
    })
    .await;
    let ask = async |program: &Program| client::exchange(program.address, &request("close")).await;
    let program = Program::start(files.path());
    assert_eq!(ask(&program).await.status, 200);
    let mut glances = every(Duration::from_millis(10));
    while snapshots(files.path()).is_empty() {
        glances.tick().await;
    }
    atlas
        .on(Asked::anything())
        .respond(Fault::unexpected_error());
    // What is killed leaves its lists.
    program.signal("-KILL");
    drop(program);
    let program = Program::start(files.path());
    let reply = ask(&program).await;
    assert_eq!(reply.status, 200);
    assert!(cache_status(&reply).ends_with("detail=restored"));
    // What was purged is not among them.
    let token = token_at(
        atlas_cert_gateway::system::Clock::system()
            .now()
            .wall
            .seconds(),
        &json!({ "sub": "operator" }),
    );
    let body = json!({ "groupId": PROJECT, "username": "app1" }).to_string();
    let length = body.len();
    let purge = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: \
         {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let purged = client::exchange(program.admin, purge.as_bytes()).await;
    assert_eq!(purged.status, 200, "{}", purged.text());
    program.signal("-KILL");
    drop(program);
    let program = Program::start(files.path());
    let reply = ask(&program).await;
    assert!(reply.status >= 500, "{}: {}", reply.status, reply.text());
}

#[tokio::test]
async fn a_purge_of_one_list_leaves_the_others_to_the_next_process() {
    for (soft, status) in [(false, 500), (true, 200)] {
        let world = world(|_| {}).await;
        ask(&world, "app1").await;
        ask(&world, "many").await;
        purge(
            &world,
            &json!({ "groupId": PROJECT, "username": "app1", "soft": soft }),
        )
        .await;
        assert!(snapshots(world.files.path()).is_empty());
        atlas_is_down(&world);
        let world = world.restart(|_, _| {}).await;
        let other = ask(&world, "many").await;
        assert!(cache_status(&other).ends_with("; detail=restored"));
        let purged = ask(&world, "app1").await;
        assert_eq!(purged.status, status, "soft: {soft}");
        if soft {
            // Its fresh life has ended with the purge, not with the restart.
            assert!(cache_status(&purged).ends_with("; detail=stale-if-error-restored"));
        }
    }
}

#[tokio::test]
async fn a_purge_that_another_replica_tells_takes_the_snapshot_here() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let of = |name: &'static str| {
        let engine = &engine;
        move |plan: &mut crate::world::Plan| {
            use_api_key(&mut plan.config);
            keep_lists(&mut plan.config);
            join(engine, plan, name);
        }
    };
    let first = World::with(of("gateway-1")).await;
    let second = first.beside(of("gateway-2")).await;
    until_connected(&first).await;
    until_connected(&second).await;
    ask(&second, "app1").await;
    let written = |world: &World| !snapshots(world.files.path()).is_empty();
    second.while_time_passes(second.until(written)).await;
    // Answered once both have done it.
    purge(&first, &json!({ "all": true })).await;
    assert!(!written(&second));
}

#[tokio::test]
async fn a_replica_that_missed_a_purge_takes_nothing_over_and_one_that_missed_nothing_does() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let of = |name: &'static str| {
        let engine = &engine;
        move |plan: &mut crate::world::Plan| {
            use_api_key(&mut plan.config);
            keep_lists(&mut plan.config);
            join(engine, plan, name);
        }
    };
    for misses in [false, true] {
        let first = World::with(of("gateway-1")).await;
        let second = first.beside(of("gateway-2")).await;
        until_connected(&first).await;
        until_connected(&second).await;
        // A fleet that was never told anything cannot be told from one that has lost what it was told.
        purge(&first, &json!({ "all": true })).await;
        ask(&second, "app1").await;
        let files = second.files.path().to_owned();
        second.app.stop().await;
        assert_eq!(snapshots(&files).len(), 1);
        if misses {
            purge(&first, &json!({ "groupId": PROJECT, "username": "app1" })).await;
        }
        atlas_is_down(&first);
        let config = second.config.clone();
        let app = atlas_cert_gateway::app::App::start(&config, second.time.clone());
        let second = World {
            app: app.await.unwrap(),
            ..second
        };
        until_connected(&second).await;
        let reply = ask(&second, "app1").await;
        if misses {
            assert!(reply.status >= 500, "{}", reply.text());
            assert_eq!(refused(&second, "fleet").await, 1);
        } else {
            assert_eq!(reply.status, 200);
            assert_eq!(second.metric("cache_restored_total").await, 1);
        }
    }
}
