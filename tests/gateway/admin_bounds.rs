//! The bounds of the admin listener: what one operator or one address does there costs neither callers nor
//! the other operators anything.

use std::fs::File;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::client::Connection;
use crate::client::Reply;
use crate::world::PROJECT;
use crate::world::World;
use crate::world::operator_token;

fn searches(world: &World) -> Vec<Value> {
    let mut records = world.records();
    records.retain(|record| record["action"] == "search");
    records
}

fn search_request(query: &str) -> Vec<u8> {
    let token = operator_token();
    format!(
        "GET /audit/lookups?{query} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    .into_bytes()
}

async fn search(world: &World, query: &str) -> Reply {
    let target = format!("/audit/lookups?{query}");
    world.admin("GET", &target, &operator_token(), "").await
}

/// A world with a search under way that will not end by itself: an old file of the trail is a hole of four
/// terabytes.
async fn world_with_an_endless_trail() -> World {
    let world = World::new().await;
    for _ in 0..3 {
        world.ask("app1").await;
    }
    let file = "audit/lookups-20200101T000000Z-1.jsonl.1";
    let file = File::create(world.files.path().join(file)).unwrap();
    file.set_len(4 << 40).unwrap();
    world
}

async fn begin_search(world: &World) -> Connection {
    let before = searches(world).len();
    let mut connection = Connection::open(world.app.admin_address()).await;
    connection.send(&search_request("subject=nobody")).await;
    world.until(|world| searches(world).len() > before).await;
    connection
}

#[tokio::test]
async fn a_third_search_is_refused_and_one_ends_with_its_caller() {
    let world = world_with_an_endless_trail().await;
    let first = begin_search(&world).await;
    let second = begin_search(&world).await;
    let third = search(&world, "limit=1").await;
    assert_eq!(
        (
            third.status,
            third.error_code().as_str(),
            third.header("retry-after")
        ),
        (503, "SERVICE_UNAVAILABLE", Some("5")),
        "{}",
        third.text()
    );
    assert!(third.text().contains("Two searches"), "{}", third.text());
    let record = searches(&world).pop().unwrap();
    assert_eq!(
        (&record["outcome"], &record["status"]),
        (&json!("failed"), &json!(503))
    );
    // Neither callers nor probes nor purges wait for them.
    assert_eq!(
        world.ask("app1").await.header("x-upstream-calls"),
        Some("0")
    );
    assert_eq!(world.admin("GET", "/readyz", "", "").await.status, 200);
    let body = format!("{{\"groupId\":\"{PROJECT}\"}}");
    let purged = world
        .admin("POST", "/cache/purge", &operator_token(), &body)
        .await;
    assert_eq!(purged.json()["entries"], 1);

    drop(first);
    let ended = async {
        while search(&world, "limit=1").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    world
        .soon(ended)
        .await
        .expect("a search outlives its caller");
    drop(second);
}

#[tokio::test]
async fn a_search_does_not_keep_the_process_from_stopping() {
    let world = world_with_an_endless_trail().await;
    let mut searching = begin_search(&world).await;
    let World { app, clock, .. } = world;
    let mut stopped = Box::pin(app.stop());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            () = tokio::task::yield_now() => clock.advance(Duration::from_millis(10)),
        }
    }
    let reply = searching.reply(false).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (503, "SERVICE_UNAVAILABLE"),
        "{}",
        reply.text()
    );
}
