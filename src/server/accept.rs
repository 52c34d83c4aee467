//! The accept loop, which no error ends; it sheds load where connections, descriptors or memory are short.
//!
//! A connection that cannot be served is closed at once: its caller can go to another replica, and one that
//! waits in the kernel's queue cannot.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::Bound;
use super::connection::{ConnectionSlots, Eviction, Listener};
use super::proxies::Proxies;
use super::service::Handler;
use crate::memory::{Memory, Stage};
use crate::telemetry::metrics::connections::Reason;
use crate::telemetry::{RateLimitedLog, Tally};

impl Listener {
    /// The same for operators and probes: plain text, with bodies, and a few connections that no caller
    /// can take from them, nor one of them from the others.
    #[must_use]
    pub(crate) fn for_operators(&self, stop: CancellationToken) -> Self {
        let mut operators = Self {
            tls: None,
            trusted_proxies: Proxies::default(),
            bodies: true,
            // An operator who looks for the reason has to be let in.
            memory: Memory::default(),
            stop,
            tasks: TaskTracker::new(),
            ..self.clone()
        };
        operators.limits.connections = OPERATORS;
        operators.limits.connections_per_source = OPERATORS_PER_SOURCE;
        operators.limits.streams = self.limits.streams.min(OPERATORS_STREAMS);
        operators
    }

    pub(crate) async fn run<H: Handler>(self, bound: Bound, handler: Arc<H>, eviction: Eviction) {
        let slots = ConnectionSlots::new(
            within_descriptors(self.limits.connections),
            self.limits.connections_per_source,
            eviction,
            self.refusals.clone(),
        );
        let mut reserve = Reserve::new();
        let mut certificates = std::pin::pin!(self.watch_certificates());
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = certificates.as_mut() => continue,
                accepted = bound.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.survive(&error, &bound, &mut reserve).await;
                    continue;
                }
            };
            if self.memory.stage() >= Stage::Full {
                self.refusals.refused(Reason::Memory);
                continue;
            }
            let Some(slot) = slots.acquire(self.clock.elapsed()) else {
                continue;
            };
            let (listener, handler) = (self.clone(), Arc::clone(&handler));
            self.tasks.spawn(async move {
                let _counted = listener.metrics.connection();
                if let Err(error) = listener.serve(stream, address, &slot, handler).await {
                    debug!(%error, peer = %address, "a connection ended badly");
                }
            });
        }
        drop(bound);
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn survive(&self, error: &io::Error, bound: &Bound, reserve: &mut Reserve) {
        let number = Errno::from_io_error(error);
        if matches!(
            number,
            Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO)
        ) {
            return;
        }
        self.refusals.refused(Reason::Descriptors);
        if matches!(number, Some(Errno::MFILE | Errno::NFILE)) && reserve.shed(bound) {
            return;
        }
        if let Some(Tally { times, .. }) = reserve.failures.happened(self.clock.elapsed()) {
            warn!(%error, times, "cannot take a connection; trying again every {PAUSE:?}");
        }
        self.clock.sleep(PAUSE).await;
    }

    async fn watch_certificates(&self) {
        match &self.tls {
            Some(tls) => tls.watch(&self.clock, &self.refusals).await,
            None => std::future::pending().await,
        }
    }
}

/// A descriptor kept back, to be able to close a connection when there are none left. Without it the
/// connections stay in the kernel's queue, and the loop spins on them.
struct Reserve {
    file: Option<File>,
    failures: RateLimitedLog,
}

impl Reserve {
    fn new() -> Self {
        Self {
            file: File::open("/dev/null").ok(),
            failures: RateLimitedLog::default(),
        }
    }

    /// Accepts one connection and closes it. `false` if there is no descriptor to accept it with.
    fn shed(&mut self, bound: &Bound) -> bool {
        let had_one = self.file.take().is_some();
        drop(bound.listener.accept().now_or_never());
        self.file = File::open("/dev/null").ok();
        had_one
    }
}

/// Half of the process's descriptors stay with the audit trail, Atlas and the operators.
fn within_descriptors(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    // The soft limit is low by custom, for programs that use `select`; the hard one is the operator's
    // word. Where it cannot be raised, the soft one has to do.
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let descriptors = getrlimit(Resource::Nofile)
        .current
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let most = wanted.min(descriptors / 2);
    if most < wanted {
        warn!("only {most} connections are taken: the process may have {descriptors} descriptors");
    }
    most
}

/// Connections of operators and probes at a time, of one source, and requests on one of them.
const OPERATORS: usize = 100;
const OPERATORS_PER_SOURCE: usize = 16;
const OPERATORS_STREAMS: u32 = 16;
const PAUSE: Duration = Duration::from_millis(50);
