//! Who asked how often, what it cost and what it saved: rows by caller, rule, project, user or day, exact however
//! long the trail is. What is held are the rows.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap};

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::atlas::Timestamp;
use crate::upstream::LONGEST_PAGE;

/// What the rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// A caller: its subject and its issuer.
    Subject,
    /// An access rule.
    Rule,
    /// A project.
    Project,
    /// A database user: its project and its name.
    Username,
    /// A day in UTC.
    Day,
}

/// What the lines so far add up to.
pub struct Usage {
    by: GroupBy,
    /// By the members of their keys, as they stand in a line, with a comma between them.
    rows: HashMap<String, UsageCounts, ahash::RandomState>,
}

/// What lookups came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageCounts {
    /// How many there were: the sum of the three below.
    pub lookups: u64,
    /// Answered, with certificates or with Atlas's word that there is no such user.
    pub answered: u64,
    /// Denied: no rule grants it.
    pub denied: u64,
    /// All others: failed, rejected, unauthenticated, abandoned.
    pub failed: u64,
    /// The calls that the answered ones would have cost their callers at Atlas.
    pub would_have_cost: u64,
    /// The calls to Atlas that were made for them all.
    pub spent: u64,
    /// `would_have_cost` without what was spent, lookup by lookup, never below 0.
    pub saved: u64,
    /// When the first was recorded.
    pub first: Timestamp,
    /// When the last was.
    pub last: Timestamp,
}

/// One row.
#[derive(Debug)]
pub struct UsageRow {
    /// The members of its key, as JSON has them; `null` where the records have none.
    pub key: Vec<Box<RawValue>>,
    /// What they came to.
    pub counts: UsageCounts,
}

#[derive(Deserialize)]
struct UsageMembers<'l> {
    time: &'l str,
    kind: &'l str,
    outcome: Option<&'l str>,
    #[serde(borrow)]
    subject: Option<&'l RawValue>,
    #[serde(borrow)]
    issuer: Option<&'l RawValue>,
    #[serde(borrow)]
    rule: Option<&'l RawValue>,
    #[serde(borrow)]
    group_id: Option<&'l RawValue>,
    #[serde(borrow)]
    username: Option<&'l RawValue>,
    certificates: Option<u64>,
    upstream_calls: Option<u64>,
    /// Of folded refusals, as the rest.
    count: Option<u64>,
    #[serde(borrow)]
    codes: Option<BTreeMap<&'l str, u64>>,
    first: Option<&'l str>,
    last: Option<&'l str>,
}

/// What Atlas would have charged for an answer with so many certificates: a call for each page of 500, and
/// one where there are none or Atlas says 404. A page that was asked for has at most 500.
pub(crate) fn would_have_cost(certificates: Option<u64>) -> u64 {
    let page = u64::try_from(LONGEST_PAGE).expect("a page is small");
    certificates.map_or(1, |count| count.div_ceil(page).max(1))
}

impl GroupBy {
    /// The members that a row is known by.
    pub fn members(self) -> &'static [&'static str] {
        match self {
            Self::Day => &["day"],
            Self::Project => &["group_id"],
            Self::Rule => &["rule"],
            Self::Subject => &["subject", "issuer"],
            Self::Username => &["group_id", "username"],
        }
    }
}

impl Usage {
    /// Of no line yet.
    pub fn new(by: GroupBy) -> Self {
        Self {
            by,
            rows: HashMap::default(),
        }
    }

    /// Adds a record. Only lookups count, and refusals that were folded where they were of one caller; what
    /// those were about is not known.
    pub fn add(&mut self, line: &str) {
        let Ok(members) = serde_json::from_str::<UsageMembers<'_>>(line) else {
            return;
        };
        let counts = match members.kind {
            "lookup" => members.lookup(),
            "refusals" => members.folded(),
            _ => None,
        };
        if let Some(counts) = counts {
            self.add_row(members.key(self.by), counts);
        }
    }

    /// Adds what others have added up. `key` are the members of a row's key, as they stand in a line, with a
    /// comma between them.
    pub(super) fn add_row(&mut self, key: String, counts: UsageCounts) {
        let row = self.rows.entry(key);
        row.and_modify(|row| row.add(&counts)).or_insert(counts);
    }

    /// The rows: days in their order, all others with those first that would have cost the most, and of
    /// equals those that asked the most.
    pub fn rows(self) -> Vec<UsageRow> {
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_unstable_by(|(key, counts), (other_key, other)| {
            let weight = |counts: &UsageCounts| Reverse((counts.would_have_cost, counts.lookups));
            let by_weight = match self.by {
                GroupBy::Day => Ordering::Equal,
                GroupBy::Project | GroupBy::Rule | GroupBy::Subject | GroupBy::Username => {
                    weight(counts).cmp(&weight(other))
                }
            };
            by_weight.then_with(|| key.cmp(other_key))
        });
        let rows = rows.into_iter();
        rows.map(|(key, counts)| UsageRow::new(&key, counts))
            .collect()
    }
}

impl UsageCounts {
    /// Which part of what they would have cost was saved, in thousandths; `None` where they would have cost
    /// nothing.
    pub fn share(&self) -> Option<u16> {
        let whole = u128::from(self.would_have_cost);
        let rounded = u128::from(self.saved) * 1_000 + whole / 2;
        u16::try_from(rounded.checked_div(whole)?).ok()
    }

    /// All of these rows together; `None` where there are none.
    pub fn total(rows: &[UsageRow]) -> Option<Self> {
        rows.iter()
            .map(|row| row.counts)
            .reduce(|mut total, counts| {
                total.add(&counts);
                total
            })
    }

    fn add(&mut self, other: &Self) {
        // Numbers come from files, so that any can stand there.
        for (sum, more) in [
            (&mut self.lookups, other.lookups),
            (&mut self.answered, other.answered),
            (&mut self.denied, other.denied),
            (&mut self.failed, other.failed),
            (&mut self.would_have_cost, other.would_have_cost),
            (&mut self.spent, other.spent),
            (&mut self.saved, other.saved),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

impl UsageRow {
    fn new(key: &str, counts: UsageCounts) -> Self {
        let key = serde_json::from_str(&format!("[{key}]"));
        let key = key.expect("a key is made of values of JSON");
        Self { key, counts }
    }
}

impl UsageMembers<'_> {
    fn lookup(&self) -> Option<UsageCounts> {
        let time = Timestamp::parse(self.time)?;
        let (answered, denied) = (
            self.outcome == Some("answered"),
            self.outcome == Some("denied"),
        );
        let spent = self.upstream_calls.unwrap_or(0);
        let would_have_cost = if answered {
            would_have_cost(self.certificates)
        } else {
            0
        };
        Some(UsageCounts {
            lookups: 1,
            answered: answered.into(),
            denied: denied.into(),
            failed: (!answered && !denied).into(),
            would_have_cost,
            spent,
            saved: would_have_cost.saturating_sub(spent),
            first: time,
            last: time,
        })
    }

    fn folded(&self) -> Option<UsageCounts> {
        self.subject?;
        let lookups = self.count?;
        let denied = self.codes.as_ref()?.get(DENIED).copied();
        let denied = denied.map_or(0, |denied| denied.min(lookups));
        Some(UsageCounts {
            lookups,
            answered: 0,
            denied,
            failed: lookups - denied,
            would_have_cost: 0,
            spent: 0,
            saved: 0,
            first: Timestamp::parse(self.first?)?,
            last: Timestamp::parse(self.last?)?,
        })
    }

    /// The members of a row's key; days go by when the first was refused.
    fn key(&self, by: GroupBy) -> String {
        let raw = |value: Option<&RawValue>| value.map_or("null", RawValue::get).to_owned();
        match by {
            GroupBy::Day => {
                let time = self.first.unwrap_or(self.time);
                format!("\"{}\"", time.split_once('T').map_or(time, |(day, _)| day))
            }
            GroupBy::Project => raw(self.group_id),
            GroupBy::Rule => raw(self.rule),
            GroupBy::Subject => format!("{},{}", raw(self.subject), raw(self.issuer)),
            GroupBy::Username => format!("{},{}", raw(self.group_id), raw(self.username)),
        }
    }
}

/// The code of a lookup that no rule grants.
const DENIED: &str = "ACCESS_FORBIDDEN";
#[cfg(test)]
mod tests;
