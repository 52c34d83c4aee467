//! Whatever is done to the database or to a journal, `audit verify --database` names it (AU03); and who may do what
//! (AU05).

use std::fs;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::audit::central::shipped::{
    central_trail, record_named, rewritten, until, until_shipped,
};
use crate::audit::trail::{PAST_SIGNATURE, Trail};
use crate::harness::postgres::Postgres;
use crate::world::write_private;

#[tokio::test]
async fn au03_whatever_is_done_to_the_database_is_found_and_named() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trails = [two_days(&postgres).await, two_days(&postgres).await];
    let said = verified(&postgres, &trails, true);
    assert_eq!(said.matches("as shipped").count(), 2, "{said}");
    assert_eq!(said.matches("holds the same").count(), 2, "{said}");
    for (change, back, expected) in [
        (
            "UPDATE audit.record SET subject = 'nobody' WHERE chain = 1 AND seq = 3",
            "UPDATE audit.record SET subject = 'subject-1' WHERE chain = 1 AND seq = 3",
            "record 3 has another row in audit.record than its line says",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM audit.record WHERE chain = 1 AND seq = 5; \
             DELETE FROM audit.record WHERE chain = 1 AND seq = 5",
            "INSERT INTO audit.record SELECT * FROM kept; DROP TABLE kept",
            "record 5 has another row in audit.record than its line says",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM audit.batch WHERE chain = 1 AND first = \
             (SELECT min(first) FROM audit.batch WHERE first > 1 AND chain = 1); \
             DELETE FROM audit.batch USING kept WHERE batch.first = kept.first AND batch.chain = 1",
            "INSERT INTO audit.batch SELECT * FROM kept; DROP TABLE kept",
            "is missing: its batch was deleted",
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM audit.batch; UPDATE audit.batch SET lines = other.lines, \
             bytes = other.bytes FROM (SELECT lines, bytes FROM audit.batch WHERE chain = 2 AND first = 1) AS other \
             WHERE chain = 1 AND batch.first = 1",
            "UPDATE audit.batch SET lines = kept.lines, bytes = kept.bytes FROM kept \
             WHERE kept.chain = batch.chain AND kept.first = batch.first; DROP TABLE kept",
            "record 1 belongs to another chain",
        ),
        (EXCHANGE, EXCHANGE, "record 1 belongs to another chain"),
        (
            "UPDATE audit.chain SET hash = decode(repeat('ab', 32), 'hex') WHERE id = 1",
            "SELECT 1",
            "is missing at the end",
        ),
    ] {
        postgres.execute(change).await;
        let said = verified(&postgres, &[], false);
        assert!(said.contains(expected), "{expected}: {said}");
        postgres.execute(back).await;
    }
}

#[tokio::test]
async fn au03_a_dropped_day_is_a_fault_unless_retention_dropped_it() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trail = two_days(&postgres).await;
    let dropped = "SELECT audit.drop_days_before('2026-08-11')";
    assert_eq!(i64::from(postgres.integer(dropped).await), 1);
    let said = verified(&postgres, &[], true);
    assert!(said.contains("dropped by retention"), "{said}");
    record_named(&trail, "of a third day").await;
    until_shipped(&trail, &postgres).await;
    postgres.execute("DROP TABLE audit.record_20260811").await;
    let said = verified(&postgres, &[], false);
    assert!(
        said.contains("has another row in audit.record than its line says, or none"),
        "{said}"
    );
    postgres.execute("DROP TABLE audit.batch_20260811").await;
    let said = verified(&postgres, &[], false);
    assert!(said.contains("is missing"), "{said}");
}

#[tokio::test]
async fn au03_a_journal_that_was_rewritten_and_a_head_that_was_forged_are_found() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let key = tempfile::tempdir().unwrap();
    let file = key.path().join("key");
    write_private(&file, "a secret of the heads, of 32 characters and more");
    let trail = central_trail(&postgres, |config| {
        config.head_key_file = Some(file.clone());
    });
    for turn in 0..20 {
        record_named(&trail, &format!("subject-{turn}")).await;
    }
    until_shipped(&trail, &postgres).await;
    trail.advance(PAST_SIGNATURE).await;
    until(&trail, async || {
        postgres.number("SELECT count(*) FROM audit.head").await > 0
    })
    .await;
    let file = file.to_str().unwrap();
    let heads = ["verify", "--database", "--head-key", file];
    let good = postgres.command("auditor", &heads);
    let said = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(said.contains("in agreement with 1 signed head"), "{good:?}");
    // Once an hour the ends of all chains are signed, too.
    let checkpoints = "SELECT count(*) FROM audit.checkpoint";
    until(&trail, async || postgres.number(checkpoints).await == 1).await;
    trail.advance(Duration::from_hours(1)).await;
    until(&trail, async || postgres.number(checkpoints).await == 2).await;
    let file_of_them = trail.config.directory.join("checkpoints.jsonl");
    let kept = || fs::read_to_string(&file_of_them).unwrap().lines().count();
    until(&trail, async || kept() == 2).await;
    let good = postgres.command("auditor", &heads);
    let said = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(
        said.contains("2 checkpoints, each with the hash"),
        "{good:?}"
    );
    for change in [
        "UPDATE audit.checkpoint SET line = replace(line, 'replica', 'Replica') WHERE id = (SELECT min(id) FROM audit.checkpoint)",
        "DELETE FROM audit.checkpoint WHERE id = (SELECT min(id) FROM audit.checkpoint)",
    ] {
        postgres
            .execute(&format!(
                "CREATE TABLE kept AS SELECT * FROM audit.checkpoint; {change}"
            ))
            .await;
        let said = verified(&postgres, &[], false);
        assert!(said.contains("does not follow the one before it"), "{said}");
        postgres
            .execute("DELETE FROM audit.checkpoint; INSERT INTO audit.checkpoint SELECT * FROM kept; DROP TABLE kept")
            .await;
    }
    // It passes for itself, and not beside the database.
    trail.audit.clone().close().await;
    let journal = trail
        .files()
        .into_iter()
        .find(|it| it.to_str().unwrap().contains("lookups-"));
    let journal = journal.unwrap();
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, rewritten(&text)).unwrap();
    assert_eq!(trail.verify().fault, None);
    let said = verified(&postgres, &[trail], false);
    assert!(said.contains("record 5 is another one in"), "{said}");
    postgres
        .execute("UPDATE audit.head SET line = replace(line, '\"seq\":21', '\"seq\":20')")
        .await;
    let forged = postgres.command("auditor", &heads);
    assert_eq!(forged.status.code(), Some(1), "{forged:?}");
}

#[tokio::test]
async fn au05_a_shipper_removes_nothing_and_an_auditor_adds_nothing() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trail = two_days(&postgres).await;
    drop(trail);
    for (user, statement) in [
        ("gateway_audit", "DELETE FROM audit.record"),
        ("gateway_audit", "DELETE FROM audit.batch"),
        ("gateway_audit", "TRUNCATE audit.record"),
        ("gateway_audit", "UPDATE audit.record SET subject = 'x'"),
        (
            "gateway_audit",
            "UPDATE audit.chain SET name = gen_random_uuid()",
        ),
        ("gateway_audit", "DELETE FROM audit.chain"),
        ("gateway_audit", "DELETE FROM audit.head"),
        ("gateway_audit", "DELETE FROM audit.gap"),
        ("gateway_audit", "DROP TABLE audit.record_20260810"),
        (
            "gateway_audit",
            "SELECT audit.drop_days_before('2030-01-01')",
        ),
        ("gateway_audit", "CREATE TABLE audit.mine ()"),
        (
            "auditor",
            "INSERT INTO audit.chain (name, replica) VALUES (gen_random_uuid(), 'x')",
        ),
        (
            "auditor",
            "INSERT INTO audit.checkpoint VALUES (1, now(), 'x')",
        ),
        ("auditor", "UPDATE audit.chain SET seq = 1"),
        ("auditor", "DELETE FROM audit.record"),
        ("auditor", "SELECT audit.prepare_day('2030-01-01')"),
    ] {
        let client = postgres.client(user).await;
        let refused = client.batch_execute(statement).await.unwrap_err();
        let code = refused.code().unwrap();
        assert_eq!(
            code,
            &SqlState::INSUFFICIENT_PRIVILEGE,
            "{user}: {statement}"
        );
    }
    for view in ["audit.audit_ocsf", "audit.audit_ecs"] {
        let client = postgres.client("auditor").await;
        let count = format!("SELECT count(*) FROM {view} WHERE event IS NOT NULL");
        let row = client.query_one(&count, &[]).await.unwrap();
        assert!(row.get::<_, i64>(0) > 10, "{view}");
    }
}

/// A trail of two days, shipped, and still open.
async fn two_days(postgres: &Postgres) -> Trail {
    let trail = central_trail(postgres, |_| ());
    for _ in 0..3 {
        for turn in 0..8 {
            record_named(&trail, &format!("subject-{turn}")).await;
        }
        until_shipped(&trail, postgres).await;
    }
    trail.advance(Duration::from_hours(24)).await;
    record_named(&trail, "of another day").await;
    until_shipped(&trail, postgres).await;
    trail
}

/// What `audit verify --database` says, and whether it finds all well.
fn verified(postgres: &Postgres, trails: &[Trail], is_well: bool) -> String {
    let mut arguments = vec!["verify", "--database"];
    arguments.extend(
        trails
            .iter()
            .map(|it| it.config.directory.to_str().unwrap()),
    );
    let verified = postgres.command("auditor", &arguments);
    let code = i32::from(!is_well);
    assert_eq!(verified.status.code(), Some(code), "{verified:?}");
    String::from_utf8(verified.stdout).unwrap()
}

/// The names of two chains, exchanged.
const EXCHANGE: &str = "CREATE TABLE names AS SELECT id, name FROM audit.chain; \
     UPDATE audit.chain SET name = gen_random_uuid(); \
     UPDATE audit.chain SET name = names.name FROM names WHERE chain.id = 3 - names.id; DROP TABLE names";
