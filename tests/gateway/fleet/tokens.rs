//! One token of a service account for all replicas.

use std::fs;
use std::path::Path;
use std::time::Duration;

use atlas_simulator::{Asked, CLIENT_SECRET, Endpoint, Simulator};
use redis::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::{join, join_config, replica, until_connected};
use crate::client;
use crate::harness::engine::Engine;
use crate::program::{Program, request, world_with};
use crate::world::{Plan, World, set};

#[tokio::test]
async fn three_replicas_that_start_at_once_mint_one_token() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let first = replica(&engine, "gateway-1", without_lists).await;
    let mint = first.atlas.on(Asked::token()).hold();
    let (second, third) = tokio::join!(
        beside(&first, &engine, "gateway-2"),
        beside(&first, &engine, "gateway-3")
    );
    let asked = async { tokio::join!(first.ask("app1"), second.ask("app1"), third.ask("app1")) };
    let (replies, ()) = tokio::join!(asked, async {
        mint.arrived(1).await;
        mint.open();
    });
    assert_eq!(
        [replies.0.status, replies.1.status, replies.2.status],
        [200; 3]
    );
    assert_eq!(first.atlas.mints(), 1);
}

#[tokio::test]
async fn a_replica_that_stops_leaves_the_token_to_the_others_and_to_its_next_process() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let (first, second) = two(&engine).await;
    first.app.stop().await;
    assert_eq!((first.atlas.revokes(), first.atlas.live_tokens()), (0, 1));
    assert_eq!(second.ask("many").await.status, 200);
    let state = fs::read_dir(first.files.path().join("state")).unwrap();
    let mut files = state.map(|entry| entry.unwrap().path());
    assert!(files.any(|file| file.extension().is_some_and(|ending| ending == "token")));
    assert_eq!(second.atlas.mints(), 1);
}

#[tokio::test]
async fn without_shared_tokens_each_replica_has_its_own_and_gives_it_back() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let own = |plan: &mut Plan| set(&mut plan.config, "fleet.tokens", false);
    let first = replica(&engine, "gateway-1", own).await;
    let second = first
        .beside(|plan| {
            join(&engine, plan, "gateway-2");
            own(plan);
        })
        .await;
    for world in [&first, &second] {
        assert_eq!(world.ask("app1").await.status, 200);
    }
    assert_eq!(first.atlas.mints(), 2);
    second.app.stop().await;
    assert_eq!(first.atlas.revokes(), 1);
}

#[tokio::test]
async fn an_engine_that_has_forgotten_everything_is_told_again() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let (first, second) = two(&engine).await;
    engine.command(&["FLUSHALL"]).await;
    assert_eq!(keys(&engine, ":t").await.len(), 0);
    first.advance(Duration::from_secs(6));
    while keys(&engine, ":t").await.is_empty() || keys(&engine, ":z").await.is_empty() {
        tokio::task::yield_now().await;
    }
    let third = beside(&first, &engine, "gateway-3").await;
    assert_eq!(third.ask("app1").await.status, 200);
    assert_eq!(first.atlas.mints(), 1);
    drop(second);
}

#[tokio::test]
async fn without_the_engine_each_keeps_the_token_and_a_new_replica_mints_its_part() {
    let Some(mut engine) = Engine::start().await else {
        return;
    };
    let (first, second) = two(&engine).await;
    engine.kill();
    for world in [&first, &second] {
        assert_eq!(world.ask("many").await.status, 200);
    }
    assert_eq!(first.atlas.mints(), 1);
    let third = first.beside(|plan| join(&engine, plan, "gateway-3")).await;
    assert_eq!(third.ask("many").await.status, 200);
    assert_eq!(first.atlas.mints(), 2);
    // A fifth of five a minute is one.
    first.atlas.revoke_all_tokens();
    assert_eq!(third.ask("app1").await.status, 401);
    assert_eq!(first.atlas.mints(), 2);
}

#[tokio::test]
async fn a_token_that_atlas_refuses_is_replaced_once_for_all_replicas() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let (first, second) = two(&engine).await;
    let third = beside(&first, &engine, "gateway-3").await;
    assert_eq!(third.ask("app1").await.status, 200);
    first.atlas.revoke_all_tokens();
    let replies = tokio::join!(first.ask("many"), second.ask("many"), third.ask("many"));
    assert_eq!(
        [replies.0.status, replies.1.status, replies.2.status],
        [200; 3]
    );
    assert_eq!(first.atlas.mints(), 2);
    // Only once a minute, whichever replica finds it.
    first.atlas.revoke_all_tokens();
    let fourth = beside(&first, &engine, "gateway-4").await;
    assert_eq!(fourth.ask("app1").await.status, 401);
    assert_eq!(first.atlas.mints(), 2);
}

#[tokio::test]
async fn one_replica_renews_the_token_and_the_others_adopt_it() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let (first, second) = two(&engine).await;
    first.advance(Duration::from_mins(52));
    for world in [&first, &second] {
        while seconds_left(world).await < 3_000.0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(first.atlas.mints(), 2);
}

/// FL14, in small: what is killed again and again stays within the mints that a fleet may make.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_again_and_again_mints_one_token_and_its_part_without_the_engine()
{
    let Some(mut engine) = Engine::start().await else {
        return;
    };
    let (atlas, files) = world_with(|config| {
        join_config(&engine, config, "gateway-1");
        // A machine that is busy with other tests is no engine that is gone.
        set(config, "fleet.silence", "1s");
        set(config, "fleet.lists", false);
    })
    .await;
    for _ in 0..5 {
        assert_eq!(start_and_kill(files.path()).await, 200);
        forget_token(files.path());
    }
    assert_eq!(atlas.mints(), 1);
    assert_eq!(start_and_kill(files.path()).await, 200);
    engine.kill();
    for _ in 0..3 {
        // The file still has it.
        assert_eq!(start_and_kill(files.path()).await, 200);
    }
    assert_eq!(atlas.mints(), 1);
    for _ in 0..5 {
        forget_token(files.path());
        start_and_kill(files.path()).await;
    }
    assert!(atlas.mints() <= 2, "{}", atlas.mints());
    assert_eq!(atlas.answers(403) + atlas.answers(429), 0);
}

async fn start_and_kill(files: &Path) -> u16 {
    let program = Program::start(files);
    let reply = client::exchange(program.address, &request("close")).await;
    program.signal("-KILL");
    program.end();
    reply.status
}

/// As on a disk that is new.
fn forget_token(files: &Path) {
    for entry in fs::read_dir(files.join("state")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "token") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// FL18: neither what the engine holds nor what it is sent shows a token or a secret.
#[tokio::test]
async fn the_engine_sees_neither_token_nor_secret() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    engine
        .command(&["CONFIG", "SET", "rdbcompression", "no"])
        .await;
    let mut monitor = UnixStream::connect(engine.socket()).await.unwrap();
    monitor.write_all(b"MONITOR\r\n").await.unwrap();
    let mut seen = vec![0; 5];
    monitor.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, b"+OK\r\n");
    let (first, second) = two(&engine).await;
    engine
        .command(&["ECHO", "the end of what is watched"])
        .await;
    while !contains(&seen, "the end of what is watched") {
        monitor.read_buf(&mut seen).await.unwrap();
    }
    for key in keys(&engine, "").await {
        let Value::BulkString(held) = engine.command(&["DUMP", &key]).await else {
            panic!("{key} is gone");
        };
        seen.extend(held);
    }
    assert!(contains(&seen, "acg1_store_token") && contains(&seen, &hash_of(&first.atlas)));
    for hidden in [token(&first.atlas).as_str(), CLIENT_SECRET] {
        assert!(!contains(&seen, hidden));
    }
    drop(second);
}

/// Another replica, in front of the same Atlas.
async fn beside(world: &World, engine: &Engine, name: &str) -> World {
    let another = world.beside(|plan| {
        join(engine, plan, name);
        without_lists(plan);
    });
    let another = another.await;
    until_connected(&another).await;
    another
}

/// So that each replica asks Atlas itself, with the token.
fn without_lists(plan: &mut Plan) {
    set(&mut plan.config, "fleet.lists", false);
}

/// Two replicas that have both used the same token.
async fn two(engine: &Engine) -> (World, World) {
    let first = replica(engine, "gateway-1", without_lists).await;
    let second = beside(&first, engine, "gateway-2").await;
    for world in [&first, &second] {
        until_connected(world).await;
        assert_eq!(world.ask("app1").await.status, 200);
        // Time may pass now: no call is under way.
        while world.metric(PRESENT).await == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(first.atlas.mints(), 1);
    (first, second)
}

/// What lies in the engine whose name ends so.
async fn keys(engine: &Engine, what: &str) -> Vec<String> {
    let Value::Array(keys) = engine.command(&["KEYS", &format!("*{what}")]).await else {
        panic!("a list of keys");
    };
    let text = |key| {
        let Value::BulkString(key) = key else {
            panic!("{key:?}");
        };
        String::from_utf8(key).unwrap()
    };
    keys.into_iter().map(text).collect()
}

/// The token that Atlas was last asked with.
fn token(atlas: &Simulator) -> String {
    let requests = atlas.requests();
    let asked = requests
        .iter()
        .rfind(|seen| seen.endpoint == Endpoint::Certificates);
    let bearer = asked.unwrap().headers["authorization"].to_str().unwrap();
    bearer.strip_prefix("Bearer ").unwrap().to_owned()
}

fn hash_of(atlas: &Simulator) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token(atlas).as_bytes());
    let bytes = hash.as_ref().iter().take(16);
    let digits: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len())
        .any(|window| window == part.as_bytes())
}

async fn seconds_left(world: &World) -> f64 {
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let name = "atlas_cert_gateway_token_expires_in_seconds{credential=\"platform\"} ";
    let value = page.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap().parse().unwrap()
}

const PRESENT: &str = "fleet_operations_total{operation=\"here\",result=\"ok\"}";
