//! The state directory, which is one process's: two would not know of each other's tokens.

use std::io;
use std::path::{Path, PathBuf};

use crate::settings::ConfigError;
use crate::system::private_files::{DirectoryFault, PrivateDirectory};
use crate::telemetry::Chain;

/// Why a state directory cannot be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum StateError {
    #[error("the state directory {} is used by another process", .directory.display())]
    InUse { directory: PathBuf },
    #[error("the state directory {} cannot be used", .directory.display())]
    Unusable {
        directory: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl StateError {
    pub(crate) fn config_error(&self) -> ConfigError {
        ConfigError::at("atlas.state_directory", Chain(self).to_string())
    }
}

/// Makes the state directory this process's own.
pub(super) fn take(directory: &Path) -> Result<PrivateDirectory, StateError> {
    PrivateDirectory::take(directory).map_err(|fault| {
        let directory = directory.to_owned();
        match fault {
            DirectoryFault::InUse => StateError::InUse { directory },
            DirectoryFault::Unusable(source) => StateError::Unusable { directory, source },
        }
    })
}
