//! HTTP/2's requests go in and are run, none for ever; out of it comes whether a connection is idle.
//!
//! hyper lets a caller that grants no window keep its answer waiting for as long as the connection
//! lives, and a connection without requests live for as long as it answers pings.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::rt::Executor;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::server::idleness;
use crate::telemetry::metrics::connections::ConnectionMetrics;
use crate::telemetry::metrics::connections::Reason;

/// The requests of one HTTP/2 connection.
#[derive(Clone)]
pub(super) struct Streams {
    clock: Clock,
    /// From a request's head to the last byte of its answer.
    limit: Duration,
    refusals: ConnectionMetrics,
    /// Waited for before the process ends.
    tasks: TaskTracker,
    activity: Arc<Activity>,
}

struct Activity {
    open: AtomicUsize,
    /// When the last one ended, in milliseconds of the clock.
    ended: AtomicU64,
}

struct Open {
    clock: Clock,
    activity: Arc<Activity>,
}

impl Streams {
    /// The requests of a connection that begins now.
    pub(super) fn new(
        limit: Duration,
        clock: Clock,
        refusals: ConnectionMetrics,
        tasks: TaskTracker,
    ) -> Self {
        let activity = Arc::new(Activity {
            open: AtomicUsize::new(0),
            ended: AtomicU64::new(millis(&clock)),
        });
        Self {
            clock,
            limit,
            refusals,
            tasks,
            activity,
        }
    }

    /// Waits until no request has been under way for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        let activity = &self.activity;
        let since = || {
            let is_busy = activity.open.load(Ordering::Relaxed) > 0;
            (!is_busy).then(|| Duration::from_millis(activity.ended.load(Ordering::Relaxed)))
        };
        idleness::lasts(&self.clock, limit, since).await;
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.activity.open.fetch_add(1, Ordering::Relaxed);
        let open = Open {
            clock: self.clock.clone(),
            activity: Arc::clone(&self.activity),
        };
        let (limit, refusals) = (self.limit, self.refusals.clone());
        self.tasks.spawn(async move {
            // Dropped, the stream is reset and its answer's memory is free.
            if open.clock.timeout(limit, stream).await.is_err() {
                refusals.refused(Reason::WriteStall);
            }
        });
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = millis(&self.clock);
        self.activity.ended.store(now, Ordering::Relaxed);
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(clock: &Clock) -> u64 {
    u64::try_from(clock.now().elapsed.as_millis()).unwrap_or(u64::MAX)
}
