//! `audit search`: filters go in, records come out.

use std::borrow::Cow;
use std::io;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use clap::ValueEnum;
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::audit::search;
use crate::audit::search::Filter;
use crate::audit::search::Found;
use crate::audit::search::Incomplete;
use crate::audit::search::Order;
use crate::audit::search::When;
use crate::clock::Clock;
use crate::commands::complain;

/// `audit search`.
#[derive(Debug, Args)]
pub(super) struct Search {
    /// Audit directories; what is found in them is merged by time.
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// Who asked.
    #[arg(long)]
    subject: Option<String>,
    /// About which project.
    #[arg(long, value_name = "GROUP_ID", value_parser = search::group)]
    group: Option<String>,
    /// About which database user.
    #[arg(long)]
    username: Option<String>,
    /// How it ended.
    #[arg(long, value_parser = search::outcome)]
    outcome: Option<String>,
    /// Lookups, fetches from Atlas, what operators did, or refusals that were folded.
    #[arg(long, value_parser = search::kind)]
    kind: Option<String>,
    /// Not before this: `2026-08-10T02:06:35Z`, `2026-08-10`, or `24h` for as long ago.
    #[arg(long, value_name = "TIME", value_parser = search::when)]
    since: Option<When>,
    /// Before this.
    #[arg(long, value_name = "TIME", value_parser = search::when)]
    until: Option<When>,
    /// The `X-Request-Id` of an answer.
    #[arg(long, value_name = "ID")]
    request_id: Option<Uuid>,
    /// A fetch from Atlas, and every answer that it filled.
    #[arg(long, value_name = "ID")]
    fill_id: Option<Uuid>,
    /// How many records at most.
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Which record comes first.
    #[arg(long, value_enum, default_value_t = First::Newest)]
    first: First,
    /// How a record is shown.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum First {
    Newest,
    Oldest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The lines as they were written.
    Json,
    /// What most people want to see of them.
    Table,
}

impl Search {
    /// Writes what is found.
    pub(super) fn run(self, out: &mut dyn Write) -> io::Result<()> {
        let (order, limit, format) = (self.order(), self.limit, self.format);
        let directories = self.directories.clone();
        let filter = self.filter(Clock::system().now().wall);
        let search = search::Search {
            directories: &directories,
            filter: &filter,
            order,
        };
        let incomplete = write_found(&search, limit, |found| match (format, found) {
            (Format::Json, Some(found)) => {
                out.write_all(found.line.as_bytes())?;
                out.write_all(b"\n")
            }
            (Format::Json, None) => Ok(()),
            (Format::Table, found) => write_row(out, found),
        })?;
        for file in &incomplete {
            complain(&io::Error::other(format!(
                "not searched as a whole: {file}"
            )));
        }
        Ok(())
    }

    fn order(&self) -> Order {
        match self.first {
            First::Newest => Order::NewestFirst,
            First::Oldest => Order::OldestFirst,
        }
    }

    fn filter(self, now: Timestamp) -> Filter {
        Filter {
            subject: self.subject,
            group: self.group,
            username: self.username,
            outcome: self.outcome,
            kind: self.kind,
            since: self.since.map(|since| since.at(now)),
            until: self.until.map(|until| until.at(now)),
            request_id: self.request_id,
            fill_id: self.fill_id,
            after: None,
            before: None,
        }
    }
}

/// Hands `None` and then up to `limit` records to `write`, and ends with its first error.
fn write_found(
    search: &search::Search<'_>,
    limit: u64,
    mut write: impl FnMut(Option<&Found<'_>>) -> io::Result<()>,
) -> io::Result<Vec<Incomplete>> {
    write(None)?;
    let mut left = limit;
    let mut failed = Ok(());
    let incomplete = search::search(search, &|_| (), |found| {
        let Some(rest) = left.checked_sub(1) else {
            return ControlFlow::Break(());
        };
        left = rest;
        failed = write(Some(found));
        if failed.is_err() || left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    failed.map(|()| incomplete)
}

/// A row of the table; its head for `None`.
fn write_row(out: &mut dyn Write, found: Option<&Found<'_>>) -> io::Result<()> {
    let Some(summary) = found.map(Found::summary) else {
        return writeln!(
            out,
            "{:<27}  {:>9}  {:<8}  {:<15}  {:>6}  {:<9}  {:>9}  {:<36}  {:<24}  {:<24}  USERNAME",
            "TIME",
            "SEQ",
            "KIND",
            "OUTCOME",
            "STATUS",
            "CACHE",
            "AGE MS",
            "REQUEST ID",
            "SUBJECT",
            "GROUP ID",
        );
    };
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
    writeln!(
        out,
        "{:<27}  {:>9}  {:<8}  {:<15}  {:>6}  {:<9}  {:>9}  {:<36}  {:<24}  {:<24}  {}",
        summary.time,
        summary.seq,
        summary.kind,
        summary
            .outcome
            .as_deref()
            .or(summary.action.as_deref())
            .map(Cow::Borrowed)
            .or_else(|| Some(Cow::Owned(summary.count?.to_string())))
            .unwrap_or(Cow::Borrowed("-")),
        number(summary.status.map(u64::from)),
        summary.cache.as_deref().unwrap_or("-"),
        number(summary.age_ms),
        summary.request_id.as_deref().unwrap_or("-"),
        printable(summary.subject.as_deref()),
        summary.group_id.as_deref().unwrap_or("-"),
        printable(summary.username.as_deref()),
    )
}

/// A text from outside as a terminal may see it.
fn printable(text: Option<&str>) -> String {
    match text {
        None => "-".to_owned(),
        Some(text) => text
            .chars()
            .flat_map(|character| match character {
                ' '..='~' => vec![character],
                _ => character.escape_unicode().collect(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        search: Search,
    }

    #[test]
    fn the_filters_of_the_contract_are_understood() {
        let id = "0198a3f0-0000-7000-8000-000000000000";
        let read = Program::try_parse_from([
            "search",
            "/var/audit",
            "--subject=ci",
            "--group=32b6e34b3d91647abb20e7b8",
            "--username=app",
            "--outcome=denied",
            "--since=2026-08-10",
            "--until=2026-08-10T02:06:35+02:00",
            &format!("--request-id={id}"),
            "--limit=5",
            "--format=json",
        ])
        .unwrap();
        let search = read.search;
        assert_eq!((search.limit, search.format), (5, Format::Json));
        let filter = search.filter(Timestamp::parse("2026-08-10T02:06:35Z").unwrap());
        assert_eq!(filter.subject.as_deref(), Some("ci"));
        assert_eq!(filter.since, Timestamp::parse("2026-08-10T00:00:00Z"));
        assert_eq!(filter.until, Timestamp::parse("2026-08-10T00:06:35Z"));
        assert_eq!(filter.request_id, Uuid::try_parse(id).ok());
        for wrong in [
            "--outcome=allowed",
            "--since=yesterday",
            "--limit=-1",
            "--request-id=7",
        ] {
            assert!(
                Program::try_parse_from(["search", "/var/audit", wrong]).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_a_caller_sent_cannot_reach_the_terminal_as_it_is() {
        assert_eq!(
            printable(Some("a\u{1b}[31m\u{202e}")),
            r"a\u{1b}[31m\u{202e}"
        );
        assert_eq!(printable(None), "-");
    }
}
