//! `GET /cache/explain`: a project and a user go in, everything that is known of their entry comes out.

use std::borrow::Cow;

use http::{Response, StatusCode};
use serde::Serialize;

use super::{Admin, Requester, Task};
use crate::atlas::{CertQuery, ProjectId};
use crate::audit::{AdminAction, AdminRecord, Outcome};
use crate::cache::Explanation;
use crate::identity::Caller;
use crate::policy::Reach;
use crate::server::layers::Body;
use crate::server::response;
use crate::server::response::AdminRefusal;
use crate::upstream::{BudgetView, CooldownCause};

#[derive(Serialize)]
struct ExplainedEntry {
    #[serde(flatten)]
    explanation: Explanation,
    budget: ExplainedBudget,
}

/// What is left of the project's share of Atlas's rate limit.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplainedBudget {
    remaining: u64,
    capacity: u64,
    refill_per_minute: u64,
    gate_closed_for_seconds: Option<u64>,
    /// Which answer of Atlas's closed it.
    gate_closed_by_status: Option<u16>,
}

impl From<BudgetView> for ExplainedBudget {
    fn from(view: BudgetView) -> Self {
        Self {
            remaining: view.remaining,
            capacity: view.capacity,
            refill_per_minute: view.refill_per_minute,
            gate_closed_for_seconds: view.gate.map(|wait| wait.as_secs()),
            gate_closed_by_status: view.gate_cause.map(CooldownCause::status),
        }
    }
}

impl Admin {
    pub(super) async fn explain(
        &self,
        caller: &Caller,
        query: &str,
        by: Requester,
    ) -> Result<Response<Body>, AdminRefusal> {
        let query = query_in(query).ok_or(AdminRefusal::Query(Cow::Borrowed(QUERY_FORM)))?;
        let task = Task {
            action: AdminAction::Explain,
            reach: Reach::CertQuery(&query),
        };
        let rule = self.permitted(caller, &task, &by).await?;
        let now = self.gateway.clock.now();
        let done = AdminRecord {
            rule: Some(&rule),
            ..by.record(caller, &task, Outcome::Answered, now)
        };
        self.write_down(&done).await?;
        let explained = ExplainedEntry {
            explanation: self.gateway.cache.explain(&query, now),
            budget: self.gateway.upstream.budget_view(&query.project).into(),
        };
        Ok(response::json(
            StatusCode::OK,
            &explained,
            Some(by.request_id),
        ))
    }
}

fn query_in(query: &str) -> Option<CertQuery> {
    let (mut project, mut username) = (None, None);
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("groupId", value)) if project.is_none() => {
                project = Some(ProjectId::from_path_segment(value).ok()?);
            }
            Some(("username", value)) if username.is_none() => {
                username = Some(crate::atlas::Username::from_path_segment(value).ok()?);
            }
            Some(_) | None => return None,
        }
    }
    Some(CertQuery {
        project: project?,
        username: username?,
    })
}

const QUERY_FORM: &str = "must be groupId=…&username=…, percent-encoded";
