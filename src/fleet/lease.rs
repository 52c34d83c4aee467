//! What leases of lists and of tokens have in common: the right to do something for the fleet lasts a second, and is
//! renewed while the work goes on. So a replica that dies holds up the others for no longer.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use super::Fleet;
use crate::telemetry::metrics::fleet::FleetFunction;

impl Fleet {
    /// Keeps a lease while `work` goes on. One that is lost is refused when its work is to be stored.
    pub(super) async fn keep_lease<T>(
        &self,
        (name, id): (&str, &str),
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = self.0.clock.timeout(RENEWAL, &mut work).await {
                return done;
            }
            let lease = millis(LEASE);
            let arguments = [id, &lease].map(str::as_bytes);
            let mut renewed = pin!(self.call(FleetFunction::Renew, &[name], &arguments));
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = &mut renewed => {}
            }
        }
    }
}

/// As functions take it.
pub(super) fn millis(span: Duration) -> String {
    span.as_millis().to_string()
}

pub(super) const LEASE: Duration = Duration::from_secs(1);
const RENEWAL: Duration = Duration::from_millis(300);
/// How long after a lease has ended it is asked for.
pub(super) const AFTER_LEASE: Duration = Duration::from_millis(5);
