//! `GET /audit/lookups`: filters go in, a page of the audit trail comes out.
//!
//! The filters are those of the command `audit search`, in the same words; without `kind` they are of
//! lookups. `first=oldest` turns the order around, `limit` is up to 1,000, and `next` of one page is
//! `before` (or, oldest first, `after`) of the following.
//!
//! What a rule denies the operator is left out.
//!
//! A search reads files for as long as they are large, so there are [two at a time](SEARCHES), each in
//! blocks, and one ends with its caller, or when the process stops. It has a thread of its own, of the
//! lowest priority, and no hit waits for it.

use std::borrow::Cow;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Admin, Requester, Task};
use crate::atlas::{CertQuery, ProjectId, Timestamp};
use crate::audit::search::{BadFilter, Filter, Incomplete, Order, Search};
use crate::audit::{AdminAction, AdminRecord, Outcome, RequestId, search};
use crate::identity::Caller;
use crate::policy::{Hidden, Reach};
use crate::server::layers::Body;
use crate::server::response;
use crate::server::response::AdminRefusal;
use crate::system::in_background;

#[derive(Serialize)]
struct LookupsPage {
    /// The records as they were written.
    records: Vec<Box<RawValue>>,
    /// The number to go on from; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    /// The files that could not be searched as a whole, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<String>,
}

struct LookupsQuery {
    filter: Filter,
    order: Order,
    limit: usize,
}

impl Admin {
    pub(super) async fn lookups(
        &self,
        caller: &Arc<Caller>,
        text: &str,
        by: Requester,
        gone: &CancellationToken,
    ) -> Result<Response<Body>, AdminRefusal> {
        let now = self.gateway.clock.now();
        let request = LookupsQuery::read(text, now.wall)
            .map_err(|bad| AdminRefusal::Query(Cow::Owned(bad.to_string())))?;
        let query = request.query();
        let project = request
            .filter
            .group
            .as_deref()
            .and_then(|id| id.parse::<ProjectId>().ok());
        let task = Task {
            action: AdminAction::Search,
            reach: match (&query, &project) {
                (Some(query), _) => Reach::CertQuery(query),
                (None, Some(project)) => Reach::Project(project),
                (None, None) => Reach::Everything,
            },
        };
        let rule = self.permitted(caller, &task, &by).await?;
        let hidden = self.gateway.policy.load().hidden(caller);
        let searched = self.search(request, hidden, gone, by.request_id).await;
        // After its end, and before anybody is told: what was looked for, and what became of it.
        let (outcome, status) = match &searched {
            _ if gone.is_cancelled() => (Outcome::Abandoned, None),
            Ok(_) => (Outcome::Answered, Some(StatusCode::OK)),
            Err(refusal) => (Outcome::Failed, Some(refusal.status())),
        };
        let page = searched.as_ref().ok();
        let done = AdminRecord {
            rule: Some(&rule),
            status: status.map(|status| status.as_u16()),
            entries: page.and_then(|page| page.records.len().try_into().ok()),
            filters: Some(text),
            ..by.record(caller, &task, outcome, self.gateway.clock.now())
        };
        self.write_down(&done).await?;
        let page = searched?;
        Ok(response::json(StatusCode::OK, &page, Some(by.request_id)))
    }

    async fn search(
        &self,
        request: LookupsQuery,
        hidden: Hidden,
        gone: &CancellationToken,
        request_id: RequestId,
    ) -> Result<LookupsPage, AdminRefusal> {
        let turn = Arc::clone(&self.searches).try_acquire_owned();
        let turn = turn.map_err(|_| AdminRefusal::TooManySearches)?;
        let directory = self.gateway.audit.directory().to_owned();
        let (gone, draining) = (gone.clone(), self.readiness.draining());
        let is_over = move || gone.is_cancelled() || draining.load(Ordering::Relaxed);
        // Reading a trail takes as long as it is large.
        let page = in_background(move || {
            let page = request.page(&directory, &hidden, &is_over);
            // Not earlier: whoever hangs up and asks again must not have two searches under way.
            drop(turn);
            page.map(|page| (!is_over()).then_some(page))
        });
        let page = page.await.ok_or(AdminRefusal::Unexpected)?;
        let page = page.map_err(|problem| {
            error!(%request_id, "a search did not come to its end: {problem}");
            AdminRefusal::Unreadable
        })?;
        page.ok_or(AdminRefusal::Stopping)
    }
}

impl LookupsQuery {
    fn read(query: &str, now: Timestamp) -> Result<Self, BadFilter> {
        let (mut filter, mut order, mut limit) = (Filter::default(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(BadFilter::Unknown)?;
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| BadFilter::Unknown)?;
            let bad = |name, allowed| BadFilter::Value { name, allowed };
            match name {
                "first" => {
                    let first = search::order(&value).map_err(|it| bad("first", it))?;
                    if order.replace(first).is_some() {
                        return Err(BadFilter::Twice("first"));
                    }
                }
                "limit" => {
                    let most = value.parse().ok();
                    let most = most.filter(|most| (1..=LARGEST_LIMIT).contains(most));
                    let most = most.ok_or_else(|| bad("limit", "1 to 1000"))?;
                    if limit.replace(most).is_some() {
                        return Err(BadFilter::Twice("limit"));
                    }
                }
                _ => filter.set(name, &value, now)?,
            }
        }
        filter.kind.get_or_insert_with(|| "lookup".to_owned());
        Ok(Self {
            filter,
            order: order.unwrap_or_default(),
            limit: limit.unwrap_or(USUAL_LIMIT),
        })
    }

    /// The one key that is asked about, where the filters name one.
    fn query(&self) -> Option<CertQuery> {
        Some(CertQuery {
            project: self.filter.group.as_deref()?.parse().ok()?,
            username: self.filter.username.as_deref()?.parse().ok()?,
        })
    }

    fn page(
        &self,
        directory: &Path,
        hidden: &Hidden,
        is_over: &dyn Fn() -> bool,
    ) -> io::Result<LookupsPage> {
        let mut page = LookupsPage {
            records: Vec::new(),
            next: None,
            incomplete: Vec::new(),
        };
        let (mut last, mut bytes) = (None, 0);
        let search = Search {
            directories: &[directory.to_owned()],
            filter: &self.filter,
            order: self.order,
        };
        let incomplete = search::search_until(&search, is_over, |found| {
            if is_hidden(found.line, hidden) {
                return ControlFlow::Continue(());
            }
            if page.records.len() == self.limit || bytes > LARGEST_PAGE {
                page.next = last;
                return ControlFlow::Break(());
            }
            last = Some(found.seq);
            bytes += found.line.len();
            // A line that is no JSON is a torn one, which the next start cuts off.
            page.records
                .extend(RawValue::from_string(found.line.to_owned()).ok());
            ControlFlow::Continue(())
        })?;
        // Their names are the operator's to know; where they lie is not.
        page.incomplete = incomplete.iter().map(Incomplete::of_name).collect();
        Ok(page)
    }
}

/// The members of a record that name a project or a user.
#[derive(Deserialize)]
struct NamedFilters<'l> {
    #[serde(borrow)]
    group_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    username: Option<Cow<'l, str>>,
    #[serde(borrow)]
    filters: Option<Cow<'l, str>>,
}

/// Whether a record speaks of what a rule denies the operator.
fn is_hidden(line: &str, hidden: &Hidden) -> bool {
    if hidden.is_empty() {
        return false;
    }
    // What cannot be judged is not shown.
    let Ok(named) = serde_json::from_str::<NamedFilters<'_>>(line) else {
        return true;
    };
    let asked_for = named.filters.as_deref().map(|filters| {
        let value = |wanted: &str| {
            let mut pairs = filters.split('&').filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(name, _)| *name == wanted)?;
            Some(percent_decode_str(value).decode_utf8_lossy())
        };
        let group = value("group").or_else(|| value("groupId"));
        (group, value("username"))
    });
    hidden.has(named.group_id.as_deref(), named.username.as_deref())
        || asked_for
            .is_some_and(|(group, username)| hidden.has(group.as_deref(), username.as_deref()))
}

const LARGEST_LIMIT: usize = 1_000;
/// In bytes; a page may end before its limit.
const LARGEST_PAGE: usize = 2 << 20;
/// Searches at a time.
pub(super) const SEARCHES: usize = 2;
const USUAL_LIMIT: usize = 100;
