//! Records are in the database once each, as they were written (AU01, AU03).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use atlas_cert_gateway::audit::{Config, Sync};
use rustix::process::Signal;
use serde_json::Value;

use crate::audit::trail::Trail;
use crate::harness::postgres::Postgres;
use crate::world::every;

#[tokio::test]
async fn records_are_in_the_database_once_and_as_they_were_written() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let mut trail = central_trail(&postgres, |_| ());
    for turn in 0..300 {
        record_named(&trail, &format!("subject-{turn}")).await;
    }
    for subject in [
        "a \"quoted\" \\ name",
        "\u{e9}\t\n",
        "nul \0 inside",
        "\u{1f600}",
    ] {
        record_named(&trail, subject).await;
    }
    until_shipped(&trail, &postgres).await;
    // Another day, another file; the one before is packed.
    trail.advance(Duration::from_hours(26)).await;
    record_named(&trail, "of another day").await;
    until_shipped(&trail, &postgres).await;
    trail = trail.restart().await;
    record_named(&trail, "of another process").await;
    until_shipped(&trail, &postgres).await;

    assert_eq!(lines_of(&postgres).await, lines_of_files(&trail));
    let twice = "SELECT count(*) FROM (SELECT FROM audit.record GROUP BY chain, seq HAVING count(*) > 1) AS twice";
    assert_eq!(postgres.number(twice).await, 0);
    let subjects = "SELECT count(*) FROM audit.record WHERE subject LIKE 'subject-%' AND username = 'app' \
                    AND status = 200 AND cache = 'hit' AND certificates = 2 AND line IS NULL";
    assert_eq!(postgres.number(subjects).await, 300);
    let nul = "SELECT count(*) FROM audit.record WHERE subject = 'nul \u{fffd} inside'";
    assert_eq!(postgres.number(nul).await, 1);
    let days = "SELECT count(DISTINCT day) FROM audit.batch";
    assert_eq!(postgres.number(days).await, 2);
}

/// What the database does not have stays on the replica, however old it is.
#[tokio::test]
async fn keep_removes_only_what_has_been_shipped() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let trail = central_trail(&postgres, |config| {
        config.keep = Some(Duration::from_hours(24));
    });
    record_named(&trail, "shipped").await;
    until_shipped(&trail, &postgres).await;
    postgres.stop(Signal::QUIT);
    for subject in ["not shipped", "nor this", "nor that"] {
        trail.advance(Duration::from_hours(30)).await;
        record_named(&trail, subject).await;
    }
    let has = |part: &str| {
        trail
            .files()
            .iter()
            .any(|it| it.to_str().unwrap().contains(part))
    };
    until(&trail, async || !has("-1.jsonl")).await;
    // Five rounds later.
    for _ in 0..300 {
        trail.advance(Duration::from_secs(1)).await;
    }
    assert!(has("-3.jsonl"), "{:?}", trail.files());
    postgres.resume().await;
    until(&trail, async || !has("-3.jsonl")).await;
}

#[tokio::test]
async fn an_outage_of_the_database_holds_nothing_up_and_is_made_up_for() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let trail = central_trail(&postgres, |_| ());
    record_named(&trail, "before").await;
    until_shipped(&trail, &postgres).await;
    assert_eq!(trail.audit.database_fault(), None);
    postgres.stop(Signal::QUIT);
    record_named(&trail, "meanwhile").await;
    let has_fault = || trail.audit.database_fault().is_some();
    until(&trail, async || has_fault()).await;
    assert!(trail.audit.is_writable() && trail.audit.health().faults.is_empty());
    postgres.resume().await;
    until_shipped(&trail, &postgres).await;
    assert_eq!(trail.audit.database_fault(), None);
    // It hangs: the deadline of the shipper's own, and no caller's.
    postgres.signal_all(Signal::STOP);
    record_named(&trail, "while it hangs").await;
    until(&trail, async || has_fault()).await;
    postgres.signal_all(Signal::CONT);
    until_shipped(&trail, &postgres).await;
    assert_eq!(lines_of(&postgres).await, lines_of_files(&trail));
}

#[tokio::test]
async fn au03_a_journal_that_was_rewritten_or_cut_off_is_not_shipped() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let changes: [(Change, &str); 3] = [
        (rewritten, "record 20 is another one in the database"),
        (
            cut_off,
            "record 13 is in the database and not in the journal",
        ),
        (changed, "record 22 was changed in the journal"),
    ];
    for (change, expected) in changes {
        let trail = central_trail(&postgres, |_| ());
        for turn in 0..19 {
            record_named(&trail, &format!("subject-{turn}")).await;
        }
        until_shipped(&trail, &postgres).await;
        let chain = chain_of(&lines_of_files(&trail));
        let trail = trail.restart_with(|config| config.database = None).await;
        record_named(&trail, "not shipped yet").await;
        record_named(&trail, "nor this one").await;
        trail.audit.clone().close().await;
        let file = trail.files().pop().unwrap();
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, change(&text)).unwrap();
        let database = Some(postgres.config());
        let trail = trail
            .restart_with(|config| config.database = database)
            .await;
        until(&trail, async || trail.audit.database_fault().is_some()).await;
        let fault = trail.audit.database_fault().unwrap();
        assert!(fault.contains(expected), "{fault}");
        let end = format!("SELECT seq FROM audit.chain WHERE name = '{chain}'");
        assert_eq!(postgres.number(&end).await, 20);
        // It is answered all the same.
        record_named(&trail, "after").await;
    }
}

/// What is done to the text of a journal.
type Change = fn(&str) -> String;

/// A trail that is shipped; nothing of it waits for the disk.
pub(crate) fn central_trail(postgres: &Postgres, change: impl FnOnce(&mut Config)) -> Trail {
    Trail::with(|config| {
        config.database = Some(postgres.config());
        config.sync = Sync::Never;
        config.compress_after = Duration::ZERO;
        change(config);
    })
}

pub(crate) async fn record_named(trail: &Trail, subject: &str) {
    trail.record(subject).await.unwrap();
}

/// Lets time pass, a tenth of a second at a time, until it is so.
pub(crate) async fn until(trail: &Trail, is_so: impl AsyncFn() -> bool) {
    let mut glances = every(Duration::from_millis(5));
    while !is_so().await {
        trail.advance(Duration::from_millis(100)).await;
        glances.tick().await;
    }
}

/// Waits until the database has all that the journal has now.
pub(crate) async fn until_shipped(trail: &Trail, postgres: &Postgres) {
    let written = lines_of_files(trail);
    let chain = chain_of(&written);
    let written = written.lines().count();
    let end = format!("SELECT coalesce(max(seq), 0) FROM audit.chain WHERE name = '{chain}'");
    until(trail, async || {
        postgres.number(&end).await >= i64::try_from(written).unwrap()
    })
    .await;
}

/// The id of the chain of these lines.
pub(crate) fn chain_of(lines: &str) -> String {
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    first["chain"].as_str().unwrap().to_owned()
}

/// The lines of all batches, unpacked, in the order of their chains.
pub(crate) async fn lines_of(postgres: &Postgres) -> String {
    let owner = postgres.client("owner").await;
    let batches = "SELECT lines, bytes FROM audit.batch ORDER BY chain, first";
    let rows = owner.query(batches, &[]).await.unwrap();
    let lines = rows.iter().map(|row| {
        let (packed, bytes): (&[u8], i32) = (row.get(0), row.get(1));
        let lines = zstd::bulk::decompress(packed, bytes.try_into().unwrap());
        String::from_utf8(lines.unwrap()).unwrap()
    });
    lines.collect()
}

/// Those of the journal's files, packed or not.
pub(crate) fn lines_of_files(trail: &Trail) -> String {
    let mut files = trail.files();
    files.retain(|file| {
        file.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("lookups-")
    });
    let packed_from =
        |file: &PathBuf| (file.extension()? == "zst").then(|| file.with_extension(""));
    let whole: Option<String> = files
        .iter()
        // While a file is packed, its records are there twice.
        .filter(|file| packed_from(file).is_none_or(|plain| !files.contains(&plain)))
        .map(|file| {
            let content = fs::read(file).ok()?;
            let lines = packed_from(file).map(|_| zstd::stream::decode_all(&*content).unwrap());
            Some(String::from_utf8(lines.unwrap_or(content)).unwrap())
        })
        .collect();
    // One was packed and removed after the directory was read.
    whole.unwrap_or_else(|| lines_of_files(trail))
}

/// Its fifth record changed, and each hash from there on worked out anew.
pub(crate) fn rewritten(journal: &str) -> String {
    let mut previous = String::new();
    let lines = journal.lines().enumerate().map(|(index, line)| {
        if index < 4 {
            previous = hash_of(line);
            return format!("{line}\n");
        }
        let line = if index == 4 {
            line.replace("subject-", "nobody-")
        } else {
            line.to_owned()
        };
        let (body, _) = line.split_once(",\"previous\"").unwrap();
        let covered = format!("{body},\"previous\":\"{previous}\"}}");
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, covered.as_bytes());
        let digits = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        let before = std::mem::replace(&mut previous, digits.collect());
        format!("{body},\"previous\":\"{before}\",\"hash\":\"{previous}\"}}\n")
    });
    lines.collect()
}

fn hash_of(line: &str) -> String {
    let (_, hash) = line.rsplit_once(",\"hash\":\"").unwrap();
    hash.trim_end_matches("\"}").to_owned()
}

fn cut_off(journal: &str) -> String {
    let lines: Vec<&str> = journal.split_inclusive('\n').take(11).collect();
    lines.concat()
}

fn changed(journal: &str) -> String {
    journal.replace("not shipped yet", "not shipped now")
}
