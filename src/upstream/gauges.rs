//! What is shown of all projects at once: their budgets, breakers and demand go in, one number per
//! credential comes out.

use std::sync::Arc;

use super::Inner;
use super::credential::Credential;
use crate::atlas::ProjectId;
use crate::telemetry::metrics::upstream::CredentialLabels;
use crate::telemetry::say;

impl Inner {
    /// Shows how much is wanted of our share, by the project of each credential that wants most, and
    /// tells of those that want more than all of it.
    pub(super) fn watch_demand(&self) {
        let now = self.clock.elapsed();
        let credentials = self.credentials.load();
        let mut highest = vec![0.0_f64; credentials.len()];
        self.projects.for_each(|id, rules| {
            let refill_per_minute = rules.budget.own_refill();
            let measured = rules.demand.measure(refill_per_minute, now);
            let number = number_of(&credentials, id);
            if let Some(highest) = number.and_then(|number| highest.get_mut(number)) {
                *highest = highest.max(measured.ratio);
            }
            if measured.rose_above {
                say(|| tracing::warn!(
                    project = %id,
                    share_per_minute = refill_per_minute,
                    "more is wanted of Atlas than our share of this project's rate limit brings back: {:.0} % \
                     of it in five minutes; lengthen cache.ttl or raise atlas.limits.share_percent",
                    measured.ratio * 100.0,
                ));
            }
        });
        for (credential, ratio) in credentials.iter().zip(highest) {
            let credential = credential.name.as_ref().to_owned();
            let demand = &self.metrics.demand_ratio;
            demand
                .get_or_create(&CredentialLabels { credential })
                .set(ratio);
        }
    }

    /// Shows what is left of the buckets of each credential's projects: the least, and when the first of
    /// them is down at the reserve.
    pub(super) fn watch_buckets(&self) {
        let now = self.clock.elapsed();
        let credentials = self.credentials.load();
        let mut shown = vec![(None::<u64>, f64::INFINITY); credentials.len()];
        self.projects.for_each(|id, rules| {
            let Some(remaining) = rules.budget.told_remaining(now) else {
                return;
            };
            let number = number_of(&credentials, id);
            if let Some((least, soonest)) = number.and_then(|number| shown.get_mut(number)) {
                *least = Some(least.map_or(remaining, |least| least.min(remaining)));
                *soonest = soonest.min(rules.budget.reserve_in(now));
            }
        });
        for (credential, (least, soonest)) in credentials.iter().zip(shown) {
            let credential = credential.name.as_ref().to_owned();
            let labels = CredentialLabels { credential };
            let metrics = &self.metrics;
            metrics.others_calls.get_or_create(&labels).inc_by(0);
            metrics.reserve_in.get_or_create(&labels).set(soonest);
            match least.map(i64::try_from) {
                Some(Ok(least)) => {
                    let remaining = &metrics.rate_limit_remaining;
                    remaining.get_or_create(&labels).set(least);
                }
                Some(Err(_)) | None => {
                    metrics.rate_limit_remaining.remove(&labels);
                }
            }
        }
    }

    /// Shows how many projects of each credential wait for Atlas, and how many breakers are open.
    pub(super) fn count_gates(&self) {
        let now = self.clock.elapsed();
        let credentials = self.credentials.load();
        let mut closed = vec![0; credentials.len()];
        let mut open = i64::from(self.host().is_open());
        self.projects.for_each(|id, rules| {
            open += i64::from(rules.breaker.is_open());
            if rules.budget.gate(now).is_some() {
                let number = number_of(&credentials, id);
                if let Some(count) = number.and_then(|number| closed.get_mut(number)) {
                    *count += 1;
                }
            }
        });
        self.metrics.breakers_open.set(open);
        for (credential, count) in credentials.iter().zip(closed) {
            let credential = credential.name.as_ref().to_owned();
            let gate = &self.metrics.gate_closed;
            gate.get_or_create(&CredentialLabels { credential })
                .set(count);
        }
    }
}

/// The place of the credential that a project is asked about with.
fn number_of(credentials: &[Arc<Credential>], project: &ProjectId) -> Option<usize> {
    let mut credentials = credentials.iter();
    credentials.position(|credential| credential.covers(project))
}
