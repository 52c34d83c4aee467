//! `GET /access/explain`: whether a caller may look a user up, and what each rule has to say.
//!
//! The caller is described by the query, in the words of its token's claims; without any of them it is the
//! operator who asks. An operator learns of those questions only that they may administer.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::{Admin, Requester, Task};
use crate::atlas::CertQuery;
use crate::audit::{AdminAction, AdminRecord, Outcome};
use crate::identity::{Caller, CallerDescription};
use crate::policy::{AccessExplanation, Reach};
use crate::server::layers::Body;
use crate::server::response;
use crate::server::response::AdminRefusal;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExplainedAccess {
    #[serde(flatten)]
    explanation: AccessExplanation,
    /// The rules that have decided nothing since the start, for those who administer everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    unused_rules: Option<Vec<String>>,
}

impl Admin {
    pub(super) async fn explain_access(
        &self,
        caller: &Arc<Caller>,
        text: &str,
        by: Requester,
    ) -> Result<Response<Body>, AdminRefusal> {
        let bad = |message| AdminRefusal::Query(Cow::Owned(message));
        let AccessQuery { described, query } = read(text).map_err(bad)?;
        let task = Task {
            action: AdminAction::ExplainAccess,
            reach: Reach::CertQuery(&query),
        };
        let rule = self.permitted(caller, &task, &by).await?;
        let now = self.gateway.clock.now();
        let asked_about = match described {
            Some(described) => {
                let issuers = self.gateway.identity.issuer_names();
                Arc::new(described.caller(&issuers).map_err(bad)?)
            }
            None => Arc::clone(caller),
        };
        let done = AdminRecord {
            rule: Some(&rule),
            filters: Some(text),
            ..by.record(caller, &task, Outcome::Answered, now)
        };
        self.write_down(&done).await?;
        let policy = self.gateway.policy.load();
        let may_see_all = policy.may_administer(caller, Reach::Everything).is_ok();
        let explained = ExplainedAccess {
            explanation: policy.explain(&asked_about, &query),
            unused_rules: may_see_all.then(|| {
                policy
                    .unused()
                    .into_iter()
                    .map(ToString::to_string)
                    .collect()
            }),
        };
        Ok(response::json(
            StatusCode::OK,
            &explained,
            Some(by.request_id),
        ))
    }
}

/// What is asked, and about whom; `None`: about the operator.
struct AccessQuery {
    described: Option<CallerDescription>,
    query: CertQuery,
}

fn read(query: &str) -> Result<AccessQuery, String> {
    let (mut described, mut project, mut username) = (CallerDescription::default(), None, None);
    let form = || QUERY_FORM.to_owned();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or_else(form)?;
        let value = percent_decode_str(value)
            .decode_utf8()
            .map_err(|_| form())?;
        match name {
            "groupId" if project.is_none() => project = Some(value.parse().map_err(|_| form())?),
            "username" if username.is_none() => username = Some(value.parse().map_err(|_| form())?),
            "groupId" | "username" => return Err(form()),
            claim => described.set(claim, &value)?,
        }
    }
    let query = CertQuery {
        project: project.ok_or_else(form)?,
        username: username.ok_or_else(form)?,
    };
    Ok(AccessQuery {
        described: (!described.is_empty()).then_some(described),
        query,
    })
}

const QUERY_FORM: &str = "must be groupId=…&username=…, and of the caller sub=…, and iss=…, scope=…, client_id=…, \
                          jti=… or kid=…, percent-encoded; without any of these it is yourself";
