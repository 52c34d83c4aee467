//! The whole program with very few descriptors.

use std::process::Command;
use std::time::Duration;

use crate::client;
use crate::client::Connection;
use crate::program::{Program, request, serve, world};

/// G29: of 256 descriptors callers get half; a caller beyond them is sent away at once, and when they
/// leave all is as before.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn with_256_descriptors_and_1000_connections_it_lives_and_recovers() {
    let (_atlas, files) = world().await;
    let serve = serve(files.path());
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""]);
    shell.arg(serve.get_program()).args(serve.get_args());
    let program = Program::run(&mut shell);
    let mut first = Connection::open(program.address).await;
    first.send(&request("keep-alive")).await;
    assert_eq!(first.reply(false).await.status, 200);
    let (mut open, mut closed) = (Vec::new(), 0);
    for _ in 0..1_000 {
        let mut connection = Connection::open(program.address).await;
        // A place that is taken shows only in nothing happening.
        let patience = Duration::from_millis(if open.len() < 127 { 1 } else { 1_000 });
        match tokio::time::timeout(patience, connection.is_closed()).await {
            Ok(_) => closed += 1,
            Err(_) => open.push(connection),
        }
    }
    assert_eq!((open.len(), closed), (127, 873), "F82");
    // Who is there is served, and operators have descriptors of their own.
    first.send(&request("keep-alive")).await;
    assert_eq!(first.reply(false).await.status, 200);
    let ready = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(client::exchange(program.admin, ready).await.status, 200);
    drop(open);
    let mut attempts = 0;
    while client::exchange(program.address, &request("close"))
        .await
        .status
        != 200
    {
        attempts += 1;
        assert!(attempts < 10_000, "F82: it does not recover");
        tokio::task::yield_now().await;
    }
}
