//! The guide to shipping the audit trail: each block of it is run by a test, from the guide's own text.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::audit::trail::{PAST_SIGNATURE, Trail};
use crate::program;
use crate::world::write_private;

const GUIDE: &str = include_str!("../../../docs/audit-shipping.md");

/// Words that one block each has. A test runs the block that has them.
const RUN: [&str; 9] = [
    SHA256,
    VERIFY,
    HEAD_KEY,
    RELP_SINK,
    RELP,
    RFC5424_SINK,
    RFC5424,
    OCSF,
    ECS,
];
const SHA256: &str = "sha256sum";
const VERIFY: &str = "audit verify DIR --from N";
const HEAD_KEY: &str = "audit verify DIR --head-key FILE";
pub(crate) const RELP_SINK: &str = "format = \"relp\"";
pub(crate) const RELP: &str = "module(load=\"imrelp\")";
pub(crate) const RFC5424_SINK: &str = "format = \"rfc5424\"";
pub(crate) const RFC5424: &str = "module(load=\"imtcp\")";
pub(crate) const OCSF: &str = "FROM audit.audit_ocsf";
pub(crate) const ECS: &str = "FROM audit.audit_ecs";

#[test]
fn every_block_of_the_shipping_guide_is_run_by_a_test() {
    let blocks = blocks();
    for block in &blocks {
        let known = RUN.iter().filter(|words| block.contains(**words));
        assert_eq!(known.count(), 1, "no test runs this:\n{block}");
    }
    assert_eq!(blocks.len(), RUN.len());
    // Nor is there a block that is only indented.
    assert!(!GUIDE.contains("\n\n    ") && !GUIDE.contains("~~~"));
}

#[tokio::test]
async fn a_records_hash_is_computed_as_the_shipping_guide_says() {
    let trail = Trail::new();
    trail.record("ci \"quoted\" and é").await.unwrap();
    let file = trail.config.directory.with_file_name("line");
    let text = fs::read_to_string(&trail.files()[0]).unwrap();
    for line in text.lines() {
        fs::write(&file, format!("{line}\n")).unwrap();
        let script = block(SHA256).replace("LINE", file.to_str().unwrap());
        let output = program::output(Command::new("sh").args(["-c", &script]));
        let record: Value = serde_json::from_str(line).unwrap();
        let hash = String::from_utf8(output.stdout).unwrap();
        assert_eq!(hash.split(' ').next(), record["hash"].as_str(), "{line}");
    }
}

/// Finished files, the first of them packed and the second gone, as they would be in a store.
#[tokio::test]
async fn a_copy_of_finished_files_is_proved_as_the_shipping_guide_says() {
    let trail = Trail::with(|config| {
        config.rotate_size = atlas_cert_gateway::settings::Size::kibibytes(64);
    });
    while trail.files().len() < 5 {
        trail.record("ci").await.unwrap();
    }
    let files = trail.files();
    let store = tempfile::tempdir().unwrap();
    for (index, file) in files[1..files.len() - 1].iter().enumerate() {
        let copy = store.path().join(file.file_name().unwrap());
        let text = fs::read(file).unwrap();
        if index == 0 {
            let packed = zstd::encode_all(&text[..], 3).unwrap();
            fs::write(copy.with_extension("jsonl.zst"), packed).unwrap();
        } else {
            fs::write(copy, text).unwrap();
        }
    }
    let first = fs::read_to_string(&files[1]).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    let verified = verified(store.path(), first["seq"].as_u64().unwrap());
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let middle = trail.files()[2].file_name().unwrap().to_owned();
    fs::remove_file(store.path().join(middle)).unwrap();
    let verified = self::verified(store.path(), first["seq"].as_u64().unwrap());
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
}

#[tokio::test]
async fn an_end_that_was_cut_off_is_found_as_the_shipping_guide_says() {
    let places = tempfile::tempdir().unwrap();
    let key = places.path().join("key");
    write_private(&key, "a secret of the heads, of 32 characters and more");
    let trail = Trail::with(|config| config.head_key_file = Some(key.clone()));
    trail.record("ci").await.unwrap();
    trail.advance(PAST_SIGNATURE).await;
    trail.audit.clone().close().await;
    let directory = trail.config.directory.to_str().unwrap();
    let line = block(HEAD_KEY).replace("DIR", directory);
    let line = line.replace("FILE", key.to_str().unwrap());
    let verified = || program::output(program::command().args(line.split_whitespace().skip(1)));
    let good = verified();
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let mut journals = trail.files();
    journals.retain(|file| file.to_str().unwrap().contains("lookups-"));
    let text = fs::read_to_string(&journals[0]).unwrap();
    let first = text.split_inclusive('\n').next().unwrap();
    fs::write(&journals[0], first).unwrap();
    let cut_off = verified();
    assert_eq!(cut_off.status.code(), Some(1), "{cut_off:?}");
}

/// What the guide's command says of a copy that begins with a record.
pub(crate) fn verified(copy: &std::path::Path, from: u64) -> std::process::Output {
    let line = block(VERIFY);
    let words = line.split_whitespace().skip(1).map(|word| match word {
        "DIR" => copy.to_str().unwrap().to_owned(),
        "N" => from.to_string(),
        word => word.to_owned(),
    });
    program::output(program::command().args(words))
}

/// The block that has these words.
pub(crate) fn block(words: &str) -> &'static str {
    let block = blocks().into_iter().find(|block| block.contains(words));
    block.unwrap_or_else(|| panic!("no block has {words}"))
}

fn blocks() -> Vec<&'static str> {
    let fenced = GUIDE.split("```").skip(1).step_by(2);
    let text = |block: &'static str| block.split_once('\n').unwrap().1;
    fenced.map(text).collect()
}
