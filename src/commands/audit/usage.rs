//! `audit usage`: who asked how often, and what that cost and saved.

use std::borrow::Cow;
use std::io;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::atlas::Timestamp;
use crate::audit::search::{Filter, Order};
use crate::audit::usage::{GroupBy, UsageCounts, UsageRow};
use crate::audit::{search, usage};
use crate::commands::ExitStatus;
use crate::system::{Clock, printable};

use super::central::{DatabaseArguments, Ended, block_on, failed, tell_chains};
use super::name_incomplete;
use super::progress::Bar;
use super::records::OutputFormat;
use super::spreadsheet::Spreadsheet;
use crate::commands::table::{Holds, Table, TableColumn, terminal};

/// `audit usage`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct UsageCommand {
    /// The audit directories; together they make one report.
    #[arg(value_name = "DIR", required_unless_present = "database")]
    directories: Vec<PathBuf>,
    #[command(flatten)]
    database: DatabaseArguments,
    /// What a row is of.
    #[arg(long, value_enum, default_value_t = GroupBy::Subject)]
    by: GroupBy,
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
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
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

impl UsageCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> io::Result<ExitStatus> {
        let filter = Filter {
            since: self.since,
            until: self.until,
            ..Filter::default()
        };
        let by = self.by;
        let usage = if self.database.is_wanted() {
            match self.add_up_central(&filter) {
                Ok(usage) => usage,
                Err(Ended(ending)) => return Ok(ending),
            }
        } else {
            self.add_up(&filter)?
        };
        let mut rows = usage.rows();
        let total = UsageCounts::total(&rows);
        let most = self.top.unwrap_or(usize::MAX);
        match by {
            GroupBy::Day => drop(rows.drain(..rows.len().saturating_sub(most))),
            GroupBy::Project | GroupBy::Rule | GroupBy::Subject | GroupBy::Username => {
                rows.truncate(most);
            }
        }
        let report = UsageReport { by, rows, total };
        match self.format {
            OutputFormat::Table => report.write_table(out, terminal())?,
            OutputFormat::Json => report.write_json(out)?,
            OutputFormat::Csv => report.write_csv(out)?,
        }
        Ok(ExitStatus::Well)
    }

    fn add_up_central(&self, filter: &Filter) -> Result<usage::Usage, Ended> {
        let trail = self.database.trail(&self.directories)?;
        let mut usage = usage::Usage::new(self.by);
        let added = block_on(trail.add_usage(filter, self.by, &mut usage))?;
        let coverage = added.map_err(|error| failed(&trail, &error))?;
        tell_chains(&coverage.chains);
        name_incomplete(&coverage.incomplete);
        Ok(usage)
    }

    fn add_up(&self, filter: &Filter) -> io::Result<usage::Usage> {
        let mut usage = usage::Usage::new(self.by);
        let bar = Bar::new(Clock::system());
        let progress = |progress| bar.show(progress);
        let everything = search::Search {
            directories: &self.directories,
            filter,
            order: Order::OldestFirst,
        };
        let incomplete = search::search(&everything, &progress, |it| {
            usage.add(it.line);
            ControlFlow::Continue(())
        })?;
        bar.clear();
        name_incomplete(&incomplete);
        Ok(usage)
    }
}

struct UsageReport {
    by: GroupBy,
    rows: Vec<UsageRow>,
    /// Of all rows, shown or not; `None` where there are none.
    total: Option<UsageCounts>,
}

impl UsageReport {
    fn write_table(&self, out: &mut dyn Write, terminal: Option<usize>) -> io::Result<()> {
        let column = |name, holds, rank| TableColumn {
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
            let key = row.key.iter();
            let key = key.map(|key| text(key).map_or_else(absent, |key| printable(&key)));
            let cells = cells(&row.counts, percent, "-");
            table.row(out, key.chain(cells).collect())?;
        }
        if let Some(total) = &self.total {
            let mut row = vec!["TOTAL".to_owned()];
            row.resize(self.by.members().len(), String::new());
            row.extend(cells(total, percent, "-"));
            table.row(out, row)?;
        }
        table.flush(out)
    }

    /// One object, with names and keys as they stand in the records.
    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let names = self.by.members().iter().copied();
        let rows = self.rows.iter().map(|row| {
            let key = names.clone().zip(row.key.iter().cloned());
            JsonObject(key.chain(numbers(&row.counts)).collect())
        });
        let report = Json {
            rows: rows.collect(),
            total: self
                .total
                .as_ref()
                .map(|it| JsonObject(numbers(it).collect())),
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
            let cells = key.chain(cells(&row.counts, part, "")).map(Cow::Owned);
            sheet.row(out, &cells.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Json {
    rows: Vec<JsonObject>,
    total: Option<JsonObject>,
}

/// Members in their order, which a map of JSON does not keep.
struct JsonObject(Vec<JsonMember>);

type JsonMember = (&'static str, Box<RawValue>);

impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

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

/// The values of [`NUMBERS`]; `null` for a share of nothing.
fn numbers(counts: &UsageCounts) -> impl Iterator<Item = JsonMember> {
    let share = counts
        .share()
        .map(|thousandths| f64::from(thousandths) / 1_000.0);
    let mut values: Vec<Value> = sums(counts).into_iter().map(Value::from).collect();
    values.extend([
        Value::from(share),
        Value::from(counts.first.to_string()),
        Value::from(counts.last.to_string()),
    ]);
    let raw = |value: Value| to_raw_value(&value).expect("a number or a text is JSON");
    NUMBERS.into_iter().zip(values.into_iter().map(raw))
}

/// The cells of [`NUMBERS`], of which `absent` stands for a share of nothing.
fn cells(
    counts: &UsageCounts,
    share: impl FnOnce(u16) -> String,
    absent: &str,
) -> impl Iterator<Item = String> {
    let share = counts.share().map_or_else(|| absent.to_owned(), share);
    let times = [counts.first.to_string(), counts.last.to_string()];
    let sums = sums(counts).map(|sum| sum.to_string());
    sums.into_iter().chain([share]).chain(times)
}

fn sums(counts: &UsageCounts) -> [u64; 7] {
    [
        counts.lookups,
        counts.answered,
        counts.denied,
        counts.failed,
        counts.would_have_cost,
        counts.spent,
        counts.saved,
    ]
}

fn percent(thousandths: u16) -> String {
    format!("{}.{}%", thousandths / 10, thousandths % 10)
}

fn part(thousandths: u16) -> String {
    format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
}

/// A member of a key; `None` for `null`.
fn text(member: &RawValue) -> Option<String> {
    serde_json::from_str(member.get()).ok().flatten()
}

#[cfg(test)]
mod tests;
