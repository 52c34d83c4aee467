//! Disks that are full, limited or read-only while finished files are packed and removed: nothing is lost,
//! the journal goes on, and so does the next round once it can.

use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use atlas_cert_gateway::audit;
use atlas_cert_gateway::audit::{Config, Sync};
use atlas_cert_gateway::settings::Size;
use rustix::fs::statvfs;

use crate::audit::alone::{alone, small_disk, unchanged, unprivileged, with_small_disk};
use crate::audit::faults::{limit, run};
use crate::audit::trail::Trail;

#[test]
fn without_room_to_pack_the_source_stays_and_the_journal_has_the_rest() {
    alone(
        "audit::retention_faults::without_room_to_pack_the_source_stays_and_the_journal_has_the_rest",
        with_small_disk,
        || {
            run(async {
                let trail = trail(6, |config| config.directory = small_disk().join("audit")).await;
                let finished = finished(&trail);
                // Less than a file takes; packing it could use all of that up.
                let ballast = ballast(32 << 10);
                trail.advance(AN_HOUR).await;
                for _ in 0..20 {
                    failing_round(&trail).await;
                    trail.record("in what is left").await.unwrap();
                    assert!(finished.iter().all(|file| file.exists()));
                    assert!(packed(&trail).is_empty());
                }
                fs::remove_file(ballast).unwrap();
                trail
                    .rounds(|| !finished.iter().any(|file| file.exists()))
                    .await;
                assert!(packed(&trail).len() >= finished.len());
                assert_eq!(trail.verify().fault, None);
            });
        },
    );
}

#[test]
fn without_room_for_the_record_of_a_removal_nothing_is_removed() {
    alone(
        "audit::retention_faults::without_room_for_the_record_of_a_removal_nothing_is_removed",
        with_small_disk,
        || {
            run(async {
                let trail = trail(6, |config| {
                    config.directory = small_disk().join("audit");
                    config.compress = false;
                    config.keep = Some(AN_HOUR);
                })
                .await;
                let finished = finished(&trail);
                let ballast = ballast(0);
                while trail.record("filling").await.is_ok() {}
                trail.advance(AN_HOUR).await;
                for _ in 0..5 {
                    failing_round(&trail).await;
                    assert!(finished.iter().all(|file| file.exists()));
                }
                fs::remove_file(ballast).unwrap();
                trail.until(|| trail.audit.is_writable()).await;
                trail
                    .rounds(|| !finished.iter().any(|file| file.exists()))
                    .await;
                let report = trail.verify();
                assert_eq!(report.fault, None);
                assert!(report.first > 1 && report.first <= report.removed + 1);
            });
        },
    );
}

#[test]
fn in_a_read_only_directory_nothing_is_packed_or_removed_until_it_is_not() {
    alone(
        "audit::retention_faults::in_a_read_only_directory_nothing_is_packed_or_removed_until_it_is_not",
        unprivileged,
        || {
            run(async {
                for keep in [None, Some(AN_HOUR)] {
                    let trail = trail(6, |config| config.keep = keep).await;
                    let mode = |mode| {
                        let mode = fs::Permissions::from_mode(mode);
                        fs::set_permissions(&trail.config.directory, mode).unwrap();
                    };
                    let files = trail.files();
                    mode(0o500);
                    trail.advance(AN_HOUR).await;
                    failing_round(&trail).await;
                    // A record of the round itself may have been late when the hour passed: then one is refused.
                    while trail.record("in the present file").await.is_err() {
                        trail.advance(Duration::from_millis(1)).await;
                    }
                    assert_eq!(trail.files(), files);
                    assert_eq!(trail.verify().fault, None);
                    mode(0o700);
                    let finished = finished(&trail);
                    trail
                        .rounds(|| !finished.iter().any(|file| file.exists()))
                        .await;
                    let report = trail.verify();
                    assert_eq!((report.fault, report.first > 1), (None, keep.is_some()));
                }
            });
        },
    );
}

/// As with `ulimit -f`. SIGXFSZ would end the process.
#[test]
fn a_packed_file_beyond_the_limit_on_sizes_is_taken_away_again() {
    alone(
        "audit::retention_faults::a_packed_file_beyond_the_limit_on_sizes_is_taken_away_again",
        unchanged,
        || {
            run(async {
                audit::survive_file_size_limit().unwrap();
                let trail = trail(3, |_| ()).await;
                let finished = finished(&trail);
                limit(Some(4_096));
                trail.advance(AN_HOUR).await;
                for _ in 0..5 {
                    failing_round(&trail).await;
                    trail.record("limited").await.unwrap();
                    assert!(finished.iter().all(|file| file.exists()));
                    let is_part = |file: &PathBuf| file.extension().is_some_and(|it| it == "part");
                    trail.until(|| !trail.files().iter().any(is_part)).await;
                }
                limit(None);
                trail
                    .rounds(|| !finished.iter().any(|file| file.exists()))
                    .await;
                assert_eq!(trail.verify().fault, None);
            });
        },
    );
}

/// Of so many files, of which all but the newest are to be packed once an hour has passed.
async fn trail(files: usize, change: impl FnOnce(&mut Config)) -> Trail {
    let trail = Trail::with(|config| {
        config.rotate_size = Size::kibibytes(64);
        config.compress_after = AN_HOUR;
        // The clock below runs faster than any disk.
        config.sync = Sync::Never;
        change(config);
    });
    while trail.files().len() < files {
        trail.record("ci").await.unwrap();
    }
    trail
}

/// Leaves so many bytes of the small disk free.
fn ballast(free: u64) -> PathBuf {
    let path = small_disk().join("ballast");
    let mut file = File::create(&path).unwrap();
    let disk = statvfs(small_disk()).unwrap();
    let mut left = disk.f_bavail * disk.f_frsize - free;
    while left > 0 {
        let block = vec![b'x'; usize::try_from(left.min(4 << 10)).unwrap()];
        file.write_all(&block).unwrap();
        left = left.saturating_sub(4 << 10);
    }
    path
}

/// Lets minute after minute pass until a round has failed.
async fn failing_round(trail: &Trail) {
    let failed = trail.metrics.retention.failures.get();
    trail
        .rounds(|| trail.metrics.retention.failures.get() > failed)
        .await;
}

/// All but the newest.
fn finished(trail: &Trail) -> Vec<PathBuf> {
    let mut files = trail.files();
    files.pop();
    files
}

fn packed(trail: &Trail) -> Vec<PathBuf> {
    let mut files = trail.files();
    files.retain(|file| file.extension().is_some_and(|it| it == "zst"));
    files
}

const AN_HOUR: Duration = Duration::from_hours(1);
