//! `GET /usage`: who asked how often in the last minutes, what that cost at Atlas and what it saved, from the audit
//! trail of this replica. `audit usage` tells the same of any time and of all replicas.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::ValueEnum;
use http::Response;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Admin;
use super::lookups::is_hidden;
use super::operation::{Done, Operation};
use crate::atlas::Timestamp;
use crate::audit::search::{self, Filter, Order, Search};
use crate::audit::usage::{GroupBy, Usage, UsageCounts, UsageRow};
use crate::policy::Reach;
use crate::server::body::payload::ResponseBody;
use crate::server::query::parameters;
use crate::server::response::AdminRefusal;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    since: String,
    until: String,
    by: &'static str,
    results: Vec<BTreeMap<&'static str, Told>>,
    total_count: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Number(u64),
    Text(Box<RawValue>),
}

struct UsageQuery {
    by: GroupBy,
    minutes: u64,
    top: usize,
}

impl Admin {
    pub(super) async fn usage(
        &self,
        operation: &Operation<'_>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let asked = UsageQuery::read(operation.query)
            .map_err(|message| AdminRefusal::Query(Cow::Borrowed(message)))?;
        let added_up = async {
            let (by, now) = (asked.by, self.gateway.clock.now().wall);
            let since = now.minus(Duration::from_secs(asked.minutes * 60));
            let rows = self.add_up(operation, by, since).await?;
            let total_count = rows.len();
            let shown = rows.into_iter().take(asked.top);
            Ok(Done {
                entries: u64::try_from(total_count).ok(),
                value: Report {
                    since: since.in_seconds(),
                    until: now.in_seconds(),
                    by: word(by),
                    results: shown.map(|row| told(by, row)).collect(),
                    total_count,
                },
            })
        };
        self.perform(operation, Reach::Everything, added_up).await
    }

    /// The rows of all lookups since then, but for what a rule denies the operator.
    pub(super) async fn add_up(
        &self,
        operation: &Operation<'_>,
        by: GroupBy,
        since: Timestamp,
    ) -> Result<Vec<UsageRow>, AdminRefusal> {
        let filter = Filter {
            since: Some(since),
            ..Filter::default()
        };
        let read = self.read_trail(operation, move |directory, hidden, is_over| {
            let mut usage = Usage::new(by);
            let everything = Search {
                directories: &[directory.to_owned()],
                filter: &filter,
                order: Order::NewestFirst,
            };
            search::search_until(&everything, is_over, |found| {
                if !is_hidden(found.line, hidden) {
                    usage.add(found.line);
                }
                ControlFlow::Continue(())
            })?;
            Ok(usage.rows())
        });
        read.await
    }
}

impl UsageQuery {
    fn read(query: &str) -> Result<Self, &'static str> {
        let (mut by, mut minutes, mut top) = (None, None, None);
        for parameter in parameters(query) {
            let (name, value) = parameter.map_err(|_| FORM)?;
            let number = |most: u64| {
                let number: Option<u64> = value.parse().ok();
                number
                    .filter(|number| (1..=most).contains(number))
                    .ok_or(FORM)
            };
            let is_new = match &*name {
                "by" => {
                    let group = GroupBy::from_str(&value, false).map_err(|_| FORM)?;
                    by.replace(group).is_none()
                }
                "minutes" => minutes.replace(number(MOST_MINUTES)?).is_none(),
                "top" => top.replace(number(MOST_ROWS)?).is_none(),
                _ => false,
            };
            if !is_new {
                return Err(FORM);
            }
        }
        Ok(Self {
            by: by.unwrap_or(GroupBy::Subject),
            minutes: minutes.unwrap_or(60),
            top: usize::try_from(top.unwrap_or(100)).map_err(|_| FORM)?,
        })
    }
}

fn word(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Day => "day",
        GroupBy::Project => "project",
        GroupBy::Rule => "rule",
        GroupBy::Subject => "subject",
        GroupBy::Username => "username",
    }
}

fn told(by: GroupBy, row: UsageRow) -> BTreeMap<&'static str, Told> {
    let UsageCounts {
        lookups,
        answered,
        denied,
        failed,
        would_have_cost,
        spent,
        saved,
        ..
    } = row.counts;
    let names = by.members().iter().copied().zip(row.key);
    let numbers = [
        ("lookups", lookups),
        ("answered", answered),
        ("denied", denied),
        ("failed", failed),
        ("would_have_cost", would_have_cost),
        ("spent", spent),
        ("saved", saved),
    ];
    let numbers = numbers.map(|(name, number)| (name, Told::Number(number)));
    names
        .map(|(name, value)| (name, Told::Text(value)))
        .chain(numbers)
        .collect()
}

const MOST_MINUTES: u64 = 1_440;
const MOST_ROWS: u64 = 1_000;
const FORM: &str = "takes `by` (subject, rule, project, username or day), `minutes` (1 to 1440) and `top` (1 to 1000), \
                    each once";
