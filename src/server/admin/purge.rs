//! `POST /cache/purge`: removes entries, or marks them stale (soft purge).

use http::Response;
use hyper::body::Incoming;
use serde::{Deserialize, Deserializer, Serialize};

use super::Admin;
use super::operation::{Done, Operation};
use crate::atlas::{CertQuery, ProjectId};
use crate::audit::Unrecorded;
use crate::cache::Purge;
use crate::fleet::Confirmed;
use crate::gateway::PurgeError;
use crate::policy::Reach;
use crate::server::body::payload::ResponseBody;
use crate::server::response::AdminRefusal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PurgeRequest {
    #[serde(default, deserialize_with = "not_null")]
    group_id: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    username: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    soft: bool,
}

#[derive(Serialize)]
struct Purged {
    entries: u64,
    /// Of a fleet: how many replicas run, and how many of them have forgotten it, too.
    #[serde(flatten)]
    fleet: Option<Confirmed>,
}

impl Admin {
    pub(super) async fn purge(
        &self,
        operation: &Operation<'_>,
        body: Incoming,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let body = self.read_body(body).await?;
        let request: PurgeRequest =
            serde_json::from_slice(&body).map_err(|_| AdminRefusal::Body(PURGE_FORM))?;
        let soft = request.soft;
        let what = what_to_purge(request)?;
        let reach = match &what {
            Purge::All => Reach::Everything,
            Purge::Key(query) => Reach::CertQuery(query),
            Purge::Project(project) => Reach::Project(project),
        };
        let purged = async {
            if !self.gateway.audit.is_writable() {
                // How many entries it concerned is known afterwards, but what is not on record is not done.
                return Err(AdminRefusal::Unrecorded(Unrecorded::Unwritable));
            }
            let _one_at_a_time = match &what {
                Purge::All | Purge::Project(_) => self.large_purges.acquire().await.ok(),
                Purge::Key(_) => None,
            };
            let request_id = operation.request.request_id;
            let hidden = self.gateway.policy.load().hidden(&operation.caller);
            let limited = (!hidden.is_empty()).then_some(&*operation.caller);
            let told = self.gateway.tell_purge(&what, soft, request_id, limited);
            let told = told.await;
            // What is denied to the operator stays as it is.
            let stays =
                move |project: &str, username: &str| hidden.has(Some(project), Some(username));
            let purged = self.gateway.purge(what.clone(), soft, stays).await;
            let entries = purged.map_err(|error| match error {
                PurgeError::Panicked => AdminRefusal::Unexpected,
                PurgeError::SnapshotStays(_) => AdminRefusal::SnapshotStays,
            })?;
            Ok(Done {
                value: Purged {
                    entries,
                    fleet: self.gateway.confirm_purge(told).await,
                },
                entries: Some(entries),
            })
        };
        self.perform(operation, reach, purged).await
    }
}

/// A name that a program has left empty by mistake must not make a purge of one list one of a project's.
fn not_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
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

const PURGE_FORM: &str = "must be {\"groupId\": \"…\", \"username\": \"…\"}, `groupId` alone or {\"all\": true}, \
                          with \"soft\": true to mark stale instead of removing";
