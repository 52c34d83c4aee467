//! What an operator does: authorize, do, record, and only then answer.

use std::future::Future;
use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;

use super::{Admin, AdminRequest};
use crate::audit::{AdminAction, AdminRecord, Outcome};
use crate::identity::Caller;
use crate::policy::{Administrator, Denied, Reach};
use crate::server::body::payload::ResponseBody;
use crate::server::response::{self, AdminRefusal};

pub(super) struct Operation<'o> {
    pub(super) caller: Arc<Caller>,
    pub(super) action: AdminAction,
    pub(super) query: &'o str,
    pub(super) request: &'o AdminRequest,
}

pub(super) struct Done<T> {
    pub(super) value: T,
    pub(super) entries: Option<u64>,
}

impl Admin {
    /// Does `work`, which reaches that far, if a rule grants it. What is not on record is not answered.
    pub(super) async fn perform<T: Serialize>(
        &self,
        operation: &Operation<'_>,
        reach: Reach<'_>,
        work: impl Future<Output = Result<Done<T>, AdminRefusal>>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let done = self.record_of_reach(operation, reach, work).await;
        Ok(json(operation, &done?))
    }

    /// The same, for an answer that is no JSON.
    pub(super) async fn record_of_reach<T>(
        &self,
        operation: &Operation<'_>,
        reach: Reach<'_>,
        work: impl Future<Output = Result<Done<T>, AdminRefusal>>,
    ) -> Result<T, AdminRefusal> {
        let policy = self.gateway.policy.load_full();
        match policy.may_administer(&operation.caller, reach) {
            Ok(administrator) => self.finish(operation, reach, &administrator, work).await,
            Err(denied) => Err(self.deny(operation, reach, &denied).await),
        }
    }

    /// The same of work that tells an operator only of what a rule lets it administer, be that all or a part.
    pub(super) async fn perform_in_part<T: Serialize>(
        &self,
        operation: &Operation<'_>,
        work: impl Future<Output = Result<Done<T>, AdminRefusal>>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let done = self.record_in_part(operation, work).await;
        Ok(json(operation, &done?))
    }

    /// The same, for an answer that is no JSON.
    pub(super) async fn record_in_part<T>(
        &self,
        operation: &Operation<'_>,
        work: impl Future<Output = Result<Done<T>, AdminRefusal>>,
    ) -> Result<T, AdminRefusal> {
        let (policy, reach) = (self.gateway.policy.load_full(), Reach::Everything);
        match policy.administrates(&operation.caller) {
            Ok(administrator) => self.finish(operation, reach, &administrator, work).await,
            Err(denied) => Err(self.deny(operation, reach, &denied).await),
        }
    }

    async fn finish<T>(
        &self,
        operation: &Operation<'_>,
        reach: Reach<'_>,
        administrator: &Administrator,
        work: impl Future<Output = Result<Done<T>, AdminRefusal>>,
    ) -> Result<T, AdminRefusal> {
        let done = match work.await {
            // It is on record as rejected, once.
            Err(refusal) if refusal.is_of_what_was_sent() => return Err(refusal),
            done => done,
        };
        let action = operation.action;
        let (outcome, status) = match &done {
            // Whatever else an operator has begun is done, even if they hang up.
            _ if action == AdminAction::Search && operation.request.gone.is_cancelled() => {
                (Outcome::Abandoned, None)
            }
            Ok(_) if action == AdminAction::Session => {
                (Outcome::Answered, Some(StatusCode::SEE_OTHER.as_u16()))
            }
            Ok(_) => (Outcome::Answered, Some(StatusCode::OK.as_u16())),
            Err(refusal) => (Outcome::Failed, Some(refusal.status().as_u16())),
        };
        let has_filters = matches!(
            action,
            AdminAction::ExplainAccess | AdminAction::Search | AdminAction::Usage
        );
        let record = AdminRecord {
            outcome,
            status,
            rule: Some(administrator.rule()),
            entries: done.as_ref().ok().and_then(|done| done.entries),
            filters: has_filters.then_some(operation.query),
            ..self.record_of(operation, reach)
        };
        self.write_down(&record).await?;
        Ok(done?.value)
    }

    /// A denial is on record before it is answered.
    pub(super) async fn deny(
        &self,
        operation: &Operation<'_>,
        reach: Reach<'_>,
        denied: &Denied,
    ) -> AdminRefusal {
        let (refusal, audit) = (AdminRefusal::Denied, &self.gateway.audit);
        let record = AdminRecord {
            outcome: Outcome::Denied,
            status: Some(refusal.status().as_u16()),
            rule: denied.rule().map(|rule| &**rule),
            ..self.record_of(operation, reach)
        };
        let (caller, peer) = (Some(&*operation.caller), operation.request.peer);
        let folded = audit.refuse_admin(caller, peer, &refusal.code(), record.now);
        if folded.is_some() {
            return refusal;
        }
        self.write_down(&record).await.err().unwrap_or(refusal)
    }

    pub(super) fn record_of<'a>(
        &self,
        operation: &'a Operation<'_>,
        reach: Reach<'a>,
    ) -> AdminRecord<'a> {
        let (group_id, username) = match reach {
            Reach::Everything => (None, None),
            Reach::Project(project) => (Some(project.as_str()), None),
            Reach::CertQuery(query) => {
                (Some(query.project.as_str()), Some(query.username.as_str()))
            }
        };
        AdminRecord {
            caller: Some(&operation.caller),
            group_id,
            username,
            ..self.record(operation.action, operation.request, Outcome::Answered)
        }
    }

    pub(super) fn record(
        &self,
        action: AdminAction,
        request: &AdminRequest,
        outcome: Outcome,
    ) -> AdminRecord<'static> {
        AdminRecord {
            peer: Some(request.peer),
            request_id: Some(request.request_id),
            ..AdminRecord::bare(action, outcome, self.gateway.clock.now())
        }
    }

    pub(super) async fn write_down(&self, record: &AdminRecord<'_>) -> Result<(), AdminRefusal> {
        let written = self.gateway.audit.record_admin(record).await;
        written.map_err(AdminRefusal::Unrecorded)
    }
}

fn json<T: Serialize>(operation: &Operation<'_>, value: &T) -> Response<ResponseBody> {
    response::json(StatusCode::OK, value, Some(operation.request.request_id))
}
