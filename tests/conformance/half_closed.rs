//! A caller that closes its side for writing still waits for its answers; one that resets the connection
//! does not.

use std::time::Duration;

use atlas_simulator::Asked;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::Authority;
use crate::client::Connection;
use crate::world::{PROJECT, World, certs, token};

/// A request for a list, with more lines in its head.
fn request(username: &str, more: &str) -> Vec<u8> {
    let (path, token) = (certs(PROJECT, username), token());
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n{more}\r\n"
    );
    head.into_bytes()
}

fn outcomes(world: &World) -> Vec<String> {
    let outcome = |record: Value| record["outcome"].as_str().unwrap().to_owned();
    world.lookups().into_iter().map(outcome).collect()
}

async fn until_nobody_is_connected(world: &World) {
    // One is the connection that asks.
    let others = async { while world.metric("connections").await > 1 {} };
    world.soon(others).await.unwrap();
}

#[tokio::test]
async fn four_hundred_hits_over_half_closed_connections_are_answered_whole() {
    let world = World::new().await;
    let whole = world.ask("app1").await.body;
    for number in 0..400 {
        let more = ["", "Connection: close\r\n"][number % 2];
        let mut caller = Connection::open(world.address()).await;
        caller.send(&request("app1", more)).await;
        caller.finish().await;
        let reply = caller.reply(false).await;
        assert_eq!((reply.status, &reply.body), (200, &whole), "{number}");
        assert!(caller.is_closed().await);
    }
    let outcomes = outcomes(&world);
    assert_eq!(outcomes.len(), 401);
    assert!(outcomes.iter().all(|outcome| outcome == "answered"));
}

#[tokio::test]
async fn a_pipeline_before_the_end_is_answered_to_its_end() {
    let world = World::new().await;
    // Hits, a list that has to be fetched, and more than the kernel's buffers hold.
    let names = ["app1", "many", "many", "app1", "nobody", "many"];
    let mut caller = Connection::open(world.address()).await;
    let all: Vec<u8> = names.iter().flat_map(|name| request(name, "")).collect();
    caller.send(&all.repeat(20)).await;
    caller.finish().await;
    for turn in 0..20 {
        for name in names {
            let status = caller.reply(false).await.status;
            assert_eq!(
                status,
                if name == "nobody" { 404 } else { 200 },
                "{name} in turn {turn}"
            );
        }
    }
    assert!(caller.is_closed().await);
    assert!(outcomes(&world).iter().all(|outcome| outcome == "answered"));
}

#[tokio::test]
async fn a_fetched_answer_reaches_a_caller_that_has_half_closed() {
    let world = World::new().await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let mut caller = Connection::open(world.address()).await;
    caller.send(&request("app1", "")).await;
    gate.arrived(1).await;
    caller.finish().await;
    for _ in 0..20 {
        world.admin("GET", "/healthz", "", "").await;
    }
    assert_eq!(outcomes(&world), [""; 0]);
    gate.open();
    assert_eq!(caller.reply(false).await.status, 200);
    assert!(caller.is_closed().await);
    assert_eq!(outcomes(&world), ["answered"]);
}

#[tokio::test]
async fn a_reset_while_atlas_is_asked_abandons_the_lookup() {
    let authority = Authority::new();
    for over_tls in [false, true] {
        let world = if over_tls {
            authority.world(false).await
        } else {
            World::new().await
        };
        for closes_first in [false, true] {
            let before = outcomes(&world).len();
            let gate = world.atlas.on(Asked::certificates()).hold();
            let username = format!("app{before}");
            let asked = request(&username, "");
            if over_tls {
                let mut caller = authority.connect(&world, None, &[]).await.unwrap();
                caller.write_all(&asked).await.unwrap();
                gate.arrived(1).await;
                if closes_first {
                    caller.shutdown().await.unwrap();
                }
                let socket = socket2::SockRef::from(caller.get_ref().0);
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            } else {
                let mut caller = Connection::open(world.address()).await;
                caller.send(&asked).await;
                gate.arrived(1).await;
                if closes_first {
                    caller.finish().await;
                    world.admin("GET", "/healthz", "", "").await;
                }
                caller.reset();
            }
            let recorded = world.until(|world| outcomes(world).len() > before);
            world.soon(recorded).await.unwrap();
            assert_eq!(outcomes(&world)[before], "abandoned");
            until_nobody_is_connected(&world).await;
            gate.open();
        }
    }
}

#[tokio::test]
async fn a_goodbye_of_tls_behind_the_request_is_no_hanging_up() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    for _ in 0..20 {
        let mut caller = authority.connect(&world, None, &[]).await.unwrap();
        caller.write_all(&request("app1", "")).await.unwrap();
        caller.shutdown().await.unwrap();
        let mut answer = Vec::new();
        caller.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(answer.ends_with(b"\"totalCount\":2}"));
    }
    assert_eq!(outcomes(&world), ["answered"; 20]);
}

#[tokio::test]
async fn a_connection_that_waits_for_nothing_ends_when_one_side_does() {
    let world = World::new().await;
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = Connection::open(world.address()).await;
        caller.send(&request("app1", "")).await;
        assert_eq!(caller.reply(false).await.status, 200);
        caller.finish().await;
        callers.push(caller);
    }
    for caller in &mut callers {
        assert!(world.closes(caller).await);
    }
    until_nobody_is_connected(&world).await;
}
