//! Work that may wait for a disk: it is done on a thread of its own, never on one that answers callers.

use std::fs::File;
use std::future::pending;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::poll;

/// A copy of standard output or standard error, written past the buffer and the lock that the process
/// shares. A write waits for its reader even where another holder of the descriptor made it
/// non-blocking: a line of which a part is gone must not be given up. For threads that may wait.
#[derive(Debug)]
pub struct BlockingFile(File);

/// Does `work` on a thread that may wait. Who gives up waiting leaves the work to itself: what hangs keeps
/// neither its caller nor the end of the process. To be called inside a tokio runtime.
pub async fn may_wait<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending, and with it whoever waits here.
            Err(_) => pending().await,
        },
    }
}

impl From<OwnedFd> for BlockingFile {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl Write for BlockingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
