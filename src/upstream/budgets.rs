//! What is left of each project's bucket at Atlas, who spends it, and when it ends; for people.

use std::sync::Arc;

use super::Upstream;
use super::limiter::{BudgetView, ToldOfBucket};
use crate::atlas::ProjectId;

/// A project that Atlas was asked about within five minutes.
#[derive(Clone, Debug)]
pub(crate) struct ProjectBudget {
    pub(crate) project: ProjectId,
    /// The credential's configured name; `None` if none covers the project any more.
    pub(crate) credential: Option<Arc<str>>,
    pub(crate) bucket: ToldOfBucket,
    /// What we may still call.
    pub(crate) own: BudgetView,
    pub(crate) breaker_is_open: bool,
    /// Calls wanted in five minutes, to what our share brings back in them.
    pub(crate) demand_ratio: f64,
}

impl Upstream {
    /// Calls for certificates, since the start.
    pub(crate) fn certificate_calls(&self) -> u64 {
        self.0.env.metrics.certificate_calls()
    }

    /// The projects that Atlas was asked about within five minutes, the first to be down at its reserve first.
    pub(crate) fn budgets(&self) -> Vec<ProjectBudget> {
        let now = self.0.env.clock.elapsed();
        let mut budgets = Vec::new();
        self.0.limiter.for_each(|id, project| {
            let Some(bucket) = project.bucket.told(now) else {
                return;
            };
            let share = project.bucket.own_refill();
            let (demand_ratio, _) = project.demand.clone().measure(share, now);
            let (remaining, capacity) = project.bucket.left(now);
            budgets.push(ProjectBudget {
                project: *id,
                credential: self.0.credential(id).map(|it| Arc::clone(&it.name)),
                bucket,
                own: BudgetView {
                    remaining,
                    capacity,
                    refill_per_minute: share,
                    gate: project.cooldown.left(now),
                    gate_cause: project.cooldown.cause_now(now),
                },
                breaker_is_open: project.breaker.is_open(),
                demand_ratio,
            });
        });
        budgets.sort_by(|one, other| {
            let order = one.bucket.reserve_in.total_cmp(&other.bucket.reserve_in);
            order.then(one.project.cmp(&other.project))
        });
        budgets
    }
}
