//! `GET /access/explain`: a caller, a project and a user go in, what each rule has to say comes out.
//!
//! The caller is described by the query, in the words of its token's claims; without any of them it is the
//! operator who asks. An operator learns of those questions only that they may administer.

use std::borrow::Cow;
use std::sync::Arc;

use http::Response;
use serde::Serialize;

use super::Admin;
use super::explain::cert_query;
use super::operation::{Done, Operation};
use crate::identity::CallerDescription;
use crate::policy::{AccessExplanation, Reach};
use crate::server::body::payload::ResponseBody;
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
        operation: &Operation<'_>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let bad = |message| AdminRefusal::Query(Cow::Owned(message));
        let mut described = CallerDescription::default();
        let claim = |name: &str, value: &str| described.set(name, value);
        let query = cert_query(operation.query, QUERY_FORM, claim).map_err(bad)?;
        let caller = &operation.caller;
        let explained = async {
            let asked_about = if described.is_empty() {
                Arc::clone(caller)
            } else {
                let issuers = self.gateway.identity.issuer_names();
                Arc::new(described.caller(&issuers).map_err(bad)?)
            };
            let policy = self.gateway.policy.load();
            let may_see_all = policy.may_administer(caller, Reach::Everything).is_ok();
            let unused = || policy.unused().into_iter().map(ToString::to_string);
            let value = ExplainedAccess {
                explanation: policy.explain(&asked_about, &query),
                unused_rules: may_see_all.then(|| unused().collect()),
            };
            Ok(Done {
                value,
                entries: None,
            })
        };
        let reach = Reach::CertQuery(&query);
        self.perform(operation, reach, explained).await
    }
}

const QUERY_FORM: &str = "must be groupId=…&username=…, and of the caller sub=…, and iss=…, scope=…, client_id=…, \
                          jti=… or kid=…, percent-encoded; without any of these it is yourself";
