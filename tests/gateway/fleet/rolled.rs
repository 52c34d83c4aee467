//! Replicas that are not alike for a while: another key first, another configuration, another version.

use std::time::Duration;

use futures_util::future::join_all;
use redis::Value;

use super::{join, replica, two_replicas, until_connected};
use crate::harness::engine::Engine;
use crate::program::{command, output};
use crate::world::{PROJECT, Plan, World, operator_token, set, write_private};

/// FL13: while the key is changed each list costs a call for each key.
#[tokio::test]
async fn fl13_replicas_with_the_new_and_with_the_old_key_are_of_one_fleet() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let old = replica(&engine, "gateway-1", |_| {}).await;
    let new_key = engine.socket().with_file_name("new-key");
    write_private(
        &new_key,
        "another key of the fleet for tests, of 32 and more",
    );
    let with_new_key = |name: &'static str| {
        let (engine, files) = (&engine, [&new_key, &new_key.with_file_name("key")]);
        let files = files.map(|file| file.display().to_string()).to_vec();
        move |plan: &mut Plan| {
            join(engine, plan, name);
            set(&mut plan.config, "fleet.key_files", files);
        }
    };
    let new = old.beside(with_new_key("gateway-2")).await;
    let other_new = old.beside(with_new_key("gateway-3")).await;
    let replicas = [&old, &new, &other_new];
    for world in replicas {
        until_connected(world).await;
    }
    for world in replicas {
        assert_eq!(world.ask("app1").await.status, 200);
    }
    assert_eq!(old.atlas.certificate_calls(), 2);
    assert_eq!(old.atlas.mints(), 1);
    // Who cannot read what was purged ends every list.
    let purge = format!("{{\"groupId\":\"{PROJECT}\"}}");
    let token = operator_token();
    let purged = new.admin("POST", "/cache/purge", &token, &purge);
    let purged = old.while_time_passes(purged).await;
    assert!(
        purged.text().contains("\"confirmed\":3"),
        "{}",
        purged.text()
    );
    assert_eq!(old.metric("fleet_events_lost_total").await, 1);
    for world in replicas {
        assert_eq!(world.ask("app1").await.status, 200);
    }
}

/// FL13: it is said, and each goes by its own.
#[tokio::test]
async fn fl13_replicas_with_another_configuration_say_so_and_share_lists() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let first = replica(&engine, "gateway-1", |_| {}).await;
    let second = first
        .beside(|plan| {
            join(&engine, plan, "gateway-2");
            set(&mut plan.config, "cache.ttl", "1m");
        })
        .await;
    for world in [&first, &second] {
        until_connected(world).await;
    }
    assert_eq!(first.ask("app1").await.status, 200);
    assert_eq!(
        second.ask("app1").await.header("x-upstream-calls"),
        Some("0")
    );
    for world in [&first, &second] {
        while world.metric("fleet_config_differs").await != 1 {
            first.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    }
}

/// FL13: the functions of the next version take the place of ours while replicas ask, and stay.
#[tokio::test]
async fn fl13_no_request_fails_while_the_functions_of_the_next_version_are_loaded() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |plan| {
        for user in 0..USERS {
            let mut project = plan.atlas.world.project(PROJECT);
            project.user(&format!("user{user}")).certificates(1);
        }
    })
    .await;
    let printed = output(command().args(["fleet", "functions"])).stdout;
    let library = String::from_utf8(printed).unwrap();
    let next = library.replace("function() return 2 end", "function() return 3 end");
    assert_ne!(next, library);
    let load = ["FUNCTION", "LOAD", "REPLACE", &*next];
    let asked = (0..USERS).map(|user| ask_both(&first, &second, format!("user{user}")));
    let loaded = async {
        for _ in 0..5 {
            engine.command(&load).await;
        }
    };
    tokio::join!(join_all(asked), loaded);
    assert_eq!(first.atlas.certificate_calls(), USERS);
    let third = first.beside(|plan| join(&engine, plan, "gateway-3")).await;
    until_connected(&third).await;
    assert_eq!(
        third.ask("user0").await.header("x-upstream-calls"),
        Some("0")
    );
    let version = engine.command(&["FCALL", "acg1_version", "0"]).await;
    assert_eq!(version, Value::Int(3));
}

async fn ask_both(first: &World, second: &World, username: String) {
    let (one, other) = tokio::join!(first.ask(&username), second.ask(&username));
    assert_eq!([one.status, other.status], [200; 2]);
}

const USERS: usize = 20;
