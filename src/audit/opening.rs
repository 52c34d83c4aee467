//! Opening: settings go in; a journal with its threads and its keeper comes out, and its first record is
//! written.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use crate::clock::Clock;
use crate::clock::Moment;
use crate::telemetry::metrics::audit::AuditMetrics;

use super::AuditError;
use super::Config;
use super::Inner;
use super::Require;
use super::Sync;
use super::ahead::Ahead;
use super::bodies::Bodies;
use super::chain::Tip;
use super::directory;
use super::directory::Directory;
use super::directory::Taken;
use super::directory::at;
use super::directory::private;
use super::disk::Disk;
use super::folding::Folding;
use super::folding::Minutes;
use super::heads;
use super::heads::HeadKey;
use super::health::WhoseWord;
use super::journal::Journal;
use super::journal::Order;
use super::journal::Parts;
use super::keeper::Keeper;
use super::outcomes::Outcomes;
use super::record::Body;
use super::record::Kind;
use super::record::name;
use super::record::room;
use super::repair;
use super::sink::Sink;
use super::writer::OpenFile;
use super::writer::Writer;
use super::writer::day;

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
    let writer = resume(directory, config, replica, head_key.as_ref(), now)
        .map_err(|error| unusable(config, error))?;
    let disk = Arc::new(Disk::new(config, metrics.clone()));
    // Before the first question comes.
    disk.measure_free();
    disk.measure_directory();
    let per_minute = config.refusals_per_minute;
    let folding = Folding::new(per_minute, Arc::clone(&disk), metrics.clone());
    let folding = Arc::new(folding);
    let parts = parts(config, replica, head_key, &clock, metrics);
    let journal = Journal::new(writer, parts);
    let measure = start_measuring(disk).map_err(|error| unusable(config, error))?;
    start_threads(&journal).map_err(|error| unusable(config, error))?;
    let keeper = Keeper {
        journal: Arc::downgrade(&journal),
        clock: clock.clone(),
        sync_interval: config.sync_interval,
        measure,
    };
    let replica = Body::members(|body| body.text(name!("replica"), replica, room::SHORT));
    let minutes = Minutes {
        folding: Arc::clone(&folding),
        journal: Arc::downgrade(&journal),
        replica: replica.clone(),
        clock: clock.clone(),
    };
    Ok(Inner {
        journal,
        directory: config.directory.clone(),
        replica,
        folding,
        clock,
        keepers: [
            tokio::spawn(keeper.keep()).abort_handle(),
            tokio::spawn(minutes.keep()).abort_handle(),
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

fn parts(
    config: &Config,
    replica: &str,
    head_key: Option<HeadKey>,
    clock: &Clock,
    metrics: AuditMetrics,
) -> Parts {
    let outcomes = Arc::new(Outcomes::new(metrics.clone()));
    let second = config.second.as_ref();
    let sink =
        second.map(|second| Sink::new(second, replica, metrics.clone(), Arc::clone(&outcomes)));
    Parts {
        replica: Box::from(replica),
        sync: config.sync,
        whose_word: match (second, config.require) {
            (Some(_), Require::All) => WhoseWord::Both,
            (Some(second), Require::Any) if second.format.acknowledges() => WhoseWord::Either,
            (Some(_) | None, _) => WhoseWord::Journal,
        },
        sink,
        head_key,
        clock: clock.clone(),
        metrics,
        outcomes,
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

/// Finds where the chain ends, mends the last file and writes the first record.
fn resume(
    directory: Directory,
    config: &Config,
    replica: &str,
    head_key: Option<&HeadKey>,
    now: Moment,
) -> io::Result<Writer> {
    let segments = directory::segments(&config.directory)?;
    let mut tip = None;
    let mut torn = 0;
    let mut open = None;
    if let Some(last) = segments.last().filter(|last| last.is_ours()) {
        let mended = repair::mend(&last.path)?;
        torn = mended.torn;
        tip = mended.tip;
        if mended.damaged {
            tracing::error!(file = %last.path.display(), "the last audit file is damaged; a new one is begun");
        } else {
            let file = private()
                .append(true)
                .open(&last.path)
                .map_err(|error| at(&last.path, &error))?;
            open = Some(OpenFile {
                file: Arc::new(file),
                path: last.path.clone(),
                size: mended.size,
                ahead: Ahead::new(directory.reserving_pays),
                day: day(last.start),
            });
        }
    }
    let found = match tip {
        Some(tip) => tip,
        None => repair::last_tip(&segments)?.unwrap_or(Tip::START),
    };
    let tip = signed_tip(config, head_key, found)?;
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
    let bodies = started(replica, torn, now);
    writer.write(&bodies, now.wall)?;
    writer.sync_names()?;
    Ok(writer)
}

/// Where the chain ends by the word of signed heads, which may know of records that are gone.
fn signed_tip(config: &Config, key: Option<&HeadKey>, found: Tip) -> io::Result<Tip> {
    let Some(key) = key else { return Ok(found) };
    heads::mend(&config.directory)?;
    match key.verifier().last(&config.directory)? {
        Some(signed) if signed.seq > found.seq => {
            // Going on from the head leaves a gap for the verifier to name; going on from the file
            // would give the missing numbers away a second time.
            tracing::error!(
                from = found.seq + 1,
                to = signed.seq,
                "signed audit records are missing"
            );
            Ok(signed)
        }
        _ => Ok(found),
    }
}

/// The record that a journal was opened.
fn started(replica: &str, torn: u64, now: Moment) -> Bodies {
    let mut bodies = Bodies::default();
    Body::compose(
        now.wall,
        Kind::Admin,
        |body| {
            body.text(name!("replica"), replica, room::SHORT);
            body.word(name!("action"), "started");
            body.text(name!("version"), env!("CARGO_PKG_VERSION"), room::SHORT);
            body.number(name!("torn_bytes"), torn);
        },
        |body| bodies.push(body),
    );
    bodies
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
