//! The task of a fetch: it fetches until no one waits for more.

use std::sync::Arc;

use tokio::sync::watch;

use super::super::entry::Circumstances;
use super::super::rendered::Address;
use super::super::{FetchRequest, FillId, Inner};
use super::waiter::{FetchOutcome, Progress};
use crate::atlas::CertQuery;
use crate::upstream::{FetchError, Fetched, Urgency};

/// Takes a fetch off the table if its task dies, or is never run, so that the next caller begins another.
pub(super) struct FetchGuard {
    inner: Arc<Inner>,
    query: CertQuery,
    is_finished: bool,
}

/// What the task needs.
pub(super) struct FetchTask {
    guard: FetchGuard,
    address: OwnedAddress,
    next: NextFetch,
    progress: watch::Sender<Progress>,
}

/// A fetch that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextFetch {
    /// How urgent it is.
    pub(super) urgency: Urgency,
    /// Whether a caller forces it.
    pub(super) forced: bool,
}

/// What [`Address`] borrows, for a task.
struct OwnedAddress {
    scheme: String,
    host: String,
    root: String,
}

/// Fetches until nothing is left to fetch for.
pub(super) async fn run<F, Fut>(task: FetchTask, fetch: F)
where
    F: Fn(FetchRequest) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
{
    let FetchTask {
        mut guard,
        address,
        mut next,
        progress,
    } = task;
    loop {
        let now = guard.inner.clock.now();
        let of = Circumstances {
            query: &guard.query,
            address: address.borrowed(),
            fill_id: FillId::mint(&guard.inner.ids, now),
            began: now.elapsed,
            ahead: next.urgency == Urgency::RefreshAhead,
        };
        let fetched = fetch(FetchRequest {
            query: guard.query.clone(),
            fill_id: of.fill_id,
            urgency: next.urgency,
            forced: next.forced,
            after_failure: guard.inner.has_failed(&guard.query),
        })
        .await;
        let outcome = FetchOutcome::of(guard.inner.entry(of, fetched), of.fill_id);
        match guard.inner.finish(&guard.query, outcome, &progress) {
            Some(another) => next = another,
            None => break,
        }
    }
    guard.is_finished = true;
}

impl FetchGuard {
    pub(super) fn new(inner: &Arc<Inner>, query: &CertQuery) -> Self {
        inner.metrics.fetches_in_flight.inc();
        Self {
            inner: Arc::clone(inner),
            query: query.clone(),
            is_finished: false,
        }
    }
}

impl Drop for FetchGuard {
    fn drop(&mut self) {
        let metrics = &self.inner.metrics;
        metrics.fetches_in_flight.dec();
        if !self.is_finished {
            metrics.fetches_died.inc();
            self.inner.in_flight.lock().remove(&self.query);
        }
    }
}

impl FetchTask {
    pub(super) fn new(
        guard: FetchGuard,
        address: Address<'_>,
        next: NextFetch,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self {
            guard,
            address: OwnedAddress::of(address),
            next,
            progress,
        }
    }
}

impl OwnedAddress {
    fn of(address: Address<'_>) -> Self {
        Self {
            scheme: address.scheme.to_owned(),
            host: address.host.to_owned(),
            root: address.root.to_owned(),
        }
    }

    fn borrowed(&self) -> Address<'_> {
        Address {
            scheme: &self.scheme,
            host: &self.host,
            root: &self.root,
        }
    }
}
