//! `audit search`: shows the records that pass the filters.

use std::io;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;

use crate::audit::database::CentralQuery;
use crate::audit::search;
use crate::audit::search::{Filter, Order};
use crate::commands::{ExitStatus, complain};
use crate::system::Clock;

use super::central::{DatabaseArguments, Ended, block_on, failed, tell_chains};
use super::progress::Bar;
use super::records::{OutputFormat, Records};
use super::{follow, name_incomplete};
use crate::commands::table::terminal;

/// `audit search`.
#[derive(Debug, Args)]
pub(super) struct SearchCommand {
    /// Audit directories; what is found in them is merged by time.
    #[arg(value_name = "DIR", required_unless_present = "database")]
    directories: Vec<PathBuf>,
    #[command(flatten)]
    database: DatabaseArguments,
    #[command(flatten)]
    filter: Filter,
    /// How many records at most; with --follow, how many of those that are there already.
    #[arg(long, default_value_t = 100)]
    limit: u64,
    /// Which record comes first: newest or oldest.
    #[arg(long, default_value = "newest", value_parser = search::order)]
    first: Order,
    /// Goes on with new records as they are written, until it is interrupted; the newest comes last.
    #[arg(long, conflicts_with_all = ["first", "until", "before", "certificate", "database"])]
    follow: bool,
    /// How a record is shown. Output is never coloured.
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    format: OutputFormat,
}

impl SearchCommand {
    pub(super) fn follows(&self) -> bool {
        self.follow
    }

    pub(super) fn run(self, out: &mut dyn Write) -> io::Result<ExitStatus> {
        if self.database.is_wanted() {
            return self.run_central(out).or_else(|Ended(ending)| Ok(ending));
        }
        let bar = Bar::new(Clock::system());
        let is_terminal = terminal().is_some();
        let mut records = Records::begin(self.format, out)?;
        let mut left = self.limit;
        let mut shown = Ok(());
        let progress = |progress| bar.show(progress);
        let wanted = search::Search {
            directories: &self.directories,
            filter: &self.filter,
            order: self.first,
        };
        let incomplete = search::search(&wanted, &progress, |found| {
            let Some(rest) = left.checked_sub(1) else {
                return ControlFlow::Break(());
            };
            left = rest;
            if is_terminal {
                bar.clear();
            }
            shown = records.show(out, found);
            if shown.is_err() || left == 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        shown?;
        bar.clear();
        records.flush(out)?;
        name_incomplete(&incomplete);
        Ok(ExitStatus::Well)
    }

    fn run_central(self, out: &mut dyn Write) -> Result<ExitStatus, Ended> {
        let trail = self.database.trail(&self.directories)?;
        let unwritten = |error: io::Error| {
            if error.kind() != io::ErrorKind::BrokenPipe {
                complain(&error);
                return Ended(ExitStatus::Failed);
            }
            Ended(ExitStatus::Well)
        };
        let mut records = Records::begin(self.format, out).map_err(unwritten)?;
        let query = CentralQuery {
            filter: self.filter,
            order: self.first,
            behind: None,
        };
        let mut left = self.limit;
        let mut shown = Ok(());
        let searched = trail.search(
            &query,
            || false,
            |found, _| {
                let Some(rest) = left.checked_sub(1) else {
                    return ControlFlow::Break(());
                };
                left = rest;
                shown = records.show(out, found);
                if shown.is_err() || left == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        );
        let coverage = block_on(searched)?.map_err(|error| failed(&trail, &error))?;
        shown.and_then(|()| records.flush(out)).map_err(unwritten)?;
        tell_chains(&coverage.chains);
        name_incomplete(&coverage.incomplete);
        Ok(ExitStatus::Well)
    }

    pub(super) fn follow(self) -> io::Result<ExitStatus> {
        let request = follow::FollowRequest {
            directories: self.directories,
            filter: self.filter,
            limit: usize::try_from(self.limit).unwrap_or(usize::MAX),
            format: self.format,
        };
        follow::run(request, &Clock::system())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        search: SearchCommand,
    }

    #[test]
    fn the_options_beside_the_filters_are_understood() {
        let read = |options: &[&str]| {
            let options = ["search", "/var/audit"].iter().chain(options);
            Program::try_parse_from(options).map(|read| read.search)
        };
        let usual = read(&[]).unwrap();
        assert_eq!(
            (usual.limit, usual.first, usual.format),
            (100, Order::NewestFirst, OutputFormat::Table)
        );
        let search = read(&["/srv/audit", "--limit=5", "--first=oldest", "--format=csv"]).unwrap();
        assert_eq!(search.directories.len(), 2);
        assert_eq!(
            (search.limit, search.first, search.format),
            (5, Order::OldestFirst, OutputFormat::Csv)
        );
        for wrong in [
            &["--limit=-1"][..],
            &["--first=last"],
            &["--format=xml"],
            &["--follow", "--until=24h"],
            &["--follow", "--first=oldest"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(Program::try_parse_from(["search"]).is_err());
    }
}
