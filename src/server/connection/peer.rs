//! The other end of a connection: its address and protocol, and what its requests say of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::protocol::Protocol;
use crate::audit::Origin;
use crate::server::unsent_budget::UnsentAccount;
use crate::system::Clock;

#[derive(Debug)]
pub(crate) struct ConnectionPeer {
    pub(crate) address: SocketAddr,
    /// The address that it connected to, if the kernel can tell.
    pub(crate) local: Option<IpAddr>,
    /// Whether it is believed about whose requests it brings.
    pub(crate) is_trusted_proxy: bool,
    /// `http` or `https`, as the connection was made.
    pub(crate) scheme: &'static str,
    /// What the TLS handshake has agreed on (RFC 7301), if the peer named anything.
    pub(crate) agreed: Option<Protocol>,
    /// What every record of its requests says of it.
    pub(crate) origin: Origin,
    pub(crate) unsent: UnsentAccount,
    pub(crate) state: ConnectionState,
}

/// What the requests of a connection say of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionState(Arc<SharedState>);

#[derive(Debug)]
struct SharedState {
    is_authenticated: AtomicBool,
    /// The first whole head has come.
    has_begun: AtomicBool,
    in_flight: AtomicUsize,
    /// When the last of them ended, in microseconds of the clock.
    idle_since: AtomicU64,
    /// Woken when none is in flight any more.
    drained: AtomicWaker,
    /// How many requests wait for something other than their records.
    waiting: AtomicUsize,
    /// hyper has read since the last request, so the next one was not pipelined behind it.
    has_read: AtomicBool,
}

/// A request that waits; dropped, it does not any more.
#[derive(Debug)]
pub(crate) struct WaitingRequest(ConnectionState);

impl ConnectionState {
    pub(super) fn new(now: Duration) -> Self {
        Self(Arc::new(SharedState {
            is_authenticated: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(micros(now)),
            drained: AtomicWaker::new(),
            waiting: AtomicUsize::new(0),
            has_read: AtomicBool::new(false),
        }))
    }

    pub(crate) fn set_authenticated(&self) {
        // Reading first keeps the cache line shared between cores.
        if !self.is_authenticated() {
            self.0.is_authenticated.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.0.is_authenticated.load(Ordering::Relaxed)
    }

    pub(super) fn set_begun(&self) {
        self.0.has_begun.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.0.has_begun.load(Ordering::Relaxed)
    }

    /// An HTTP/1 connection has a request in flight.
    pub(super) fn set_busy(&self) {
        self.0.in_flight.store(1, Ordering::Relaxed);
    }

    /// It has none, from `now` on.
    pub(super) fn set_idle(&self, now: Duration) {
        self.0.idle_since.store(micros(now), Ordering::Relaxed);
        self.0.in_flight.store(0, Ordering::Relaxed);
    }

    pub(super) fn stream_begins(&self) {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stream_ends(&self, now: Duration) {
        self.0.idle_since.store(micros(now), Ordering::Relaxed);
        if self.0.in_flight.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.drained.wake();
        }
    }

    /// Since when no request has been in flight; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Duration> {
        let is_busy = self.0.in_flight.load(Ordering::Relaxed) > 0;
        let since = self.0.idle_since.load(Ordering::Relaxed);
        (!is_busy).then(|| Duration::from_micros(since))
    }

    /// Waits until the connection has been idle for `limit`.
    ///
    /// hyper would set a timer with each request for it. Here only this task has one, and sets it once in
    /// `limit`.
    pub(super) async fn idle(&self, clock: &Clock, limit: Duration) {
        loop {
            let now = clock.elapsed();
            let due = self.idle_since().unwrap_or(now).saturating_add(limit);
            if now >= due {
                return;
            }
            clock.sleep_until(due).await;
        }
    }

    /// Ready where no request is in flight.
    pub(super) fn poll_drained(&self, context: &Context<'_>) -> Poll<()> {
        self.0.drained.register(context.waker());
        if self.idle_since().is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    pub(crate) fn wait(&self) -> WaitingRequest {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        WaitingRequest(self.clone())
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn note_read(&self) {
        self.0.has_read.store(true, Ordering::Relaxed);
    }

    /// Whether bytes were read since the last request.
    pub(crate) fn take_read(&self) -> bool {
        self.0.has_read.swap(false, Ordering::Relaxed)
    }
}

impl Drop for WaitingRequest {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("no clock runs for 584,000 years")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;
    use crate::atlas::Timestamp;

    #[tokio::test]
    async fn idleness_lasts_from_the_end_of_the_last_request_and_not_through_one() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(1_000));
        let state = ConnectionState::new(clock.elapsed());
        state.set_busy();
        let limit = Duration::from_mins(1);
        let mut over = pin!(state.idle(&clock, limit));
        assert!(poll!(&mut over).is_pending());
        // A request of three minutes.
        manual_clock.advance(limit * 3);
        assert!(poll!(&mut over).is_pending());
        state.set_idle(clock.elapsed());
        manual_clock.advance(Duration::from_secs(50));
        assert!(poll!(&mut over).is_pending());
        // And a quick one.
        state.set_busy();
        state.set_idle(clock.elapsed());
        manual_clock.advance(Duration::from_secs(59));
        assert!(poll!(&mut over).is_pending());
        manual_clock.advance(Duration::from_secs(1));
        assert!(poll!(&mut over).is_ready());
    }
}
