//! Work that may wait for a disk: it is done on a thread of its own, never on one that answers callers.

use std::future::pending;
use std::panic::resume_unwind;

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
