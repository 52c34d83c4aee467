//! Who else runs: each replica says once a second that it does, and how far it has heard.

use redis::Value;
use serde::Serialize;
use tracing::warn;

use super::reply::{number, parts};
use super::{Alone, Fleet};
use crate::telemetry::metrics::fleet::FleetFunction;

/// What this replica says of itself.
#[derive(Debug)]
pub(super) struct Members {
    fingerprint: String,
    /// Rung when another replica has heard something.
    heard: tokio::sync::Notify,
}

/// How many replicas run, and how many of them have done what was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Confirmed {
    pub(crate) replicas: u64,
    pub(crate) confirmed: u64,
}

impl Members {
    pub(super) fn new(fingerprint: String) -> Self {
        Self {
            fingerprint,
            heard: tokio::sync::Notify::new(),
        }
    }

    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    pub(super) fn ring(&self) {
        self.heard.notify_waiters();
    }
}

impl Fleet {
    /// Says that this replica runs. A failure has ended the connection already.
    pub(super) async fn be_present(&self) {
        let (who, bell) = (self.0.names.of_fleet("who"), self.0.names.of_fleet("bell"));
        let heard = self.0.events.number().to_string();
        let fingerprint = &self.0.members.fingerprint;
        let arguments = [&*self.0.replica, &heard, fingerprint, &bell].map(str::as_bytes);
        let Ok(reply) = self.call(FleetFunction::Here, &[&who], &arguments).await else {
            return;
        };
        let Some([members, differing]) = two(reply) else {
            return;
        };
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.0.metrics.members.set(gauge(members));
        let before = self.0.metrics.config_differs.set(gauge(differing));
        if before == 0 && differing > 0 {
            warn!(
                differing,
                "replicas of the fleet are configured otherwise than this one"
            );
        }
    }

    /// Says that this replica stops, so that no purge waits for it.
    pub(super) async fn leave(&self) {
        let who = self.0.names.of_fleet("who");
        let replica = self.0.replica.as_bytes();
        // Otherwise it is gone for the others when it has not been heard for a while.
        let _ = self.call(FleetFunction::Leave, &[&who], &[replica]).await;
    }

    /// Waits until all replicas that run have heard an event, but not for long.
    pub(crate) async fn confirmed(&self, event: u64) -> Result<Confirmed, Alone> {
        let deadline = self.0.clock.elapsed() + LONGEST_CONFIRMATION;
        loop {
            let mut rung = std::pin::pin!(self.0.members.heard.notified());
            rung.as_mut().enable();
            let (who, number) = (self.0.names.of_fleet("who"), event.to_string());
            let reply = self
                .call(FleetFunction::Heard, &[&who], &[number.as_bytes()])
                .await?;
            let [replicas, confirmed] = two(reply).ok_or(Alone)?;
            let left = deadline.saturating_sub(self.0.clock.elapsed());
            if confirmed >= replicas || left.is_zero() {
                return Ok(Confirmed {
                    replicas,
                    confirmed,
                });
            }
            let _ = self.0.clock.timeout(left, rung).await;
        }
    }
}

fn two(reply: Value) -> Option<[u64; 2]> {
    let [Some(one), Some(other)] = parts::<2>(reply)?.map(number) else {
        return None;
    };
    Some([one, other])
}

const LONGEST_CONFIRMATION: std::time::Duration = std::time::Duration::from_millis(250);
