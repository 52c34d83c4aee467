//! The shipper: a background task that brings the journal's records to the database.
//!
//! It starts where the database says that the chain ends, reads the journal's files from there, checks each hash,
//! and writes records and the chain's new end in one transaction. Whatever is cut off in between, the end that
//! the database knows is the end of what it has: nothing is lost, and nothing arrives twice. It ships what is on
//! the disk, so that a host that loses its last second does not contradict the database.
//!
//! A journal that does not continue what was shipped stops it: that is not mended here.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::audit::chain::Tip;
use crate::audit::config::Sync;
use crate::audit::journal::Journal;
use crate::system::{Clock, in_background};
use crate::telemetry::metrics::audit::ShippingMetrics;
use crate::telemetry::{Chain, RateLimitedLog, Tally};
use crate::upstream::Jitter;

use super::chain_end;
use super::chain_end::ChainEnd;
use super::checkpoint;
use super::config::DatabaseConfig;
use super::connection::Connection;
use super::error::DatabaseError;
use super::head_shipping::HeadShipping;
use super::journal_reader::JournalReader;
use super::progress::ShippingProgress;
use super::shipment::{Difference, DifferenceKind, Shipment};

pub(in crate::audit) struct Shipper {
    database: DatabaseConfig,
    directory: PathBuf,
    chain: Uuid,
    replica: String,
    journal: Arc<Journal>,
    clock: Clock,
    progress: Arc<ShippingProgress>,
    failures: RateLimitedLog,
    ended: CancellationToken,
}

/// Whose journal is shipped.
pub(in crate::audit) struct ShippedJournal<'a> {
    pub(in crate::audit) directory: PathBuf,
    pub(in crate::audit) chain: Uuid,
    pub(in crate::audit) replica: &'a str,
    pub(in crate::audit) journal: &'a Arc<Journal>,
}

/// Why a session with the database ended.
#[derive(Debug, thiserror::Error)]
enum ShippingError {
    #[error("the database cannot be used")]
    Database(#[from] DatabaseError),
    #[error("the journal does not continue what was shipped of it")]
    Differs(#[from] Difference),
    #[error("the journal cannot be read")]
    Journal(#[from] io::Error),
    #[error("another process has shipped records of this chain")]
    Moved,
}

/// A connection, and where the journal is read.
struct Session {
    connection: Connection,
    heads: HeadShipping,
    chain: i32,
    tip: Tip,
    /// The days whose tables are there.
    days: BTreeSet<String>,
    /// The hour since 1970 whose checkpoint is there.
    marked: i64,
}

/// What was read of the journal, up to the record `goal`, from `began` on.
struct Read {
    shipment: Shipment,
    reader: JournalReader,
    began: Timestamp,
    goal: u64,
}

impl fmt::Debug for Shipper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shipper").finish_non_exhaustive()
    }
}

impl Shipper {
    pub(in crate::audit) fn new(
        database: &DatabaseConfig,
        shipped: ShippedJournal<'_>,
        clock: &Clock,
        metrics: ShippingMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            database: database.clone(),
            directory: shipped.directory,
            chain: shipped.chain,
            replica: shipped.replica.to_owned(),
            journal: Arc::clone(shipped.journal),
            clock: clock.clone(),
            progress: Arc::new(ShippingProgress::new(metrics, clock.now().wall)),
            failures: RateLimitedLog::default(),
            ended: CancellationToken::new(),
        })
    }

    pub(in crate::audit) fn database(&self) -> &DatabaseConfig {
        &self.database
    }

    pub(in crate::audit) fn progress(&self) -> &Arc<ShippingProgress> {
        &self.progress
    }

    /// Once the journal has ended, and as much of it as could be shipped.
    pub(in crate::audit) fn ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.cancelled()
    }

    /// Ships until the journal has ended. To be called inside a tokio runtime.
    pub(in crate::audit) fn spawn(self: &Arc<Self>) -> AbortHandle {
        tokio::spawn(Arc::clone(self).run()).abort_handle()
    }

    async fn run(self: Arc<Self>) {
        tokio::select! {
            () = self.ship_all() => {}
            () = self.show_lag() => {}
        }
        self.ended.cancel();
    }

    async fn show_lag(&self) {
        loop {
            let written = self.journal.extent.written();
            self.progress.show_lag(written, self.clock.now().wall);
            self.clock.sleep(LAG_SHOWN).await;
        }
    }

    async fn ship_all(&self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let before = self.progress.shipped();
            let Err(error) = self.session().await else {
                return;
            };
            if self.progress.shipped() > before {
                pause = SHORTEST_PAUSE;
            }
            self.note(&error);
            if let ShippingError::Differs(_) = error {
                pause = LONGEST_PAUSE;
            }
            let wait = Jitter::System.between(pause / 2, pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = self.journal.ended() => return,
            }
        }
    }

    fn note(&self, error: &ShippingError) {
        if let ShippingError::Differs(difference) = error {
            if self.progress.differs(*difference) {
                tracing::error!(
                    seq = difference.seq,
                    "the audit trail is not shipped any more: {difference}"
                );
            }
            return;
        }
        let words = Chain(error).to_string();
        self.progress.failed(words.clone());
        if let Some(Tally { times, .. }) = self.failures.happened(self.clock.elapsed()) {
            tracing::warn!(times, "the audit trail is not shipped: {words}");
        }
    }

    /// Ships over one connection, until the journal has ended.
    async fn session(&self) -> Result<(), ShippingError> {
        let mut session = self.begin().await?;
        // With the last that was shipped, which is compared.
        let mut reader = JournalReader::new(&self.directory, session.tip.seq);
        loop {
            let is_last = self.journal.has_ended();
            let mut read = self.read(reader, (session.chain, session.tip)).await?;
            while !read.shipment.is_empty() {
                read = self.ship(&mut session, read).await?;
            }
            reader = read.reader;
            self.is_ahead(session.tip)?;
            self.progress.reached(session.tip.seq, Some(read.began), 0);
            self.well();
            session.ship_heads(&self.clock).await?;
            self.mark(&mut session).await?;
            if is_last {
                return Ok(());
            }
            self.until_more(&session.connection, &session.heads, session.tip)
                .await?;
        }
    }

    /// Ships what was read, and meanwhile reads what comes next.
    async fn ship(&self, session: &mut Session, read: Read) -> Result<Read, ShippingError> {
        let Read {
            shipment,
            reader,
            began,
            goal,
        } = read;
        let (records, behind) = (shipment.count, (session.chain, shipment.to));
        let (shipped, next) = tokio::join!(session.ship(shipment), self.read(reader, behind));
        shipped?;
        let until = (session.tip.seq >= goal).then_some(began);
        self.progress.reached(session.tip.seq, until, records);
        self.well();
        next
    }

    /// Makes the checkpoint of this hour, if it is this replica that does.
    async fn mark(&self, session: &mut Session) -> Result<(), ShippingError> {
        let now = self.clock.now().wall;
        let Some(key) = &self.journal.head_key else {
            return Ok(());
        };
        if session.marked == now.seconds() / 3_600 {
            return Ok(());
        }
        session.marked = now.seconds() / 3_600;
        let make = async |it: &mut Connection| checkpoint::make(it, key, now).await;
        if let Some(line) = session.connection.in_time(make).await? {
            tracing::info!(checkpoint = line, "signed the ends of all audit chains");
            let directory = self.directory.clone();
            let written = in_background(move || checkpoint::append(&directory, &line));
            written
                .await
                .unwrap_or_else(|| Err(io::Error::other("the work was not done")))?;
        }
        Ok(())
    }

    async fn begin(&self) -> Result<Session, ShippingError> {
        let mut connection = Connection::open(&self.database, &self.clock).await?;
        let find = async |it: &mut Connection| ChainEnd::find(it, self.chain, &self.replica).await;
        let end = connection.in_time(find).await?;
        self.is_ahead(end.tip)?;
        self.progress.reached(end.tip.seq, end.recorded, 0);
        Ok(Session {
            heads: HeadShipping::new(&self.directory, end.id),
            connection,
            chain: end.id,
            tip: end.tip,
            days: BTreeSet::new(),
            marked: 0,
        })
    }

    /// Reads what comes next of the journal, up to the last record that may be shipped.
    async fn read(
        &self,
        mut reader: JournalReader,
        (chain, tip): (i32, Tip),
    ) -> Result<Read, ShippingError> {
        let (began, goal) = (self.clock.now().wall, self.last());
        let read = in_background(move || {
            let mut shipment = Shipment::new(chain, tip)?;
            let mut block = Vec::new();
            while shipment.bytes < LARGEST_SHIPMENT && reader.next(&mut block, goal)? {
                shipment.add(&block)?;
            }
            Ok::<_, ShippingError>(Read {
                shipment,
                reader,
                began,
                goal,
            })
        });
        read.await
            .unwrap_or_else(|| Err(io::Error::other("the work was not done").into()))
    }

    /// Waits for more records, which are looked for once an interval.
    async fn until_more(
        &self,
        connection: &Connection,
        heads: &HeadShipping,
        Tip { seq: shipped, .. }: Tip,
    ) -> Result<(), DatabaseError> {
        loop {
            tokio::select! {
                () = self.clock.sleep(self.database.interval) => {}
                () = self.journal.ended() => return Ok(()),
            }
            if connection.is_closed() {
                return Err(DatabaseError::Gone);
            }
            if self.last() > shipped || heads.is_due(&self.clock) {
                return Ok(());
            }
            self.progress
                .reached(shipped, Some(self.clock.now().wall), 0);
        }
    }

    /// The last record that may be shipped.
    fn last(&self) -> u64 {
        match self.journal.sync {
            Sync::Interval => self.journal.extent.durable(),
            Sync::Always | Sync::Never => self.journal.extent.written(),
        }
    }

    /// Whether the database has records that the journal has not.
    fn is_ahead(&self, tip: Tip) -> Result<(), Difference> {
        let written = self.journal.extent.written();
        if tip.seq <= written {
            return Ok(());
        }
        Err(Difference {
            seq: written + 1,
            why: DifferenceKind::Ahead,
        })
    }

    fn well(&self) {
        if self.failures.is_over(self.clock.elapsed()).is_some() {
            tracing::info!("the audit trail is shipped again");
        }
    }
}

impl Session {
    async fn ship(&mut self, shipment: Shipment) -> Result<(), ShippingError> {
        let new: Vec<_> = shipment.days.difference(&self.days).cloned().collect();
        let to = shipment.to;
        let is_written = self.connection.in_time(async |it| {
            for day in &new {
                let prepare = "SELECT audit.prepare_day($1::text::date)";
                it.execute(prepare, &[day]).await?;
            }
            chain_end::write(it, shipment).await
        });
        if !is_written.await? {
            return Err(ShippingError::Moved);
        }
        self.days.extend(new);
        self.tip = to;
        Ok(())
    }

    async fn ship_heads(&mut self, clock: &Clock) -> Result<(), DatabaseError> {
        let (heads, seq) = (&mut self.heads, self.tip.seq);
        let ship = async |it: &mut Connection| heads.ship(it, seq, clock).await;
        self.connection.in_time(ship).await
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LAG_SHOWN: Duration = Duration::from_secs(1);
/// In bytes of the journal, of one transaction: some five thousand records.
const LARGEST_SHIPMENT: usize = 4 << 20;
