//! What is written while a purge comes, and what a former process has left while one does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::Snapshot;
use crate::atlas::{CertQuery, CertificateList, Timestamp};
use crate::cache::{Cache, FillId, Purge, RestoredList};
use crate::system::Clock;
use crate::telemetry::metrics::cache::CacheMetrics;
use crate::telemetry::metrics::upstream::UpstreamMetrics;
use crate::upstream::{BuildOptions, FetchStats, Fetched, ListSeal, Upstream};

struct Stage {
    cache: Cache,
    clock: Clock,
    seals: Vec<ListSeal>,
    directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let (clock, _) = Clock::manual(Timestamp::from_seconds(1_800_000_000));
        let config = r#"
            [[credentials]]
            name = "platform"
            projects = ["*"]
            api_key = { public_key = "abcdefgh", private_key = "a private key" }
        "#;
        let config = toml::from_str(config).unwrap();
        let (metrics, options) = (UpstreamMetrics::default(), BuildOptions::default());
        let upstream = Upstream::build(&config, clock.clone(), metrics, options).unwrap();
        let (config, metrics) = (crate::cache::Config::default(), CacheMetrics::default());
        let cache = Cache::new(config, clock.clone(), metrics, TaskTracker::new());
        let stage = Self {
            cache,
            clock,
            seals: upstream.list_seals(),
            directory: tempfile::tempdir().unwrap(),
        };
        stage.put();
        stage
    }

    fn query() -> CertQuery {
        CertQuery {
            project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
            username: "app1".parse().unwrap(),
        }
    }

    fn put(&self) {
        let now = self.clock.now();
        let list = RestoredList {
            fetched: Fetched {
                list: CertificateList::default(),
                answered_at: now,
                stats: FetchStats {
                    credential: Arc::from("platform"),
                    calls: 1,
                    pages: 1,
                    duration: Duration::ZERO,
                    status: None,
                },
                shared: None,
            },
            fill_id: FillId::from(Uuid::from_u128(7)),
            is_stale: false,
        };
        self.cache.restore(&Self::query(), list, now).unwrap();
    }

    fn snapshot(&self) -> Snapshot {
        let (directory, clock) = (self.directory.path().to_owned(), self.clock.clone());
        Snapshot::take(directory, 1 << 20, clock, CacheMetrics::default()).unwrap()
    }

    fn purge(&self, snapshot: &Snapshot) {
        snapshot.begin_purge();
        self.cache.purge(&Purge::All, false);
        snapshot.remove().unwrap();
    }
}

fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".lists")).count()
}

#[test]
fn what_was_begun_before_a_purge_is_thrown_away() {
    let stage = Stage::new();
    let snapshot = stage.snapshot();
    let begun = snapshot.write_beside(&stage.cache, &stage.seals, None);
    stage.purge(&snapshot);
    snapshot.put_in_place(begun.unwrap());
    assert_eq!(files(stage.directory.path()), 0);
    // One that is begun after it is not.
    stage.put();
    snapshot.write(&stage.cache, &stage.seals, None);
    assert_eq!(files(stage.directory.path()), 1);
    assert_eq!(snapshot.fault(), None);
    // Nor is anything put into the place of the next process's files.
    stage.purge(&snapshot);
    stage.put();
    snapshot.leave();
    snapshot.write(&stage.cache, &stage.seals, None);
    assert_eq!(files(stage.directory.path()), 0);
}

#[test]
fn what_a_former_process_has_left_is_not_taken_over_after_a_purge_nor_written_over_before() {
    for is_purged in [false, true] {
        let stage = Stage::new();
        let before = stage.snapshot();
        before.write(&stage.cache, &stage.seals, Some("3 9-1".to_owned()));
        before.leave();
        let snapshot = stage.snapshot();
        let names = snapshot.read(&stage.seals).unwrap();
        assert_eq!(names, [Stage::query()]);
        stage.cache.purge(&Purge::All, false);
        snapshot.write(&stage.cache, &stage.seals, None);
        assert_eq!(
            files(stage.directory.path()),
            1,
            "it is still the former one"
        );
        if is_purged {
            stage.purge(&snapshot);
        }
        let mut taken = None;
        snapshot.take_former(|former| taken = Some((former.lists.len(), former.place)));
        let expected = (1, Some("3 9-1".to_owned()));
        assert_eq!(taken, (!is_purged).then_some(expected));
    }
}
