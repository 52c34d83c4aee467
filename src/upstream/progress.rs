//! What a fetch is doing, as it goes; kept outside of it, so that it is known even if time runs out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;

use super::error::FetchStats;
use crate::telemetry::metrics::upstream::CallCause;

#[derive(Debug, Default)]
pub(super) struct FetchCounts(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// What the reading under way is made for, and the pages that were asked for in it.
    cause: CallCause,
    asked: Vec<u64>,
    calls: u32,
    retries: u32,
    pages: u32,
    began: Option<Duration>,
    ended: Option<Duration>,
    status: Option<StatusCode>,
}

impl FetchCounts {
    pub(super) fn new(cause: CallCause) -> Self {
        let progress = Self::default();
        progress.begin_reading(cause);
        progress
    }

    pub(super) fn begin_reading(&self, cause: CallCause) {
        let mut entries = self.entries();
        entries.cause = cause;
        entries.asked.clear();
    }

    /// A page is asked for; returns what this call is made for. A second one for the same page in one
    /// reading is a retry.
    pub(super) fn called(&self, page: u64, now: Duration) -> CallCause {
        let mut entries = self.entries();
        entries.calls += 1;
        entries.began.get_or_insert(now);
        if entries.asked.contains(&page) {
            return CallCause::Retry;
        }
        entries.asked.push(page);
        entries.cause
    }

    pub(super) fn answered(&self, status: Option<StatusCode>, now: Duration) {
        let mut entries = self.entries();
        entries.status = status.or(entries.status);
        entries.ended = Some(now);
    }

    pub(super) fn retries(&self) -> u32 {
        self.entries().retries
    }

    pub(super) fn retried(&self) {
        self.entries().retries += 1;
    }

    pub(super) fn pages(&self, count: usize) {
        // An empty list is one empty page.
        let count = u32::try_from(count.max(1)).expect("a list has a thousand pages at most");
        self.entries().pages = count;
    }

    pub(super) fn stats(&self, credential: Arc<str>) -> FetchStats {
        let entries = self.entries();
        let span = entries.began.zip(entries.ended);
        FetchStats {
            credential,
            calls: entries.calls,
            pages: entries.pages,
            duration: span.map_or(Duration::ZERO, |(began, ended)| ended.saturating_sub(began)),
            status: entries.status,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
