//! Who asked how often, what it cost and what it saved: lines of the trail go in, one row for each caller,
//! rule, project, user or day comes out, exact however long the trail is.
//!
//! What is held are the rows. A line is not read as JSON: its members stand in one order with one spelling,
//! and inside a text a quotation mark never stands without a backslash before it, so the few that count
//! are looked for one behind the other. Keys stay as they are written until the end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::upstream::LONGEST_PAGE;

/// What the rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A day in UTC.
    Day,
    /// A project.
    Project,
    /// The access rule that granted or denied it.
    Rule,
    /// A caller: its subject and who vouches for it, since two issuers may use the same name.
    Subject,
    /// A database user: its project and its name, since names repeat across projects.
    Username,
}

/// What the lines so far add up to.
pub struct Usage {
    by: By,
    /// By the members of their keys, as they stand in a line, with a comma between them.
    rows: Rows,
    finders: Finders,
    /// The key of the present line.
    key: Vec<u8>,
}

type Rows = HashMap<Box<[u8]>, Counts, ahash::RandomState>;

/// What lookups came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
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
    pub first: TimeText,
    /// When the last was.
    pub last: TimeText,
}

/// An instant as a record has it: `2026-08-10T02:06:35.000000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeText([u8; TIME_END - TIME_START]);

/// One row.
#[derive(Debug)]
pub struct Row {
    /// The members of its key, as JSON has them; `null` where the records have none.
    pub key: Vec<Box<RawValue>>,
    /// What they came to.
    pub counts: Counts,
}

/// What Atlas would have charged for an answer with so many certificates: a call for each page of 500, and
/// one where there are none or Atlas says 404. A page that was asked for has at most 500.
pub fn would_have_cost(certificates: Option<u64>) -> u64 {
    let page = u64::try_from(LONGEST_PAGE).unwrap_or(u64::MAX);
    certificates.unwrap_or_default().div_ceil(page).max(1)
}

impl By {
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
    pub fn new(by: By) -> Self {
        Self {
            by,
            rows: HashMap::default(),
            finders: Finders::new(by),
            key: Vec::new(),
        }
    }

    /// Adds a record. Only lookups count, and refusals that were folded where they were of one caller.
    pub fn add(&mut self, line: &str) {
        let Some((head, rest)) = line.as_bytes().split_at_checked(TIME_END) else {
            return;
        };
        let Some(time) = TimeText::read(head.get(TIME_START..).unwrap_or_default()) else {
            return;
        };
        let mut members = Members(rest);
        let counts = match members.value(&self.finders.kind) {
            Some(b"\"lookup\"") => Some(self.lookup(members, time)),
            Some(b"\"refusals\"") => self.folded(line),
            _ => None,
        };
        let Some(counts) = counts else { return };
        match self.rows.get_mut(&*self.key) {
            Some(row) => row.add(&counts),
            None => {
                self.rows.insert(Box::from(&*self.key), counts);
            }
        }
    }

    /// What one lookup counts; its key is left in `key`.
    fn lookup(&mut self, mut members: Members<'_>, time: TimeText) -> Counts {
        let finders = &self.finders;
        let outcome = members.value(&finders.outcome).unwrap_or_default();
        self.key.clear();
        if self.by == By::Day {
            write_day(&mut self.key, time);
        }
        for (place, name) in finders.key.iter().enumerate() {
            if place > 0 {
                self.key.push(b',');
            }
            let value = members.value(name).unwrap_or(b"null");
            self.key.extend_from_slice(value);
        }
        let certificates = members.number(&finders.certificates);
        let spent = members.number(&finders.upstream_calls).unwrap_or_default();
        let (answered, denied) = (outcome == b"\"answered\"", outcome == b"\"denied\"");
        let would_have_cost = if answered {
            would_have_cost(certificates)
        } else {
            0
        };
        Counts {
            lookups: 1,
            answered: answered.into(),
            denied: denied.into(),
            failed: (!answered && !denied).into(),
            would_have_cost,
            spent,
            saved: would_have_cost.saturating_sub(spent),
            first: time,
            last: time,
        }
    }

    /// A caller's denials, and what was beyond its limits, were counted together within a minute. What they
    /// were about is not known.
    fn folded(&mut self, line: &str) -> Option<Counts> {
        let folded: Folded<'_> = serde_json::from_str(line).ok()?;
        let subject = folded.subject?.get();
        let first = TimeText::read(folded.first.as_bytes())?;
        self.key.clear();
        match self.by {
            By::Day => write_day(&mut self.key, first),
            By::Project | By::Rule => self.key.extend_from_slice(b"null"),
            By::Username => self.key.extend_from_slice(b"null,null"),
            By::Subject => {
                let issuer = folded.issuer.map_or("null", RawValue::get);
                self.key.extend_from_slice(subject.as_bytes());
                self.key.push(b',');
                self.key.extend_from_slice(issuer.as_bytes());
            }
        }
        let denied = folded.codes.get(DENIED).copied().unwrap_or_default();
        let denied = denied.min(folded.count);
        Some(Counts {
            lookups: folded.count,
            answered: 0,
            denied,
            failed: folded.count - denied,
            would_have_cost: 0,
            spent: 0,
            saved: 0,
            first,
            last: TimeText::read(folded.last.as_bytes())?,
        })
    }

    /// The rows: days in their order, all others with those first that would have cost the most, and of
    /// equals those that asked the most.
    pub fn rows(self) -> Vec<Row> {
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_unstable_by(|(key, counts), (other_key, other)| {
            let weight = |counts: &Counts| Reverse((counts.would_have_cost, counts.lookups));
            let by_weight = match self.by {
                By::Day => std::cmp::Ordering::Equal,
                By::Project | By::Rule | By::Subject | By::Username => {
                    weight(counts).cmp(&weight(other))
                }
            };
            by_weight.then_with(|| key.cmp(other_key))
        });
        let rows = rows.into_iter();
        rows.filter_map(|(key, counts)| Row::new(&key, counts))
            .collect()
    }
}

impl Counts {
    /// Which part of what they would have cost was saved, in thousandths; `None` where they would have cost
    /// nothing.
    pub fn share(&self) -> Option<u16> {
        let whole = u128::from(self.would_have_cost);
        let rounded = u128::from(self.saved) * 1_000 + whole / 2;
        u16::try_from(rounded.checked_div(whole)?).ok()
    }

    /// All of these rows together; `None` where there are none.
    pub fn total(rows: &[Row]) -> Option<Self> {
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

impl TimeText {
    fn read(text: &[u8]) -> Option<Self> {
        // It is written without escapes wherever it is shown.
        let is_plain = text
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'-' | b':' | b'.' | b'T' | b'Z'));
        text.try_into().ok().filter(|_| is_plain).map(Self)
    }
}

impl fmt::Display for TimeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl Row {
    /// `None` for a key that is no JSON, which no record has.
    fn new(key: &[u8], counts: Counts) -> Option<Self> {
        let key = [b"[", key, b"]"].concat();
        let key = serde_json::from_slice(&key).ok()?;
        Some(Self { key, counts })
    }
}

/// What is looked for in a line, in the order in which it stands there.
struct Finders {
    kind: Finder<'static>,
    outcome: Finder<'static>,
    /// Those of the key that are members.
    key: Vec<Finder<'static>>,
    certificates: Finder<'static>,
    upstream_calls: Finder<'static>,
}

impl Finders {
    fn new(by: By) -> Self {
        let of = |name: &&str| Finder::new(format!(",\"{name}\":").as_bytes()).into_owned();
        let key = match by {
            By::Day => &[],
            By::Project | By::Rule | By::Subject | By::Username => by.members(),
        };
        Self {
            kind: of(&"kind"),
            outcome: of(&"outcome"),
            key: key.iter().map(of).collect(),
            certificates: of(&"certificates"),
            upstream_calls: of(&"upstream_calls"),
        }
    }
}

/// What is left of a line.
struct Members<'l>(&'l [u8]);

impl<'l> Members<'l> {
    /// The value of the next member of this name, as it stands; what is before it is left behind. `None`
    /// where there is none, or it is `null`.
    fn value(&mut self, name: &Finder<'_>) -> Option<&'l [u8]> {
        let at = name.find(self.0)? + name.needle().len();
        let rest = self.0.get(at..)?;
        let length = match rest.strip_prefix(b"\"") {
            Some(text) => text_length(text)? + 2,
            None => memchr::memchr2(b',', b'}', rest)?,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        (value != b"null").then_some(value)
    }

    fn number(&mut self, name: &Finder<'_>) -> Option<u64> {
        str::from_utf8(self.value(name)?).ok()?.parse().ok()
    }
}

/// How long a text is until its closing quotation mark.
fn text_length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

fn write_day(key: &mut Vec<u8>, TimeText(time): TimeText) {
    key.push(b'"');
    key.extend_from_slice(time.get(..DAY).unwrap_or_default());
    key.push(b'"');
}

/// What `audit usage` wants of folded refusals.
#[derive(Deserialize)]
struct Folded<'l> {
    count: u64,
    #[serde(borrow)]
    codes: BTreeMap<&'l str, u64>,
    first: &'l str,
    last: &'l str,
    #[serde(borrow)]
    subject: Option<&'l RawValue>,
    #[serde(borrow)]
    issuer: Option<&'l RawValue>,
}

/// The code of a lookup that no rule grants.
const DENIED: &str = "ACCESS_FORBIDDEN";
/// Where the time stands in every line.
const TIME_START: usize = 9;
const TIME_END: usize = 36;
/// `2026-08-10`.
const DAY: usize = 10;

#[cfg(test)]
mod tests;
