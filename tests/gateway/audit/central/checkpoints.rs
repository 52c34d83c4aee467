//! What a rewritten history contradicts (AU03): the signed heads of a chain, once an hour the checkpoint of all of them,
//! and what the database has of a journal.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use tempfile::TempDir;

use crate::audit::central::shipped::{
    central_trail, record_named, rewritten, until, until_shipped,
};
use crate::audit::trail::{PAST_SIGNATURE, Trail};
use crate::harness::postgres::Postgres;
use crate::world::write_private;

#[tokio::test]
async fn au03_a_checkpoint_that_was_changed_or_removed_is_found() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let key = HeadKey::new();
    let trail = key.trail(&postgres).await;
    let checkpoints = "SELECT count(*) FROM audit.checkpoint";
    until(&trail, async || postgres.number(checkpoints).await >= 1).await;
    trail.advance(Duration::from_hours(1)).await;
    // On a busy machine another hour may pass.
    until(&trail, async || postgres.number(checkpoints).await >= 2).await;
    let file = trail.config.directory.join("checkpoints.jsonl");
    let kept = || fs::read_to_string(&file).unwrap().lines().count();
    until(&trail, async || kept() >= 2).await;
    let (said, is_well) = key.verified(&postgres);
    assert!(
        is_well && said.contains(" checkpoints, each with the hash"),
        "{said}"
    );
    for change in [
        "UPDATE audit.checkpoint SET line = replace(line, 'replica', 'Replica') \
         WHERE id = (SELECT min(id) FROM audit.checkpoint)",
        "DELETE FROM audit.checkpoint WHERE id = (SELECT min(id) FROM audit.checkpoint)",
    ] {
        let keep = "CREATE TABLE kept AS SELECT * FROM audit.checkpoint";
        postgres.execute(&format!("{keep}; {change}")).await;
        let (said, is_well) = key.verified(&postgres);
        let is_named = said.contains("does not follow the one before it");
        assert!(!is_well && is_named, "{said}");
        let renew = "DELETE FROM audit.checkpoint; INSERT INTO audit.checkpoint SELECT * FROM kept";
        postgres.execute(&format!("{renew}; DROP TABLE kept")).await;
    }
}

/// It passes for itself, and not beside the database.
#[tokio::test]
async fn au03_a_journal_that_was_rewritten_is_found_beside_the_database() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let trail = HeadKey::new().trail(&postgres).await;
    trail.audit.clone().close().await;
    until_shipped(&trail, &postgres).await;
    let directory = trail.config.directory.to_str().unwrap();
    let (said, is_well) = told(&postgres.command("auditor", &["verify", "--database", directory]));
    assert!(is_well && said.contains("holds the same"), "{said}");
    let mut files = trail.files();
    files.retain(|it| it.to_str().unwrap().contains("lookups-"));
    let text = fs::read_to_string(&files[0]).unwrap();
    fs::write(&files[0], rewritten(&text)).unwrap();
    assert_eq!(trail.verify().fault, None);
    let (said, is_well) = told(&postgres.command("auditor", &["verify", "--database", directory]));
    assert!(
        !is_well && said.contains("record 5 is another one in"),
        "{said}"
    );
}

#[tokio::test]
async fn au03_a_signed_head_that_was_changed_is_found() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let key = HeadKey::new();
    let trail = key.trail(&postgres).await;
    trail.audit.close().await;
    let (said, is_well) = key.verified(&postgres);
    assert!(
        is_well && said.contains("in agreement with 1 signed head"),
        "{said}"
    );
    let change = "UPDATE audit.head SET line = replace(line, '\"seq\":21', '\"seq\":20')";
    postgres.execute(change).await;
    let (said, is_well) = key.verified(&postgres);
    assert!(
        !is_well && said.contains("has a head that is not signed"),
        "{said}"
    );
}

/// What signs the heads of a chain.
struct HeadKey {
    file: PathBuf,
    _directory: TempDir,
}

impl HeadKey {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        write_private(&file, "a secret of the heads, of 32 characters and more");
        Self {
            file,
            _directory: directory,
        }
    }

    /// A chain of 21 records that are shipped, with the head of the last.
    async fn trail(&self, postgres: &Postgres) -> Trail {
        let trail = central_trail(postgres, |config| {
            config.head_key_file = Some(self.file.clone());
        });
        for turn in 0..20 {
            record_named(&trail, &format!("subject-{turn}")).await;
        }
        until_shipped(&trail, postgres).await;
        trail.advance(PAST_SIGNATURE).await;
        let signed = "SELECT coalesce(max(seq), 0) FROM audit.head";
        until(&trail, async || postgres.number(signed).await >= 21).await;
        trail
    }

    fn verified(&self, postgres: &Postgres) -> (String, bool) {
        let file = self.file.to_str().unwrap();
        told(&postgres.command("auditor", &["verify", "--database", "--head-key", file]))
    }
}

/// What was said, and whether all is well.
fn told(output: &Output) -> (String, bool) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (said, output.status.success())
}
