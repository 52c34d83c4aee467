//! Opening the trail: takes the directory, repairs what a crash left, continues the chain, writes a first record
//! and starts the threads and the background tasks.

use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::system::{Clock, Moment};
use crate::telemetry::metrics::audit::AuditMetrics;

use super::chain::Tip;
use super::database::{ShippedJournal, Shipper};
use super::directory::{Directory, LockError, at, private};
use super::disk::Disk;
use super::heads::{HeadKey, LastHead};
use super::health::{Condition, Quorum};
use super::journal::{Journal, JournalParts, SyncThread};
use super::orders::{SyncOrder, WriterOrder};
use super::record::{Kind, Record, limits};
use super::refusals::Refusals;
use super::repair::LastRecord;
use super::retention::Retention;
use super::sink::AuditSink;
use super::writer::{OpenFile, Writer, day};
use super::{AuditError, AuditInner, Config, Sync, heads, listing, repair};

pub(super) fn open(
    config: &Config,
    replica: &str,
    clock: Clock,
    metrics: AuditMetrics,
) -> Result<AuditInner, AuditError> {
    let unusable = |source| AuditError::Unusable {
        directory: config.directory.clone(),
        source,
    };
    let directory = Directory::open(&config.directory).map_err(|error| match error {
        LockError::ByAnother => AuditError::InUse {
            directory: config.directory.clone(),
        },
        LockError::Failed(source) => unusable(source),
    })?;
    let head_key = read_head_key(config)?;
    let resumed = resume(directory, config, replica, head_key.as_ref(), clock.now());
    let Resumed {
        writer,
        identity,
        chain,
    } = resumed.map_err(unusable)?;
    let disk = Disk::new(config, metrics.clone());
    let most = config.refusals_per_minute;
    let refusals = Refusals::new(most, Arc::clone(&disk), metrics.clone());
    let second = config.second.as_ref();
    let journal = Journal::new(
        writer,
        JournalParts {
            identity,
            sync: config.sync,
            quorum: Quorum::of(config),
            sink: second.map(|second| AuditSink::new(second, replica, metrics.clone())),
            head_key,
            clock: clock.clone(),
            metrics: metrics.clone(),
        },
    );
    start_threads(&journal).map_err(unusable)?;
    let source = ShippedJournal {
        directory: config.directory.clone(),
        chain,
        replica,
        journal: &journal,
    };
    let database = config.database.as_ref();
    let shipper = database.map(|it| Shipper::new(it, source, &clock, metrics.shipping.clone()));
    let shipping = shipper.as_ref().map(|it| Arc::clone(it.progress()));
    let retention = Retention::new(config, &journal, &clock, metrics).after(shipping);
    let maintenance = maintain(Arc::clone(&journal), clock.clone(), config.sync_interval);
    Ok(AuditInner {
        directory: config.directory.clone(),
        background: [
            tokio::spawn(maintenance).abort_handle(),
            tokio::spawn(Arc::clone(&refusals).run(Arc::clone(&journal), clock.clone()))
                .abort_handle(),
            tokio::spawn(Arc::new(retention).run()).abort_handle(),
            tokio::spawn(disk.watch(clock.clone())).abort_handle(),
        ],
        shipping: shipper.as_ref().map(Shipper::spawn),
        shipper,
        journal,
        refusals,
        clock,
    })
}

pub(super) fn read_head_key(config: &Config) -> Result<Option<HeadKey>, AuditError> {
    let Some(path) = &config.head_key_file else {
        return Ok(None);
    };
    let key = HeadKey::read(path).map_err(|source| AuditError::HeadKey {
        path: path.clone(),
        source,
    })?;
    Ok(Some(key))
}

fn start_threads(journal: &Arc<Journal>) -> io::Result<()> {
    let writing = Arc::clone(journal);
    start("audit-writer", move || writing.run_writer())?;
    let syncing = SyncThread::new(journal);
    start("audit-sync", move || syncing.run())?;
    if let Some(sink) = journal.sink.clone() {
        let journal = Arc::clone(journal);
        start("audit-sink", move || sink.run(&journal.health))?;
    }
    // The first record may have finished a file.
    journal.sync_orders.give(SyncOrder::Finish);
    Ok(())
}

fn start(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(())
}

/// The background task of a journal, which never touches the disk, so that a disk that hangs cannot stop it.
/// Ten times a second it settles what has waited too long; it gives the threads their orders, and has them try
/// again while nothing can be written.
async fn maintain(journal: Arc<Journal>, clock: Clock, sync_interval: Duration) {
    let start = clock.elapsed();
    let (mut next_sync, mut next_examination) = (start + sync_interval, start + EXAMINATION);
    let mut next_head = start + HEAD;
    loop {
        clock.sleep(ROUND).await;
        let now = clock.elapsed();
        let health = &journal.health;
        journal.expire(now);
        if health.sync_hangs(now, LONGEST_SYNC)
            && health.set(
                Condition::SyncHangs,
                "the disk takes longer than a second to sync",
            )
        {
            tracing::error!("the disk does not take the audit trail; no question is answered");
        }
        if now >= next_sync {
            next_sync = now + sync_interval;
            journal.sync_orders.give(SyncOrder::Sync);
        }
        if now >= next_examination {
            next_examination = now + EXAMINATION;
            journal.writer_orders.give(WriterOrder::Examine);
            if let Some(sink) = &journal.sink {
                sink.retry();
            }
        }
        if now >= next_head {
            next_head = now + HEAD;
            journal.sync_orders.give(SyncOrder::Sign);
        }
        if health.is(Condition::WriteFailed) || health.is(Condition::WriteSlow) {
            journal.writer_orders.give(WriterOrder::Write);
        }
    }
}

struct Resumed {
    writer: Writer,
    /// The members that every record has of its writer and its chain.
    identity: Box<[u8]>,
    chain: Uuid,
}

/// An id for a chain that begins now, which its first part says.
fn new_chain(now: Timestamp) -> Uuid {
    let seconds = u64::try_from(now.seconds()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0))
}

/// Finds where the chain ends, repairs the last file and writes the first record.
fn resume(
    directory: Directory,
    config: &Config,
    replica: &str,
    head_key: Option<&HeadKey>,
    now: Moment,
) -> io::Result<Resumed> {
    let LastFile { last, torn, file } = last_file(config)?;
    let found = last.map_or(Tip::START, |last| last.tip);
    let chain = last.and_then(|last| last.chain);
    let chain = chain.unwrap_or_else(|| new_chain(now.wall));
    let signed = last_head(config, head_key)?;
    let tip = signed_tip(&signed, found);
    let mut writer = Writer::new(
        directory,
        config.rotate_size.0,
        config.sync == Sync::Always,
        tip,
        file.filter(|_| tip == found),
    );
    let identity = Record::members(|record| {
        record.text("replica", replica, limits::SHORT);
        record.put("chain", chain);
    });
    let write = |record: &mut Record<'_>| write_start(record, torn, head_key, &signed);
    Record::compose(Kind::Admin, now.wall, &identity, write, |body| {
        writer.write(body, now.wall)
    })?;
    writer.sync_names()?;
    Ok(Resumed {
        writer,
        identity,
        chain,
    })
}

/// What the journal ends with.
struct LastFile {
    last: Option<LastRecord>,
    /// How many bytes were torn.
    torn: u64,
    /// The file to go on with, unless it is damaged.
    file: Option<OpenFile>,
}

fn last_file(config: &Config) -> io::Result<LastFile> {
    let segments = listing::list(&config.directory)?.segments;
    let (mut last, mut torn, mut file) = (None, 0, None);
    let newest = segments.last();
    if let Some((own, segment)) = newest.and_then(|it| Some((it.own_file()?, it))) {
        let repaired = repair::repair(&own.path)?;
        torn = repaired.torn;
        last = repaired.last;
        if repaired.damaged {
            tracing::error!(file = %own.path.display(), "the last audit file is damaged; a new one is begun");
        } else {
            let opened = private().append(true).open(&own.path);
            file = Some(OpenFile {
                file: Arc::new(opened.map_err(|error| at(&own.path, &error))?),
                path: own.path.clone(),
                size: repaired.size,
                day: day(segment.start),
            });
        }
    }
    if last.is_none() {
        last = repair::last_record(&config.directory, &segments)?;
    }
    Ok(LastFile { last, torn, file })
}

fn last_head(config: &Config, key: Option<&HeadKey>) -> io::Result<LastHead> {
    let Some(key) = key else {
        return Ok(LastHead::default());
    };
    heads::repair(&config.directory)?;
    key.verifier().last(&config.directory)
}

/// Where the chain ends by the word of signed heads, which may know of records that are gone.
fn signed_tip(signed: &LastHead, found: Tip) -> Tip {
    match signed.tip {
        Some(signed) if signed.seq > found.seq => {
            // Going on from the head leaves a gap for the verifier to name; going on from the file
            // would give the missing numbers away a second time.
            tracing::error!(
                from = found.seq + 1,
                to = signed.seq,
                "signed audit records are missing"
            );
            signed
        }
        _ => found,
    }
}

/// The rest of the record that a journal was opened. Where heads are signed, it says with which key, and
/// with which one the last head was signed if that was another.
fn write_start(record: &mut Record<'_>, torn: u64, key: Option<&HeadKey>, signed: &LastHead) {
    record.word("action", "started");
    record.text("version", env!("CARGO_PKG_VERSION"), limits::SHORT);
    record.put("torn_bytes", torn);
    let Some(key) = key else { return };
    record.word("head_key", key.id());
    let before = signed.key_id.as_deref();
    let before = before.filter(|before| *before != key.id());
    record.text_some("head_key_before", before, limits::SHORT);
}

const ROUND: Duration = Duration::from_millis(100);
const EXAMINATION: Duration = Duration::from_secs(1);
const HEAD: Duration = Duration::from_mins(1);
const LONGEST_SYNC: Duration = Duration::from_secs(1);
