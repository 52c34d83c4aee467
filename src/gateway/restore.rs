//! A restart: the lists of the last process are taken over, and those in memory are kept for the next one.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::Gateway;
use super::snapshot::FormerLists;
use crate::atlas::{CertQuery, ProjectId};
use crate::audit::{AdminAction, AdminRecord, Outcome, RequestId};
use crate::cache::{self, Cache, Purge};
use crate::fleet::Fleet;
use crate::system::{Ids, Moment, in_background, may_wait};
use crate::telemetry::metrics::cache::{CacheMetrics, NotRestored};

/// Why a purge is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PurgeError {
    #[error("the purge has panicked")]
    Panicked,
    /// What is in memory is forgotten.
    #[error("the snapshot of what was purged cannot be removed")]
    SnapshotStays(#[source] io::Error),
}

impl Gateway {
    /// Takes over what the last process has left, before there are callers; in a fleet once it is known that nothing
    /// was told since. Says which of the lists that it had are to be fetched.
    pub(crate) async fn restore(self: &Arc<Self>, config: &cache::Config) -> Vec<CertQuery> {
        let Some(snapshot) = self.snapshot.clone() else {
            return Vec::new();
        };
        let seals = self.upstream.list_seals();
        let Some(names) = may_wait(move || snapshot.read(&seals)).await else {
            return Vec::new();
        };
        if let Some(fleet) = &self.fleet {
            let gateway = Arc::downgrade(self);
            fleet.on_first_hearing(Box::new(move |place| {
                async move {
                    if let Some(gateway) = gateway.upgrade() {
                        gateway.take_over(Some(place)).await;
                    }
                }
                .boxed()
            }));
        } else {
            self.take_over(None).await;
        }
        let mut warmed = names;
        warmed.retain(|query| config.warms(query));
        warmed
    }

    /// Puts what the last process has left into the cache. In a fleet `place` is the last event that it was told: a
    /// purge that came while this replica did not run must not be undone.
    async fn take_over(&self, place: Option<String>) {
        let Some(snapshot) = self.snapshot.clone() else {
            return;
        };
        let (cache, metrics) = (self.cache.clone(), self.cache.metrics().clone());
        let (now, is_in_fleet) = (self.clock.now(), self.fleet.is_some());
        let taken = may_wait(move || {
            let mut entries = None;
            snapshot.take_former(|former| {
                entries = if is_in_fleet && (place.is_none() || former.place != place) {
                    metrics.not_restored(NotRestored::Fleet);
                    Some(0)
                } else {
                    Some(restore_all(former, &cache, &metrics, now))
                };
            });
            entries
        });
        let Some(entries) = taken.await else { return };
        info!(entries, "took over {entries} lists of the last process");
        let record = AdminRecord {
            entries: Some(entries),
            ..AdminRecord::bare(AdminAction::Restored, Outcome::Answered, self.clock.now())
        };
        if let Err(problem) = self.audit.record_admin(&record).await {
            warn!("that lists were taken over is not on record: {problem}");
        }
    }

    /// Writes a snapshot from time to time. Never ends.
    pub(crate) async fn keep_snapshot(&self, interval: Duration) {
        loop {
            self.clock.sleep(interval).await;
            self.write_snapshot().await;
        }
    }

    /// Writes what is in memory for the next process.
    pub(crate) async fn write_snapshot(&self) {
        let Some(snapshot) = self.snapshot.clone() else {
            return;
        };
        // Before the lists are looked at: an event that comes meanwhile is one that this snapshot does not know.
        let place = self.fleet.as_ref().and_then(Fleet::place);
        let (cache, seals) = (self.cache.clone(), self.upstream.list_seals());
        in_background(move || snapshot.write(&cache, &seals, place)).await;
    }

    /// Leaves the directories of what outlives the process to the next one.
    pub(crate) fn leave_directories(&self) {
        if let Some(snapshot) = &self.snapshot {
            snapshot.leave();
        }
        self.upstream.leave_state();
    }

    /// Forgets, or if `soft` ends the fresh life, and returns when nothing of it is on the disk either. Says how many
    /// keys that concerned.
    pub(crate) async fn purge(
        &self,
        what: Purge,
        soft: bool,
        stays: impl Fn(&str, &str) -> bool + Send + 'static,
    ) -> Result<u64, PurgeError> {
        let (cache, snapshot) = (self.cache.clone(), self.snapshot.clone());
        let known_lists = self.known_lists.clone();
        // It costs what it purges, which may be everything.
        let purged = spawn_blocking(move || {
            if let Some(snapshot) = &snapshot {
                snapshot.begin_purge();
            }
            if !soft {
                known_lists.purge_except(&what, &stays);
            }
            let entries = cache.purge_except(&what, soft, &stays);
            let removed = snapshot.map_or(Ok(()), |snapshot| snapshot.remove());
            removed.map(|()| entries).map_err(PurgeError::SnapshotStays)
        });
        purged.await.unwrap_or(Err(PurgeError::Panicked))
    }

    /// Fetches lists at the lowest urgency, so that they are in memory before callers ask for them. Where the budget
    /// of a project, or Atlas, does not let it, the rest of that project's are left to their callers.
    pub(crate) async fn warm(&self, names: Vec<CertQuery>) {
        let (ids, mut held_back) = (Ids::default(), HashSet::<ProjectId>::new());
        for query in names {
            if held_back.contains(&query.project) {
                continue;
            }
            let request_id = RequestId::from(ids.at(self.clock.now().wall));
            if self.cache.warm(&query, self.fetch(request_id)).await {
                held_back.insert(query.project);
            }
        }
    }
}

fn restore_all(former: FormerLists, cache: &Cache, metrics: &CacheMetrics, now: Moment) -> u64 {
    let mut entries = 0;
    for (query, list) in former.lists {
        match cache.restore(&query, list, now) {
            Ok(()) => entries += 1,
            Err(_) => metrics.not_restored(NotRestored::Old),
        }
    }
    entries
}
