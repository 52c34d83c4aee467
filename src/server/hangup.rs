//! A connection's socket goes in; out comes that its caller is gone, found out without reading from it.
//!
//! A caller may close its side for writing and still wait for its answer (`nc -N`), so the end of what it
//! sends says nothing. Only a reset does. One that has closed altogether looks as if it waited until it is
//! sent something, which its kernel answers with a reset.
//!
//! That costs a descriptor, so it is looked for only while a request has to wait for something else than
//! its own record (an answer from memory is there before anybody can hang up), and not on more connections
//! than an eighth of the process's descriptors.

use std::io;
use std::os::fd::AsFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use rustix::process::{Resource, getrlimit};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::accept::ConnectionState;

/// What lies on a socket.
pub trait HasSocket {
    /// The socket.
    fn socket(&self) -> &TcpStream;
}

impl<S: HasSocket> HasSocket for TlsStream<S> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0.socket()
    }
}

/// Looks for a reset while a request of the connection waits.
#[derive(Debug)]
pub struct HangupWatch {
    state: ConnectionState,
    /// The same socket once more, which nobody reads from or writes to.
    socket: Option<Box<DuplicatedSocket>>,
}

/// One of those that are watched.
#[derive(Debug)]
struct DuplicatedSocket(TcpStream);

impl HangupWatch {
    /// Of a connection whose requests say in `state` that they wait.
    pub fn new(state: ConnectionState) -> Self {
        Self {
            state,
            socket: None,
        }
    }

    /// Ready with an error once the caller of a request that waits has reset the connection.
    pub fn poll_gone(
        &mut self,
        wire: &impl HasSocket,
        context: &mut Context<'_>,
    ) -> Poll<io::Error> {
        if !self.state.has_waiting() {
            self.socket = None;
            return Poll::Pending;
        }
        if self.socket.is_none() {
            // Without a descriptor for it a caller that hangs up is answered.
            self.socket = DuplicatedSocket::new(wire.socket()).map(Box::new);
        }
        let Some(watched) = &self.socket else {
            return Poll::Pending;
        };
        let socket = &watched.0;
        loop {
            if ready!(socket.poll_write_ready(context)).is_err() {
                return Poll::Pending;
            }
            // While a request waits we have not closed anything, so it is the caller who has.
            let state = socket.ready(Interest::WRITABLE).now_or_never();
            if matches!(state, Some(Ok(state)) if state.is_write_closed()) {
                return Poll::Ready(io::ErrorKind::ConnectionReset.into());
            }
            // Of this registration only: the next event will tell.
            let _ = socket.try_io(Interest::WRITABLE, || {
                io::Result::<()>::Err(io::ErrorKind::WouldBlock.into())
            });
        }
    }
}

impl DuplicatedSocket {
    /// The same socket, with events of its own.
    fn new(socket: &TcpStream) -> Option<Self> {
        let again = || {
            let socket = socket.as_fd().try_clone_to_owned()?;
            TcpStream::from_std(std::net::TcpStream::from(socket))
        };
        let order = Ordering::Relaxed;
        let one_more = |count: usize| (count < *MOST_WATCHED).then_some(count + 1);
        WATCHED.fetch_update(order, order, one_more).ok()?;
        let watched = again().map(Self);
        if watched.is_err() {
            WATCHED.fetch_sub(1, order);
        }
        watched.ok()
    }
}

impl Drop for DuplicatedSocket {
    fn drop(&mut self) {
        WATCHED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many sockets of this process are watched, and how many may be.
static WATCHED: AtomicUsize = AtomicUsize::new(0);
static MOST_WATCHED: LazyLock<usize> = LazyLock::new(|| {
    let descriptors = getrlimit(Resource::Nofile).current;
    descriptors.map_or(usize::MAX, |most| {
        usize::try_from(most / 8).unwrap_or(usize::MAX)
    })
});
