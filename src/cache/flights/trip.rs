//! The task that walks: a trip and a way to ask Atlas go in; what each walk brings is landed.

use std::sync::Arc;

use tokio::sync::watch;

use super::super::entry::Circumstances;
use super::super::rendered::Address;
use super::super::{Errand, FillId, Inner};
use super::seat::{Landing, Progress};
use crate::atlas::Question;
use crate::upstream::{FetchError, Fetched, Urgency};

/// Removes a flight whose task died, or was never run, so that the next asker starts another.
pub(super) struct Tower {
    inner: Arc<Inner>,
    question: Question,
    landed: bool,
}

/// What a flight's task needs to know.
pub(super) struct Trip {
    tower: Tower,
    home: Home,
    next: Departure,
    progress: watch::Sender<Progress>,
}

/// A walk that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departure {
    /// How much it matters.
    pub(super) urgency: Urgency,
    /// Whether somebody insists on it.
    pub(super) forced: bool,
}

/// What [`Address`] borrows, for a task.
struct Home {
    scheme: String,
    host: String,
    root: String,
}

/// Walks until there is nothing left to walk for.
pub(super) async fn fly<F, Fut>(trip: Trip, fetch: F)
where
    F: Fn(Errand) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Fetched, FetchError>> + Send + 'static,
{
    let Trip {
        mut tower,
        home,
        mut next,
        progress,
    } = trip;
    loop {
        let now = tower.inner.clock.now();
        let of = Circumstances {
            question: &tower.question,
            address: home.address(),
            fill_id: FillId::mint(&tower.inner.ids, now),
            began: now.elapsed,
            ahead: next.urgency == Urgency::RefreshAhead,
        };
        let fetched = fetch(Errand {
            question: tower.question.clone(),
            fill_id: of.fill_id,
            urgency: next.urgency,
            forced: next.forced,
            after_failure: tower.inner.has_failed(&tower.question),
        })
        .await;
        let landing = Landing::of(tower.inner.entry(of, fetched), of.fill_id);
        match tower.inner.land(&tower.question, landing, &progress) {
            Some(another) => next = another,
            None => break,
        }
    }
    tower.landed = true;
}

impl Tower {
    pub(super) fn watch(inner: &Arc<Inner>, question: &Question) -> Self {
        inner.metrics.walks.inc();
        Self {
            inner: Arc::clone(inner),
            question: question.clone(),
            landed: false,
        }
    }
}

impl Drop for Tower {
    fn drop(&mut self) {
        let metrics = &self.inner.metrics;
        metrics.walks.dec();
        if !self.landed {
            metrics.walks_died.inc();
            self.inner.flights.lock().remove(&self.question);
        }
    }
}

impl Trip {
    pub(super) fn new(
        tower: Tower,
        address: Address<'_>,
        next: Departure,
        progress: watch::Sender<Progress>,
    ) -> Self {
        Self {
            tower,
            home: Home::of(address),
            next,
            progress,
        }
    }
}

impl Home {
    fn of(address: Address<'_>) -> Self {
        Self {
            scheme: address.scheme.to_owned(),
            host: address.host.to_owned(),
            root: address.root.to_owned(),
        }
    }

    fn address(&self) -> Address<'_> {
        Address {
            scheme: &self.scheme,
            host: &self.host,
            root: &self.root,
        }
    }
}
