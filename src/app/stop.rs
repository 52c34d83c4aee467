//! The end: what is under way is finished, within its time, and put on record whatever becomes of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::warn;

use super::App;

impl App {
    /// Ends in good order: readiness turns red, after the configured lead no more connections are
    /// taken, what is under way is finished, the audit trail is flushed and our token is revoked (G31).
    pub async fn stop(self) {
        self.draining.store(true, Ordering::Relaxed);
        self.clock
            .sleep(self.started.server.limits.drain_lead)
            .await;
        self.stop.callers.cancel();
        let mut doors = self.doors.into_iter();
        let callers = doors.next();
        let finish = async {
            if let Some(callers) = callers {
                // A panic in the accept loop has been logged; there is nothing left to wait for.
                let _ = callers.await;
            }
            self.walks.close();
            self.walks.wait().await;
        };
        if self
            .clock
            .timeout(self.started.server.limits.drain_grace, finish)
            .await
            .is_err()
        {
            warn!("some requests were not finished in time");
        }
        self.stop.keepers.cancel();
        self.keepers.close();
        let _ = self.clock.timeout(LAST_WORDS, self.keepers.wait()).await;
        self.gateway.upstream.close().await;
        self.gateway.audit.clone().close().await;
        self.stop.operators.cancel();
        for door in doors {
            let _ = self.clock.timeout(LAST_WORDS, door).await;
        }
    }
}

/// How long the last tasks may take to notice that all is over.
const LAST_WORDS: Duration = Duration::from_secs(1);
