//! The task of an in-flight fetch: it fetches until no caller waits for more.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{FetchOutcome, FetchProgress};
use crate::atlas::CertQuery;
use crate::cache::entry::Circumstances;
use crate::cache::{Address, Ask, Brought, CacheEntry, FetchRequest, FillId, Inner};
use crate::upstream::{FetchError, FetchErrorKind, Urgency};

pub(in crate::cache) type FetchList =
    Box<dyn Fn(FetchRequest) -> BoxFuture<'static, Brought> + Send + Sync>;

/// The task of a fetch. If it dies or is never run it leaves the table, so that the next caller begins another.
pub(super) struct FetchTask {
    inner: Arc<Inner>,
    query: CertQuery,
    /// Scheme, host and root of the leader's [`Address`].
    address: [String; 3],
    next: NextFetch,
    progress: watch::Sender<FetchProgress>,
    is_finished: bool,
}

#[derive(Clone, Copy)]
pub(super) struct NextFetch {
    pub(super) urgency: Urgency,
    pub(super) forced: bool,
}

impl FetchTask {
    pub(super) fn new(
        inner: &Arc<Inner>,
        (query, ask): (&CertQuery, Ask<'_>),
        next: NextFetch,
        progress: watch::Sender<FetchProgress>,
    ) -> Self {
        inner.metrics.fetches_in_flight.inc();
        let Address { scheme, host, root } = ask.address;
        Self {
            inner: Arc::clone(inner),
            query: query.clone(),
            address: [scheme, host, root].map(str::to_owned),
            next,
            progress,
            is_finished: false,
        }
    }

    pub(super) async fn run(mut self, fetch_list: FetchList) {
        loop {
            let outcome = self.fetch(&fetch_list).await;
            match self.inner.finish(&self.query, outcome, &self.progress) {
                Some(next) => self.next = next,
                None => break,
            }
        }
        self.is_finished = true;
    }

    async fn fetch(&self, fetch_list: &FetchList) -> FetchOutcome {
        let now = self.inner.clock.now();
        let [scheme, host, root] = &self.address;
        let of = Circumstances {
            query: &self.query,
            address: Address { scheme, host, root },
            fill_id: FillId::mint(&self.inner.ids, now),
            began: now.elapsed,
            ahead: self.next.urgency <= Urgency::RefreshAhead,
        };
        let brought = fetch_list(FetchRequest {
            query: self.query.clone(),
            fill_id: of.fill_id,
            urgency: self.next.urgency,
            forced: self.next.forced,
            after_failure: self.inner.has_failed(&self.query),
        })
        .await;
        let entry = |fetched| {
            let config = self.inner.config.load();
            CacheEntry::new(&config, of, fetched).map_err(|stats| FetchError {
                reason: FetchErrorKind::InvalidResponse("larger than 4 GiB"),
                stats,
            })
        };
        match brought.result.and_then(entry) {
            Ok(entry) => FetchOutcome::Arrived(Arc::new(entry)),
            Err(error) => FetchOutcome::Failed {
                error: Arc::new(error),
                fill_id: of.fill_id,
                ago: brought.failed_ago,
                old: brought.old.and_then(|old| entry(old).ok()).map(Arc::new),
            },
        }
    }
}

impl Drop for FetchTask {
    fn drop(&mut self) {
        let metrics = &self.inner.metrics;
        metrics.fetches_in_flight.dec();
        if !self.is_finished {
            metrics.fetches_died.inc();
            self.inner.in_flight.lock().remove(&self.query);
        }
    }
}
