//! `kill -9` while finished files are packed and removed. A start goes round at once, so it is started over
//! many finished files and killed as soon as so much of them is done. What is left is whole each time.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::{env, fs};

use atlas_cert_gateway::audit::Sync;
use atlas_cert_gateway::audit::verify::verify;
use atlas_cert_gateway::settings::Size;

use crate::audit::trail::{Trail, search_numbers};
use crate::program::{Program, serve, world_with};
use crate::world::{set, use_api_key};

/// `AUDIT_KILLS=100 cargo test --test gateway killed_packing -- --nocapture` is the long run.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures of the long run")]
async fn killed_while_it_packs_and_removes_the_trail_is_whole() {
    let kills = env::var_os("AUDIT_KILLS")
        .map_or(KILLS, |kills| kills.into_string().unwrap().parse().unwrap());
    let (_atlas, files) = world_with(|configuration| {
        // Tokens can only be minted so often, whichever process is killed.
        use_api_key(configuration);
        set(configuration, "audit.rotate_size", "64KiB");
        set(configuration, "audit.compress_after", "0s");
        set(configuration, "audit.keep_size", "640KiB");
    })
    .await;
    let directory = files.path().join("audit");
    let mut seen = Seen::default();
    let mut acknowledged = 0;
    for kill in 0..kills {
        // What one leaves, every third time the next one finds.
        if kill % 3 != 2 {
            acknowledged = fill(&directory).await;
        }
        let before = names(&directory);
        let mut child = serve(files.path()).stderr(Stdio::null()).spawn().unwrap();
        // Not a time but what is done, so that a slow machine is killed at the same places.
        let enough = 1 + kill * 7 % STEPS;
        let mut done = BTreeSet::new();
        let at_its_end = loop {
            let now = names(&directory);
            let changes: Vec<_> = before.symmetric_difference(&now).cloned().collect();
            done.extend(changes);
            let is_packing = now.iter().any(|name| name.ends_with(PART));
            // Every other time in the middle of a file.
            if done.len() >= enough && (is_packing || kill.is_multiple_of(2)) {
                break false;
            }
            if is_done(&now, &directory) {
                break true;
            }
            assert_eq!(child.try_wait().unwrap(), None);
            std::thread::yield_now();
        };
        child.kill().unwrap();
        child.wait().unwrap();
        seen.count(&before, &directory, at_its_end);
        assert_trail(&directory, acknowledged);
    }
    let mut last = Program::start(files.path());
    while !is_done(&names(&directory), &directory) {
        tokio::task::yield_now().await;
    }
    last.signal("-TERM");
    assert_eq!(last.child.wait().unwrap().code(), Some(0));
    assert!(names(&directory).iter().all(|name| !name.ends_with(PART)));
    assert_trail(&directory, acknowledged);
    println!("{kills} kills of a program that packs and removes: {seen:?}; {acknowledged} records");
    assert!(seen.removed > 0 && seen.packed > 0);
}

/// What the kills have left.
#[derive(Debug, Default)]
struct Seen {
    /// Files that were removed when it was killed.
    removed: usize,
    /// Files that were packed by then.
    packed: usize,
    /// How often it was killed in the middle of packing.
    parts: usize,
    /// How often it was killed with a packed file beside its source.
    both: usize,
    /// How often nothing was left to do.
    too_late: usize,
}

impl Seen {
    fn count(&mut self, before: &BTreeSet<String>, directory: &Path, at_its_end: bool) {
        let now = names(directory);
        let segment = |name: &String| name.split(".jsonl").next().unwrap().to_owned();
        let segments = |names: &BTreeSet<String>| -> BTreeSet<_> {
            let names = names.iter().filter(|name| name.starts_with("lookups-"));
            names.map(segment).collect()
        };
        self.removed += segments(before).difference(&segments(&now)).count();
        let new = now.difference(before);
        self.packed += new.filter(|name| ends(name, "zst")).count();
        self.parts += usize::from(now.iter().any(|name| name.ends_with(PART)));
        let is_beside = |name: &String| ends(name, "jsonl") && now.contains(&format!("{name}.zst"));
        self.both += usize::from(now.iter().any(is_beside));
        self.too_late += usize::from(at_its_end);
    }
}

/// Writes records into many files more, and gives back the number of the last.
async fn fill(directory: &Path) -> u64 {
    let trail = Trail::with(|config| {
        directory.clone_into(&mut config.directory);
        config.rotate_size = Size::kibibytes(64);
        config.compress = false;
        config.sync = Sync::Never;
    });
    let enough = trail.files().len() + FILES;
    while trail.files().len() < enough {
        for _ in 0..10 {
            trail.record("ci").await.unwrap();
        }
    }
    trail.audit.clone().close().await;
    trail.verify().last
}

/// Nothing is false or missing, but what was removed on record.
fn assert_trail(directory: &Path, acknowledged: u64) {
    let report = verify(directory, 1, &[]).unwrap();
    assert_eq!(report.fault, None);
    assert!(report.last >= acknowledged);
    assert!(report.first == 1 || report.first <= report.removed + 1);
    assert_eq!(report.passed_over, []);
    let found = search_numbers(directory);
    assert!(found.iter().copied().eq(report.first..=report.last));
}

/// Whether all that is finished is packed, and what is left is small enough.
fn is_done(names: &BTreeSet<String>, directory: &Path) -> bool {
    let is_plain = |name: &&String| ends(name, "jsonl");
    let sizes = names
        .iter()
        .filter_map(|name| fs::metadata(directory.join(name)).ok());
    names.iter().filter(is_plain).count() <= 1
        && !names.iter().any(|name| name.ends_with(PART))
        && sizes.map(|file| file.len()).sum::<u64>() <= 640 << 10
}

fn ends(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == ending)
}

fn names(directory: &Path) -> BTreeSet<String> {
    let paths = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    paths.map(name).collect()
}

const KILLS: usize = 6;
/// Files that are written before most kills: more than may stay.
const FILES: usize = 14;
/// Changes of the directory by a whole round, about.
const STEPS: usize = 43;
const PART: &str = ".part";
