//! Gauges of all projects at once: one number per credential.

use super::Upstream;
use crate::atlas::ProjectId;

#[derive(Clone, Default)]
struct CredentialGauges {
    demand: f64,
    /// What is left of the bucket that has least, and when the first is down at the reserve.
    remaining: Option<u64>,
    reserve_in: Option<f64>,
    cooldowns: i64,
}

impl Upstream {
    /// Brings the gauges up to now, and tells of projects of which more is wanted than our share.
    pub fn update_gauges(&self) {
        let now = self.0.env.clock.elapsed();
        let credentials = self.0.credentials.load();
        let mut shown = vec![CredentialGauges::default(); credentials.len()];
        let (_, host_is_open) = self.0.limiter.host();
        let mut open_breakers = i64::from(host_is_open);
        self.0.limiter.for_each(|id, project| {
            open_breakers += i64::from(project.breaker.is_open());
            let share = project.bucket.own_refill();
            let (demand, rose_above) = project.demand.measure(share, now);
            if rose_above {
                warn_of_demand(id, share, demand);
            }
            let at = credentials.iter().position(|it| it.covers(id));
            let Some(shown) = at.and_then(|at| shown.get_mut(at)) else {
                return;
            };
            shown.demand = shown.demand.max(demand);
            shown.cooldowns += i64::from(project.cooldown.left(now).is_some());
            if let Some((remaining, reserve_in)) = project.bucket.forecast(now) {
                let least = shown.remaining.unwrap_or(remaining);
                shown.remaining = Some(least.min(remaining));
                let soonest = shown.reserve_in.unwrap_or(reserve_in);
                shown.reserve_in = Some(soonest.min(reserve_in));
            }
        });
        let metrics = &self.0.env.metrics;
        metrics.breakers_open.set(open_breakers);
        for (credential, shown) in credentials.iter().zip(shown) {
            let labels = credential.labels();
            metrics.others_calls.get_or_create(&labels).inc_by(0);
            metrics
                .demand_ratio
                .get_or_create(&labels)
                .set(shown.demand);
            metrics
                .gate_closed
                .get_or_create(&labels)
                .set(shown.cooldowns);
            let reserve_in = shown.reserve_in.unwrap_or(f64::INFINITY);
            metrics.reserve_in.get_or_create(&labels).set(reserve_in);
            if let Some(Ok(remaining)) = shown.remaining.map(i64::try_from) {
                let gauge = metrics.rate_limit_remaining.get_or_create(&labels);
                gauge.set(remaining);
            } else {
                metrics.rate_limit_remaining.remove(&labels);
            }
        }
    }
}

fn warn_of_demand(project: &ProjectId, share_per_minute: u64, demand: f64) {
    tracing::warn!(
        %project,
        share_per_minute,
        "more is wanted of Atlas than our share of this project's rate limit brings back: {:.0} % of it in five \
         minutes; lengthen cache.ttl or raise atlas.limits.share_percent",
        demand * 100.0,
    );
}
