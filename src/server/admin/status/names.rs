//! What is on the page for an operator alone: who spends, who was denied, and what is known of one list.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::of_form;
use crate::audit::AdminAction;
use crate::audit::search::{self, Filter, Order, Search};
use crate::audit::usage::{GroupBy, UsageRow};
use crate::policy::Reach;
use crate::server::admin::Admin;
use crate::server::admin::explain::{ExplainedEntry, QUERY_FORM, cert_query};
use crate::server::admin::lookups;
use crate::server::admin::operation::{Done, Operation};
use crate::server::query::parameters;
use crate::server::response::AdminRefusal;
use crate::system::printable;

/// All of it.
pub(super) struct OperatorNames {
    /// Whose page it is.
    pub(super) operator: String,
    /// Whether it was a cookie that opened it, so that there is something to sign out of.
    pub(super) is_of_session: bool,
    /// `None` for who may not administer everything.
    pub(super) callers: Option<Callers>,
    pub(super) explained: Option<Explained>,
}

/// What is told of callers.
pub(super) struct Callers {
    pub(super) spenders: Vec<Spender>,
    pub(super) denials: Vec<Denial>,
}

/// A caller, by what it has spent.
pub(super) struct Spender {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) lookups: u64,
    pub(super) spent: u64,
    pub(super) saved: u64,
}

/// A lookup that was denied.
#[derive(Deserialize)]
pub(super) struct Denial {
    pub(super) time: String,
    #[serde(default)]
    pub(super) subject: String,
    #[serde(default)]
    pub(super) group_id: String,
    #[serde(default)]
    pub(super) username: String,
}

/// One list.
pub(super) struct Explained {
    pub(super) project: String,
    pub(super) username: String,
    pub(super) why: String,
    /// Each fact by its name in the answer of `/cache/explain`.
    pub(super) facts: Vec<Fact>,
}

/// A number, a word or a list of them.
pub(super) struct Fact {
    pub(super) name: String,
    pub(super) value: String,
}

impl Admin {
    pub(super) async fn names(
        &self,
        operation: &Operation<'_>,
        is_of_session: bool,
    ) -> Result<OperatorNames, AdminRefusal> {
        let explained = self.explained(operation).await?;
        let caller = &operation.caller;
        let policy = self.gateway.policy.load_full();
        let callers = if policy.may_administer(caller, Reach::Everything).is_ok() {
            Some(Callers {
                spenders: self.spenders(operation).await?,
                denials: self.last_denials(operation).await?,
            })
        } else {
            None
        };
        Ok(OperatorNames {
            operator: printable(&caller.subject),
            is_of_session,
            callers,
            explained,
        })
    }

    /// What is known of the list that the form asks about, if it asks; on record like `/cache/explain`.
    async fn explained(&self, page: &Operation<'_>) -> Result<Option<Explained>, AdminRefusal> {
        let form = of_form(page.query);
        let mut fields = parameters(&form).flatten();
        if !fields.any(|(name, _)| name == "groupId" || name == "username") {
            return Ok(None);
        }
        let query = cert_query(&form, QUERY_FORM, |_, _| Ok(()));
        let query = query.map_err(|message| AdminRefusal::Query(message.into()))?;
        let operation = &Operation {
            caller: Arc::clone(&page.caller),
            action: AdminAction::Explain,
            query: page.query,
            request: page.request,
        };
        let known = async {
            Ok(Done {
                value: self.known_of(&query).await,
                entries: None,
            })
        };
        let reach = Reach::CertQuery(&query);
        let (why, facts) = match self.record_of_reach(operation, reach, known).await {
            Ok(entry) => told(&entry),
            Err(AdminRefusal::Denied) => (
                "Your rules do not let you look into this list.".to_owned(),
                Vec::new(),
            ),
            Err(refusal) => return Err(refusal),
        };
        Ok(Some(Explained {
            project: query.project.as_str().to_owned(),
            username: printable(query.username.as_str()),
            why,
            facts,
        }))
    }

    async fn spenders(&self, operation: &Operation<'_>) -> Result<Vec<Spender>, AdminRefusal> {
        let since = self.gateway.clock.now().wall.minus(SPENT_WITHIN);
        let mut rows = self.add_up(operation, GroupBy::Subject, since).await?;
        rows.sort_by_key(|row| std::cmp::Reverse((row.counts.spent, row.counts.lookups)));
        // A caller that is not known has spent nothing.
        let known = rows.into_iter().filter_map(Spender::of);
        Ok(known.take(MOST_ROWS).collect())
    }

    async fn last_denials(&self, operation: &Operation<'_>) -> Result<Vec<Denial>, AdminRefusal> {
        let now = self.gateway.clock.now().wall;
        let filter = Filter {
            outcome: Some("denied".to_owned()),
            kind: Some("lookup".to_owned()),
            since: Some(now.minus(DENIED_WITHIN)),
            ..Filter::default()
        };
        let read = self.read_trail(operation, move |directory, hidden, is_over| {
            let mut denials: Vec<Denial> = Vec::new();
            let newest = Search {
                directories: &[directory.to_owned()],
                filter: &filter,
                order: Order::NewestFirst,
            };
            search::search_until(&newest, is_over, |found| {
                if !lookups::is_hidden(found.line, hidden) {
                    let denial: Option<Denial> = serde_json::from_str(found.line).ok();
                    denials.extend(denial.map(Denial::printable));
                }
                if denials.len() == MOST_ROWS {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            Ok(denials)
        });
        read.await
    }
}

impl Spender {
    fn of(row: UsageRow) -> Option<Self> {
        let mut key = row.key.into_iter();
        let mut name = || text(&key.next()?);
        Some(Self {
            subject: name()?,
            issuer: name()?,
            lookups: row.counts.lookups,
            spent: row.counts.spent,
            saved: row.counts.saved,
        })
    }
}

impl Denial {
    fn printable(self) -> Self {
        let to_the_second = self.time.get(.."2026-08-10T02:06:35".len());
        Self {
            time: printable(to_the_second.unwrap_or("")),
            subject: printable(&self.subject),
            group_id: printable(&self.group_id),
            username: printable(&self.username),
        }
    }
}

fn text(value: &RawValue) -> Option<String> {
    let text: Option<String> = serde_json::from_str(value.get()).ok()?;
    Some(printable(&text?))
}

/// Why a list is as it is, and what else is known of it.
fn told(entry: &ExplainedEntry) -> (String, Vec<Fact>) {
    let mut answer = serde_json::to_value(entry).expect("values of ours can be written");
    let why = answer.get_mut("why").map_or(Value::Null, Value::take);
    let mut facts = Vec::new();
    add_facts("", &answer, &mut facts);
    (plain(&why), facts)
}

fn add_facts(name: &str, value: &Value, facts: &mut Vec<Fact>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (member, value) in members {
                let dot = if name.is_empty() { "" } else { "." };
                add_facts(&format!("{name}{dot}{member}"), value, facts);
            }
        }
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            facts.push(Fact {
                name: name.to_owned(),
                value: plain(value),
            });
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

const DENIED_WITHIN: Duration = Duration::from_hours(24);
const MOST_ROWS: usize = 10;
const SPENT_WITHIN: Duration = Duration::from_hours(1);
