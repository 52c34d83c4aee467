//! A connection's socket goes in; out comes that its caller is gone, found out without reading from it.
//!
//! A caller may close its side for writing and still wait for its answer (`nc -N`), so the end of what it
//! sends says nothing. Only a reset does. One that has closed altogether looks as if it waited until it is
//! sent something, which its kernel answers with a reset.
//!
//! That costs a descriptor, so it is looked for only while a request has to wait for something else than
//! its own record: an answer from memory is there before anybody can hang up.

use std::io;
use std::os::fd::AsFd;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use futures_util::FutureExt;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::accept::Standing;

/// What lies on a socket.
pub trait Wire {
    /// The socket.
    fn socket(&self) -> &TcpStream;
}

impl<S: Wire> Wire for TlsStream<S> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0.socket()
    }
}

/// Looks for a reset while a request of the connection waits.
#[derive(Debug)]
pub struct Watch {
    standing: Standing,
    /// The same socket once more, which nobody reads from or writes to.
    socket: Option<Box<TcpStream>>,
}

impl Watch {
    /// Of a connection whose requests say in `standing` that they wait.
    pub fn new(standing: Standing) -> Self {
        Self {
            standing,
            socket: None,
        }
    }

    /// Ready with an error once the caller of a request that waits has reset the connection.
    pub fn poll_gone(&mut self, wire: &impl Wire, context: &mut Context<'_>) -> Poll<io::Error> {
        if !self.standing.has_waiting() {
            self.socket = None;
            return Poll::Pending;
        }
        if self.socket.is_none() {
            // Without a descriptor for it a caller that hangs up is answered.
            self.socket = watched(wire.socket()).ok().map(Box::new);
        }
        let Some(socket) = &self.socket else {
            return Poll::Pending;
        };
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

/// The same socket, with events of its own.
fn watched(socket: &TcpStream) -> io::Result<TcpStream> {
    let socket = socket.as_fd().try_clone_to_owned()?;
    TcpStream::from_std(std::net::TcpStream::from(socket))
}
