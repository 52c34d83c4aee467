//! `GET /budgets`: what is left of each project's rate limit at Atlas, who spends it, and when it ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use serde::Serialize;

use super::Admin;
use super::operation::{Done, Operation};
use crate::atlas::ProjectId;
use crate::policy::Reach;
use crate::server::body::payload::ResponseBody;
use crate::server::response::AdminRefusal;
use crate::upstream::ProjectBudget;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Budgets {
    as_of: String,
    results: Vec<ToldBudget>,
    total_count: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldBudget {
    group_id: String,
    credential: Option<Arc<str>>,
    atlas: AtAtlas,
    ours: OwnShare,
    per_minute: PerMinute,
    seconds_to_reserve: Option<u64>,
    seconds_to_empty: Option<u64>,
    gate_closed_for_seconds: Option<u64>,
    breaker: &'static str,
    /// Users of whom something is known.
    users: usize,
    demand_ratio: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AtAtlas {
    remaining: u64,
    capacity: u64,
    said_seconds_ago: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnShare {
    remaining: u64,
    capacity: u64,
    refill_per_minute: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PerMinute {
    ours: u64,
    others: u64,
}

impl Admin {
    pub(super) async fn budgets(
        &self,
        operation: &Operation<'_>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        if !operation.query.is_empty() {
            return Err(AdminRefusal::Query("has no parameters".into()));
        }
        let policy = self.gateway.policy.load_full();
        let told = async {
            let mut budgets = self.gateway.upstream.budgets();
            // Of other projects the operator is told nothing.
            budgets.retain(|budget| {
                let reach = Reach::Project(&budget.project);
                policy.may_administer(&operation.caller, reach).is_ok()
            });
            let users = self.gateway.known_lists.users_by_project();
            let results: Vec<ToldBudget> = budgets
                .into_iter()
                .map(|budget| ToldBudget::of(budget, &users))
                .collect();
            Ok(Done {
                entries: u64::try_from(results.len()).ok(),
                value: Budgets {
                    as_of: self.gateway.clock.now().wall.in_seconds(),
                    total_count: results.len(),
                    results,
                },
            })
        };
        self.perform_in_part(operation, told).await
    }
}

impl ToldBudget {
    fn of(budget: ProjectBudget, users: &HashMap<ProjectId, usize>) -> Self {
        let (bucket, own) = (budget.bucket, budget.own);
        Self {
            group_id: budget.project.as_str().to_owned(),
            credential: budget.credential,
            atlas: AtAtlas {
                remaining: bucket.remaining,
                capacity: bucket.capacity,
                said_seconds_ago: bucket.said_ago.as_secs(),
            },
            ours: OwnShare {
                remaining: own.remaining,
                capacity: own.capacity,
                refill_per_minute: own.refill_per_minute,
            },
            per_minute: PerMinute {
                ours: bucket.ours_per_minute,
                others: bucket.others_per_minute,
            },
            seconds_to_reserve: seconds(bucket.reserve_in),
            seconds_to_empty: seconds(bucket.empty_in),
            gate_closed_for_seconds: own.gate.map(|wait| wait.as_secs()),
            breaker: if budget.breaker_is_open {
                "open"
            } else {
                "closed"
            },
            users: users.get(&budget.project).copied().unwrap_or(0),
            demand_ratio: (budget.demand_ratio * 100.0).round() / 100.0,
        }
    }
}

/// `None` for what never comes.
fn seconds(time: f64) -> Option<u64> {
    Some(Duration::try_from_secs_f64(time).ok()?.as_secs())
}
