//! Standard error is a pipe that nobody reads: no answer waits for it, and neither does the end.

use std::io::{BufRead, BufReader, PipeReader, pipe};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;

use atlas_simulator::Simulator;
use tempfile::TempDir;

use crate::client;
use crate::client::Connection;
use crate::program::{listening, request, request_for, serve, signal, token_now, world_with};
use crate::world::set;

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_bad_tokens_and_a_log_that_nobody_reads_delay_no_answer() {
    let (_atlas, files) = talkative().await;
    let gateway = Unread::start(files.path());
    assert_eq!(gateway.ask(&request("close")).await, 200);
    let mut connection = None;
    let bad = request_for("app1", "a.b.c", "keep-alive");
    for _ in 0..10_000 {
        let status = ask_on(&mut connection, gateway.address, &bad).await;
        assert_ne!(status, 200);
    }
    gateway.until_lines_are_dropped().await;
    for _ in 0..10 {
        assert_eq!(gateway.ask(&request("close")).await, 200);
        assert_eq!(gateway.operator("/healthz").await.0, 200);
    }
    assert_eq!(gateway.end(), Some(0));
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn once_the_log_is_read_again_it_says_how_many_lines_are_missing() {
    let (_atlas, files) = talkative().await;
    let mut gateway = Unread::start(files.path());
    gateway.until_lines_are_dropped().await;
    let unread = gateway.log.take().unwrap();
    let told = std::thread::spawn(move || {
        let mut lines = unread.lines().map_while(Result::ok);
        let told = lines.find(|line| line.contains("lines of this log were dropped"));
        // What comes later is read, too, or it would be dropped in its turn.
        lines.for_each(drop);
        told
    });
    // One of the lines that waited is followed by it; the end brings out what waits.
    assert_eq!(gateway.end(), Some(0));
    let told = told.join().unwrap().unwrap();
    let line: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(line["lines"].as_u64().unwrap() > 0, "{line}");
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_log_that_goes_away_ends_nothing_and_its_lines_are_counted() {
    let (_atlas, files) = talkative().await;
    let mut gateway = Unread::start(files.path());
    drop(gateway.log.take());
    while gateway.dropped().await == 0 {
        assert_eq!(gateway.ask(&absent("close")).await, 404);
    }
    assert_eq!(gateway.ask(&request("close")).await, 200);
    assert_eq!(gateway.end(), Some(0));
}

/// A gateway that says something of each lookup of a user that is not there.
async fn talkative() -> (Simulator, TempDir) {
    world_with(|config| set(config, "telemetry.log", "debug")).await
}

fn absent(connection: &str) -> Vec<u8> {
    request_for("nobody", &token_now(), connection)
}

/// A program whose log is read up to the line that says where it listens.
struct Unread {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: Option<BufReader<PipeReader>>,
}

impl Unread {
    fn start(files: &Path) -> Self {
        let (read, write) = pipe().unwrap();
        let child = serve(files).stderr(write).spawn().unwrap();
        let mut unread = BufReader::new(read);
        let (address, admin) = loop {
            let mut line = String::new();
            assert_ne!(unread.read_line(&mut line).unwrap(), 0, "it ended");
            if let Some(addresses) = listening(&line) {
                break addresses;
            }
        };
        Self {
            child,
            address,
            admin,
            log: Some(unread),
        }
    }

    async fn ask(&self, request: &[u8]) -> u16 {
        client::exchange(self.address, request).await.status
    }

    async fn operator(&self, path: &str) -> (u16, String) {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let reply = client::exchange(self.admin, request.as_bytes()).await;
        (reply.status, reply.text())
    }

    async fn dropped(&self) -> u64 {
        let (status, page) = self.operator("/metrics").await;
        assert_eq!(status, 200);
        let count = page
            .lines()
            .find_map(|line| line.strip_prefix("atlas_cert_gateway_log_lines_dropped_total "));
        count.unwrap().parse().unwrap()
    }

    /// The pipe, the queue, and then there is no room.
    async fn until_lines_are_dropped(&self) {
        let (mut connection, absent) = (None, absent("keep-alive"));
        let mut asked = 0;
        while self.dropped().await == 0 {
            for _ in 0..100 {
                let status = ask_on(&mut connection, self.address, &absent).await;
                assert_eq!(status, 404);
            }
            asked += 100;
            assert!(asked < 50_000, "nothing is dropped");
        }
    }

    fn end(mut self) -> Option<i32> {
        signal(&self.child, "-TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of a request on a connection that stays open as long as the gateway lets it.
async fn ask_on(connection: &mut Option<Connection>, address: SocketAddr, request: &[u8]) -> u16 {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(address).await,
    };
    open.send(request).await;
    let reply = open.reply(false).await;
    if reply.status != 0 && reply.header("connection") != Some("close") {
        *connection = Some(open);
    }
    reply.status
}
