//! `audit usage`: the trail goes in, who asked how often comes out, and what that cost and saved.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::atlas::Timestamp;
use crate::audit::search::{Filter, Order};
use crate::audit::usage::{By, Counts, Row};
use crate::audit::{search, usage};
use crate::commands::ExitStatus;
use crate::system::Clock;

use super::name_incomplete;
use super::progress::Bar;
use super::records::Format;
use super::spreadsheet::Spreadsheet;
use super::table::{Column, Holds, Table, printable, terminal};

/// `audit usage`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Usage {
    /// The audit directories; together they make one report.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// What a row is of.
    #[arg(long, value_enum, default_value_t = By::Subject)]
    by: By,
    /// Not before this: `2026-08-10T02:06:35Z`, `2026-08-10`, or `24h` for as long ago.
    #[arg(long, value_name = "TIME", value_parser = search::instant_by_now)]
    since: Option<Timestamp>,
    /// Before this.
    #[arg(long, value_name = "TIME", value_parser = search::instant_by_now)]
    until: Option<Timestamp>,
    /// Only so many rows, those that would have cost the most; days are the last ones. The total is of all
    /// rows.
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// How the report is shown. Output is never coloured.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

const HELP: &str = "\
lookups         all of the following three
answered        with certificates, or with Atlas's word that there is no such user
denied          no rule grants it
failed          all others: failed, rejected, unauthenticated, abandoned
would_have_cost calls that the answered ones would have cost at Atlas: one for each 500 certificates,
                at least one
spent           calls to Atlas that were made for all of them
saved           would_have_cost without spent, lookup by lookup, never below 0
share           saved of would_have_cost
first, last     when the first and the last of them were recorded

Refusals that were folded into one record count where they were of a known caller. What they were about
is not known, so that by rule, project and username they stand in the row without a name. Those of unknown
callers are not counted: `audit search --kind refusals` shows them.";

impl Usage {
    /// Writes the report.
    pub(super) fn run(self, out: &mut dyn Write) -> io::Result<ExitStatus> {
        let filter = Filter {
            since: self.since,
            until: self.until,
            ..Filter::default()
        };
        let by = self.by;
        let mut usage = usage::Usage::new(by);
        let bar = Bar::new(Clock::system());
        let progress = |progress| bar.show(progress);
        let everything = search::Search {
            directories: &self.directories,
            filter: &filter,
            order: Order::OldestFirst,
        };
        let incomplete = search::search(&everything, &progress, |it| {
            usage.add(it.line);
            ControlFlow::Continue(())
        })?;
        bar.clear();
        name_incomplete(&incomplete);
        let mut rows = usage.rows();
        let total = Counts::total(&rows);
        let most = self.top.unwrap_or(usize::MAX);
        match by {
            By::Day => drop(rows.drain(..rows.len().saturating_sub(most))),
            By::Project | By::Rule | By::Subject | By::Username => {
                rows.truncate(most);
            }
        }
        let report = Report { by, rows, total };
        match self.format {
            Format::Table => report.write_table(out, terminal())?,
            Format::Json => report.write_json(out)?,
            Format::Csv => report.write_csv(out)?,
        }
        Ok(ExitStatus::Well)
    }
}

struct Report {
    by: By,
    rows: Vec<Row>,
    /// Of all rows, shown or not; `None` where there are none.
    total: Option<Counts>,
}

impl Report {
    fn write_table(&self, out: &mut dyn Write, terminal: Option<usize>) -> io::Result<()> {
        let column = |name, holds, rank| Column {
            name,
            holds,
            rank,
            usual: 0,
        };
        let keys = self.by.members().iter();
        let keys = keys.map(|name| match *name {
            "issuer" => column("ISSUER", Holds::Names, 6),
            "group_id" => column("GROUP ID", Holds::Words, 0),
            "rule" => column("RULE", Holds::Names, 0),
            "subject" => column("SUBJECT", Holds::Names, 0),
            "username" => column("USERNAME", Holds::Names, 0),
            _ => column("DAY", Holds::Words, 0),
        });
        let numbers = [
            column("LOOKUPS", Holds::Numbers, 0),
            column("ANSWERED", Holds::Numbers, 5),
            column("DENIED", Holds::Numbers, 3),
            column("FAILED", Holds::Numbers, 4),
            column("WOULD HAVE COST", Holds::Numbers, 1),
            column("SPENT", Holds::Numbers, 0),
            column("SAVED", Holds::Numbers, 0),
            column("SHARE", Holds::Numbers, 2),
            column("FIRST", Holds::Words, 8),
            column("LAST", Holds::Words, 7),
        ];
        let mut table = Table::new(keys.chain(numbers).collect(), terminal);
        let absent = || "-".to_owned();
        for row in &self.rows {
            let key = row
                .key
                .iter()
                .map(|key| text(key).map_or_else(absent, |key| printable(&key)));
            let share = row.counts.share().map_or_else(absent, percent);
            let cells = key.chain(numbers_of(&row.counts)).chain([share]);
            table.row(out, cells.chain(times(&row.counts)).collect())?;
        }
        if let Some(total) = &self.total {
            let mut key = vec!["TOTAL".to_owned()];
            key.resize(self.by.members().len(), String::new());
            let share = total.share().map_or_else(absent, percent);
            let cells = key.into_iter().chain(numbers_of(total)).chain([share]);
            table.row(out, cells.chain(times(total)).collect())?;
        }
        table.flush(out)
    }

    /// One object, with names and keys as they stand in the records.
    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let members = self.by.members();
        let rows = self.rows.iter().map(|row| JsonRow {
            key: members
                .iter()
                .zip(&row.key)
                .map(|(name, key)| (*name, &**key))
                .collect(),
            numbers: JsonNumbers::from(&row.counts),
        });
        let report = Json {
            rows: rows.collect(),
            total: self.total.as_ref().map(JsonNumbers::from),
        };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)
    }

    /// The total is left out: a spreadsheet adds up.
    fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let sheet = Spreadsheet::new();
        let names = self.by.members().iter().chain(&NUMBERS);
        let names: Vec<_> = names.map(|name| Cow::Borrowed(*name)).collect();
        sheet.row(out, &names)?;
        for row in &self.rows {
            let key = row.key.iter().map(|key| text(key).unwrap_or_default());
            let share = row.counts.share().map(part).unwrap_or_default();
            let cells = key.chain(numbers_of(&row.counts)).chain([share]);
            let cells = cells.chain(times(&row.counts)).map(Cow::Owned);
            sheet.row(out, &cells.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Json<'r> {
    rows: Vec<JsonRow<'r>>,
    total: Option<JsonNumbers>,
}

#[derive(Serialize)]
struct JsonRow<'r> {
    #[serde(flatten)]
    key: BTreeMap<&'static str, &'r RawValue>,
    #[serde(flatten)]
    numbers: JsonNumbers,
}

/// In the order of [`NUMBERS`].
#[derive(Serialize)]
struct JsonNumbers {
    lookups: u64,
    answered: u64,
    denied: u64,
    failed: u64,
    would_have_cost: u64,
    spent: u64,
    saved: u64,
    /// `null` where they would have cost nothing.
    share: Option<f64>,
    first: String,
    last: String,
}

impl From<&Counts> for JsonNumbers {
    fn from(counts: &Counts) -> Self {
        Self {
            lookups: counts.lookups,
            answered: counts.answered,
            denied: counts.denied,
            failed: counts.failed,
            would_have_cost: counts.would_have_cost,
            spent: counts.spent,
            saved: counts.saved,
            share: counts
                .share()
                .map(|thousandths| f64::from(thousandths) / 1_000.0),
            first: counts.first.to_string(),
            last: counts.last.to_string(),
        }
    }
}

/// The columns behind the key.
const NUMBERS: [&str; 10] = [
    "lookups",
    "answered",
    "denied",
    "failed",
    "would_have_cost",
    "spent",
    "saved",
    "share",
    "first",
    "last",
];

fn numbers_of(counts: &Counts) -> [String; 7] {
    [
        counts.lookups,
        counts.answered,
        counts.denied,
        counts.failed,
        counts.would_have_cost,
        counts.spent,
        counts.saved,
    ]
    .map(|number| number.to_string())
}

fn times(counts: &Counts) -> [String; 2] {
    [counts.first.to_string(), counts.last.to_string()]
}

/// `93.4%`.
fn percent(thousandths: u16) -> String {
    format!("{}.{}%", thousandths / 10, thousandths % 10)
}

/// `0.934`.
fn part(thousandths: u16) -> String {
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// A member of a key; `None` for `null`.
fn text(member: &RawValue) -> Option<String> {
    serde_json::from_str(member.get()).ok().flatten()
}

#[cfg(test)]
mod tests;
