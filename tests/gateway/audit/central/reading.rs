//! What is read from the database is what the directories say (AU04).

use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::audit::central::shipped::{
    central_trail, lines_of_files, record_named, until, until_shipped,
};
use crate::audit::recording::fetch;
use crate::audit::trail::{Trail, caller, query};
use crate::harness::postgres::Postgres;
use crate::program::{command, output};
use atlas_cert_gateway::audit::{FetchRecord, Outcome};

#[tokio::test]
async fn au04_the_database_finds_what_the_directories_hold() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trails = [
        central_trail(&postgres, |_| ()),
        central_trail(&postgres, |_| ()),
    ];
    for (turn, trail) in (0..2).flat_map(|turn| trails.iter().map(move |it| (turn, it))) {
        record_many(trail, turn).await;
        until_shipped(trail, &postgres).await;
    }
    let records: Vec<Value> = trails
        .iter()
        .flat_map(|trail| {
            let lines = lines_of_files(trail);
            let values = lines
                .lines()
                .map(|line| serde_json::from_str(line).unwrap());
            values.collect::<Vec<Value>>()
        })
        .collect();
    let mut found = 0;
    for turn in 0..ROUNDS {
        let options = options(turn, &records);
        let by_files = searched(of_directories(&trails, "search", &options));
        let by_database = searched(of_database(&postgres, "search", &options));
        assert_eq!(by_database, by_files, "{options:?}");
        found += by_files.len();
    }
    assert!(found > ROUNDS, "{found}");
    for by in ["subject", "rule", "project", "username", "day"] {
        let options = ["--by", by, "--format", "json"].map(str::to_owned);
        let by_files = of_directories(&trails, "usage", &options);
        let by_database = of_database(&postgres, "usage", &options);
        // No text of the database holds NUL.
        let text = |output: &Output| {
            let text = String::from_utf8(output.stdout.clone()).unwrap();
            text.replace("\\u0000", "\\ufffd")
        };
        assert_eq!(text(&by_database), text(&by_files), "{by}");
    }
    let usual = of_database(&postgres, "search", &[]);
    let said = String::from_utf8_lossy(&usual.stderr).into_owned();
    assert_eq!(said.matches("shipped up to record").count(), 2, "{said}");
}

/// What was not shipped yet is found with the rest, and once.
#[tokio::test]
async fn a_directory_adds_what_was_not_shipped_yet() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let trail = central_trail(&postgres, |_| ());
    record_named(&trail, "shipped").await;
    until_shipped(&trail, &postgres).await;
    postgres.stop(rustix::process::Signal::QUIT);
    until(&trail, async || trail.audit.database_fault().is_some()).await;
    record_named(&trail, "not shipped yet").await;
    trail.audit.clone().close().await;
    postgres.resume().await;
    let directory = trail.config.directory.to_str().unwrap().to_owned();
    let options = ["--kind", "lookup", "--format", "json"].map(str::to_owned);
    let alone = searched(of_database(&postgres, "search", &options));
    assert_eq!(alone.len(), 1);
    let mut with = options.to_vec();
    with.push(directory.clone());
    let both = searched(of_database(&postgres, "search", &with));
    assert_eq!(both.len(), 2, "{both:?}");
    let usage = ["--format", "csv", "--by", "rule", &directory].map(str::to_owned);
    let usage = of_database(&postgres, "usage", &usage);
    assert!(
        String::from_utf8_lossy(&usage.stdout).contains(",2,2,0,0,"),
        "{usage:?}"
    );
}

/// Lookups of some subjects and users, fetches, and what is odd.
async fn record_many(trail: &Trail, turn: u32) {
    for number in 0..150 {
        let subject = match number % 5 {
            0 => "nul \0 inside".to_owned(),
            1 => "\u{1f600} \"quoted\"".to_owned(),
            2 => "x".repeat(2_000),
            _ => format!("subject-{}", number % 7),
        };
        let named = query(["app", "batch", "CN=batch,O=x"][number % 3]);
        let mut entry = trail.entry();
        entry.set_caller(&caller(&subject));
        entry.set_query(&named);
        let mut closing = trail.closing();
        if number % 4 == 0 {
            closing.outcome = Outcome::Denied;
            closing.status = 403;
            closing.certificates = None;
        }
        entry.close(closing).await.unwrap();
        if number % 30 == 0 {
            let appeared = [i64::from(turn), 7];
            trail.audit.record_fetch(&FetchRecord {
                appeared: &appeared,
                ..fetch(trail, &named)
            });
        }
        trail.advance(Duration::from_millis(1)).await;
    }
    trail.advance(Duration::from_mins(61)).await;
}

/// Filters of a record that is there, chosen by a number.
fn options(turn: usize, records: &[Value]) -> Vec<String> {
    let record = &records[turn * 7_919 % records.len()];
    let filters = [
        ("--subject", "subject"),
        ("--issuer", "issuer"),
        ("--username", "username"),
        ("--group", "group_id"),
        ("--outcome", "outcome"),
        ("--status", "status"),
        ("--kind", "kind"),
        ("--request-id", "request_id"),
        ("--token-id", "token_id"),
        ("--since", "time"),
        ("--until", "time"),
        ("--fill-id", "fill_id"),
    ];
    let mut options = ["--limit", "100000", "--format", "json"]
        .map(str::to_owned)
        .to_vec();
    for (bit, (option, member)) in filters.iter().enumerate() {
        // One or two of them.
        let is_chosen = turn % filters.len() == bit || turn * 31 % 29 == bit;
        let value = match &record[*member] {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => continue,
        };
        // No program can be given NUL.
        if is_chosen && !value.contains('\0') {
            options.push(format!("{option}={value}"));
        }
    }
    match turn % 10 {
        0 => options.push("--peer=192.0.2.7".to_owned()),
        1 => options.push("--certificate=7".to_owned()),
        2 => options.extend(["--after=40", "--before=90"].map(str::to_owned)),
        3 => options.push("--first=oldest".to_owned()),
        _ => {}
    }
    options
}

fn of_directories(trails: &[Trail], what: &str, options: &[String]) -> Output {
    let directories = trails.iter().map(|trail| &trail.config.directory);
    output(
        command()
            .args(["audit", what])
            .args(directories)
            .args(options),
    )
}

fn of_database(postgres: &Postgres, what: &str, options: &[String]) -> Output {
    let mut arguments = vec![what, "--database"];
    arguments.extend(options.iter().map(String::as_str));
    postgres.command("auditor", &arguments)
}

/// The lines in an order that does not depend on where they were.
fn searched(output: Output) -> Vec<String> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

const ROUNDS: usize = 60;
