//! The users of a project whose certificates Atlas manages: `GET /groups/{groupId}/databaseUsers`, in pages of 500.
//!
//! Of its rate limit certificates take nothing: 10,000 calls, and 5,000 a minute, of a bucket of its own. It needs
//! the same role, Project Read Only. Of the answer only the names are read; roles, labels and the rest are not kept.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use super::Upstream;
use super::call::{CallContext, users_path};
use super::credential::Login;
use super::error::{CallError, FetchError, FetchErrorKind, Urgency};
use super::page::LONGEST_PAGE;
use super::progress::FetchCounts;
use super::response::page_body;
use crate::atlas::{ProjectId, Username};
use crate::telemetry::metrics::upstream::{CallCause, Endpoint};

#[derive(Deserialize)]
struct UsersPage<'b> {
    #[serde(borrow)]
    results: Vec<User<'b>>,
}

#[derive(Deserialize)]
struct User<'b> {
    #[serde(borrow)]
    username: Cow<'b, str>,
    #[serde(rename = "x509Type", borrow, default)]
    x509_type: Option<Cow<'b, str>>,
}

impl Upstream {
    /// The names of the users of `project` whose certificates Atlas manages, in Atlas's order. It lists no others'
    /// certificates.
    pub(crate) async fn managed_users(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<Username>, FetchError> {
        let error = |reason, name, progress: &FetchCounts| FetchError {
            reason,
            stats: progress.stats(name),
        };
        let progress = FetchCounts::new(CallCause::Inventory);
        let Some(credential) = self.0.credential(project) else {
            return Err(error(
                FetchErrorKind::NoCredential,
                Arc::from(""),
                &progress,
            ));
        };
        let name = Arc::clone(&credential.name);
        let path = users_path(self.0.api, *project);
        let url = self.0.env.client.url(&path);
        let mut context = CallContext {
            upstream: self,
            project: *project,
            retries: false,
            credential: &credential,
            limits: self.0.limiter.for_fetch(*project, Urgency::Inventory),
            progress,
            deadline: self.0.env.clock.elapsed(),
            url: url.expect("a project's id is no more than digits"),
            endpoint: Endpoint::Users,
        };
        let mut users = Vec::new();
        for number in 1..=MOST_PAGES {
            context.deadline = self.0.env.clock.elapsed() + self.0.limits.fetch;
            let page = context.users_page(number).await;
            let (listed, managed) =
                page.map_err(|it| error(it.into(), Arc::clone(&name), &context.progress))?;
            users.extend(managed);
            if listed < LONGEST_PAGE {
                break;
            }
        }
        Ok(users)
    }
}

impl CallContext<'_> {
    /// How many users are on a page, and the names of those that Atlas manages.
    async fn users_page(&self, number: u64) -> Result<(usize, Vec<Username>), CallError> {
        let mut has_tried = false;
        loop {
            let (reply, bearer) = match &self.credential.login {
                Login::Key(key) => (self.exchange_digest(key, number, 0).await?, None),
                Login::Account(account) => {
                    let bearer = account.bearer().await.map_err(super::call::not_sent)?;
                    let header = Some(bearer.header.clone());
                    (self.exchange(number, header, 0).await?, Some(bearer))
                }
            };
            let body = match page_body(&reply) {
                Ok(body) => body,
                Err(error) => {
                    let is_refused = reply.status == http::StatusCode::UNAUTHORIZED;
                    let again = is_refused
                        && !has_tried
                        && self.has_new_token(bearer.as_ref(), &error).await?;
                    if !again {
                        return Err(error);
                    }
                    has_tried = true;
                    continue;
                }
            };
            let page: UsersPage<'_> = serde_json::from_slice(body)
                .map_err(|_| CallError::Unusable("not a page of database users"))?;
            let managed = page.results.iter().filter(|user| {
                let kind = user.x509_type.as_deref();
                kind == Some("MANAGED")
            });
            let managed = managed.filter_map(|user| user.username.parse().ok());
            return Ok((page.results.len(), managed.collect()));
        }
    }
}

/// A hundred thousand users, ten times what Atlas allows a project.
const MOST_PAGES: u64 = 200;
