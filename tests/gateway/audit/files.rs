//! Rotation, and files that somebody takes away under us.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atlas_cert_gateway::audit::Sync;
use atlas_cert_gateway::settings::Size;

use crate::audit::copies::zstd;
use crate::audit::trail::{PAST_EXAMINATION, Trail};

#[tokio::test]
async fn a_file_of_the_size_or_of_another_day_is_followed_by_a_new_one() {
    let trail = Trail::with(|config| {
        config.rotate_size = Size::kibibytes(64);
        // Files are counted here, and while one is packed there are two of it.
        config.compress = false;
    });
    for _ in 0..300 {
        trail.record("many").await.unwrap();
    }
    let files = trail.files();
    assert!(files.len() >= 3, "{files:?}");
    for file in &files[..files.len() - 1] {
        let size = fs::metadata(file).unwrap().len();
        assert!((64 << 10..66 << 10).contains(&size), "{size}");
    }
    trail.manual_clock.advance(Duration::from_hours(22));
    trail.record("tomorrow").await.unwrap();
    assert_eq!(trail.files().len(), files.len() + 1);
    let name = trail.files().pop().unwrap();
    let name = name.file_name().unwrap().to_str().unwrap();
    assert_eq!(name, "lookups-20260811T000635Z-302.jsonl");
    assert_eq!(
        fs::metadata(&trail.files()[0])
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let report = trail.verify();
    assert_eq!((report.last, report.fault), (302, None));
}

#[tokio::test]
async fn a_restart_continues_the_file_and_the_chain() {
    let mut trail = Trail::new();
    for round in 1..=3 {
        trail.record("again").await.unwrap();
        trail = trail.restart().await;
        assert_eq!(trail.files().len(), 1);
        assert_eq!(trail.verify().last, 2 * round + 1);
    }
    assert_eq!(trail.verify().fault, None);
    let chain = trail.chain();
    assert!(trail.lines().iter().all(|line| line["chain"] == *chain));
    // Also where only a packed file tells.
    let file = trail.files().remove(0);
    let packed = zstd(&fs::read(&file).unwrap());
    fs::write(file.with_extension("jsonl.zst"), packed).unwrap();
    fs::remove_file(&file).unwrap();
    let trail = trail.restart().await;
    let started = fs::read_to_string(&trail.files()[1]).unwrap();
    assert!(started.contains(&chain));
    assert_ne!(Trail::new().chain(), chain);
}

/// F46: under load the file is renamed away, as logrotate does it, and a new one ordered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renaming_under_load_and_reopening_loses_and_doubles_nothing() {
    // The clock stands still, whatever the disk does: nothing is late.
    let trail = Arc::new(Trail::with(|config| config.sync = Sync::Never));
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..20)
        .map(|caller| {
            let (trail, stop) = (Arc::clone(&trail), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answered = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let subject = format!("{caller}.{}", answered.len());
                    trail.record(&subject).await.unwrap();
                    answered.push(subject);
                }
                answered
            })
        })
        .collect();
    for round in 0..10 {
        trail.record("steady").await.unwrap();
        let current = trail.files().pop().unwrap();
        let mut renamed = current.clone().into_os_string();
        renamed.push(".1");
        fs::rename(&current, renamed).unwrap();
        // What comes before the order is carried out goes to the file under its new name.
        trail.record("between").await.unwrap();
        trail.audit.reopen();
        trail.until(|| current_exists(&trail, round + 1)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answered = vec!["steady".to_owned(); 10];
    answered.extend(vec!["between".to_owned(); 10]);
    for caller in load {
        answered.extend(caller.await.unwrap());
    }
    let mut recorded: Vec<String> = trail
        .lookups()
        .iter()
        .map(|line| line["subject"].as_str().unwrap().to_owned())
        .collect();
    answered.sort();
    recorded.sort();
    assert_eq!(recorded, answered);
    assert_eq!(trail.verify().fault, None);
}

/// F45.
#[tokio::test]
async fn a_file_that_is_renamed_replaced_shortened_or_opened_to_others_is_followed_by_a_new_one() {
    let changes: [Change; 6] = [
        |file| fs::rename(file, file.with_extension("jsonl.old")).unwrap(),
        |file| {
            fs::rename(file, file.with_extension("jsonl.old")).unwrap();
            symlink("/dev/null", file).unwrap();
        },
        |file| {
            fs::rename(file, file.with_extension("jsonl.old")).unwrap();
            fs::write(file, "").unwrap();
        },
        |file| {
            fs::copy(file, file.with_extension("jsonl.1")).unwrap();
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.set_len(0).unwrap();
        },
        |file| fs::set_permissions(file, fs::Permissions::from_mode(0o622)).unwrap(),
        |file| fs::set_permissions(file, fs::Permissions::from_mode(0o000)).unwrap(),
    ];
    for change in changes {
        let trail = Trail::new();
        trail.record("before").await.unwrap();
        let file = trail.files().remove(0);
        let count = || {
            trail
                .files()
                .iter()
                .filter(|path| fs::symlink_metadata(path).unwrap().len() > 0)
                .count()
        };
        change(&file);
        let links = count();
        trail.advance(PAST_EXAMINATION).await;
        trail
            .until(|| trail.files().iter().any(|path| name(path).contains("-3.")))
            .await;
        trail.record("after").await.unwrap();
        assert_eq!(count(), links + 1);
        assert!(trail.audit.is_writable());
        if fs::symlink_metadata(&file).is_ok_and(|it| it.is_file()) {
            // So that the user who runs this may read it.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let report = trail.verify();
        assert_eq!((report.records, report.fault), (3, None));
    }
}

#[tokio::test]
async fn a_deleted_file_is_noticed_and_its_records_are_missed() {
    let trail = Trail::new();
    trail.record("before").await.unwrap();
    fs::remove_file(trail.files().remove(0)).unwrap();
    trail.advance(PAST_EXAMINATION).await;
    trail.until(|| !trail.files().is_empty()).await;
    trail.record("after").await.unwrap();
    assert_eq!(trail.lookups().len(), 1);
    let fault = trail.verify().fault.unwrap();
    assert_eq!(fault.seq, 1);
}

type Change = fn(&Path);

fn current_exists(trail: &Trail, renamed: usize) -> bool {
    trail.files().len() > renamed
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}
