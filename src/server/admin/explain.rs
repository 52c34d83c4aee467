//! `GET /cache/explain`: what is known of a list.

use std::borrow::Cow;

use http::Response;
use serde::Serialize;

use super::Admin;
use super::operation::{Done, Operation};
use crate::atlas::CertQuery;
use crate::cache::Explanation;
use crate::fleet::Fleet;
use crate::policy::Reach;
use crate::server::body::payload::ResponseBody;
use crate::server::query::parameters;
use crate::server::response::AdminRefusal;
use crate::upstream::{BudgetView, CooldownCause};

/// What is known of a list; serialised, it is the answer.
#[derive(Serialize)]
pub(super) struct ExplainedEntry {
    #[serde(flatten)]
    explanation: Explanation,
    budget: ExplainedBudget,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<ExplainedFleet>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplainedBudget {
    remaining: u64,
    capacity: u64,
    refill_per_minute: u64,
    gate_closed_for_seconds: Option<u64>,
    gate_closed_by_status: Option<u16>,
}

/// What this replica's fleet has of the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplainedFleet {
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_seconds_ago: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fresh_for_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_ends_in_milliseconds: Option<u128>,
}

impl ExplainedFleet {
    async fn of(fleet: &Fleet, query: &CertQuery) -> Self {
        let looked = fleet.look_at_list(query).await.ok();
        let entry = looked.and_then(|view| view.entry);
        let lease_left = looked.and_then(|view| view.lease_left);
        Self {
            connected: fleet.problem().is_none(),
            stored_seconds_ago: entry.map(|entry| entry.stored_ago.as_secs()),
            fresh_for_seconds: entry.map(|entry| entry.fresh_for.as_secs()),
            lease_ends_in_milliseconds: lease_left.map(|left| left.as_millis()),
        }
    }
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
        operation: &Operation<'_>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let nothing_else = |_: &str, _: &str| Err(QUERY_FORM.to_owned());
        let query = cert_query(operation.query, QUERY_FORM, nothing_else)
            .map_err(|message| AdminRefusal::Query(Cow::Owned(message)))?;
        let explained = async {
            Ok(Done {
                value: self.known_of(&query).await,
                entries: None,
            })
        };
        let reach = Reach::CertQuery(&query);
        self.perform(operation, reach, explained).await
    }

    pub(super) async fn known_of(&self, query: &CertQuery) -> ExplainedEntry {
        let gateway = &self.gateway;
        let fleet = match &gateway.fleet {
            Some(fleet) => Some(ExplainedFleet::of(fleet, query).await),
            None => None,
        };
        ExplainedEntry {
            explanation: gateway.cache.explain(query, gateway.clock.now()),
            budget: gateway.upstream.budget_view(&query.project).into(),
            fleet,
        }
    }
}

/// The one key that a query names; what else is in it goes to `other`. What is wrong is told as `form` does.
pub(super) fn cert_query(
    query: &str,
    form: &str,
    mut other: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<CertQuery, String> {
    let (mut project, mut username) = (None, None);
    let form = || form.to_owned();
    for parameter in parameters(query) {
        let (name, value) = parameter.map_err(|_| form())?;
        match &*name {
            "groupId" if project.is_none() => project = Some(value.parse().map_err(|_| form())?),
            "username" if username.is_none() => username = Some(value.parse().map_err(|_| form())?),
            "groupId" | "username" => return Err(form()),
            name => other(name, &value)?,
        }
    }
    Ok(CertQuery {
        project: project.ok_or_else(form)?,
        username: username.ok_or_else(form)?,
    })
}

pub(super) const QUERY_FORM: &str = "must be groupId=…&username=…, percent-encoded";
