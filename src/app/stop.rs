//! Graceful shutdown: what is under way is finished within its time, or given up, and on record either way.

use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::warn;

use super::App;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finish {
    Whole,
    TooLate,
    Hurried,
}

impl App {
    /// Ends in good order: readiness turns red, after the configured lead no more connections are
    /// taken, what is under way is finished, the audit trail is flushed and our token is revoked (G31).
    pub async fn stop(self) {
        self.stop_unless(pending()).await;
    }

    /// The same, but once `hurry` is done nothing more is waited for: requests under way are given up,
    /// which puts them on record as abandoned, and our token is left to the next process.
    pub(crate) async fn stop_unless(self, hurry: impl Future<Output = ()>) {
        self.readiness.drain();
        let mut listeners = self.listeners.into_iter();
        let callers = listeners.next();
        let callers_left = async {
            if let Some(callers) = callers {
                // A panic in the accept loop has been logged; there is nothing left to wait for.
                let _ = callers.await;
            }
        }
        .shared();
        let callers = callers_left.clone();
        let limits = &self.started.server.limits;
        let in_order = pin!(async {
            self.clock.sleep(limits.drain_lead).await;
            self.stop.callers.cancel();
            let finished = async {
                callers.await;
                self.fetches.close();
                self.fetches.wait().await;
            };
            match self.clock.timeout(limits.drain_grace, finished).await {
                Ok(()) => Finish::Whole,
                Err(_) => Finish::TooLate,
            }
        });
        let finish = tokio::select! {
            biased;
            finish = in_order => finish,
            () = hurry => Finish::Hurried,
        };
        if finish != Finish::Whole {
            warn!("requests that are not finished are given up");
            self.stop.callers.cancel();
            self.stop.abort.cancel();
            let given_up = async {
                callers_left.await;
                // After their callers, who would otherwise still be answered with a failure.
                self.gateway.upstream.give_up();
                self.fetches.close();
                self.fetches.wait().await;
            };
            let _ = self.clock.timeout(LAST_WORDS, given_up).await;
        }
        self.stop.background.cancel();
        if finish != Finish::Hurried {
            self.background.close();
            let _ = self.clock.timeout(LAST_WORDS, self.background.wait()).await;
            let written = self.gateway.write_snapshot();
            let _ = self.clock.timeout(LAST_SNAPSHOT, written).await;
            self.gateway.upstream.close().await;
        }
        self.gateway.leave_directories();
        self.gateway.audit.clone().close().await;
        self.stop.operators.cancel();
        if finish != Finish::Hurried {
            for handler in listeners {
                let _ = self.clock.timeout(LAST_WORDS, handler).await;
            }
        }
    }
}

/// A disk that hangs must not keep the process from ending; the file of before is good then.
const LAST_SNAPSHOT: Duration = Duration::from_secs(5);
const LAST_WORDS: Duration = Duration::from_secs(1);
