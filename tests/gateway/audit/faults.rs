//! Real faults of the disk: full, limited, read-only. No answer leaves without its record, and it
//! recovers by itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use atlas_cert_gateway::audit;
use atlas_cert_gateway::audit::Unrecorded;
use atlas_cert_gateway::audit::verify::verify;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::audit::alone::{alone, small_disk, unchanged, unprivileged, with_small_disk};
use crate::audit::trail::{A_ROUND, Trail};

/// F40, G16.
#[test]
fn a_full_disk_means_no_answer_until_there_is_room() {
    alone(
        "audit::faults::a_full_disk_means_no_answer_until_there_is_room",
        with_small_disk,
        || {
            run(async {
                let trail = Trail::with(|config| config.directory = small_disk().join("audit"));
                let mut recorded = 0;
                while trail.record("filling").await.is_ok() {
                    recorded += 1;
                    assert!(recorded < 3_000, "the disk has no end");
                }
                assert!(recorded > 100);
                assert!(!trail.audit.is_writable());
                assert!(
                    trail.audit.health().faults[0]
                        .problem
                        .contains("No space left")
                );
                for _ in 0..50 {
                    assert_eq!(trail.record("refused").await, Err(Unrecorded::Unwritable));
                    trail.advance(A_ROUND).await;
                }
                assert_eq!(trail.lookups().len(), recorded);
                // An operator moves the oldest file away; the directory did not fill with attempts.
                trail.until(|| trail.files().len() == 1).await;
                let files = trail.files();
                let saved = tempfile::tempdir().unwrap();
                let archive = saved.path().join(files[0].file_name().unwrap());
                fs::copy(&files[0], &archive).unwrap();
                fs::remove_file(&files[0]).unwrap();
                trail.until(|| trail.audit.is_writable()).await;
                trail.record("after").await.unwrap();
                let gap = trail.lines().remove(0);
                assert_eq!(gap["action"], "recovered");
                assert_eq!(gap["unrecorded"], 51);
                let newer = trail.files().remove(0);
                fs::copy(&newer, saved.path().join(newer.file_name().unwrap())).unwrap();
                let report = verify(saved.path(), 1, &[]).unwrap();
                assert_eq!(report.fault, None);
                assert_eq!(report.records, u64::try_from(recorded).unwrap() + 3);
            });
        },
    );
}

/// F41. SIGXFSZ would end the process.
#[test]
fn a_limit_on_file_sizes_begins_new_files_and_one_of_zero_means_no_answer() {
    alone(
        "audit::faults::a_limit_on_file_sizes_begins_new_files_and_one_of_zero_means_no_answer",
        unchanged,
        || {
            run(async {
                audit::survive_file_size_limit().unwrap();
                let trail = Trail::new();
                limit(Some(20_000));
                for _ in 0..200 {
                    trail.record("limited").await.unwrap();
                }
                assert!(trail.files().len() >= 5);
                let report = trail.verify();
                assert_eq!((report.records, report.fault), (201, None));
                limit(Some(0));
                assert_eq!(trail.record("refused").await, Err(Unrecorded::Unwritable));
                assert!(!trail.audit.is_writable());
                limit(None);
                trail.until(|| trail.audit.is_writable()).await;
                trail.record("after").await.unwrap();
                assert_eq!(trail.verify().fault, None);
                assert_eq!(trail.lookups().len(), 201);
            });
        },
    );
}

/// F45.
#[test]
fn a_read_only_directory_keeps_the_present_file_and_without_one_means_no_answer() {
    alone(
        "audit::faults::a_read_only_directory_keeps_the_present_file_and_without_one_means_no_answer",
        unprivileged,
        || {
            run(async {
                let trail = Trail::new();
                let directory = trail.config.directory.clone();
                let mode = |mode| {
                    fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
                };
                mode(0o500);
                trail.audit.reopen();
                trail.until(|| trail.metrics.rotations.get() == 1).await;
                trail.record("in the old file").await.unwrap();
                assert!(trail.audit.is_writable());
                mode(0o700);
                let moved = tempfile::tempdir().unwrap();
                let file = trail.files().remove(0);
                let archive = moved.path().join(file.file_name().unwrap());
                fs::copy(&file, &archive).unwrap();
                fs::remove_file(&file).unwrap();
                mode(0o500);
                trail.until(|| !trail.audit.is_writable()).await;
                assert_eq!(trail.record("refused").await, Err(Unrecorded::Unwritable));
                mode(0o700);
                trail.until(|| trail.audit.is_writable()).await;
                trail.record("after").await.unwrap();
                fs::copy(&archive, &file).unwrap();
                assert_eq!(trail.verify().fault, None);
            });
        },
    );
}

pub(super) fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

pub(super) fn limit(current: Option<u64>) {
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current,
            maximum: None,
        },
    )
    .unwrap();
}
