//! The database of the central trail, as the commands use it.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;

use clap::Args;
use tokio::runtime;

use crate::audit::database::{CentralTrail, ChainStatus};
use crate::commands::{ConfigArguments, ExitStatus, complain};
use crate::settings::ConfigError;
use crate::system::Clock;
use crate::telemetry::Chain;

/// Whether directories are read, or the database.
#[derive(Debug, Default, Args)]
pub(super) struct DatabaseArguments {
    /// Reads the central trail of all replicas, in the database that `[audit.database]` of the configuration names,
    /// and of directories what was not shipped yet: of those that are given, or of the configuration's.
    #[arg(long)]
    database: bool,
    #[command(flatten)]
    config: ConfigArguments,
}

/// Why a command that asks the database ends early. It has been said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(pub(super) ExitStatus);

impl DatabaseArguments {
    pub(super) fn is_wanted(&self) -> bool {
        self.database
    }

    /// The trail, with the directories that were given, or else the configuration's, if it is there.
    pub(super) fn trail(&self, given: &[PathBuf]) -> Result<CentralTrail, Ended> {
        let mut trail = central_trail(&self.config)?;
        if given.is_empty() {
            trail.directories.retain(|directory| directory.is_dir());
        } else {
            given.clone_into(&mut trail.directories);
        }
        Ok(trail)
    }
}

/// Where the configuration says that the central trail is.
pub(super) fn central_trail(arguments: &ConfigArguments) -> Result<CentralTrail, Ended> {
    let refused = |why: &dyn fmt::Display| {
        complain(why);
        Ended(ExitStatus::Misconfigured)
    };
    let audit = arguments.source().read_audit();
    let audit = audit.map_err(|why| refused(&why))?;
    let Some(database) = audit.database else {
        let message =
            "is not there; write where the central trail is, as config/gateway.toml shows it";
        return Err(refused(&ConfigError::at("audit.database", message)));
    };
    Ok(CentralTrail {
        database,
        directories: vec![audit.directory],
        clock: Clock::system(),
    })
}

/// Says what went wrong with the central trail.
pub(super) fn failed(trail: &CentralTrail, error: &dyn std::error::Error) -> Ended {
    let servers = trail.database.url.servers();
    complain(&format_args!("the database at {servers}: {}", Chain(error)));
    Ended(ExitStatus::Failed)
}

/// Says how far each chain has come.
pub(super) fn tell_chains(chains: &[ChainStatus]) {
    for it in chains {
        let ChainStatus {
            replica,
            chain,
            seq,
            shipped,
            ..
        } = it;
        complain(&format_args!(
            "{replica} (chain {chain}): shipped up to record {seq} at {shipped}"
        ));
    }
}

/// Does what asks the database, on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Ended> {
    match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ok(runtime.block_on(work)),
        Err(error) => {
            complain(&format_args!("cannot start: {error}"));
            Err(Ended(ExitStatus::Failed))
        }
    }
}
