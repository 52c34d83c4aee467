//! `audit verify` and `audit search`: a directory goes in, a verdict or records come out.

mod search;
mod verify;

use std::io;
use std::io::BufWriter;
use std::io::Write;

use clap::Args;
use clap::Subcommand;

use super::Ending;
use super::complain;

use search::Search;
use verify::Verify;

/// `audit`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Re-computes the hash chain and names the first record that is not as it was written.
    Verify(Verify),
    /// Shows records, newest first.
    Search(Search),
}

/// Runs the command to its end.
pub fn run(arguments: Arguments) -> Ending {
    let mut out = BufWriter::with_capacity(BUFFER, io::stdout().lock());
    let outcome = match arguments.command {
        Command::Verify(verify) => verify.run(&mut out),
        Command::Search(search) => search.run(&mut out).map(|()| Ending::Well),
    };
    match outcome.and_then(|ending| out.flush().map(|()| ending)) {
        Ok(ending) => ending,
        // Whoever read the output has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ending::Well,
        Err(error) => {
            complain(&error);
            Ending::Failed
        }
    }
}

/// A search may find gigabytes.
const BUFFER: usize = 256 << 10;
