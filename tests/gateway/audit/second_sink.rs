//! The second sink gets what the journal gets, and cannot hold it up.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};

use atlas_cert_gateway::audit::{
    AuditFault, Destination, Require, SinkConfig, SinkFormat, Unrecorded,
};
use atlas_cert_gateway::settings::Size;
use futures_util::FutureExt;

use crate::audit::relp::{Death, Receiver};
use crate::audit::trail::{A_ROUND, PAST_EXAMINATION, Trail};

#[tokio::test]
async fn lines_arrive_over_tcp_as_they_are_in_the_journal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let trail = trail_to(tcp(&listener), SinkFormat::Json, Require::All);
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
    let trail = trail_to(Destination::Unix(path), SinkFormat::Rfc5424, Require::All);
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
        config.second = Some(SinkConfig {
            to: tcp(&listener),
            format: SinkFormat::Json,
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
    let trail = trail_to(
        Destination::Unix(path.clone()),
        SinkFormat::Json,
        Require::Any,
    );
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
    let trail = trail_to(
        Destination::Unix(path.clone()),
        SinkFormat::Json,
        Require::All,
    );
    trail.until(|| !trail.audit.is_writable()).await;
    assert_eq!(trail.record("early").await, Err(Unrecorded::Unwritable));
    assert!(
        trail.audit.health().faults[0]
            .problem
            .contains("second audit sink")
    );
    let listener = UnixListener::bind(&path).unwrap();
    let _stream = accepted(&trail, &listener).await;
    trail.until(|| trail.audit.is_writable()).await;
    trail.record("late").await.unwrap();
}

/// A write into a socket is no receipt.
#[tokio::test]
async fn where_one_is_enough_a_sink_that_does_not_acknowledge_is_not_enough() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for format in [SinkFormat::Json, SinkFormat::Rfc5424] {
        let trail = trail_to(tcp(&listener), format, Require::Any);
        let (stream, _) = listener.accept().unwrap();
        trail.record("both").await.unwrap();
        let mut received = String::new();
        while !received.contains("both") {
            let mut byte = [0];
            (&stream).read_exact(&mut byte).unwrap();
            received.push(char::from(byte[0]));
        }
        lose_journal(&trail).await;
        assert!(!trail.audit.is_writable());
        assert!(!trail.audit.health().writable);
        assert_eq!(trail.record("sink").await, Err(Unrecorded::Unwritable));
        assert_eq!(mend_journal(&trail).await, 1);
        assert_eq!(counts(&trail), (2, 1));
    }
}

#[tokio::test]
async fn where_one_is_enough_a_sink_that_acknowledges_stands_in_for_a_journal_that_fails() {
    let receiver = Receiver::new(Death::Never);
    let trail = trail_to(relp(&receiver), SinkFormat::Relp, Require::Any);
    trail.record("both").await.unwrap();
    trail.until(|| receiver.has("both")).await;
    lose_journal(&trail).await;
    assert!(trail.audit.is_writable());
    trail.record("sink alone").await.unwrap();
    assert!(receiver.has("\"subject\":\"sink alone\""));
    assert_eq!(mend_journal(&trail).await, 0);
    assert_eq!(trail.lookups().len(), 1);
    assert_eq!(counts(&trail), (3, 0));
}

/// T1. The journal cannot be written, and the receiver dies at every byte that it reads and writes: no
/// record of an answer is nowhere, and the counters say what the callers saw.
#[tokio::test]
async fn a_receiver_may_die_at_any_byte_and_no_answered_record_is_nowhere() {
    for death in [Death::AfterReading, Death::AfterWriting] {
        let receiver = Receiver::new(Death::Never);
        let trail = trail_to(relp(&receiver), SinkFormat::Relp, Require::Any);
        trail.record("both").await.unwrap();
        trail.until(|| receiver.has("both")).await;
        lose_journal(&trail).await;
        receiver.revive(Death::Before);
        assert!(record(&trail, &receiver, "none").await.is_err());
        let mut answered = 1;
        let mut refused = 1;
        let mut bytes = 0;
        loop {
            receiver.revive(death(bytes));
            while !trail.audit.is_writable() && !receiver.is_dead() {
                trail.advance(A_ROUND).await;
            }
            let before = answered;
            for turn in 0..2 {
                let subject = format!("{bytes}/{turn}");
                if record(&trail, &receiver, &subject).await.is_ok() {
                    assert!(receiver.has(&format!("\"{subject}\"")), "{subject}");
                    answered += 1;
                } else {
                    refused += 1;
                }
                assert_eq!(counts(&trail), (answered, refused), "{subject}");
            }
            // A session that had died before is no trial.
            if receiver.is_dead() {
                bytes += 1;
            } else if answered == before + 2 {
                break;
            }
        }
        assert!(bytes > 50 && refused > 50, "{bytes} {refused}");
        assert_eq!(mend_journal(&trail).await, refused);
    }
}

/// What becomes of a record; time passes only once the receiver is dead, or was found to be.
async fn record(trail: &Trail, receiver: &Receiver, subject: &str) -> Result<(), Unrecorded> {
    let mut record = Box::pin(trail.record(subject));
    loop {
        if let Some(outcome) = (&mut record).now_or_never() {
            return outcome;
        }
        if receiver.is_dead() || !trail.audit.is_writable() {
            trail.advance(A_ROUND).await;
        }
        tokio::task::yield_now().await;
    }
}

/// The whole directory goes away, and with it every place for a file.
pub(super) async fn lose_journal(trail: &Trail) {
    std::fs::remove_dir_all(&trail.config.directory).unwrap();
    trail.advance(PAST_EXAMINATION).await;
    let is_lost = |fault: &AuditFault| fault.problem.contains("No such file");
    trail
        .until(|| trail.audit.health().faults.iter().any(is_lost))
        .await;
}

/// It comes back and has one record more; says how many are missing.
pub(super) async fn mend_journal(trail: &Trail) -> u64 {
    std::fs::create_dir(&trail.config.directory).unwrap();
    let is_well = |lines: &[serde_json::Value]| lines.iter().any(|it| it["action"] == "recovered");
    trail.until(|| is_well(&trail.lines())).await;
    // What was refused while the journal was being tried is said before the next record.
    trail.record("both again").await.unwrap();
    let recovered = trail.lines().into_iter();
    recovered
        .filter_map(|line| line["unrecorded"].as_u64())
        .sum()
}

/// The records whose questions were answered, and those whose were not.
fn counts(trail: &Trail) -> (u64, u64) {
    let metrics = &trail.metrics;
    let refused = metrics.records_failed.get() + metrics.records_refused.get();
    (metrics.records_written.get(), refused)
}

/// The connection that the sink makes on one of the background task's rounds.
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

fn trail_to(to: Destination, format: SinkFormat, require: Require) -> Trail {
    Trail::with(|config| {
        config.require = require;
        config.second = Some(SinkConfig {
            to,
            format,
            queue: Size::mebibytes(8),
        });
    })
}

fn tcp(listener: &TcpListener) -> Destination {
    Destination::Tcp(listener.local_addr().unwrap().to_string())
}

fn relp(receiver: &Receiver) -> Destination {
    Destination::Tcp(receiver.address.to_string())
}
