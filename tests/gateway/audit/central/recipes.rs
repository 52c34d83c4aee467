//! What the guides say to do with the central trail, run as they say it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::audit::central::shipped::{central_trail, record_named, until_shipped};
use crate::harness::postgres::Postgres;
use crate::packages::shipping;
use crate::program::output;

/// The block of the operating guide, as it stands there but for the host's name, and `…` for a password.
#[tokio::test]
async fn a_database_is_set_up_as_the_operating_guide_says() {
    let Some(postgres) = Postgres::start_empty().await else {
        return;
    };
    let before = "DROP DATABASE audit; DROP ROLE gateway_audit";
    for statement in before.split("; ") {
        postgres.execute_in("postgres", statement).await;
    }
    let reader = "CREATE ROLE \"somebody who reads\"";
    postgres.execute_in("postgres", reader).await;
    let (_, section) = OPERATING.split_once("**Set it up.**").unwrap();
    let block = section.split("```").nth(1).unwrap();
    let script = block
        .trim_start_matches("sh")
        .replace("postgres://owner@db.internal/audit", &postgres.url("owner"));
    let config = tempfile::NamedTempFile::new().unwrap();
    let script = script.replace("gateway.toml", config.path().to_str().unwrap());
    run(&postgres, &script);
    let trail = central_trail(&postgres, |_| ());
    record_named(&trail, "one").await;
    until_shipped(&trail, &postgres).await;
    let may_read = "SELECT pg_has_role('somebody who reads', 'audit_auditor', 'MEMBER')::int";
    assert_eq!(postgres.integer(may_read).await, 1);
}

#[tokio::test]
async fn the_views_are_read_as_the_shipping_guide_says() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trail = central_trail(&postgres, |_| ());
    for turn in 0..3 {
        record_named(&trail, &format!("subject-{turn}")).await;
    }
    until_shipped(&trail, &postgres).await;
    let auditor = postgres.client("auditor").await;
    // The tests' clock stands in the past.
    let ocsf = shipping::block(shipping::OCSF).replace("7 days", "100 years");
    let rows = auditor.query(&ocsf, &[]).await.unwrap();
    let numbers: Vec<i64> = rows.iter().map(|row| row.get("seq")).collect();
    assert_eq!(numbers, [2, 3, 4]);
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("lookups.jsonl");
    let ecs = shipping::block(shipping::ECS)
        .replace(
            "postgres://auditor@db.internal/audit",
            &postgres.url("auditor"),
        )
        .replace("lookups.jsonl", file.to_str().unwrap());
    run(&postgres, &ecs);
    let lines = std::fs::read_to_string(&file).unwrap();
    let events: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let subjects: Vec<&Value> = events.iter().map(|it| &it["user"]["id"]).collect();
    assert_eq!(subjects, ["subject-0", "subject-1", "subject-2"]);
}

/// Runs a script of a guide as the owner of the database.
fn run(postgres: &Postgres, script: &str) {
    let own = Path::new(env!("CARGO_BIN_EXE_atlas-cert-gateway"));
    let path = [own.parent().unwrap(), postgres.programs()];
    let path = std::env::join_paths(
        path.into_iter()
            .chain([Path::new("/usr/bin"), Path::new("/bin")]),
    );
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).env("PATH", path.unwrap());
    shell
        .env("PGHOST", postgres.directory())
        .env("PGUSER", "owner");
    let done = output(&mut shell);
    assert!(done.status.success(), "{done:?}");
}

const OPERATING: &str = include_str!("../../../../docs/operating.md");
