//! `audit database`: the tables of the central trail.

use std::io;
use std::io::Write;

use clap::{Args, Subcommand};

use crate::audit::database;
use crate::audit::database::Connection;
use crate::commands::{ConfigArguments, ExitStatus};

use super::central::{Ended, block_on, central_trail, failed};

/// `audit database`.
#[derive(Debug, Args)]
pub(super) struct DatabaseCommand {
    #[command(subcommand)]
    action: DatabaseAction,
}

#[derive(Debug, Subcommand)]
enum DatabaseAction {
    /// Makes the tables, or brings older ones to this version, as the user that the address names. That user owns
    /// them; give the gateway's own the role `audit_shipper`, and readers `audit_auditor`.
    Prepare(ConfigArguments),
    /// Prints the SQL that makes them, for `psql`.
    Schema,
}

impl DatabaseCommand {
    pub(super) fn run(&self, out: &mut dyn Write) -> io::Result<ExitStatus> {
        match &self.action {
            DatabaseAction::Prepare(config) => match prepare(config) {
                Ok((from, to)) if from == to => {
                    writeln!(out, "the tables are of version {to} already")?;
                    Ok(ExitStatus::Well)
                }
                Ok((_, to)) => {
                    writeln!(out, "the tables are of version {to} now")?;
                    Ok(ExitStatus::Well)
                }
                Err(Ended(ending)) => Ok(ending),
            },
            DatabaseAction::Schema => {
                out.write_all(database::script().as_bytes())?;
                Ok(ExitStatus::Well)
            }
        }
    }
}

/// From which version to which.
fn prepare(config: &ConfigArguments) -> Result<(i32, i32), Ended> {
    let trail = central_trail(config)?;
    let prepared = block_on(async {
        let mut connection = Connection::open_unprepared(&trail.database, &trail.clock).await?;
        database::prepare(&mut connection).await
    })?;
    prepared.map_err(|error| failed(&trail, &error))
}
