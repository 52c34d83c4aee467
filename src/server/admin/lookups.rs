//! `GET /audit/lookups`: a page of the audit trail.
//!
//! The filters are those of the command `audit search`; without `kind` they are of lookups, with
//! `changed` of fetches.
//! `first=oldest` turns the order around, and `next` of one page is `before` (or, oldest first, `after`) of
//! the following. With `scope=fleet` it is of all replicas, from the central trail and of this replica what was not
//! shipped yet, and `next` is `behind` of the following page. What a rule denies the operator is left out.
//!
//! A search reads the whole trail, so there are [two at a time](SEARCHES), each on a thread of the lowest
//! priority, and one ends with its caller, or when the process stops.

use std::borrow::Cow;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;
use tracing::error;

use super::Admin;
use super::operation::{Done, Operation};
use crate::atlas::{CertQuery, ProjectId, Timestamp};
use crate::audit::database::{ChainStatus, RecordPlace};
use crate::audit::search::{self, BadFilter, Filter, Incomplete, Order, Search};
use crate::policy::{Hidden, Reach};
use crate::server::body::payload::ResponseBody;
use crate::server::query::parameters;
use crate::server::response::AdminRefusal;
use crate::system::in_background;

#[derive(Default, Serialize)]
pub(super) struct LookupsPage {
    /// The records as they were written.
    pub(super) records: Vec<Box<RawValue>>,
    /// The number to go on from, or the place where it is of all replicas; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<NextPage>,
    /// How far each replica's chain has come, where it is of all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) chains: Vec<ChainStatus>,
    /// The files that could not be searched as a whole, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) incomplete: Vec<String>,
}

/// Where the following page begins.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum NextPage {
    Number(u64),
    Place(String),
}

pub(super) struct LookupsQuery {
    pub(super) filter: Filter,
    pub(super) order: Order,
    pub(super) limit: usize,
    pub(super) is_of_fleet: bool,
    /// Of all replicas only those behind this one.
    pub(super) behind: Option<RecordPlace>,
}

impl Admin {
    pub(super) async fn lookups(
        &self,
        operation: &Operation<'_>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let now = self.gateway.clock.now().wall;
        let request = LookupsQuery::read(operation.query, now)
            .map_err(|bad| AdminRefusal::Query(Cow::Owned(bad.to_string())))?;
        let query = request.query();
        let group = request.filter.group.as_deref();
        let project = group.and_then(|id| id.parse::<ProjectId>().ok());
        let reach = match (&query, &project) {
            (Some(query), _) => Reach::CertQuery(query),
            (None, Some(project)) => Reach::Project(project),
            (None, None) => Reach::Everything,
        };
        let searched = async {
            let value = self.search(request, operation).await?;
            let entries = value.records.len().try_into().ok();
            Ok(Done { value, entries })
        };
        self.perform(operation, reach, searched).await
    }

    async fn search(
        &self,
        request: LookupsQuery,
        operation: &Operation<'_>,
    ) -> Result<LookupsPage, AdminRefusal> {
        if request.is_of_fleet {
            let search = self.begin_search()?;
            let page = Box::pin(self.search_fleet(&request, operation)).await;
            drop(search);
            return page;
        }
        let read = self.read_trail(operation, move |directory, hidden, is_over| {
            request.page(directory, hidden, is_over)
        });
        read.await
    }

    /// Reads this replica's trail, of which `read` leaves out what is hidden from the operator, until it is over.
    pub(super) async fn read_trail<T: Send + 'static>(
        &self,
        operation: &Operation<'_>,
        read: impl FnOnce(&Path, &Hidden, &dyn Fn() -> bool) -> io::Result<T> + Send + 'static,
    ) -> Result<T, AdminRefusal> {
        let search = self.begin_search()?;
        let directory = self.gateway.audit.directory().to_owned();
        let hidden = self.gateway.policy.load().hidden(&operation.caller);
        let request_id = operation.request.request_id;
        let gone = operation.request.gone.clone();
        let draining = self.readiness.draining();
        let is_over = move || gone.is_cancelled() || draining.load(Ordering::Relaxed);
        let result = in_background(move || {
            let result = read(&directory, &hidden, &is_over);
            // Not earlier: an operator who hangs up and asks again must not have two searches.
            drop(search);
            result.map(|value| (!is_over()).then_some(value))
        });
        let result = result.await.ok_or(AdminRefusal::Unexpected)?;
        let result = result.map_err(|problem| {
            error!(%request_id, "a search did not come to its end: {problem}");
            AdminRefusal::Unreadable
        })?;
        result.ok_or(AdminRefusal::Stopping)
    }

    fn begin_search(&self) -> Result<OwnedSemaphorePermit, AdminRefusal> {
        let search = Arc::clone(&self.searches).try_acquire_owned();
        search.map_err(|_| AdminRefusal::TooManySearches)
    }
}

impl LookupsQuery {
    fn read(query: &str, now: Timestamp) -> Result<Self, BadFilter> {
        let (mut filter, mut order, mut limit) = (Filter::default(), None, None);
        let (mut is_of_fleet, mut behind) = (None, None);
        let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
        if !pairs.all(|pair| pair.contains('=')) {
            return Err(BadFilter::Unknown);
        }
        for parameter in parameters(query) {
            let (name, value) = parameter.map_err(|_| BadFilter::Unknown)?;
            let bad = |name, allowed| BadFilter::Value { name, allowed };
            match &*name {
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
                "scope" => {
                    let scope = match &*value {
                        "fleet" => true,
                        "replica" => false,
                        _ => return Err(bad("scope", "replica or fleet")),
                    };
                    if is_of_fleet.replace(scope).is_some() {
                        return Err(BadFilter::Twice("scope"));
                    }
                }
                "behind" => {
                    let place = value.parse().map_err(|it| bad("behind", it))?;
                    if behind.replace(place).is_some() {
                        return Err(BadFilter::Twice("behind"));
                    }
                }
                name => filter.set(name, &value, now)?,
            }
        }
        let usual_kind = if filter.wants_changes() {
            "fetch"
        } else {
            "lookup"
        };
        filter.kind.get_or_insert_with(|| usual_kind.to_owned());
        Ok(Self {
            filter,
            order: order.unwrap_or_default(),
            limit: limit.unwrap_or(USUAL_LIMIT),
            is_of_fleet: is_of_fleet.unwrap_or(false),
            behind,
        })
    }

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
        let mut page = LookupsPage::default();
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
                page.next = last.map(NextPage::Number);
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

#[derive(Deserialize)]
struct NamedFilters<'l> {
    #[serde(borrow)]
    group_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    username: Option<Cow<'l, str>>,
    #[serde(borrow)]
    filters: Option<Cow<'l, str>>,
    #[serde(default)]
    usernames: Vec<String>,
}

/// Whether a record speaks of what a rule denies the operator.
pub(super) fn is_hidden(line: &str, hidden: &Hidden) -> bool {
    if hidden.is_empty() {
        return false;
    }
    // What cannot be judged is not shown.
    let Ok(named) = serde_json::from_str::<NamedFilters<'_>>(line) else {
        return true;
    };
    let filters = named.filters.as_deref().unwrap_or("");
    let value = |wanted: &str| {
        let mut parameters = parameters(filters).flatten();
        Some(parameters.find(|(name, _)| name == wanted)?.1)
    };
    let group = value("group").or_else(|| value("groupId"));
    let group_id = named.group_id.as_deref();
    let mut usernames = named.usernames.iter();
    hidden.has(group_id, named.username.as_deref())
        || usernames.any(|name| hidden.has(group_id, Some(name)))
        || hidden.has(group.as_deref(), value("username").as_deref())
}

const LARGEST_LIMIT: usize = 1_000;
/// In bytes; a page may end before its limit.
pub(super) const LARGEST_PAGE: usize = 2 << 20;
pub(super) const SEARCHES: usize = 2;
const USUAL_LIMIT: usize = 100;
