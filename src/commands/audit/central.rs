//! The database of the central trail, as the commands use it.

use std::fmt;
use std::future::Future;

use tokio::runtime;

use crate::audit::database::{Connection, DatabaseError};
use crate::audit::{Config, DatabaseConfig};
use crate::commands::{ConfigArguments, ExitStatus, complain};
use crate::settings::ConfigError;
use crate::system::Clock;
use crate::telemetry::Chain;

/// The settings of the trail, of which those of the database are there.
pub(super) struct CentralTrail {
    pub(super) audit: Config,
    pub(super) database: DatabaseConfig,
}

/// Why a command that asks the database ends early. It has been said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended(pub(super) ExitStatus);

impl CentralTrail {
    pub(super) fn of(arguments: &ConfigArguments) -> Result<Self, Ended> {
        let refused = |why: &dyn fmt::Display| {
            complain(why);
            Ended(ExitStatus::Misconfigured)
        };
        let audit = arguments.source().read_audit();
        let audit = audit.map_err(|why| refused(&why))?;
        let Some(database) = audit.database.clone() else {
            let message =
                "is not there; write where the central trail is, as config/gateway.toml shows it";
            return Err(refused(&ConfigError::at("audit.database", message)));
        };
        Ok(Self { audit, database })
    }

    pub(super) async fn connect(&self) -> Result<Connection, DatabaseError> {
        Connection::open(&self.database, &Clock::system()).await
    }

    /// Says what went wrong with the database.
    pub(super) fn failed(&self, error: &DatabaseError) -> Ended {
        let servers = self.database.url.servers();
        complain(&format_args!("the database at {servers}: {}", Chain(error)));
        Ended(ExitStatus::Failed)
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
