//! What somebody has changed in the database is found, and named by chain and number (AU03).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::central::shipped::{
    central_trail, chain_of, lines_of_files, record_named, rewritten, until, until_shipped,
};
use crate::audit::trail::PAST_SIGNATURE;
use crate::harness::postgres::Postgres;

#[tokio::test]
async fn au03_what_was_changed_in_the_database_is_found_and_named() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let key = tempfile::NamedTempFile::new().unwrap();
    fs::write(key.path(), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(key.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let chains = two_chains(&postgres, key.path()).await;
    let (said, is_well) = verify(&postgres, key.path());
    assert!(is_well, "{said}");
    assert_eq!(
        said.matches("22 records up to 22: as shipped").count(),
        2,
        "{said}"
    );
    assert_eq!(said.matches("in agreement with ").count(), 2, "{said}");
    postgres
        .execute_in("postgres", "CREATE DATABASE clean TEMPLATE audit")
        .await;
    let [one, two] = chains.each_ref().map(String::as_str);
    for (change, chain, expected) in CHANGES {
        let chain = [one, two, "number 1"][chain];
        postgres.execute(change).await;
        check(&postgres, key.path(), chain, expected);
        renew(&postgres).await;
    }
    let rewritings: [Rewriting; 2] = [
        (changed, "record 5 was changed in the database"),
        (
            rewritten,
            "record 8 is not the record that a signed head names",
        ),
    ];
    for (rewrite, expected) in rewritings {
        write_anew(&postgres, rewrite).await;
        check(&postgres, key.path(), one, expected);
        renew(&postgres).await;
    }
    // What retention drops is noted, and no fault.
    postgres
        .execute("SELECT audit.drop_days_before('2026-08-12')")
        .await;
    let (said, is_well) = verify(&postgres, key.path());
    assert!(is_well, "{said}");
    assert!(
        said.contains("14 records before them dropped by retention"),
        "{said}"
    );
    let added = "INSERT INTO audit.record (time, seq, chain, kind) SELECT time, 9, 1, kind FROM audit.record \
                 WHERE chain = 1 AND seq = 20";
    postgres.execute(added).await;
    check(
        &postgres,
        key.path(),
        one,
        "record 9 has a row in audit.record, and no batch has its line",
    );
}

/// Two replicas, each with 22 records of three days in eight batches, and a signed head of each day.
async fn two_chains(postgres: &Postgres, key: &Path) -> [String; 2] {
    let mut chains = Vec::new();
    for _ in 0..2 {
        let trail = central_trail(postgres, |config| {
            config.head_key_file = Some(PathBuf::from(key));
        });
        until_shipped(&trail, postgres).await;
        for (day, records) in [7, 6, 8].into_iter().enumerate() {
            if day > 0 {
                trail.advance(Duration::from_hours(24)).await;
            }
            for turn in 0..records {
                record_named(&trail, &format!("subject-{turn}")).await;
                if turn % 3 == 2 || turn + 1 == records {
                    until_shipped(&trail, postgres).await;
                }
            }
            trail.advance(PAST_SIGNATURE).await;
            // On a busy machine there may be heads of earlier records too.
            let written = lines_of_files(&trail);
            let signed = format!(
                "SELECT coalesce(max(head.seq), 0) FROM audit.head JOIN audit.chain ON chain.id = chain \
                 WHERE name = '{}'",
                chain_of(&written)
            );
            let last = i64::try_from(written.lines().count()).unwrap();
            until(&trail, async || postgres.number(&signed).await >= last).await;
        }
        chains.push(chain_of(&lines_of_files(&trail)));
        trail.audit.close().await;
    }
    chains.try_into().unwrap()
}

/// What is said of the one chain, and whether all is well.
fn verify(postgres: &Postgres, key: &Path) -> (String, bool) {
    let key = key.to_str().unwrap();
    let verified = postgres.command("auditor", &["verify", "--database", "--head-key", key]);
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(
        verified.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    (said, verified.status.success())
}

#[track_caller]
fn check(postgres: &Postgres, key: &Path, chain: &str, expected: &str) {
    let (said, is_well) = verify(postgres, key);
    assert!(!is_well, "{expected}: {said}");
    let of_chain = said.lines().find(|it| it.contains(chain));
    let is_named = of_chain.is_some_and(|it| it.contains(expected));
    assert!(is_named, "{expected}: {said}");
}

/// Puts back what there was before a change.
async fn renew(postgres: &Postgres) {
    postgres
        .execute_in("postgres", "DROP DATABASE audit WITH (FORCE)")
        .await;
    postgres
        .execute_in("postgres", "CREATE DATABASE audit TEMPLATE clean")
        .await;
}

/// Changes the lines of the first chain's first day, and what else is kept of them.
async fn write_anew(postgres: &Postgres, rewrite: fn(&str) -> String) {
    let owner = postgres.client("owner").await;
    let batches = "SELECT first, lines, bytes FROM audit.batch WHERE chain = 1 AND day = '2026-08-10' ORDER BY first";
    let rows = owner.query(batches, &[]).await.unwrap();
    let unpack = |row: &tokio_postgres::Row| {
        let lines = zstd::bulk::decompress(row.get(1), row.get::<_, i32>(2).try_into().unwrap());
        String::from_utf8(lines.unwrap()).unwrap()
    };
    let lines: Vec<String> = rows.iter().map(unpack).collect();
    let text = rewrite(&lines.concat());
    let mut text = text.split_inclusive('\n');
    for (row, before) in rows.iter().zip(&lines) {
        let lines: String = text.by_ref().take(before.lines().count()).collect();
        let hash = lines.trim_end().rsplit_once("\"hash\":\"").unwrap().1;
        let packed = zstd::bulk::compress(lines.as_bytes(), 3).unwrap();
        let update = "UPDATE audit.batch SET lines = $2, bytes = $3, hash = decode($4, 'hex') WHERE chain = 1 AND first = $1";
        let (first, bytes): (i64, i32) = (row.get(0), lines.len().try_into().unwrap());
        let hash = hash.trim_end_matches("\"}");
        owner
            .execute(update, &[&first, &packed, &bytes, &hash])
            .await
            .unwrap();
    }
    let update = "UPDATE audit.record SET subject = 'nobody-3' WHERE chain = 1 AND seq = 5";
    owner.execute(update, &[]).await.unwrap();
}

/// Its fifth record changed, and no hash.
fn changed(journal: &str) -> String {
    let (before, behind) = journal.split_once("subject-3").unwrap();
    format!("{before}nobody-3{behind}")
}

/// How the lines of a day are written anew, and what is said of it.
type Rewriting = (fn(&str) -> String, &'static str);

/// What is done, to which chain, and what is said of it.
type Change = (&'static str, usize, &'static str);

const CHANGES: [Change; 20] = [
    (
        "UPDATE audit.record SET subject = 'nobody' WHERE chain = 1 AND seq = 7",
        0,
        "record 7 has another row in audit.record than its line says",
    ),
    (
        "UPDATE audit.record SET line = replace(line, 'started', 'stopped') WHERE chain = \
         2 AND seq = 1",
        1,
        "record 1 has another row in audit.record than its line says",
    ),
    (
        "UPDATE audit.record SET time = time + interval '1 s' WHERE chain = 1 AND seq = 7",
        0,
        "record 7 has another row in audit.record than its line says",
    ),
    (
        "DELETE FROM audit.record WHERE chain = 2 AND seq = 9",
        1,
        "record 9 has another row in audit.record than its line says",
    ),
    (
        "INSERT INTO audit.record (time, seq, chain, kind) SELECT time, 4, 1, kind FROM \
         audit.record WHERE chain = 1 AND seq = 20",
        0,
        "record 4 has another row in audit.record than its line says",
    ),
    (
        "DELETE FROM audit.batch WHERE chain = 1 AND 10 BETWEEN first AND last",
        0,
        "record 9 is missing: its batch was deleted",
    ),
    (
        "DELETE FROM audit.batch WHERE chain = 1 AND 22 BETWEEN first AND last",
        0,
        "record 21 is missing at the end: the chain",
    ),
    (
        "DELETE FROM audit.batch WHERE chain = 1 AND 1 BETWEEN first AND last",
        0,
        "record 1 is missing: its batch was deleted",
    ),
    (
        "DROP TABLE audit.batch_20260811, audit.record_20260811",
        0,
        "record 9 is missing, with the table audit.batch_20260811, which was dropped by hand",
    ),
    (
        "DROP TABLE audit.batch_20260810, audit.record_20260810",
        1,
        "record 1 is missing, with the table audit.batch_20260810,",
    ),
    (
        "DROP TABLE audit.batch_20260812, audit.record_20260812",
        1,
        "record 15 is missing, with the table audit.batch_20260812,",
    ),
    (
        "DROP TABLE audit.batch_20260811",
        1,
        "record 9 is missing, with the table audit.batch_20260811,",
    ),
    (
        "DROP TABLE audit.record_20260811",
        0,
        "record 9 is missing, with the table audit.record_20260811,",
    ),
    (
        "UPDATE audit.batch SET lines = other.lines, bytes = other.bytes FROM (SELECT lines, bytes FROM audit.batch \
         WHERE chain = 2 AND first = 1) AS other WHERE chain = 1 AND batch.first = 1",
        0,
        "record 1 belongs to another chain",
    ),
    (
        "CREATE TABLE names AS SELECT id, name FROM audit.chain; UPDATE audit.chain SET name = gen_random_uuid(); \
         UPDATE audit.chain SET name = names.name FROM names WHERE chain.id = 3 - names.id",
        0,
        "record 1 belongs to another chain",
    ),
    (
        "UPDATE audit.batch SET lines = set_byte(lines, 40, 255 - get_byte(lines, 40)) \
         WHERE chain = 1 AND first = 12",
        0,
        "record 12 was changed in the database, in the batch",
    ),
    (
        "UPDATE audit.batch SET chain = 99 WHERE chain = 1; UPDATE audit.batch SET chain \
         = 1 WHERE chain = 2; UPDATE audit.batch SET chain = 2 WHERE chain = 99",
        0,
        "record 1 belongs to another chain",
    ),
    (
        "UPDATE audit.chain SET name = gen_random_uuid() WHERE id = 1; UPDATE audit.chain \
         SET hash = sha256('') WHERE id = 2",
        1,
        "record 23 is missing at the end: the chain",
    ),
    (
        "DELETE FROM audit.batch WHERE chain = 1 AND first = 21; DELETE FROM audit.record \
         WHERE chain = 1 AND seq >= 21; UPDATE audit.chain SET (seq, hash) = (SELECT \
         last, hash FROM audit.batch WHERE chain = 1 ORDER BY last DESC LIMIT 1) WHERE id \
         = 1",
        0,
        "record 21 is missing at the end: a signed head names it",
    ),
    (
        "DELETE FROM audit.head WHERE chain = 1; DELETE FROM audit.chain WHERE id = 1",
        2,
        "record 1 is in a batch of a chain that has no row",
    ),
];
