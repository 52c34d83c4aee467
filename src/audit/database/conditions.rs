//! A filter as SQL: the conditions are ours, and all that was asked for are parameters.

use std::collections::HashMap;
use std::fmt::Write;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::audit::record::{escaped, limits};
use crate::audit::search::{Filter, Peer};

use super::chain_end::number;
use super::copy::without_nul;
use super::instant::Instant;

/// Conditions that all have to hold, and the values in them.
#[derive(Default)]
pub(super) struct Conditions {
    sql: String,
    /// Of which one has to hold too. No record meets two of them.
    alternatives: Vec<String>,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    /// What the database can tell of a filter. More may pass than the filter wants: texts are compared as they
    /// are kept there.
    pub(super) fn of(filter: &Filter) -> Self {
        let mut all = Self::default();
        if let Some(subject) = &filter.subject {
            let subject = all.place(kept(subject, limits::SUBJECT));
            all.and(&indexed("subject", subject));
        }
        for (column, text, limit) in [
            ("issuer", &filter.issuer, limits::ISSUER),
            ("client_id", &filter.client_id, limits::NAME),
            ("token_id", &filter.token_id, limits::NAME),
            ("rule", &filter.rule, limits::NAME),
            ("group_id", &filter.group, limits::SHORT),
            ("outcome", &filter.outcome, limits::SHORT),
            ("kind", &filter.kind, limits::SHORT),
        ] {
            if let Some(text) = text {
                all.compare(column, "=", kept(text, limit));
            }
        }
        if let Some(name) = &filter.username {
            all.username(name);
        }
        if filter.wants_changes() {
            all.and("kind = 'fetch'");
        }
        if let Some(status) = filter.status {
            all.compare("status", "=", i16::try_from(status).unwrap_or(i16::MAX));
        }
        for (column, id) in [
            ("request_id", filter.request_id),
            ("fill_id", filter.fill_id),
        ] {
            if let Some(id) = id {
                all.compare(column, "=", id);
            }
        }
        if let Some(since) = filter.since {
            all.compare("time", ">=", Instant(since));
        }
        if let Some(until) = filter.until {
            all.compare("time", "<", Instant(until));
        }
        if let Some(after) = filter.after {
            all.compare("seq", ">", number(after));
        }
        if let Some(before) = filter.before {
            all.compare("seq", "<", number(before));
        }
        if let Some(peer) = filter.peer {
            all.peer(peer);
        }
        all
    }

    /// `column operator value`.
    pub(super) fn compare(
        &mut self,
        column: &str,
        operator: &str,
        value: impl ToSql + Sync + Send + 'static,
    ) {
        let place = self.place(value);
        self.and(&format!("{column} {operator} ${place}"));
    }

    /// One of these fetches.
    pub(super) fn one_of(&mut self, fills: Vec<Uuid>) {
        let place = self.place(fills);
        self.and(&format!("fill_id = ANY(${place})"));
    }

    /// Of these chains only the records up to these.
    pub(super) fn only_shipped(&mut self, shipped: &HashMap<i32, u64>) {
        for (chain, seq) in shipped {
            let chain = self.place(*chain);
            let seq = self.place(number(*seq));
            self.and(&format!("(chain <> ${chain} OR seq <= ${seq})"));
        }
    }

    /// A condition without a value, or with those that [`place`](Self::place) was given.
    pub(super) fn and(&mut self, condition: &str) {
        let and = if self.sql.is_empty() { "" } else { " AND " };
        write!(self.sql, "{and}{condition}").expect("a text takes every text");
    }

    /// Adds a value; its number.
    pub(super) fn place(&mut self, value: impl ToSql + Sync + Send + 'static) -> usize {
        self.values.push(Box::new(value));
        self.values.len()
    }

    /// All of them; what always holds where there are none.
    pub(super) fn sql(&self) -> String {
        let alternatives = self.alternatives.join(") OR (");
        match (self.sql.is_empty(), alternatives.is_empty()) {
            (true, true) => "true".to_owned(),
            (false, true) => self.sql.clone(),
            (true, false) => format!("(({alternatives}))"),
            (false, false) => format!("{} AND (({alternatives}))", self.sql),
        }
    }

    /// The records that meet them as several queries, each of which an index answers in order, as it does not where
    /// one of two things has to hold.
    pub(super) fn each_sql(&self) -> Vec<String> {
        if self.alternatives.is_empty() {
            return vec![self.sql()];
        }
        let and = if self.sql.is_empty() { "" } else { " AND " };
        let alternatives = self.alternatives.iter();
        alternatives
            .map(|it| format!("{}{and}{it}", self.sql))
            .collect()
    }

    pub(super) fn values(&self) -> impl ExactSizeIterator<Item = &(dyn ToSql + Sync)> {
        self.values.iter().map(|value| {
            let value: &(dyn ToSql + Sync) = &**value;
            value
        })
    }

    /// Of a lookup, or one of those that an inventory names.
    fn username(&mut self, name: &str) {
        let (inside, _) = escaped(name, limits::USERNAME);
        let own = self.place(kept(name, limits::USERNAME));
        let among = self.place(format!("\"{inside}\""));
        self.alternatives = vec![
            format!("kind <> 'inventory' AND {}", indexed("username", own)),
            format!("kind = 'inventory' AND strpos(line, ${among}) > 0"),
        ];
    }

    /// Members that end with a quotation mark are whole ones, the others beginnings.
    fn peer(&mut self, peer: Peer) {
        let members = peer.spellings();
        let values = members.iter().filter_map(|it| it.strip_prefix(PEER));
        let (whole, beginnings): (Vec<&str>, Vec<&str>) = values.partition(|it| it.ends_with('"'));
        let owned = |texts: Vec<&str>| -> Vec<String> {
            texts
                .iter()
                .map(|it| it.trim_end_matches('"').to_owned())
                .collect()
        };
        let whole = self.place(owned(whole));
        let beginnings = self.place(owned(beginnings));
        self.and(&format!(
            "(peer = ANY(${whole}) OR peer ^@ ANY(${beginnings}))"
        ));
    }
}

/// That a column is this value, which is also found by the index of its hashes.
fn indexed(column: &str, value: usize) -> String {
    format!("hashtext({column}) = hashtext(${value}) AND {column} = ${value}")
}

/// A text as its column has it.
fn kept(text: &str, limit: usize) -> String {
    let (inside, is_whole) = escaped(text, limit);
    let kept = (!is_whole).then(|| serde_json::from_str::<String>(&format!("\"{inside}\"")));
    let kept = kept.map(|kept| kept.expect("what was escaped stands between quotation marks"));
    without_nul(kept.as_deref().unwrap_or(text))
}

const PEER: &str = ",\"peer\":\"";
