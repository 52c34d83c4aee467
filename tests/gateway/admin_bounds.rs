//! The bounds of the admin listener: what one operator or one address does there costs neither callers nor
//! the other operators anything. And whose connection ends where there are too many, on either listener.

use std::fs;
use std::fs::File;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Connection, Reply};
use crate::program;
use crate::program::{Program, command, output};
use crate::world::{PROJECT, World, certs, operator_token, set, token};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn a_hundred_idle_connections_of_one_address_keep_no_probe_out() {
    let world = World::new().await;
    let mut idle = Vec::new();
    for number in 0..100 {
        let mut connection = Connection::open(world.app.admin_address()).await;
        // Half of them say nothing at all.
        if number % 2 == 0 {
            connection.send(HEALTH).await;
            assert_eq!(connection.reply(false).await.status, 200, "{number}");
        }
        idle.push(connection);
        let health = world.admin("GET", "/healthz", "", "").await;
        assert_eq!(health.status, 200, "beside {number}");
    }
    let (oldest, newest) = idle.split_at_mut(80);
    for connection in oldest {
        assert!(world.closes(connection).await, "the longest idle stay");
    }
    let newest = newest.last_mut().unwrap();
    newest.send(HEALTH).await;
    assert_eq!(newest.reply(false).await.status, 200, "the newest goes");
    assert!(world.refused("connections_per_source").await >= 84);
}

#[tokio::test]
async fn a_request_under_way_outlasts_idle_connections() {
    let world = world_with_an_endless_trail().await;
    let mut searching = begin_search(&world).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        let mut connection = Connection::open(world.app.admin_address()).await;
        connection.send(HEALTH).await;
        assert_eq!(connection.reply(false).await.status, 200);
        idle.push(connection);
    }
    assert!(!searching.has_something(), "it was ended");
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_health_gets_in_beside_a_hundred_idle_connections() {
    let (_atlas, files) = program::world().await;
    let program = Program::start(files.path());
    let mut idle = Vec::new();
    for _ in 0..100 {
        let mut connection = Connection::open(program.admin).await;
        connection.send(HEALTH).await;
        assert_eq!(connection.reply(false).await.status, 200);
        idle.push(connection);
        if idle.len() % 20 == 0 {
            let url = format!("http://{}/healthz", program.admin);
            let health = output(command().args(["health", "--url", &url]));
            assert_eq!(health.status.code(), Some(0), "{health:?}");
        }
    }
}

#[tokio::test]
async fn a_caller_gets_in_where_strangers_hold_every_connection_and_stays() {
    let limits = [
        "server.limits.connections",
        "server.limits.connections_per_source",
    ];
    for limit in limits {
        let world = World::with(|plan| set(&mut plan.config, limit, 3)).await;
        let mut refused = Connection::open(world.address()).await;
        refused.send(&lookup_with("not-a-token")).await;
        assert_eq!(refused.reply(false).await.status, 401);
        let mut answered = Connection::open(world.address()).await;
        answered
            .send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(answered.reply(false).await.status, 404);
        let mut http2 = Connection::open(world.address()).await;
        http2
            .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await;
        assert!(http2.read_some(9).await.is_some(), "its settings");

        let mut callers = Vec::new();
        for _ in 0..3 {
            let mut caller = Connection::open(world.address()).await;
            caller.send(&lookup()).await;
            assert_eq!(caller.reply(false).await.status, 200, "{limit}");
            callers.push(caller);
        }
        assert!(world.closes(&mut refused).await, "{limit}");
        assert!(world.closes(&mut answered).await, "{limit}");
        let ends = async { while http2.read_some(1_000).await.is_some() {} };
        world
            .soon(ends)
            .await
            .expect("who does not say goodbye stays");

        let mut excess = Connection::open(world.address()).await;
        assert!(
            world.closes(&mut excess).await,
            "{limit}: callers do not yield"
        );
        for caller in &mut callers {
            caller.send(&lookup()).await;
            assert_eq!(caller.reply(false).await.status, 200, "{limit}");
        }
    }
}

fn lookup() -> Vec<u8> {
    lookup_with(&token())
}

fn lookup_with(token: &str) -> Vec<u8> {
    let path = certs(PROJECT, "app1");
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

fn searches(world: &World) -> Vec<Value> {
    let mut records = world.records();
    records.retain(|record| record["action"] == "search");
    records
}

fn search_request(query: &str) -> Vec<u8> {
    let token = operator_token();
    format!(
        "GET /audit/lookups?{query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
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
    let file = File::create(world.files.path().join(ENDLESS)).unwrap();
    file.set_len(4 << 40).unwrap();
    world
}

const ENDLESS: &str = "audit/lookups-20200101T000000Z-1.jsonl.1";

async fn begin_search(world: &World) -> Connection {
    let before = under_way(world);
    let mut connection = Connection::open(world.app.admin_address()).await;
    connection.send(&search_request("subject=nobody")).await;
    world.until(|world| under_way(world) > before).await;
    connection
}

/// How many read the endless file.
fn under_way(world: &World) -> usize {
    let file = world.files.path().join(ENDLESS);
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let open = descriptors.filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok());
    open.filter(|open| *open == file).count()
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
    let abandoned =
        |record: &Value| record["outcome"] == "abandoned" && record["filters"] == "subject=nobody";
    assert_eq!(
        searches(&world).iter().filter(|it| abandoned(it)).count(),
        1
    );
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
