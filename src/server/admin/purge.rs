//! `POST /cache/purge`: what is to be forgotten goes in, how many entries that concerned comes out.

use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};

use super::{Admin, Requester, Task};
use crate::atlas::{CertQuery, ProjectId};
use crate::audit::{AdminAction, AdminRecord, Outcome, Unrecorded};
use crate::cache::Purge;
use crate::identity::Caller;
use crate::policy::Reach;
use crate::server::layers::Body;
use crate::server::response;
use crate::server::response::AdminRefusal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PurgeRequest {
    group_id: Option<String>,
    username: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    soft: bool,
}

#[derive(Serialize)]
struct Purged {
    entries: u64,
}

impl Admin {
    pub(super) async fn purge(
        &self,
        caller: &Arc<Caller>,
        body: Incoming,
        by: Requester,
    ) -> Result<Response<Body>, AdminRefusal> {
        let body = Limited::new(body, LARGEST_BODY).collect();
        let body = self.gateway.clock.timeout(BODY_PATIENCE, body).await;
        let body = body
            .map_err(|_| AdminRefusal::TooLate)?
            .map_err(|problem| {
                if problem.is::<LengthLimitError>() {
                    AdminRefusal::TooLarge
                } else {
                    AdminRefusal::Body("cannot be read")
                }
            })?;
        let request: PurgeRequest =
            serde_json::from_slice(&body.to_bytes()).map_err(|_| AdminRefusal::Body(PURGE_FORM))?;
        let soft = request.soft;
        let what = what_to_purge(request)?;
        let reach = match &what {
            Purge::All => Reach::Everything,
            Purge::Key(query) => Reach::CertQuery(query),
            Purge::Project(project) => Reach::Project(project),
        };
        let task = Task {
            action: AdminAction::Purge,
            reach,
        };
        let rule = self.permitted(caller, &task, &by).await?;
        if !self.gateway.audit.is_writable() {
            // How many entries it concerned is known afterwards, but what is not on record is not done.
            return Err(AdminRefusal::Unrecorded(Unrecorded::Unwritable));
        }
        let cache = self.gateway.cache.clone();
        let _turn = match &what {
            Purge::All | Purge::Project(_) => self.large_purges.acquire().await.ok(),
            Purge::Key(_) => None,
        };
        let purged = what.clone();
        let hidden = self.gateway.policy.load().hidden(caller);
        // It costs what it purges, which may be everything.
        let entries = tokio::task::spawn_blocking(move || {
            // What is denied to the operator stays as it is.
            cache.purge_except(&purged, soft, |project, username| {
                hidden.has(Some(project), Some(username))
            })
        })
        .await;
        let entries = entries.map_err(|_| AdminRefusal::Unexpected)?;
        let done = AdminRecord {
            entries: Some(entries),
            rule: Some(&rule),
            ..by.record(caller, &task, Outcome::Answered, self.gateway.clock.now())
        };
        self.write_down(&done).await?;
        Ok(response::json(
            StatusCode::OK,
            &Purged { entries },
            Some(by.request_id),
        ))
    }
}

fn what_to_purge(request: PurgeRequest) -> Result<Purge, AdminRefusal> {
    let project = |id: String| {
        id.parse::<ProjectId>()
            .map_err(|_| AdminRefusal::Body("`groupId` is not 24 hex digits"))
    };
    match (request.all, request.group_id, request.username) {
        (true, None, None) => Ok(Purge::All),
        (false, Some(id), None) => Ok(Purge::Project(project(id)?)),
        (false, Some(id), Some(name)) => Ok(Purge::Key(CertQuery {
            project: project(id)?,
            username: name
                .parse()
                .map_err(|_| AdminRefusal::Body("`username` is no username"))?,
        })),
        (_, _, _) => Err(AdminRefusal::Body(PURGE_FORM)),
    }
}

const LARGEST_BODY: usize = 16 << 10;
/// How long it may take.
const BODY_PATIENCE: Duration = Duration::from_secs(10);
const PURGE_FORM: &str = "must be {\"groupId\": \"…\", \"username\": \"…\"}, `groupId` alone or {\"all\": true}, \
                          with \"soft\": true to mark stale instead of removing";
