//! rsyslog itself takes the records, configured by the text of the shipping guide. Where it is not installed,
//! nothing is tried.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use atlas_cert_gateway::audit::{FetchRecord, Require, SinkConfig};
use futures_util::FutureExt;
use serde_json::Value;
use tempfile::TempDir;

use crate::audit::recording::fetch;
use crate::audit::second_sink::{lose_journal, mend_journal};
use crate::audit::trail::{A_ROUND, Trail, query};
use crate::harness::servers::{IMRELP, RSYSLOGD};
use crate::packages::shipping;

#[tokio::test]
async fn rsyslog_acknowledges_records_and_stands_in_for_the_journal() {
    if IMRELP.find().is_none() {
        return;
    }
    let mut rsyslog = Rsyslog::start(shipping::RELP);
    let trail = rsyslog.trail(shipping::RELP_SINK);
    record_all(&trail).await;
    rsyslog.until_it_has(&trail).await;
    rsyslog
        .takes_the_longest(&trail, |message| {
            let open = "1 open 30 relp_version=0\ncommands=syslog\n";
            format!("{open}2 syslog {} {message}\n", message.len())
        })
        .await;
    let before = trail.lines();
    lose_journal(&trail).await;
    for subject in ["in rsyslog alone", "and this one"] {
        record(&trail, subject).await;
    }
    mend_journal(&trail).await;
    rsyslog.until_it_has(&trail).await;
    let lines = rsyslog.lines();
    assert!(lines.iter().any(|line| line.contains("in rsyslog alone")));
    assert!(!format!("{before:?}{:?}", trail.lines()).contains("in rsyslog alone"));
    rsyslog.prove();
}

/// It cannot write what it has acknowledged, is killed, and finds it on its disk.
#[tokio::test]
async fn what_rsyslog_has_acknowledged_survives_its_being_killed() {
    if IMRELP.find().is_none() {
        return;
    }
    let mut rsyslog = Rsyslog::new(shipping::RELP);
    // What is in the way of its directory.
    let blocked = rsyslog.output().parent().unwrap().to_owned();
    fs::write(&blocked, "").unwrap();
    rsyslog.run();
    let trail = rsyslog.trail(shipping::RELP_SINK);
    lose_journal(&trail).await;
    for turn in 0..10 {
        record(&trail, &format!("subject-{turn}")).await;
    }
    rsyslog.kill();
    fs::remove_file(&blocked).unwrap();
    fs::create_dir(&blocked).unwrap();
    rsyslog.run();
    let last = || {
        rsyslog
            .lines()
            .iter()
            .any(|line| line.contains("\"subject-9\""))
    };
    trail.until(last).await;
    for turn in 0..10 {
        let subject = format!("\"subject-{turn}\"");
        assert!(rsyslog.lines().iter().any(|line| line.contains(&subject)));
    }
    rsyslog.prove();
}

#[tokio::test]
async fn rsyslog_takes_records_as_syslog_messages_over_tcp() {
    if RSYSLOGD.find().is_none() {
        return;
    }
    let mut rsyslog = Rsyslog::start(shipping::RFC5424);
    let trail = rsyslog.trail(shipping::RFC5424_SINK);
    record_all(&trail).await;
    rsyslog.until_it_has(&trail).await;
    rsyslog.prove();
    let framed = |message: &str| format!("{} {message}", message.len());
    rsyslog.takes_the_longest(&trail, framed).await;
}

/// Records, one of which is as long as a record of a fetch can be.
async fn record_all(trail: &Trail) {
    let long = "\u{1}".repeat(1_000);
    let query = query(&"\u{e9}".repeat(512));
    trail.audit.record_fetch(&FetchRecord {
        credential: &long,
        error_code: Some(&long),
        appeared: &[i64::MIN; 100],
        vanished: &[i64::MIN; 100],
        expired: &[i64::MIN; 100],
        ..fetch(trail, &query)
    });
    for subject in ["ci", "a \"quoted\" \\ name", "\u{e9}\t\n", "\u{1}"] {
        record(trail, subject).await;
    }
    let journal = fs::read_to_string(&trail.files()[0]).unwrap();
    let longest = journal.lines().map(str::len).max();
    assert!(longest > Some(6_500), "{longest:?}");
}

/// Records a lookup; where the receiver was too slow, once more, until it counts.
async fn record(trail: &Trail, subject: &str) {
    loop {
        let mut record = Box::pin(trail.record(subject));
        let outcome = loop {
            if let Some(outcome) = (&mut record).now_or_never() {
                break outcome;
            }
            if !trail.audit.is_writable() {
                trail.advance(A_ROUND).await;
            }
            tokio::task::yield_now().await;
        };
        if outcome.is_ok() {
            return;
        }
    }
}

/// rsyslogd in a directory of its own, on a port that the kernel chose.
struct Rsyslog {
    place: TempDir,
    child: Option<Child>,
}

impl Rsyslog {
    fn start(block: &str) -> Self {
        let mut rsyslog = Self::new(block);
        fs::create_dir(rsyslog.output().parent().unwrap()).unwrap();
        rsyslog.run();
        rsyslog
    }

    /// The guide's configuration, with places of our own.
    fn new(block: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("spool")).unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let mut text = shipping::block(block).to_owned();
        if block == shipping::RELP {
            text = replace(&text, "/var/spool/rsyslog", &path("spool"));
        }
        text = replace(&text, "/var/log/atlas-cert", &path("out"));
        text = replace(&text, "port=\"2514\"", "port=\"0\"");
        fs::write(path("rsyslog.conf"), text).unwrap();
        Self { place, child: None }
    }

    fn run(&mut self) {
        let path = |name: &str| self.place.path().join(name);
        let mut command = Command::new(RSYSLOGD.find().unwrap());
        command.arg("-n").arg("-f").arg(path("rsyslog.conf"));
        command.arg("-i").arg(path("pid"));
        let said = fs::File::create(path("said")).unwrap();
        let child = command.stdin(Stdio::null()).stderr(said).spawn();
        self.child = Some(child.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        // A killed one leaves it behind, and the next does not start beside it.
        let _ = fs::remove_file(self.place.path().join("pid"));
    }

    /// A journal with the guide's second sink, which is this rsyslog.
    fn trail(&mut self, block: &str) -> Trail {
        let port = self.port();
        let text = replace(shipping::block(block), ":2514", &format!(":{port}"));
        let table: toml::Table = toml::from_str(&text).unwrap();
        let second: SinkConfig = table["audit"]["second"].clone().try_into().unwrap();
        Trail::with(|config| {
            config.replica = Some("r".repeat(255));
            config.require = Require::Any;
            config.second = Some(second);
        })
    }

    /// The port on which it listens, once it does.
    fn port(&mut self) -> u16 {
        loop {
            let child = self.child.as_mut().unwrap();
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.said());
            let id = self.child.as_ref().unwrap().id();
            if let Some(port) = listening(id) {
                return port;
            }
            std::thread::yield_now();
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.path().join("said")).unwrap()
    }

    fn output(&self) -> PathBuf {
        self.place.path().join("out/lookups.jsonl")
    }

    /// The lines that it has written, each once.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.output()).unwrap_or_default();
        let mut seen = BTreeSet::new();
        text.split_inclusive('\n')
            .filter_map(|line| line.strip_suffix('\n'))
            .filter(|line| seen.insert(*line))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until it has all that the journal has, but for the record of the start, byte for byte.
    async fn until_it_has(&self, trail: &Trail) {
        let mut journal = BTreeSet::new();
        for file in trail.files() {
            let text = fs::read_to_string(file).unwrap();
            let started = |line: &&str| !line.contains("\"action\":\"started\"");
            journal.extend(text.lines().filter(started).map(str::to_owned));
        }
        assert!(!journal.is_empty());
        let has_all = || {
            let lines: BTreeSet<_> = self.lines().into_iter().collect();
            journal.is_subset(&lines)
        };
        trail.until(has_all).await;
    }

    /// A line of 8 KiB with the longest header is written whole.
    async fn takes_the_longest(&mut self, trail: &Trail, framed: impl Fn(&str) -> String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        let host = "r".repeat(255);
        let line = "x".repeat(8 << 10);
        let time = "2026-08-10T02:06:35.000000Z";
        let message = format!("<110>1 {time} {host} atlas-cert-gateway - audit - {line}");
        stream.write_all(framed(&message).as_bytes()).unwrap();
        trail.until(|| self.lines().contains(&line)).await;
    }

    /// What it has written is a part of a chain, by the guide's own command.
    fn prove(&self) {
        let mut lines = self.lines();
        lines.retain(|line| line.starts_with('{'));
        let first: Value = serde_json::from_str(&lines[0]).unwrap();
        let first = first["seq"].as_u64().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let name = format!("lookups-20260810T020635Z-{first}.jsonl");
        fs::write(copy.path().join(name), lines.join("\n") + "\n").unwrap();
        let verified = shipping::verified(copy.path(), first);
        assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The port of a TCP socket on which a process listens: Linux lists sockets by their inodes.
fn listening(process: u32) -> Option<u16> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let open: BTreeSet<String> = open
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.trim_end_matches(']').to_owned())
        })
        .collect();
    let sockets = fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    sockets.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_listening = columns.get(3) == Some(&"0A") && open.contains(*columns.get(9)?);
        let (_, port) = columns.get(1)?.split_once(':')?;
        is_listening.then(|| u16::from_str_radix(port, 16).unwrap())
    })
}

/// The text with something else in the place of one thing that has to be there.
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from} in\n{text}");
    text.replace(from, to)
}
