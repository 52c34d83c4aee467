//! The second sink gets what the journal gets, and cannot hold it up.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;

use atlas_cert_gateway::audit::Destination;
use atlas_cert_gateway::audit::Format;
use atlas_cert_gateway::audit::Require;
use atlas_cert_gateway::audit::Second;
use atlas_cert_gateway::audit::Unrecorded;
use atlas_cert_gateway::settings::Size;

use crate::audit::trail::A_ROUND;
use crate::audit::trail::PAST_EXAMINATION;
use crate::audit::trail::Trail;

#[tokio::test]
async fn lines_arrive_over_tcp_as_they_are_in_the_journal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let trail = trail_to(tcp(&listener), Format::Json, Require::All);
    let (stream, _) = listener.accept().unwrap();
    let mut received = BufReader::new(stream).lines();
    for turn in 0..20 {
        trail.record(&format!("subject-{turn}")).await.unwrap();
    }
    let journal = std::fs::read_to_string(trail.files().remove(0)).unwrap();
    for line in journal.lines().skip(1) {
        assert_eq!(received.next().unwrap().unwrap(), line);
    }
}

#[tokio::test]
async fn syslog_messages_arrive_over_a_unix_socket_with_their_length() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let listener = UnixListener::bind(&path).unwrap();
    let trail = trail_to(Destination::Unix(path), Format::Rfc5424, Require::All);
    let (stream, _) = listener.accept().unwrap();
    let mut stream = BufReader::new(stream);
    for _ in 0..3 {
        trail.record("ci").await.unwrap();
        let mut length = Vec::new();
        stream.read_until(b' ', &mut length).unwrap();
        let length: usize = String::from_utf8(length).unwrap().trim().parse().unwrap();
        let mut message = vec![0; length];
        stream.read_exact(&mut message).unwrap();
        let message = String::from_utf8(message).unwrap();
        let line = message
            .strip_prefix("<110>1 2026-08-10T02:06:35.")
            .and_then(|rest| rest.split_once(" test atlas-cert-gateway - audit - "))
            .unwrap()
            .1;
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["subject"], "ci");
    }
}

/// F49. Nobody reads at the other end.
#[tokio::test]
async fn a_hung_sink_delays_nothing_and_what_it_misses_is_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let trail = Trail::with(|config| {
        config.second = Some(Second {
            to: tcp(&listener),
            format: Format::Json,
            queue: Size::kibibytes(64),
        });
    });
    let (_stream, _) = listener.accept().unwrap();
    // More than the kernel's buffers and the queue can hold; the clock stands, so that any wait for the
    // sink would never end.
    let mut sent = 0;
    while trail.metrics.sink_dropped.get() == 0 {
        trail.record(&"x".repeat(1_000)).await.unwrap();
        sent += 1;
        assert!(sent < 100_000);
    }
    assert_eq!(trail.lookups().len(), sent);
    assert!(trail.audit.is_writable());
}

#[tokio::test]
async fn a_sink_that_comes_back_gets_what_waited_for_it() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let trail = trail_to(Destination::Unix(path.clone()), Format::Json, Require::Any);
    trail.record("early").await.unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let stream = accepted(&trail, &listener).await;
    let line = BufReader::new(stream).lines().next().unwrap().unwrap();
    assert!(line.contains("\"subject\":\"early\""));
}

#[tokio::test]
async fn where_both_are_required_a_missing_sink_means_no_answer() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("log");
    let trail = trail_to(Destination::Unix(path.clone()), Format::Json, Require::All);
    trail.until(|| !trail.audit.is_writable()).await;
    assert_eq!(trail.record("early").await, Err(Unrecorded::Unwritable));
    assert!(trail.audit.trouble().unwrap().contains("second audit sink"));
    let listener = UnixListener::bind(&path).unwrap();
    let _stream = accepted(&trail, &listener).await;
    trail.until(|| trail.audit.is_writable()).await;
    trail.record("late").await.unwrap();
}

#[tokio::test]
async fn where_one_is_enough_the_sink_stands_in_for_a_journal_that_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let trail = trail_to(tcp(&listener), Format::Json, Require::Any);
    let (stream, _) = listener.accept().unwrap();
    let mut received = BufReader::new(stream).lines();
    trail.record("both").await.unwrap();
    assert!(received.next().unwrap().unwrap().contains("both"));
    // The whole directory goes away, and with it every place for a file.
    std::fs::remove_dir_all(&trail.config.directory).unwrap();
    trail.advance(PAST_EXAMINATION).await;
    trail.until(|| trail.audit.trouble().is_some()).await;
    assert!(trail.audit.is_writable());
    trail.record("sink alone").await.unwrap();
    assert!(received.next().unwrap().unwrap().contains("sink alone"));
    std::fs::create_dir(&trail.config.directory).unwrap();
    trail.advance(2 * A_ROUND).await;
    trail.until(|| trail.audit.trouble().is_none()).await;
    trail.record("both again").await.unwrap();
    assert_eq!(trail.lookups().len(), 1);
    let recovered = trail
        .lines()
        .into_iter()
        .find(|line| line["action"] == "recovered");
    assert_eq!(recovered.unwrap()["unrecorded"], 1);
}

/// The connection that the sink makes on one of the keeper's rounds.
async fn accepted(trail: &Trail, listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let mut stream = None;
    trail
        .until(|| {
            stream = listener.accept().ok();
            stream.is_some()
        })
        .await;
    stream.unwrap().0
}

fn trail_to(to: Destination, format: Format, require: Require) -> Trail {
    Trail::with(|config| {
        config.require = require;
        config.second = Some(Second {
            to,
            format,
            queue: Size::mebibytes(8),
        });
    })
}

fn tcp(listener: &TcpListener) -> Destination {
    Destination::Tcp(listener.local_addr().unwrap().to_string())
}
