//! The accept loop: a listening socket goes in, connections that are served and ended in good order
//! come out.
//!
//! hyper's own protocol guess has no time limit, so it is made here: whoever sends nothing, or only the
//! first bytes of HTTP/2's preface, is gone when `first_byte` has passed. Where there is no room for another
//! connection, one of those that `slots` names is closed for it, or it is itself: at once, because a
//! caller that is told so can go to another replica, and one that waits in the kernel's queue cannot.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::layers::Handler;
use super::proxies::Proxies;
use super::tls::Tls;
use super::unsent_budget::{UnsentAccount, UnsentBudget};
use super::write_timeout::{WriteLimits, WriteTimeout};
use super::{Bound, Limits, proxy_protocol, tls};
use crate::audit::Origin;
use crate::memory::{Memory, Stage};
use crate::system::Clock;
use crate::telemetry::metrics::connections::{ConnectionMetrics, Reason};
use crate::telemetry::metrics::lookups::LookupMetrics;
use crate::telemetry::{RateLimitedLog, Tally};

mod delayed_eof;
mod http2_service;
mod protocol_detection;
mod connection_slots;
mod serve;
mod http2_streams;
#[cfg(test)]
mod tests;

pub use connection_slots::{ConnectionState, Eviction, WaitingRequest};
pub use protocol_detection::Protocol;

use connection_slots::{ConnectionSlot, ConnectionSlots};

/// What every connection of one listener shares.
#[derive(Clone)]
pub struct Acceptor {
    /// Bounds of a connection.
    pub limits: Limits,
    /// TLS, where it is configured.
    pub tls: Option<Tls>,
    /// Who is believed about whose connections and requests it brings.
    pub trusted_proxies: Proxies,
    /// Whether each of their connections begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// The clock of every deadline.
    pub clock: Clock,
    /// Cancelled when no more connections are to be taken and the present ones are to end.
    pub stop: CancellationToken,
    /// Cancelled after `stop` when the requests under way are to be given up, too.
    pub abort: CancellationToken,
    /// The connections, and the requests that have tasks of their own.
    pub tasks: TaskTracker,
    /// Counts connections.
    pub metrics: LookupMetrics,
    /// How much memory is left.
    pub memory: Memory,
    /// Counts those that are refused.
    pub refusals: ConnectionMetrics,
    /// What unsent answers may hold.
    pub unsent: UnsentBudget,
    /// Whether requests may have bodies.
    pub bodies: bool,
}

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The address that it connected to, if the kernel can tell.
    pub local: Option<IpAddr>,
    /// Whether it is believed about whose requests it brings.
    pub is_trusted_proxy: bool,
    /// `http` or `https`, as the connection was made.
    pub scheme: &'static str,
    /// What the TLS handshake has agreed on, if it was asked to.
    pub agreed: Option<Protocol>,
    /// What every record of its requests says of it.
    pub origin: Origin,
    /// What its unsent answers may hold.
    pub unsent: UnsentAccount,
    /// What its requests say of its connection.
    pub state: ConnectionState,
}

impl Acceptor {
    /// The same for operators and probes: plain text, with bodies, and a few connections that no caller
    /// can take from them, nor one of them from the others.
    #[must_use]
    pub fn for_operators(&self, stop: CancellationToken) -> Self {
        let mut operators = Self {
            tls: None,
            trusted_proxies: Proxies::default(),
            bodies: true,
            // Whoever looks for the reason has to be let in.
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

    /// Takes connections until it is told to stop, then waits until the last one has ended. `eviction` says
    /// whose ends when there are too many.
    pub async fn run<H: Handler>(self, bound: Bound, handler: Arc<H>, eviction: Eviction) {
        let slots = ConnectionSlots::new(
            room(self.limits.connections),
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
            let (acceptor, handler) = (self.clone(), Arc::clone(&handler));
            self.tasks.spawn(async move {
                let _counted = acceptor.metrics.connection();
                if let Err(error) = acceptor.connection(stream, address, &slot, handler).await {
                    debug!(%error, peer = %address, "a connection ended badly");
                }
            });
        }
        drop(bound);
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// An accept loop that gives up would need a restart, so none of these ends it.
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

    async fn connection<H: Handler>(
        &self,
        mut stream: TcpStream,
        address: SocketAddr,
        slot: &ConnectionSlot,
        handler: Arc<H>,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        // Also ends what only the kernel still holds: an answer that was written, and is not taken.
        socket.set_tcp_user_timeout(Some(self.limits.write_stall))?;
        // Or the kernel takes megabytes of answers for a caller that reads none of them.
        socket.set_tcp_notsent_lowat(MOST_UNSENT)?;
        let address = tokio::select! {
            biased;
            address = self.source(&mut stream, address) => address?,
            () = slot.evicted() => return Ok(()),
        };
        // The connections of a proxy are those of many callers.
        let is_trusted_proxy = self.trusted_proxies.include(address.ip());
        if !is_trusted_proxy && !slot.is_from(address.ip()) {
            return Ok(());
        }
        let local = stream.local_addr().ok().map(|local| local.ip());
        let stream = WriteTimeout::new(
            stream,
            self.writing(),
            self.clock.clone(),
            self.refusals.clone(),
        );
        match &self.tls {
            None => {
                let peer = Peer {
                    address,
                    local,
                    is_trusted_proxy,
                    scheme: "http",
                    agreed: None,
                    origin: Origin::new(address, None),
                    unsent: self.unsent.account(),
                    state: slot.state(),
                };
                self.serve(stream, peer, slot, handler).await
            }
            // In a box, or each connection without TLS would have the room that one with it needs.
            Some(tls) => {
                let peer = (address, local, is_trusted_proxy);
                Box::pin(self.serve_tls(tls, stream, peer, (slot, handler))).await
            }
        }
    }

    fn writing(&self) -> WriteLimits {
        WriteLimits {
            stall: self.limits.write_stall,
            total: self.limits.response,
        }
    }

    async fn serve_tls<H: Handler>(
        &self,
        tls: &Tls,
        stream: WriteTimeout<TcpStream>,
        (address, local, is_trusted_proxy): (SocketAddr, Option<IpAddr>, bool),
        (slot, handler): (&ConnectionSlot, Arc<H>),
    ) -> io::Result<()> {
        let accepting = tls.accept(stream);
        let handshake = tokio::select! {
            biased;
            handshake = self.clock.timeout(self.limits.first_byte, accepting) => handshake,
            () = slot.evicted() => return Ok(()),
        };
        let stream = handshake
            .map_err(io::Error::other)
            .flatten()
            .inspect_err(|_| self.refusals.refused(Reason::TlsHandshake))?;
        let peer = Peer {
            address,
            local,
            is_trusted_proxy,
            scheme: "https",
            agreed: Protocol::agreed(&stream),
            origin: Origin::new(address, tls::peer_certificate(&stream).as_ref()),
            unsent: self.unsent.account(),
            state: slot.state(),
        };
        self.serve(stream, peer, slot, handler).await
    }

    /// Whose connection it is: of whoever made it, unless a trusted proxy says otherwise before its first
    /// byte.
    async fn source(&self, stream: &mut TcpStream, address: SocketAddr) -> io::Result<SocketAddr> {
        if !self.proxy_protocol || !self.trusted_proxies.include(address.ip()) {
            return Ok(address);
        }
        let source = self
            .clock
            .timeout(self.limits.first_byte, proxy_protocol::read(stream))
            .await;
        let source = source
            .map_err(io::Error::other)
            .flatten()
            .inspect_err(|_| self.refusals.refused(Reason::ProxyProtocol))?;
        Ok(source.unwrap_or(address))
    }
}

/// A descriptor kept back, to be able to say no when there are none left. Without it the connections
/// that cannot be taken stay in the kernel's queue, and the loop spins on them.
struct Reserve {
    file: Option<File>,
    /// That it was not enough.
    failures: RateLimitedLog,
}

impl Reserve {
    fn new() -> Self {
        Self {
            file: File::open("/dev/null").ok(),
            failures: RateLimitedLog::default(),
        }
    }

    /// Takes one connection and closes it. `false` if there is nothing to take it with.
    fn shed(&mut self, bound: &Bound) -> bool {
        let had_one = self.file.take().is_some();
        drop(bound.listener.accept().now_or_never());
        self.file = File::open("/dev/null").ok();
        had_one
    }
}

/// Half of the process's descriptors stay with the audit trail, Atlas and the operators.
fn room(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    // The soft limit is low by custom, for programs that use `select`; the hard one is the operator's
    // word. Where it cannot be raised, what there is has to do.
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let descriptors = getrlimit(Resource::Nofile)
        .current
        .and_then(|most| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let room = wanted.min(descriptors / 2);
    if room < wanted {
        warn!("room for {room} connections only: the process may have {descriptors} descriptors");
    }
    room
}

/// Bytes of answers that wait in the kernel beyond those that are under way: more than all but the
/// longest lists have, so that these are written at once.
const MOST_UNSENT: u32 = 128 << 10;
/// Connections of operators and probes at a time, of one source, and requests on one of them.
const OPERATORS: usize = 100;
const OPERATORS_PER_SOURCE: usize = 16;
const OPERATORS_STREAMS: u32 = 16;
const PAUSE: Duration = Duration::from_millis(50);
