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

    /// Adds its row, in the order of [`COLUMN_NAMES`].
    pub(super) fn add(&self, rows: &mut Rows, (chain, seq): (i32, u64), line: &str) {
        let time = self.time().unwrap_or_default();
        rows.begin(COLUMNS);
        rows.time(time);
        rows.int8(i64::try_from(seq).ok());
        rows.uuid(self.request_id);
        rows.uuid(self.fill_id);
        rows.int4(Some(chain));
        // What is beyond a column is not in a record of ours.
        rows.int4(self.certificates.and_then(|it| it.try_into().ok()));
        rows.int4(self.upstream_calls.and_then(|it| it.try_into().ok()));
        rows.int8(self.age_ms);
        rows.int8(self.duration_us);
        rows.int2(self.status.and_then(|it| it.try_into().ok()));
        rows.text(Some(self.kind));
        rows.text(self.outcome);
        for text in [
            &self.error_code,
            &self.subject,
            &self.issuer,
            &self.client_id,
            &self.token_id,
            &self.rule,
            &self.peer,
            &self.group_id,
            &self.username,
        ] {
            rows.text(text.as_deref());
        }
        rows.text(self.cache);
        rows.text((self.kind != LOOKUP).then_some(line));
    }
}

/// The columns, in their order.
pub(super) const COLUMN_NAMES: &str = "time, seq, request_id, fill_id, chain, certificates, upstream_calls, age_ms, \
     duration_us, status, kind, outcome, error_code, subject, issuer, client_id, token_id, rule, peer, group_id, \
     username, cache, line";
const COLUMNS: i16 = 23;
const LOOKUP: &str = "lookup";
