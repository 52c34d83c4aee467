//! `audit verify`, `audit search` and `audit usage` of the directories that are given or of the central trail, and
//! `audit database` for that.

mod central;
mod database;
mod follow;
mod progress;
mod records;
mod search;
mod spreadsheet;
mod usage;
mod verify;

use std::io;
use std::io::{BufWriter, Write};

use clap::{Args, Subcommand};

use super::{ExitStatus, complain};
use crate::audit::search::Incomplete;

pub(super) use records::OutputFormat;
pub(super) use spreadsheet::Spreadsheet;

use database::DatabaseCommand;
use search::SearchCommand;
use usage::UsageCommand;
use verify::VerifyCommand;

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Prepares the database of the central trail.
    Database(DatabaseCommand),
    /// Re-computes the hash chain and names the first record that is not as it was written.
    Verify(VerifyCommand),
    /// Shows records, newest first.
    Search(Box<SearchCommand>),
    /// Says who asked how often, what that cost at Atlas, and what was saved.
    Usage(UsageCommand),
}

/// Runs the command to its end.
pub fn run(arguments: AuditArguments) -> ExitStatus {
    let outcome = match arguments.command {
        AuditCommand::Database(database) => written(|out| database.run(out)),
        AuditCommand::Search(search) if search.follows() => search.follow(),
        AuditCommand::Search(search) => written(|out| search.run(out)),
        AuditCommand::Usage(usage) => written(|out| usage.run(out)),
        AuditCommand::Verify(verify) => written(|out| verify.run(out)),
    };
    match outcome {
        Ok(ending) => ending,
        // The reader of the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitStatus::Well,
        Err(error) => {
            complain(&error);
            ExitStatus::Failed
        }
    }
}

/// What `write` has written is on standard output.
fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<ExitStatus>) -> io::Result<ExitStatus> {
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let ending = write(&mut out)?;
    out.flush()?;
    Ok(ending)
}

/// Names the files that could not be searched as a whole.
fn name_incomplete(files: &[Incomplete]) {
    for file in files {
        complain(&io::Error::other(format!(
            "not searched as a whole: {file}"
        )));
    }
}

/// A search may find gigabytes.
const BUFFER: usize = 256 << 10;
