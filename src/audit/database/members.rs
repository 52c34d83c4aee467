//! The members of a record that have a column of their own.

use std::borrow::Cow;

use serde::Deserialize;
use uuid::Uuid;

use crate::atlas::Timestamp;

use super::copy::Rows;

#[derive(Deserialize)]
pub(super) struct Members<'l> {
    time: &'l str,
    kind: &'l str,
    request_id: Option<Uuid>,
    fill_id: Option<Uuid>,
    certificates: Option<i64>,
    upstream_calls: Option<i64>,
    age_ms: Option<i64>,
    duration_us: Option<i64>,
    status: Option<i64>,
    outcome: Option<&'l str>,
    cache: Option<&'l str>,
    #[serde(borrow)]
    error_code: Option<Cow<'l, str>>,
    #[serde(borrow)]
    subject: Option<Cow<'l, str>>,
    #[serde(borrow)]
    issuer: Option<Cow<'l, str>>,
    #[serde(borrow)]
    client_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    token_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    rule: Option<Cow<'l, str>>,
    #[serde(borrow)]
    peer: Option<Cow<'l, str>>,
    #[serde(borrow)]
    group_id: Option<Cow<'l, str>>,
    #[serde(borrow)]
    username: Option<Cow<'l, str>>,
}

impl<'l> Members<'l> {
    /// `None` for what is no record.
    pub(super) fn read(line: &'l str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// When it was recorded.
    pub(super) fn time(&self) -> Option<Timestamp> {
        Timestamp::parse(self.time)
    }

    /// Whether its row has the line too, so that it is found without the batch: of lookups and
    /// fetches that were answered there are too many.
    pub(super) fn has_own_line(&self) -> bool {
        let is_many = matches!(self.kind, "lookup" | "fetch");
        !is_many || self.outcome.is_some_and(|it| it != "answered")
    }

    /// Adds its row, with this line of its own.
    pub(super) fn add(&self, rows: &mut Rows, (chain, seq): (i32, u64), line: Option<&str>) {
        let place = RowPlace { chain, seq, line };
        rows.begin(COLUMNS.len());
        for (_, add) in COLUMNS {
            add(rows, self, &place);
        }
    }
}

/// What a row has besides the members of its record.
struct RowPlace<'l> {
    chain: i32,
    seq: u64,
    line: Option<&'l str>,
}

/// The names of the columns, in the order of a row.
pub(super) fn column_names() -> String {
    COLUMNS.map(|(name, _)| name).join(", ")
}

/// The same for a query, with nothing in the place of the line.
pub(super) fn columns_without_line() -> String {
    let column = |(name, _)| if name == "line" { "NULL::text" } else { name };
    COLUMNS.map(column).join(", ")
}

/// Its name, and what adds its value to a row.
type Column = (&'static str, fn(&mut Rows, &Members<'_>, &RowPlace<'_>));

/// All of a row, in their order. What is beyond a column's numbers is not in a record of ours.
const COLUMNS: [Column; 23] = [
    ("time", |to, it, _| to.time(it.time().unwrap_or_default())),
    ("seq", |to, _, place| to.int8(i64::try_from(place.seq).ok())),
    ("request_id", |to, it, _| to.uuid(it.request_id)),
    ("fill_id", |to, it, _| to.uuid(it.fill_id)),
    ("chain", |to, _, place| to.int4(Some(place.chain))),
    ("certificates", |to, it, _| {
        to.int4(fitting(it.certificates));
    }),
    ("upstream_calls", |to, it, _| {
        to.int4(fitting(it.upstream_calls));
    }),
    ("age_ms", |to, it, _| to.int8(it.age_ms)),
    ("duration_us", |to, it, _| to.int8(it.duration_us)),
    ("status", |to, it, _| to.int2(fitting(it.status))),
    ("kind", |to, it, _| to.text(Some(it.kind))),
    ("outcome", |to, it, _| to.text(it.outcome)),
    ("error_code", |to, it, _| to.text(it.error_code.as_deref())),
    ("subject", |to, it, _| to.text(it.subject.as_deref())),
    ("issuer", |to, it, _| to.text(it.issuer.as_deref())),
    ("client_id", |to, it, _| to.text(it.client_id.as_deref())),
    ("token_id", |to, it, _| to.text(it.token_id.as_deref())),
    ("rule", |to, it, _| to.text(it.rule.as_deref())),
    ("peer", |to, it, _| to.text(it.peer.as_deref())),
    ("group_id", |to, it, _| to.text(it.group_id.as_deref())),
    ("username", |to, it, _| to.text(it.username.as_deref())),
    ("cache", |to, it, _| to.text(it.cache)),
    ("line", |to, _, place| to.text(place.line)),
];

fn fitting<T: TryFrom<i64>>(number: Option<i64>) -> Option<T> {
    number.and_then(|it| it.try_into().ok())
}
