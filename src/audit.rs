//! What we write down: a question goes in when it arrives, and its answer may leave once [`Entry::close`]
//! has returned, or the [`Ticket`] that [`Entry::submit`] gives says so.
//!
//! One record per question, however it ended (G15). An [`Entry`] that is dropped without being closed
//! was abandoned, and its record says so. When records cannot be written, both fail, and there is no
//! answer (G16).
//!
//! # Reading order
//!
//! [`arrival`], [`entry`], [`closing`] and [`events`] are what is recorded, [`refusals`] what of it is only
//! counted and [`folding`] its records, [`record`] is how a line is spelt, [`chain`] what ties the lines
//! together, [`journal`] who writes them and when, [`writer`] the file and [`ahead`] its room on the disk.
//! [`directory`] names the files, [`listing`] finds them, [`repair`] mends the last one and [`retention`]
//! packs and removes them; [`reading`] opens them, packed or not.
//! [`verify`] and [`search`] read them back.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::SignalKind;

use crate::identity::{Caller, network};
use crate::settings::ConfigError;
use crate::system::{Clock, Moment, impossible_directory};
use crate::telemetry::Chain;
use crate::telemetry::metrics::audit::AuditMetrics;

pub use arrival::{Arrival, Origin, RequestId};
pub use closing::{CacheUse, Closing, ListTag, Outcome};
pub use config::{Config, Destination, Format, InvalidDestination, Require, Second, Sync};
pub use entry::{Entry, Refused};
pub use events::{AdminAction, AdminRecord, FetchRecord};
pub use heads::{HeadKeyError, HeadVerifier};
pub use health::{AuditFault, AuditHealth, AuditPart};
pub use journal::Ticket;
pub use refusals::TooManyRefusals;

use self::folding::Folding;
use self::journal::{Journal, Order};
use self::record::{Body, Kind};
use self::refusals::Who;

mod arrival;
mod entry;
mod closing;
mod refusals;
mod folding;
mod disk;
mod events;
mod callers;
mod record;
mod chain;
mod journal;
mod queue;
mod bodies;
mod commit;
mod outcomes;
mod health;
mod opening;
mod maintenance;
mod writer;
mod ahead;
mod directory;
mod listing;
mod repair;
mod retention;
mod heads;
mod sink;
mod reading;
pub mod verify;
pub mod search;
pub mod usage;
mod config;

/// The audit trail of one process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit(Arc<Inner>);

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
struct Inner {
    journal: Arc<Journal>,
    directory: PathBuf,
    /// The members `replica` and `chain`, as they stand in every record.
    identity: Box<[u8]>,
    folding: Arc<Folding>,
    clock: Clock,
    background: [tokio::task::AbortHandle; 3],
}

impl Audit {
    /// Takes the directory, mends what a crash left, continues the chain and writes a first record, so
    /// that a directory that cannot be written is found out now. To be called inside a tokio runtime.
    pub fn open(
        config: &Config,
        replica: &str,
        clock: Clock,
        metrics: AuditMetrics,
    ) -> Result<Self, AuditError> {
        let inner = opening::open(config, replica, clock, metrics)?;
        Ok(Self(Arc::new(inner)))
    }

    /// What is wrong with the file that `config` names, where it names one.
    pub fn check(config: &Config) -> Vec<ConfigError> {
        let key = opening::read_head_key(config).err();
        let directory = impossible_directory(&config.directory)
            .map(|message| ConfigError::at("audit.directory", message));
        let second = config.second.as_ref().and_then(Second::impossible);
        let second = second.map(|message| ConfigError::at("audit.second.to", message));
        let key = key.and_then(|error| error.config_error());
        [key, directory, second].into_iter().flatten().collect()
    }

    /// Opens the record of a question.
    pub fn entry<'a>(&'a self, arrival: Arrival<'a>) -> Entry<'a> {
        Entry::open(self, arrival)
    }

    /// Why no record can be written at present; `None` if all is well.
    pub fn trouble(&self) -> Option<String> {
        self.0.journal.health().reason()
    }

    /// Whether records can be written at present, and all that is wrong.
    pub fn health(&self) -> AuditHealth {
        self.0.journal.health().report()
    }

    /// Whether less of the disk is free than is kept for callers who are let in.
    pub fn disk_is_short(&self) -> bool {
        self.0.folding.disk_is_short()
    }

    /// Whether records can be written at present.
    pub fn is_writable(&self) -> bool {
        self.0.journal.health().is_writable()
    }

    /// Records a fetch. Nobody waits for it: the answers that it fills have records of their own.
    pub fn record_fetch(&self, fetch: &FetchRecord<'_>) {
        Body::compose(
            fetch.now.wall,
            Kind::Fetch,
            |body| {
                body.put(&self.0.identity);
                fetch.write(body);
            },
            |body| self.0.journal.leave(body, fetch.now),
        );
    }

    /// Records what an operator did; as with a question, what is not recorded is not done.
    pub async fn record_admin(&self, admin: &AdminRecord<'_>) -> Result<(), Unrecorded> {
        Body::compose(
            admin.now.wall,
            Kind::Admin,
            |body| {
                body.put(&self.0.identity);
                admin.write(body);
            },
            |body| self.0.journal.submit(body, admin.now),
        )?
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
        let who = match caller {
            Some(caller) => Who::from(caller),
            None => Who::Source(network(peer.ip())),
        };
        self.0.folding.refuse(who, code, now)
    }

    /// Where the journal lies, for reading it back.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Begins a new file, as SIGHUP asks for after the present one was renamed.
    pub fn reopen(&self) {
        self.0.journal.order(Order::Reopen);
    }

    /// Writes what is queued, brings it to the disk, and gives the directory up. What comes after is
    /// refused.
    pub async fn close(self) {
        maintenance::close(&self.0).await;
    }
}

/// From now on SIGXFSZ does not end the process: a write beyond the limit of `ulimit -f` fails as it
/// does on a full disk. To be called once, inside a tokio runtime.
pub fn survive_file_size_limit() -> io::Result<()> {
    let signal = rustix::process::Signal::XFSZ.as_raw();
    // The handler stays when the stream is dropped; that somebody handles it is all that is needed.
    tokio::signal::unix::signal(SignalKind::from_raw(signal)).map(drop)
}
