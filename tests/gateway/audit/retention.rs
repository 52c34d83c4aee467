//! Finished files are packed after a while and removed where the configuration says so; what is left is
//! proven and searched, and no record goes that should be there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use atlas_cert_gateway::audit::verify::{FaultKind, verify};
use atlas_cert_gateway::audit::{Config, HeadVerifier, Sync};
use atlas_cert_gateway::settings::Size;

use crate::audit::copies::{half, zstd};
use crate::audit::heads::Key;
use crate::audit::trail::{Trail, number, search_numbers};

#[tokio::test]
async fn a_finished_file_is_packed_an_hour_later_and_its_records_stay() {
    let trail = trail(|_| ()).await;
    let texts: Vec<_> = trail
        .files()
        .iter()
        .map(|file| fs::read(file).unwrap())
        .collect();
    let names = trail.files();
    trail.advance(Duration::from_mins(59)).await;
    assert_eq!(trail.files(), names);
    trail.advance(Duration::from_mins(2)).await;
    trail
        .rounds(|| trail.metrics.retention.files_packed.get() == 2)
        .await;
    assert_eq!(packed(&trail).len(), 2);
    // The newest is being written.
    assert!(names[2].exists());
    for (file, text) in names.iter().zip(&texts).take(2) {
        assert!(!file.exists());
        let packed = fs::read(file.with_extension("jsonl.zst")).unwrap();
        assert_eq!(&zstd::decode_all(&*packed).unwrap(), text);
    }
    assert_eq!(trail.verify().fault, None);
    assert_eq!(search_numbers(&trail.config.directory), all(&trail));
}

#[tokio::test]
async fn nothing_is_packed_or_removed_where_nothing_says_so() {
    let trail = trail(|config| config.compress = false).await;
    let names = trail.files();
    for _ in 0..10 {
        trail.advance(Duration::from_hours(24 * 400)).await;
    }
    assert_eq!(trail.files(), names);
}

#[tokio::test]
async fn what_is_older_than_keep_is_removed_on_record_and_the_trail_begins_behind_it() {
    let trail = trail(|config| config.keep = Some(Duration::from_hours(48))).await;
    let files = trail.files();
    let second: u64 = number(&files[1]);
    trail.advance(Duration::from_hours(47)).await;
    trail.rounds(|| packed(&trail).len() == 2).await;
    assert_eq!(trail.metrics.retention.files_removed.get(), 0);
    trail.advance(Duration::from_hours(2)).await;
    trail
        .rounds(|| trail.metrics.retention.files_removed.get() == 2)
        .await;
    let left = journal(&trail);
    assert_eq!(left[0], files[2]);
    let removals: Vec<_> = left
        .iter()
        .flat_map(|file| records(file))
        .filter(|it| it["action"] == "removed")
        .collect();
    let first = number(&left[0]);
    assert_eq!(removals[0]["reason"], "keep");
    assert_eq!(removals[0]["first_seq"], 1);
    assert_eq!(removals[0]["last_seq"], second - 1);
    // A record that came too late is followed by another of the same removal.
    let last = removals.last().unwrap();
    assert_eq!(last["last_seq"], first - 1);
    assert_eq!(last["last_hash"], records(&left[0])[0]["previous"]);
    let report = trail.verify();
    assert_eq!(
        (report.fault, report.first, report.removed),
        (None, first, first - 1)
    );
    // A restart goes on.
    let trail = trail.restart().await;
    trail.record("after").await.unwrap();
    assert_eq!(trail.verify().fault, None);
}

#[tokio::test]
async fn beyond_keep_size_the_oldest_go_until_the_rest_fits() {
    let trail = trail(|config| {
        config.keep_size = Some(Size::kibibytes(200));
        config.compress = false;
    })
    .await;
    for _ in 0..600 {
        trail.record("ci").await.unwrap();
    }
    let before = journal(&trail).len();
    trail.advance(Duration::from_mins(2)).await;
    trail.rounds(|| size(&trail) <= 200 << 10).await;
    assert!(size(&trail) > 100 << 10, "no more than had to");
    assert!(journal(&trail).len() < before);
    let report = trail.verify();
    assert_eq!(report.fault, None);
    assert_eq!(report.removed + 1, report.first);
}

/// What no record speaks of is missing, whatever was removed before.
#[tokio::test]
async fn more_than_what_was_removed_on_record_is_missed() {
    let trail = trail(|config| config.keep = Some(Duration::from_hours(2))).await;
    trail.advance(Duration::from_hours(3)).await;
    trail
        .rounds(|| trail.metrics.retention.files_removed.get() == 2)
        .await;
    while journal(&trail).len() < 2 {
        trail.record("ci").await.unwrap();
    }
    assert_eq!(trail.verify().fault, None);
    fs::remove_file(&journal(&trail)[0]).unwrap();
    let fault = trail.verify().fault.unwrap();
    assert_eq!(fault.kind, FaultKind::MissingBeginning);
}

#[tokio::test]
async fn signed_heads_are_packed_and_removed_with_their_records() {
    let key = Key::new();
    let trail = trail(|config| {
        config.head_key_file = Some(key.path());
        config.keep = Some(Duration::from_hours(48));
    })
    .await;
    let heads = || {
        let mut files = trail.files();
        files.retain(|path| name(path).starts_with("heads-"));
        files
    };
    trail.rounds(|| heads().len() >= 2).await;
    trail.advance(Duration::from_mins(61)).await;
    trail
        .rounds(|| heads().iter().filter(|it| is_packed(it)).count() >= 2)
        .await;
    let keys = [HeadVerifier::read(&key.path()).unwrap()];
    let check = || verify(&trail.config.directory, 1, &keys).unwrap();
    let report = check();
    assert_eq!(report.fault, None);
    assert!(report.heads >= 2);
    trail.advance(Duration::from_hours(48)).await;
    trail
        .rounds(|| trail.metrics.retention.files_removed.get() >= 2)
        .await;
    trail
        .rounds(|| heads().iter().all(|it| !is_packed(it)))
        .await;
    assert_eq!(check().fault, None);
}

/// Nobody can say what it is, so that it stays; what a crash left of the file goes with it.
#[tokio::test]
async fn what_others_made_of_a_removed_file_stays_and_is_not_removed_again() {
    let trail = trail(|config| config.keep = Some(Duration::from_hours(48))).await;
    let file = trail.files().remove(0);
    let (copy, torn) = ["bak", "torn"]
        .map(|ending| file.with_extension(format!("jsonl.{ending}")))
        .into();
    fs::copy(&file, &copy).unwrap();
    fs::write(&torn, "{").unwrap();
    trail.advance(Duration::from_hours(2)).await;
    trail.rounds(|| packed(&trail).len() == 2).await;
    trail.advance(Duration::from_hours(48)).await;
    trail
        .rounds(|| trail.metrics.retention.files_removed.get() == 2)
        .await;
    assert!(copy.exists() && !torn.exists());
    // It is of another day.
    trail.record("after").await.unwrap();
    trail.advance(Duration::from_hours(49)).await;
    trail
        .rounds(|| trail.metrics.retention.files_removed.get() >= 3)
        .await;
    let removals = trail.lines();
    let removals = removals.iter().filter(|it| it["action"] == "removed");
    let firsts: Vec<_> = removals.map(|it| it["first_seq"].as_u64()).collect();
    assert_eq!(firsts.iter().filter(|it| **it == Some(1)).count(), 1);
    assert!(copy.exists());
}

/// As a process leaves them that ended before it had removed the file, or while it packed.
#[tokio::test]
async fn what_an_interrupted_round_left_is_taken_up() {
    let trail = trail(|_| ()).await;
    let files = trail.files();
    let target = |file: &Path| file.with_extension("jsonl.zst");
    fs::write(target(&files[0]), zstd(&fs::read(&files[0]).unwrap())).unwrap();
    // Somebody is writing this one, or has left it.
    fs::write(
        target(&files[1]),
        half(&zstd(&fs::read(&files[1]).unwrap())),
    )
    .unwrap();
    fs::write(trail.config.directory.join(".0198.zst.part"), "half").unwrap();
    let trail = trail.restart().await;
    trail.advance(Duration::from_mins(61)).await;
    trail.rounds(|| !files[0].exists()).await;
    trail
        .until(|| trail.metrics.retention.failures.get() > 0)
        .await;
    assert!(files[1].exists());
    assert!(!trail.config.directory.join(".0198.zst.part").exists());
    assert_eq!(trail.verify().fault, None);
    assert_eq!(search_numbers(&trail.config.directory), all(&trail));
    fs::remove_file(target(&files[1])).unwrap();
    trail.advance(Duration::from_mins(2)).await;
    trail.rounds(|| !files[1].exists()).await;
    assert_eq!(search_numbers(&trail.config.directory), all(&trail));
}

/// Of three files.
async fn trail(change: impl FnOnce(&mut Config)) -> Trail {
    let trail = Trail::with(|config| {
        config.rotate_size = Size::kibibytes(64);
        // The clock below runs faster than any disk.
        config.sync = Sync::Never;
        change(config);
    });
    while journal(&trail).len() < 3 {
        trail.record("ci").await.unwrap();
    }
    trail
}

fn journal(trail: &Trail) -> Vec<PathBuf> {
    let mut files = trail.files();
    files.retain(|path| name(path).starts_with("lookups-"));
    files
}

fn packed(trail: &Trail) -> Vec<PathBuf> {
    let mut files = journal(trail);
    files.retain(|path| is_packed(path));
    files
}

fn size(trail: &Trail) -> u64 {
    let sizes = journal(trail)
        .into_iter()
        .filter_map(|file| fs::metadata(file).ok());
    sizes.map(|file| file.len()).sum()
}

fn all(trail: &Trail) -> Vec<u64> {
    (1..=trail.verify().last).collect()
}

fn records(file: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn is_packed(file: &Path) -> bool {
    file.extension().is_some_and(|it| it == "zst")
}

fn name(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}
