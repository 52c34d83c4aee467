//! HTTP/2's requests go in and are run, none for ever; out of it comes whether a connection is idle.
//!
//! hyper lets a caller that grants no window keep its answer waiting for as long as the connection
//! lives, and a connection without requests live for as long as it answers pings. So a stream is reset
//! when nothing of its answer has been taken for as long as a caller may read nothing at all; the other
//! streams of its connection go on.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use tokio_util::task::TaskTracker;

use crate::server::payload::Given;
use crate::server::write_timeout::WriteLimits;
use crate::server::{idleness, payload};
use crate::system::Clock;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};

/// The requests of one HTTP/2 connection.
#[derive(Clone, Debug)]
pub(super) struct Http2Streams {
    clock: Clock,
    /// From a request's head to the last byte of its answer.
    limit: Duration,
    writing: WriteLimits,
    refusals: ConnectionMetrics,
    /// Waited for before the process ends.
    tasks: TaskTracker,
    activity: Arc<StreamActivity>,
}

#[derive(Debug)]
struct StreamActivity {
    open: AtomicUsize,
    /// When the last one ended, in milliseconds of the clock.
    ended: AtomicU64,
    /// Woken when none is open any more.
    waiter: AtomicWaker,
}

struct OpenStream {
    clock: Clock,
    activity: Arc<StreamActivity>,
}

impl Http2Streams {
    /// The requests of a connection that begins now.
    pub(super) fn new(
        limit: Duration,
        writing: WriteLimits,
        clock: Clock,
        refusals: ConnectionMetrics,
        tasks: TaskTracker,
    ) -> Self {
        let activity = Arc::new(StreamActivity {
            open: AtomicUsize::new(0),
            ended: AtomicU64::new(millis(&clock)),
            waiter: AtomicWaker::new(),
        });
        Self {
            clock,
            limit,
            writing,
            refusals,
            tasks,
            activity,
        }
    }

    /// Since when no request has been under way; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Duration> {
        let is_busy = self.activity.open.load(Ordering::Relaxed) > 0;
        (!is_busy).then(|| Duration::from_millis(self.activity.ended.load(Ordering::Relaxed)))
    }

    /// Ready where no request is under way.
    pub(super) fn poll_done(&self, context: &Context<'_>) -> Poll<()> {
        self.activity.waiter.register(context.waker());
        if self.activity.open.load(Ordering::Relaxed) > 0 {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Waits until no request has been under way for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        idleness::lasts(&self.clock, limit, || self.idle_since()).await;
    }
}

impl<F> Executor<F> for Http2Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.activity.open.fetch_add(1, Ordering::Relaxed);
        let open = OpenStream {
            clock: self.clock.clone(),
            activity: Arc::clone(&self.activity),
        };
        let (limit, refusals) = (self.limit, self.refusals.clone());
        let writing = self.writing;
        self.tasks.spawn(async move {
            let watched = WatchedStream {
                stream: pin!(stream),
                writing,
                clock: &open.clock,
                answer: None,
            };
            // Dropped, the stream is reset and its answer's memory is free.
            let ended = open.clock.timeout(limit, watched).await;
            if !matches!(ended, Ok(Ok(()))) {
                refusals.refused(Reason::WriteStall);
            }
        });
    }
}

/// A stream that ends when its caller does not read.
struct WatchedStream<'s, F> {
    stream: Pin<&'s mut F>,
    writing: WriteLimits,
    clock: &'s Clock,
    /// Once it has to wait for its caller.
    answer: Option<Box<StalledAnswer<'s>>>,
}

/// An answer that waits for its caller to grant window.
struct StalledAnswer<'s> {
    clock: &'s Clock,
    writing: WriteLimits,
    given: Given,
    /// How much of it had been taken at the last look, and since when no more is known to have been.
    taken: u64,
    since: Duration,
    /// When it began to leave.
    began: Duration,
    next_look: Pin<Box<dyn Future<Output = ()> + Send + 's>>,
}

/// A caller has not read its answer in time.
struct NotRead;

impl<F: Future<Output = ()>> Future for WatchedStream<'_, F> {
    type Output = Result<(), NotRead>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let ended = this.stream.as_mut().poll(context);
        let given = payload::given();
        if ended.is_ready() {
            return Poll::Ready(Ok(()));
        }
        match (given, &mut this.answer) {
            (None, _) => {}
            (Some(given), Some(answer)) => answer.goes_on(given),
            (Some(given), answer @ None) => {
                *answer = Some(Box::new(StalledAnswer::new(
                    this.clock,
                    this.writing,
                    given,
                )));
            }
        }
        match &mut this.answer {
            Some(answer) => answer.poll_not_read(context).map(Err),
            None => Poll::Pending,
        }
    }
}

impl<'s> StalledAnswer<'s> {
    fn new(clock: &'s Clock, writing: WriteLimits, given: Given) -> Self {
        let now = clock.elapsed();
        Self {
            clock,
            writing,
            given,
            taken: 0,
            since: now,
            began: now,
            next_look: Box::pin(clock.sleep(writing.stall / LOOKS)),
        }
    }

    fn goes_on(&mut self, given: Given) {
        self.given = given;
        self.since = self.clock.elapsed();
    }

    fn poll_not_read(&mut self, context: &mut Context<'_>) -> Poll<NotRead> {
        loop {
            ready!(self.next_look.as_mut().poll(context));
            let now = self.clock.elapsed();
            let taken = self.given.taken.as_ref();
            let taken = taken.map_or(0, |taken| taken.load(Ordering::Relaxed));
            if taken != self.taken {
                (self.taken, self.since) = (taken, now);
            }
            if now >= self.since.saturating_add(self.writing.stall)
                || now >= self.began.saturating_add(self.writing.total)
            {
                return Poll::Ready(NotRead);
            }
            self.next_look = Box::pin(self.clock.sleep(self.writing.stall / LOOKS));
        }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let now = millis(&self.clock);
        self.activity.ended.store(now, Ordering::Relaxed);
        if self.activity.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.activity.waiter.wake();
        }
    }
}

fn millis(clock: &Clock) -> u64 {
    u64::try_from(clock.now().elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// How often an answer is looked at in the time in which something of it must have been taken.
const LOOKS: u32 = 4;
