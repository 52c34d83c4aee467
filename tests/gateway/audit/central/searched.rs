//! A search in the database finds what a search in all directories finds (AU04).

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::audit::central::chance::{
    CLIENT, Chance, PEERS, PROJECT, RULES, SUBJECTS, USERNAMES, fetch, fill, replicas, serial,
};
use crate::audit::central::shipped::{
    central_trail, lines_of_files, record_named, until, until_shipped,
};
use crate::audit::trail::{Trail, caller};
use crate::harness::postgres::Postgres;
use crate::program::{command, output};

#[tokio::test]
async fn au04_the_database_is_searched_as_all_directories_are() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let mut chance = Chance(4);
    let trails = replicas(&postgres, 300, &mut chance).await;
    let mut found = 0;
    for _ in 0..FILTERS {
        let options = options(&mut chance);
        let directories = search_directories(&trails, &options);
        let database = search_database(&postgres, &options);
        let [by_database, by_directories] =
            [&database, &directories].map(|it| String::from_utf8_lossy(&it.stdout));
        let different = by_database
            .lines()
            .zip(by_directories.lines())
            .find(|(one, other)| one != other);
        assert_eq!(different, None, "{options:?}");
        assert_eq!(by_database.len(), by_directories.len(), "{options:?}");
        assert!(
            database.status.success() && directories.status.success(),
            "{database:?}"
        );
        let said = String::from_utf8_lossy(&database.stderr);
        assert_eq!(said.matches("shipped up to record").count(), 3, "{said}");
        let unsure = |it: &Output| String::from_utf8_lossy(&it.stderr).contains("cannot be told");
        assert_eq!(unsure(&database), unsure(&directories), "{options:?}");
        found += directories.stdout.len();
    }
    assert!(found > 1 << 20, "the filters find records: {found}");
}

#[tokio::test]
async fn a_long_text_is_found_in_the_database_by_all_of_it_and_by_no_other() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trail = central_trail(&postgres, |_| ());
    let long = "subject/".repeat(200);
    trail.record(&long).await.unwrap();
    until_shipped(&trail, &postgres).await;
    for (subject, expected) in [
        (&*long, 1),
        (&*long.replace("su", "uu"), 0),
        ("subject/", 0),
    ] {
        let options = ["--subject", subject, "--format", "json"].map(str::to_owned);
        let found = search_database(&postgres, &options);
        let lines = String::from_utf8(found.stdout).unwrap().lines().count();
        assert_eq!(lines, expected, "{}", subject.len());
    }
}

#[tokio::test]
async fn records_whose_batch_was_removed_are_said_and_the_others_found() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trail = central_trail(&postgres, |_| ());
    for subject in ["one", "two"] {
        trail.record(subject).await.unwrap();
        until_shipped(&trail, &postgres).await;
    }
    let remove = "DELETE FROM audit.batch WHERE 2 BETWEEN first AND last";
    postgres.execute(remove).await;
    let options = ["--kind=lookup", "--format=json"].map(str::to_owned);
    let found = search_database(&postgres, &options);
    let lines = String::from_utf8(found.stdout).unwrap();
    assert!(
        lines.lines().count() == 1 && lines.contains("\"subject\":\"two\""),
        "{lines}"
    );
    let said = String::from_utf8(found.stderr).unwrap();
    assert!(
        said.contains("the lines of 1 records are missing"),
        "{said}"
    );
    // Who was shown a certificate is told by the fetches, too.
    fetch(&trail, &mut Chance(1));
    // Behind it, so that it is written when this is.
    record_named(&trail, "three").await;
    until_shipped(&trail, &postgres).await;
    let remove = "DELETE FROM audit.batch WHERE 4 BETWEEN first AND last";
    postgres.execute(remove).await;
    let found = search_database(&postgres, &["--certificate=7".to_owned()]);
    let said = String::from_utf8(found.stderr).unwrap();
    assert!(
        said.contains("the lines of 1 records are missing"),
        "{said}"
    );
}

/// What is wrong is said, and the exit code is that of a command that could not do what it was asked for.
#[tokio::test]
async fn a_database_that_cannot_be_searched_is_named() {
    let Some(mut postgres) = Postgres::start_empty().await else {
        return;
    };
    let options = Vec::new();
    let unprepared = search_database(&postgres, &options);
    let words = String::from_utf8_lossy(&unprepared.stderr);
    assert!(words.contains("audit database prepare"), "{words}");
    postgres.stop(rustix::process::Signal::QUIT);
    let gone = search_database(&postgres, &options);
    let words = String::from_utf8_lossy(&gone.stderr);
    assert!(
        words.contains("the database at ") && words.contains("cannot be reached"),
        "{words}"
    );
    assert_eq!(
        (unprepared.status.code(), gone.status.code()),
        (Some(1), Some(1))
    );
}

#[tokio::test]
async fn usage_of_the_database_is_that_of_all_directories() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trails = replicas(&postgres, 300, &mut Chance(5)).await;
    for trail in &trails {
        fold_refusals(trail, &postgres).await;
    }
    let directories: Vec<&Path> = trails.iter().map(|it| &*it.config.directory).collect();
    for by in ["subject", "rule", "project", "username", "day"] {
        for more in [
            &["--format=csv"][..],
            &["--format=json", "--since=2026-08-11"],
            &["--top=2", "--until=2026-08-12T11:30:00Z"],
        ] {
            let by = format!("--by={by}");
            let options = [&[&*by], more].concat();
            let expected = output(
                command()
                    .args(["audit", "usage"])
                    .args(&directories)
                    .args(&options),
            );
            let central = [&["usage", "--database"], &*options].concat();
            let found = postgres.command("auditor", &central);
            assert!(
                expected.status.success() && found.status.success(),
                "{found:?}"
            );
            let [expected, found] =
                [expected, found].map(|it| String::from_utf8(it.stdout).unwrap());
            // No text of PostgreSQL holds NUL.
            let expected = expected
                .replace("\\u0000", "\u{fffd}")
                .replace('\0', "\u{fffd}");
            assert_eq!(
                found.replace("\\ufffd", "\u{fffd}"),
                expected,
                "{options:?}"
            );
        }
    }
}

/// Of each directory, in its order among the rest, and once.
#[tokio::test]
async fn directories_add_what_was_not_shipped_yet() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let trails = [
        central_trail(&postgres, |_| ()),
        central_trail(&postgres, |_| ()),
    ];
    // Never at the same time as the other.
    trails[1].advance(Duration::from_micros(300)).await;
    for trail in &trails {
        record_named(trail, "shipped").await;
        until_shipped(trail, &postgres).await;
    }
    postgres.stop(rustix::process::Signal::QUIT);
    for trail in &trails {
        until(trail, async || trail.audit.database_fault().is_some()).await;
    }
    for turn in 0..200 {
        let trail = &trails[turn % 3 % 2];
        record_named(trail, "not shipped yet").await;
        for trail in &trails {
            trail.advance(Duration::from_millis(1)).await;
        }
    }
    let [one, other] = trails.each_ref().map(|it| &*it.config.directory);
    for trail in &trails {
        trail.audit.clone().close().await;
    }
    postgres.resume().await;
    let options = ["--kind=lookup", "--format=json"].map(str::to_owned);
    let lines = |options: &[String]| {
        let found = search_database(&postgres, options);
        assert!(found.status.success(), "{found:?}");
        String::from_utf8(found.stdout).unwrap()
    };
    assert_eq!(lines(&options).lines().count(), 2);
    for order in ["--first=newest", "--first=oldest"] {
        let mut options = options.to_vec();
        options.extend([order, "--limit=150"].map(str::to_owned));
        let expected = search_directories(&trails, &options);
        options.extend([one, other].map(|it| it.display().to_string()));
        let expected = String::from_utf8(expected.stdout).unwrap();
        assert_eq!(expected.lines().count(), 150);
        assert_eq!(lines(&options), expected, "{order}");
    }
    let options = ["--format=csv", "--by=rule"];
    let directories = [one, other].map(|it| it.to_str().unwrap());
    let central = [&["usage", "--database"][..], &options, &directories].concat();
    let usage = postgres.command("auditor", &central);
    let usage = String::from_utf8(usage.stdout).unwrap();
    assert!(usage.contains(",202,202,0,0,"), "{usage}");
}

/// Refusals of a known caller, some of which share a record.
async fn fold_refusals(trail: &Trail, postgres: &Postgres) {
    let operator = caller("payments");
    for code in ["ACCESS_FORBIDDEN", "TOO_MANY_REQUESTS"].repeat(200) {
        let peer = "192.0.2.7:50123".parse().unwrap();
        trail
            .audit
            .refuse_admin(Some(&operator), peer, code, trail.clock.now());
    }
    let folded = || lines_of_files(trail).contains("\"kind\":\"refusals\"");
    trail.advance(Duration::from_mins(1)).await;
    until(trail, async || folded()).await;
    until_shipped(trail, postgres).await;
}

fn search_directories(trails: &[Trail], options: &[String]) -> Output {
    let directories = trails.iter().map(|it| -> &Path { &it.config.directory });
    output(
        command()
            .args(["audit", "search"])
            .args(directories)
            .args(options),
    )
}

fn search_database(postgres: &Postgres, options: &[String]) -> Output {
    let mut arguments = vec!["search", "--database"];
    arguments.extend(options.iter().map(|it| -> &str { it }));
    postgres.command("auditor", &arguments)
}

/// The name of a filter, and values of it.
type Choice = (&'static str, &'static [&'static str]);

/// Of a search that chance has made up.
fn options(chance: &mut Chance) -> Vec<String> {
    let mut options = Vec::new();
    if chance.below(8) == 0 {
        options.push("--changed".to_owned());
    }
    let mut add = |name: &str, value: &str| options.push(format!("--{name}={value}"));
    let all: [Choice; 8] = [
        ("subject", &SUBJECTS),
        ("username", &USERNAMES),
        ("rule", &RULES),
        ("client-id", &[CLIENT, "client"]),
        ("outcome", &["answered", "denied", "failed", "abandoned"]),
        ("status", &["200", "403", "404", "503", "500"]),
        ("kind", &["lookup", "fetch", "admin", "refusals"]),
        ("group", &[PROJECT, "32b6e34b3d91647abb20e7b9"]),
    ];
    for _ in 0..chance.below(3) {
        let (name, values) = all[chance.below(all.len())];
        // No argument of a command holds NUL.
        let value = chance.one(values).replace('\0', "");
        add(name, &value);
    }
    let peers = ["192.0.2.7", "192.0.2.7:443", "2001:db8::1", "192.0.2.9"];
    let any_peer = [&peers[..], &PEERS].concat();
    for (name, value) in [
        ("peer", chance.one(&any_peer).to_owned()),
        ("issuer", "https://idp.internal.example".to_owned()),
        ("token-id", "token-1".to_owned()),
        (
            "request-id",
            uuid::Uuid::from_u128(chance.below(400).try_into().unwrap()).to_string(),
        ),
        ("fill-id", fill(chance).to_string()),
        ("certificate", serial(chance).to_string()),
        (
            "since",
            format!(
                "2026-08-{:02}T0{}:00:00Z",
                10 + chance.below(5),
                chance.below(10)
            ),
        ),
        (
            "until",
            format!(
                "2026-08-{:02}T0{}:30:00Z",
                10 + chance.below(5),
                chance.below(10)
            ),
        ),
        ("after", chance.below(300).to_string()),
        ("before", chance.below(300).to_string()),
        ("first", chance.one(&["oldest", "newest"]).to_owned()),
        ("limit", chance.one(&["1", "7", "1000"]).to_owned()),
        ("format", chance.one(&["csv", "table", "json"]).to_owned()),
    ] {
        if chance.is(5) || name == "format" {
            add(name, &value);
        }
    }
    options.sort();
    options.dedup_by(|one, other| one.split('=').next() == other.split('=').next());
    options
}

const FILTERS: usize = 200;
