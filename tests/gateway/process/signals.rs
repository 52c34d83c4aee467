//! Told to stop at every moment of its life: it ends with 0, and whatever was under way is on record.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use atlas_simulator::{Asked, Simulator};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::client;
use crate::client::Reply;
use crate::process::restarts::Http2;
use crate::program::{
    Program, lines, output, records, reloads, request, serve, signal, world, world_with,
};
use crate::world::set;

fn ask(program: &Program) -> JoinHandle<Reply> {
    let address = program.address;
    tokio::spawn(async move { client::exchange(address, &request("close")).await })
}

/// What became of the lookups, by the trail.
fn outcomes(files: &TempDir) -> Vec<Value> {
    let records = records(files.path(), "lookup").into_iter();
    records.map(|record| record["outcome"].clone()).collect()
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_before_it_has_read_its_configuration_it_ends_well() {
    let (_atlas, files) = world().await;
    let path = files.path().join("gateway.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(
        output(std::process::Command::new("mkfifo").arg(&path))
            .status
            .success()
    );
    let mut child = serve(files.path()).stderr(Stdio::piped()).spawn().unwrap();
    let log = lines(child.stderr.take().unwrap());
    // Opens once the program reads.
    let mut configuration = fs::OpenOptions::new().write(true).open(&path).unwrap();
    signal(&child, "-TERM");
    configuration.write_all(text.as_bytes()).unwrap();
    drop(configuration);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // Whether it had begun to listen by then is the scheduler's choice.
    let said: Vec<_> = log.iter().collect();
    let ends = ["before anything was begun", "stopped"];
    let last = said.last().unwrap();
    assert!(ends.iter().any(|end| last.contains(end)), "{said:?}");
}

async fn held(files: &TempDir, atlas: &Simulator, asked: Asked) {
    let gate = atlas.on(asked).hold();
    let program = Program::start(files.path());
    let reply = ask(&program);
    gate.arrived(1).await;
    // The first token is asked for whether or not anybody has come.
    while program.metric("cache_waiters").await != Some(1) {}
    program.signal("-TERM");
    let mut program = program;
    program.until_it_says("stopping");
    gate.open();
    assert_eq!(reply.await.unwrap().status, 200);
    assert_eq!(program.end().0, Some(0));
    assert_eq!(outcomes(files), ["answered"]);
    assert_eq!(atlas.live_tokens(), 0, "our token was given back");
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_the_first_token_is_minted_the_caller_is_answered_and_the_token_given_back()
 {
    let (atlas, files) = world().await;
    held(&files, &atlas, Asked::token()).await;
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_during_a_fetch_the_caller_is_answered() {
    let (atlas, files) = world().await;
    held(&files, &atlas, Asked::certificates()).await;
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_it_reloads_it_does_both() {
    let (_atlas, files) = world().await;
    for _ in 0..3 {
        let program = Program::start(files.path());
        for _ in 0..10 {
            program.signal("-HUP");
        }
        program.signal("-TERM");
        let (code, said) = program.end();
        assert_eq!(code, Some(0), "{said:?}");
    }
    let reloads = reloads(files.path());
    assert!(reloads.iter().all(|record| record["outcome"] == "answered"));
}

/// F85: a hung Atlas does not keep it beyond the grace.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_finished_in_time_is_given_up_and_on_record() {
    let (atlas, files) = world_with(|config| {
        set(config, "server.limits.drain_grace", "100ms");
    })
    .await;
    let gate = atlas.on(Asked::certificates()).hold();
    let program = Program::start(files.path());
    let reply = ask(&program);
    gate.arrived(1).await;
    program.signal("-TERM");
    assert_eq!(reply.await.unwrap().status, 0);
    assert_eq!(program.end().0, Some(0));
    assert_eq!(outcomes(&files), ["abandoned"]);
}

/// F85: the second signal ends it at once, but audited.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_twice_it_ends_at_once_and_every_request_under_way_is_on_record() {
    for second in ["-TERM", "-INT"] {
        let (atlas, files) = world_with(|config| {
            // Longer than any test waits.
            set(config, "server.limits.drain_lead", "10m");
            set(config, "server.limits.request", "20m");
            set(config, "atlas.limits.fetch", "20m");
            set(config, "atlas.limits.page", "20m");
            set(config, "atlas.limits.first_byte", "20m");
        })
        .await;
        let gate = atlas.on(Asked::certificates()).hold();
        let mut program = Program::start(files.path());
        let replies: Vec<_> = (0..5).map(|_| ask(&program)).collect();
        let mut over_http2 = Http2::open(program.address).await.unwrap();
        let streams: Vec<_> = (0..5).map(|_| over_http2.begin()).collect();
        gate.arrived(1).await;
        // All of them have arrived once they are counted.
        let metrics = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        while !client::exchange(program.admin, metrics)
            .await
            .text()
            .contains("atlas_cert_gateway_inflight_requests 10\n")
        {
            tokio::task::yield_now().await;
        }
        program.signal("-TERM");
        program.until_it_says("stopping");
        program.signal(second);
        let (code, said) = program.end();
        assert_eq!(code, Some(0), "{said:?}");
        for reply in replies {
            assert_eq!(reply.await.unwrap().status, 0);
        }
        for stream in streams {
            assert!(stream.await.unwrap().is_err());
        }
        assert_eq!(outcomes(&files), ["abandoned"; 10]);
        let fetches = records(files.path(), "fetch");
        assert_eq!(fetches.len(), 1, "{fetches:?}");
        assert_eq!(
            (&fetches[0]["outcome"], &fetches[0]["upstream_calls"]),
            (&"failed".into(), &1.into())
        );
        assert_eq!(
            atlas.live_tokens(),
            1,
            "the token is left to the next process"
        );
    }
}
