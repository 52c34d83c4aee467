//! `fleet functions`: what the shared tier needs of its engine.

use clap::{Args, Subcommand};

use super::{ExitStatus, say};
use crate::fleet::{LIBRARY, RIGHTS};

/// `fleet`.
#[derive(Debug, Args)]
pub(crate) struct FleetArguments {
    #[command(subcommand)]
    command: FleetCommand,
}

#[derive(Debug, Subcommand)]
enum FleetCommand {
    /// Prints the functions that Valkey or Redis runs for the gateway, for `redis-cli -x FUNCTION LOAD REPLACE`,
    /// and behind them, as a comment, the command that makes a user who may call them and nothing else.
    Functions,
}

pub(crate) fn run(arguments: &FleetArguments) -> ExitStatus {
    let FleetCommand::Functions = arguments.command;
    let library = LIBRARY.trim_end();
    let text = format!(
        "{library}\n\n-- Its user, with a password in place of PASSWORD:\n-- ACL SETUSER gateway on >PASSWORD {RIGHTS}"
    );
    if say(&text) {
        ExitStatus::Well
    } else {
        ExitStatus::Failed
    }
}
