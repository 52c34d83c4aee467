//! Work that may wait for a disk: it is done on a thread of its own, never on one that answers callers.

use std::fs::File;
use std::future::pending;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::{io, thread};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::setpriority_process;
use tokio::sync::oneshot;

/// A copy of standard output or standard error, written past the buffer and the lock that the process
/// shares. A write waits for its reader even where another holder of the descriptor made it
/// non-blocking: a line of which a part is gone must not be given up. For threads that may wait.
#[derive(Debug)]
pub(crate) struct BlockingFile(File);

/// Does `work` on a thread that may wait. A dropped future leaves the work to itself, so that what hangs keeps
/// neither its caller nor the end of the process. To be called inside a tokio runtime.
pub(crate) async fn may_wait<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is ending, and with it the task that waits here.
            Err(_) => pending().await,
        },
    }
}

/// Does long `work` on a thread of its own that yields to all others: where there is one processor, those
/// who answer callers would otherwise wait for it as for one of their own. `None` if it has panicked, or
/// there can be no thread.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = oneshot::channel();
    let thread = thread::Builder::new().name("background".to_owned());
    let spawned = thread.spawn(move || {
        // On Linux it is the calling thread's own. Without it the work is done all the same.
        let _ = setpriority_process(None, LOWEST_PRIORITY);
        let _ = done.send(work());
    });
    spawned.ok()?;
    result.await.ok()
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

const LOWEST_PRIORITY: i32 = 19;

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn background_work_yields_to_all_other_and_may_panic() {
        let usual = getpriority_process(None).unwrap();
        let priority = in_background(|| getpriority_process(None).unwrap()).await;
        assert_eq!(priority, Some(LOWEST_PRIORITY));
        assert_eq!(getpriority_process(None).unwrap(), usual);
        let lost: Option<()> = in_background(|| panic!("on purpose")).await;
        assert_eq!(lost, None);
    }
}
