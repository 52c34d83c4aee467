//! Socket activation: listeners that the service manager holds for us.
//!
//! Such a socket lives on while the process is replaced, and who connects meanwhile waits for the next
//! one instead of being refused.

use std::{env, io};

use listenfd::ListenFd;
use socket2::SockRef;

use crate::server::PassedSockets;

#[derive(Debug, thiserror::Error)]
pub(super) enum PassedError {
    #[error(
        "more sockets were passed than there are listeners; name the one for operators with \
         FileDescriptorName=admin, and pass at most one other"
    )]
    TooMany,
    #[error("socket {0} that was passed is not a TCP socket that listens (set Accept=no)")]
    NoListener(usize),
    #[error("socket {0} that was passed cannot be used")]
    Unusable(usize, #[source] io::Error),
}

/// Takes what systemd has passed (`sd_listen_fds`). The one named `admin` is for operators, the other
/// one for callers, whatever its name.
///
/// To be called once, before there are other threads: it clears `LISTEN_FDS` and `LISTEN_PID`.
#[expect(
    clippy::disallowed_methods,
    reason = "no setting: it says what the process was started with"
)]
pub(super) fn take() -> Result<PassedSockets, PassedError> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut passed = PassedSockets::default();
    // Without the id of the process it cannot be told whom they were meant for.
    if env::var("LISTEN_PID").is_err() {
        return Ok(passed);
    }
    let mut sockets = ListenFd::from_env();
    for number in 0..sockets.len() {
        let listener = sockets
            .take_tcp_listener(number)
            .map_err(|error| PassedError::Unusable(number, error))?
            .filter(|listener| SockRef::from(listener).is_listener().unwrap_or(false))
            .ok_or(PassedError::NoListener(number))?;
        let slot = match names.next() {
            Some("admin") => &mut passed.operators,
            Some(_) | None => &mut passed.callers,
        };
        if slot.replace(listener).is_some() {
            return Err(PassedError::TooMany);
        }
    }
    Ok(passed)
}
