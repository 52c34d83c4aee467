//! What the process takes: under a ceiling that the configured cache does not fit under the cache becomes
//! smaller, callers are answered, and a purge ends the pressure; searches take little.

use std::fs;
use std::io::Write;

use atlas_cert_gateway::system::Clock;
use atlas_simulator::{Settings, Simulator};
use serde_json::json;

use crate::client;
use crate::client::{Connection, Reply};
use crate::program::{Program, command, output, request_for, token_now, world_with};
use crate::world::{PROJECT, set, token_at};

async fn ask(connection: &mut Connection, user: u32, token: &str) -> Reply {
    let request = request_for(&format!("user-{user}"), token, "keep-alive");
    connection.send(&request).await;
    connection.reply(false).await
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_does_not_fit_becomes_smaller_and_misses_are_answered() {
    let mut world = atlas_simulator::World::new(Clock::system().now().wall.into());
    let mut project = world.project(PROJECT);
    for number in 0..USERS {
        project.user(&format!("user-{number}")).certificates(100);
    }
    let mut settings = Settings::with_world(world);
    settings.rules.bucket.capacity = 1_000_000;
    let atlas = Simulator::start(settings).await.unwrap();
    let (_, files) = world_with(|configuration| {
        set(configuration, "atlas.base_url", atlas.base_url());
        set(configuration, "atlas.limits.capacity", 1_000_000);
        set(configuration, "memory.ceiling", "64MiB");
    })
    .await;
    let mut program = Program::start(files.path());
    assert!(
        program
            .said
            .iter()
            .any(|line| line.contains("at most 34MiB")),
        "the start does not warn: {:?}",
        program.said
    );
    let token = token_now();
    let mut connection = Connection::open(program.address).await;
    // Some 25 kB of memory each: more than the ceiling in all.
    for user in 0..USERS {
        let reply = ask(&mut connection, user, &token).await;
        let connection = reply.header("connection");
        assert_eq!((reply.status, connection), (200, None), "user {user}");
    }
    let held = program.metric("cache_bytes").await.unwrap();
    assert!(held > 10 << 20, "what fits is remembered: {held}");
    program.until_it_says("memory is short: Saving");
    let operator = operator_token_now();
    let body = "{\"all\":true}";
    let purge = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {operator}\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let purged = client::exchange(program.admin, purge.as_bytes()).await;
    assert_eq!(purged.status, 200, "{}", purged.text());
    // Where the cache could give what was wanted, no miss is refused, before and afterwards.
    let missed = client::exchange(program.address, &request_for("user-1", &token, "close")).await;
    assert_eq!(
        (missed.status, missed.header("x-upstream-calls")),
        (200, Some("1"))
    );
}

#[tokio::test]
async fn check_warns_of_a_cache_that_does_not_fit_and_says_what_does() {
    let (_atlas, files) =
        world_with(|configuration| set(configuration, "memory.ceiling", "300MiB")).await;
    let check = |ceiling: &str| {
        let file = files.path().join("gateway.toml");
        let mut check = command();
        check.args(["check", "--config"]).arg(file);
        check.env("ATLAS_CERT_GATEWAY__MEMORY__CEILING", ceiling);
        let checked = output(&mut check);
        assert_eq!(checked.status.code(), Some(0), "{checked:?}");
        String::from_utf8(checked.stderr).unwrap()
    };
    let warning = check("300MiB");
    for words in [
        "warning: cache.max_size",
        "256MiB",
        "300MiB",
        "at most 235MiB",
        "325MiB",
    ] {
        assert!(warning.contains(words), "{words}: {warning}");
    }
    assert!(!check("325MiB").contains("cache.max_size"));
}

/// The most that the process has taken so far.
fn most_resident(program: &Program) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() << 10
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn searches_hold_blocks_of_the_trail_however_large_its_packed_files_are() {
    let (_atlas, files) = world_with(|_| ()).await;
    let program = Program::start(files.path());
    let directory = files.path().join("audit");
    for file in [
        "lookups-20200101T000000Z-1.jsonl",
        "lookups-20200102T000000Z-1.jsonl",
    ] {
        // Unpacked, a quarter of a gigabyte.
        let line = format!("{{\"time\":\"2020\",\"text\":\"{}\"}}\n", "x".repeat(1_000));
        let chunk = line.repeat(1_000);
        let packed = fs::File::create(directory.join(format!("{file}.zst"))).unwrap();
        let mut packed = zstd::stream::write::Encoder::new(packed, 1).unwrap();
        for _ in 0..256 {
            packed.write_all(chunk.as_bytes()).unwrap();
        }
        packed.finish().unwrap();
    }
    let search = format!(
        "GET /audit/lookups?subject=nobody HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \
         {}\r\nConnection: close\r\n\r\n",
        operator_token_now()
    );
    let before = most_resident(&program);
    let search = || client::exchange(program.admin, search.as_bytes());
    let (one, other) = tokio::join!(search(), search());
    assert_eq!((one.status, other.status), (200, 200), "{}", one.text());
    let more = most_resident(&program) - before;
    assert!(more < 48 << 20, "{more} bytes more");
}

fn operator_token_now() -> String {
    let now = Clock::system().now().wall.seconds();
    token_at(now, &json!({ "sub": "operator" }))
}

const USERS: u32 = 2_400;
