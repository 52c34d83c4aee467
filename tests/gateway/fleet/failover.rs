//! The engine's replica takes its primary's place, and has not heard the last of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use redis::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{two_replicas, until_connected_is};
use crate::harness::engine::Engine;
use crate::world::set;

/// FL07: what was lost is fetched once more, and what was not is as old as it is.
#[tokio::test]
async fn fl07_after_a_failover_a_list_costs_one_more_call_at_most() {
    let (Some(mut primary), Some(secondary)) = (Engine::start().await, Engine::start().await)
    else {
        return;
    };
    let address = primary.socket().with_file_name("address");
    symlink(primary.socket(), &address).unwrap();
    let [first, second] = two_replicas(&primary, |plan| {
        let url = format!("unix://{}", address.display());
        set(&mut plan.config, "fleet.url", url);
    })
    .await;
    let (link, port) = replication_link(primary.socket()).await;
    let at_once = ["CONFIG", "SET", "repl-diskless-sync-delay", "0"];
    primary.command(&at_once).await;
    secondary.command(&["REPLICAOF", "127.0.0.1", &port]).await;
    assert_eq!(first.ask("app1").await.status, 200);
    while entries(&secondary).await == 0 {
        tokio::task::yield_now().await;
    }
    first.advance(AGE);

    link.abort();
    assert!(link.await.unwrap_err().is_cancelled());
    assert_eq!(first.ask("many").await.status, 200);
    assert_eq!(entries(&primary).await, 2);
    let calls = first.atlas.certificate_calls();
    primary.kill();
    for world in [&first, &second] {
        until_connected_is(world, 0).await;
    }
    secondary.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(entries(&secondary).await, 1);
    fs::remove_file(&address).unwrap();
    symlink(secondary.socket(), &address).unwrap();
    for world in [&first, &second] {
        let connected = until_connected_is(world, 1);
        first.while_time_passes(connected).await;
    }

    let kept = second.ask("app1").await;
    let age: u64 = kept.header("age").unwrap().parse().unwrap();
    assert!(age >= AGE.as_secs(), "{age}");
    assert_eq!(first.atlas.certificate_calls(), calls);
    for world in [&second, &first] {
        assert_eq!(world.ask("many").await.status, 200);
    }
    // It has three pages.
    assert_eq!(first.atlas.certificate_calls(), calls + 3);
}

/// A way from a free port to a socket, until it is aborted.
async fn replication_link(socket: PathBuf) -> (JoinHandle<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let link = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut one, _)) = listener.accept().await {
            let mut other = UnixStream::connect(&socket).await.unwrap();
            connections.spawn(async move { copy_bidirectional(&mut one, &mut other).await });
        }
    });
    (link, port)
}

/// How many lists an engine has.
async fn entries(engine: &Engine) -> usize {
    let Value::Array(keys) = engine.command(&["KEYS", "*}:e:*"]).await else {
        panic!("a list of keys");
    };
    keys.len()
}

const AGE: Duration = Duration::from_secs(7);
