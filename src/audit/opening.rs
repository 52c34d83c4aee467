//! Opening: settings go in; a journal with its threads and its background task comes out, and its first record is
//! written.

use std::sync::{Arc, mpsc};
use std::{io, thread};

use uuid::Uuid;

use crate::system::{Clock, Moment};
use crate::telemetry::metrics::audit::AuditMetrics;

use super::ahead::Ahead;
use super::bodies::Bodies;
use super::chain::Tip;
use super::directory::{Directory, Taken, at, private};
use super::disk::Disk;
use super::folding::{Folding, Minutes};
use super::heads::{HeadKey, LastHead};
use super::health::WhoseWord;
use super::journal::{Journal, Order, Parts};
use super::maintenance::Maintenance;
use super::outcomes::Outcomes;
use super::record::{Body, Kind, name, room};
use super::retention::Retention;
use super::sink::Sink;
use super::writer::{OpenFile, Writer, day};
use super::{AuditError, Config, Inner, Require, Sync, heads, listing, repair};

pub(super) fn open(
    config: &Config,
    replica: &str,
    clock: Clock,
    metrics: AuditMetrics,
) -> Result<Inner, AuditError> {
    let directory = Directory::open(&config.directory).map_err(|taken| match taken {
        Taken::ByAnother => AuditError::InUse {
            directory: config.directory.clone(),
        },
        Taken::Failed(source) => unusable(config, source),
    })?;
    let head_key = read_head_key(config)?;
    let now = clock.now();
    let (writer, chain) = resume(directory, config, replica, head_key.as_ref(), now)
        .map_err(|error| unusable(config, error))?;
    let identity = identity(replica, chain);
    let disk = Arc::new(Disk::new(config, metrics.clone()));
    // Before the first question comes.
    disk.measure_free();
    disk.measure_directory();
    let per_minute = config.refusals_per_minute;
    let folding = Folding::new(per_minute, Arc::clone(&disk), metrics.clone());
    let folding = Arc::new(folding);
    let outcomes = Arc::new(Outcomes::new(metrics.clone()));
    let second = config.second.as_ref();
    let sink =
        second.map(|second| Sink::new(second, replica, metrics.clone(), Arc::clone(&outcomes)));
    let parts = Parts {
        identity: identity.clone(),
        sync: config.sync,
        whose_word: whose_word(config),
        sink,
        head_key,
        clock: clock.clone(),
        metrics: metrics.clone(),
        outcomes,
    };
    let journal = Journal::new(writer, parts);
    let measure = start_measuring(disk).map_err(|error| unusable(config, error))?;
    start_threads(&journal).map_err(|error| unusable(config, error))?;
    let maintenance = Maintenance {
        journal: Arc::downgrade(&journal),
        clock: clock.clone(),
        sync_interval: config.sync_interval,
        measure,
    };
    let minutes = Minutes {
        folding: Arc::clone(&folding),
        journal: Arc::downgrade(&journal),
        identity: identity.clone(),
        clock: clock.clone(),
    };
    let retention = Retention::new(config, &journal, &identity, &clock, metrics);
    Ok(Inner {
        journal,
        directory: config.directory.clone(),
        identity,
        folding,
        clock,
        background: [
            tokio::spawn(maintenance.keep()).abort_handle(),
            tokio::spawn(minutes.keep()).abort_handle(),
            tokio::spawn(retention.keep_up()).abort_handle(),
        ],
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

fn whose_word(config: &Config) -> WhoseWord {
    match (&config.second, config.require) {
        (Some(_), Require::All) => WhoseWord::Both,
        (Some(second), Require::Any) if second.format.acknowledges() => WhoseWord::Either,
        (Some(_) | None, _) => WhoseWord::Journal,
    }
}

/// Starts what may wait for the disk and for the second sink.
fn start_threads(journal: &Arc<Journal>) -> io::Result<()> {
    let writing = Arc::clone(journal);
    start("audit-writer", move || writing.write_until_stopped())?;
    let syncing = Arc::clone(journal);
    start("audit-sync", move || syncing.sync_until_stopped())?;
    if let Some(sink) = journal.sink().cloned() {
        let journal = Arc::clone(journal);
        start("audit-sink", move || {
            sink.send_until_closed(journal.health());
        })?;
    }
    // The first record may have finished a file.
    journal.order(Order::Tend);
    Ok(())
}

/// Starts what looks at the disk. What it gives back has it look.
fn start_measuring(disk: Arc<Disk>) -> io::Result<mpsc::SyncSender<()>> {
    let (order, orders) = mpsc::sync_channel::<()>(1);
    start("audit-disk", move || {
        let mut looks = 0_u64;
        while orders.recv().is_ok() {
            disk.measure_free();
            looks += 1;
            // A long trail has thousands of files.
            if looks.is_multiple_of(10) {
                disk.measure_directory();
            }
        }
    })?;
    Ok(order)
}

/// Finds where the chain ends, mends the last file and writes the first record. Gives back the chain's id
/// as well.
fn resume(
    directory: Directory,
    config: &Config,
    replica: &str,
    head_key: Option<&HeadKey>,
    now: Moment,
) -> io::Result<(Writer, Uuid)> {
    let segments = listing::list(&config.directory)?.segments;
    let mut last = None;
    let mut torn = 0;
    let mut open = None;
    let newest = segments.last();
    if let Some((own, segment)) = newest.and_then(|it| Some((it.own_file()?, it))) {
        let mended = repair::mend(&own.path)?;
        torn = mended.torn;
        last = mended.last;
        if mended.damaged {
            tracing::error!(file = %own.path.display(), "the last audit file is damaged; a new one is begun");
        } else {
            let file = private()
                .append(true)
                .open(&own.path)
                .map_err(|error| at(&own.path, &error))?;
            open = Some(OpenFile {
                file: Arc::new(file),
                path: own.path.clone(),
                size: mended.size,
                ahead: Ahead::new(directory.reserving_pays),
                day: day(segment.start),
            });
        }
    }
    if last.is_none() {
        last = repair::last_tip(&config.directory, &segments)?;
    }
    let found = last.map_or(Tip::START, |last| last.tip);
    let chain = last.and_then(|last| last.chain);
    let chain = chain.unwrap_or_else(Uuid::now_v7);
    let signed = last_head(config, head_key)?;
    let tip = signed_tip(&signed, found);
    if tip != found {
        open = None;
    }
    let rotate_size = config.rotate_size.0;
    let mut writer = Writer::new(
        directory,
        rotate_size,
        config.sync == Sync::Always,
        tip,
        open,
    );
    let mut bodies = Bodies::default();
    Body::compose(
        now.wall,
        Kind::Admin,
        |body| {
            body.put(&identity(replica, chain));
            write_start(body, torn, head_key, &signed);
        },
        |body| bodies.push(body),
    );
    writer.write(&bodies, now.wall)?;
    writer.sync_names()?;
    Ok((writer, chain))
}

/// The last signed head, where heads are signed.
fn last_head(config: &Config, key: Option<&HeadKey>) -> io::Result<LastHead> {
    let Some(key) = key else {
        return Ok(LastHead::default());
    };
    heads::mend(&config.directory)?;
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

/// The members that every record has of its writer and its chain.
fn identity(replica: &str, chain: Uuid) -> Box<[u8]> {
    Body::members(|body| {
        body.text(name!("replica"), replica, room::SHORT);
        body.id_or_null(name!("chain"), Some(&chain));
    })
}

/// The rest of the record that a journal was opened. Where heads are signed, it says with which key, and
/// with which one the last head was signed if that was another.
fn write_start(body: &mut Body<'_>, torn: u64, key: Option<&HeadKey>, signed: &LastHead) {
    body.word(name!("action"), "started");
    body.text(name!("version"), env!("CARGO_PKG_VERSION"), room::SHORT);
    body.number(name!("torn_bytes"), torn);
    let Some(key) = key else { return };
    body.word(name!("head_key"), key.id());
    if let Some(before) = signed
        .key_id
        .as_deref()
        .filter(|before| *before != key.id())
    {
        body.text(name!("head_key_before"), before, room::SHORT);
    }
}

fn start(name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(())
}

fn unusable(config: &Config, source: io::Error) -> AuditError {
    AuditError::Unusable {
        directory: config.directory.clone(),
        source,
    }
}
