//! The audit trail: a record of every lookup, written before its answer leaves.
//!
//! One record per lookup, however it ended (G15). An [`Entry`] that is dropped without being closed was
//! abandoned, and its record says so. When records cannot be written there is no answer (fail closed, G16).
//!
//! # Reading order
//!
//! [`arrival`], [`entry`] and [`events`] are what is recorded, [`refusals`] what of it is only counted,
//! [`record`] is how a line is spelt, [`chain`] what ties the lines together. [`journal`] is the write-ahead
//! log, [`commit`] its group commit, [`writer`] the file. [`directory`] names the files, [`listing`] finds
//! them, [`repair`] cuts torn tails off, and [`retention`] packs and removes them; [`reading`] opens them,
//! packed or not, for [`verify`] and [`search`]. [`database`] brings the trails of all replicas together.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::SignalKind;
use tokio::task::AbortHandle;

use crate::identity::{Caller, network};
use crate::settings::ConfigError;
use crate::system::{Clock, Moment, impossible_directory};
use crate::telemetry::Chain;
use crate::telemetry::metrics::audit::AuditMetrics;

pub use arrival::{Arrival, Origin, RequestId};
pub use commit::Ticket;
pub use config::{Config, Destination, InvalidDestination, Require, SinkConfig, SinkFormat, Sync};
pub use database::{DatabaseConfig, DatabaseUrl};
pub(crate) use entry::InventoryQuery;
pub use entry::{CacheUse, Closing, Entry, ListTag, Outcome, Refused};
pub use events::{AdminAction, AdminRecord, FetchRecord};
pub use heads::{HeadKeyError, HeadVerifier};
pub use health::{AuditFault, AuditHealth, AuditPart};
pub use refusals::TooManyRefusals;

use self::database::{CentralTrail, Shipper};
use self::journal::Journal;
use self::orders::WriterOrder;
use self::record::Kind;
use self::refusals::{Refusals, RefusedParty};

mod arrival;
mod entry;
mod events;
mod refusals;
mod record;
mod chain;
mod journal;
mod commit;
mod orders;
mod health;
mod writer;
mod sink;
mod open;
mod disk;
mod directory;
mod listing;
mod repair;
mod retention;
mod heads;
mod reading;
pub mod verify;
pub mod search;
pub mod usage;
pub mod database;
mod config;

/// The audit trail of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit(Arc<AuditInner>);

/// Why there is no record, and therefore no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// It has waited for a second.
    #[error("the audit record was not written in time")]
    TooLate,
    /// The journal cannot be written.
    #[error("the audit record could not be written")]
    Unwritable,
}

/// Why there is no audit trail.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Another process has it.
    #[error("the audit directory {} is used by another process", .directory.display())]
    InUse {
        /// Which.
        directory: PathBuf,
    },
    /// The key that signs heads.
    #[error("the key cannot sign the audit trail")]
    HeadKey {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: HeadKeyError,
    },
    /// It cannot be made, read or written.
    #[error("the audit directory {} cannot be used", .directory.display())]
    Unusable {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl AuditError {
    /// What has to be changed in the configuration, where it is that.
    pub fn config_error(&self) -> Option<ConfigError> {
        match self {
            Self::HeadKey { .. } => {
                let message = Chain(self).to_string();
                Some(ConfigError::at("audit.head_key_file", message))
            }
            Self::InUse { .. } | Self::Unusable { .. } => None,
        }
    }
}

#[derive(Debug)]
struct AuditInner {
    journal: Arc<Journal>,
    directory: PathBuf,
    refusals: Arc<Refusals>,
    clock: Clock,
    background: [AbortHandle; 4],
    /// To the central database, if there is one.
    shipper: Option<Arc<Shipper>>,
    shipping: Option<AbortHandle>,
}

impl Audit {
    /// Takes the directory, repairs what a crash left, continues the chain and writes a first record, so
    /// that a directory that cannot be written is found out now. To be called inside a tokio runtime.
    pub fn open(
        config: &Config,
        replica: &str,
        clock: Clock,
        metrics: AuditMetrics,
    ) -> Result<Self, AuditError> {
        let inner = open::open(config, replica, clock, metrics)?;
        Ok(Self(Arc::new(inner)))
    }

    /// What is wrong with the files that `config` names.
    pub fn check(config: &Config) -> Vec<ConfigError> {
        let key = open::read_head_key(config).err();
        let directory = impossible_directory(&config.directory)
            .map(|message| ConfigError::at("audit.directory", message));
        let second = config.second.as_ref().and_then(SinkConfig::impossible);
        let second = second.map(|message| ConfigError::at("audit.second.to", message));
        let key = key.and_then(|error| error.config_error());
        [key, directory, second].into_iter().flatten().collect()
    }

    /// Opens the record of a lookup.
    pub fn entry<'a>(&'a self, arrival: Arrival<'a>) -> Entry<'a> {
        Entry::open(self, arrival)
    }

    /// Whether records can be written at present, and all that is wrong.
    pub fn health(&self) -> AuditHealth {
        self.0.journal.health.report()
    }

    /// Whether less of the disk is free than is kept for callers who are let in.
    pub fn disk_is_short(&self) -> bool {
        self.0.refusals.disk.is_short()
    }

    /// Whether records can be written at present.
    pub fn is_writable(&self) -> bool {
        self.0.journal.health.is_writable()
    }

    /// Records a fetch, without a wait: the answers that it fills have records of their own.
    pub fn record_fetch(&self, fetch: &FetchRecord<'_>) {
        let journal = &self.0.journal;
        drop(journal.submit(Kind::Fetch, fetch.now, |record| fetch.write(record)));
    }

    /// Records what an operator did; as with a lookup, what is not recorded is not done.
    pub async fn record_admin(&self, admin: &AdminRecord<'_>) -> Result<(), Unrecorded> {
        let journal = &self.0.journal;
        journal
            .submit(Kind::Admin, admin.now, |record| admin.write(record))?
            .await
    }

    /// Counts what was refused to an operator: `None` if it is to be recorded, else it is folded, and on
    /// record once its minute is over.
    pub fn refuse_admin(
        &self,
        caller: Option<&Caller>,
        peer: SocketAddr,
        code: &str,
        now: Moment,
    ) -> Option<TooManyRefusals> {
        let party = match caller {
            Some(caller) => RefusedParty::from(caller),
            None => RefusedParty::Source(network(peer.ip())),
        };
        self.0.refusals.refuse(party, code, now)
    }

    /// Why the central trail does not get the records, if it does not.
    pub fn database_fault(&self) -> Option<String> {
        self.0.shipper.as_ref()?.progress().fault()
    }

    /// The trail of all replicas, if this one is shipped to it.
    pub(crate) fn central(&self) -> Option<CentralTrail> {
        let shipper = self.0.shipper.as_ref()?;
        Some(CentralTrail {
            database: shipper.database().clone(),
            directories: vec![self.0.directory.clone()],
            clock: self.0.clock.clone(),
        })
    }

    /// Where the journal lies, for reading it back.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Begins a new file, as SIGHUP asks for after the present one was renamed.
    pub fn reopen(&self) {
        self.0.journal.writer_orders.give(WriterOrder::Reopen);
    }

    /// Writes what is queued, brings it to the disk, and gives the directory up. What comes after is refused.
    /// Does not wait for ever: a disk that hangs must not keep the process from ending.
    pub async fn close(self) {
        let AuditInner {
            journal,
            refusals,
            clock,
            shipper,
            ..
        } = &*self.0;
        if clock.timeout(LONGEST_END, refusals.close()).await.is_err() {
            tracing::error!("folded refusals could not be put on record in time");
        }
        journal.writer_orders.give(WriterOrder::Stop);
        if clock.timeout(LONGEST_END, journal.ended()).await.is_err() {
            tracing::error!("the audit trail could not be closed in time");
        }
        if let Some(sink) = &journal.sink
            && clock.timeout(LAST_SENDING, sink.ended()).await.is_err()
        {
            tracing::error!("the second audit sink did not take the last records");
        }
        if let Some(shipper) = shipper
            && clock.timeout(LAST_SENDING, shipper.ended()).await.is_err()
        {
            tracing::warn!("the last audit records will be shipped after the next start");
        }
    }
}

impl Drop for AuditInner {
    fn drop(&mut self) {
        for task in self.background.iter().chain(&self.shipping) {
            task.abort();
        }
        self.journal.writer_orders.give(WriterOrder::Stop);
    }
}

/// From now on SIGXFSZ does not end the process: a write beyond the limit of `ulimit -f` fails as it does on a
/// full disk. To be called once, inside a tokio runtime.
pub fn survive_file_size_limit() -> io::Result<()> {
    let signal = rustix::process::Signal::XFSZ.as_raw();
    // The handler stays when the stream is dropped; that the signal is handled is all that is needed.
    tokio::signal::unix::signal(SignalKind::from_raw(signal)).map(drop)
}

const LONGEST_END: Duration = Duration::from_secs(5);
/// How long the second sink, and the central database, may take for what waits for them at the end.
const LAST_SENDING: Duration = Duration::from_secs(1);
