//! Opening, looking after and closing: settings go in, a journal with its two threads and its keeper
//! comes out.
//!
//! The keeper is the only one who waits for the time: it settles what is too old, orders a sync and an
//! examination every second, and another attempt ten times a second while nothing can be written. It
//! never touches the disk, so a disk that hangs cannot stop it.

use std::io;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::clock::Moment;
use crate::telemetry::metrics::audit::AuditMetrics;

use super::AuditError;
use super::Config;
use super::Inner;
use super::Require;
use super::Sync;
use super::chain::Tip;
use super::directory;
use super::directory::Directory;
use super::directory::Taken;
use super::directory::at;
use super::directory::private;
use super::heads;
use super::heads::HeadKey;
use super::health::Trouble;
use super::health::WhoseWord;
use super::journal::Journal;
use super::journal::Parts;
use super::record::Body;
use super::record::room;
use super::repair;
use super::sink::Sink;
use super::writer::Bodies;
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
    let head_key = match &config.head_key_file {
        Some(path) => Some(HeadKey::read(path).map_err(|source| AuditError::HeadKey {
            path: path.clone(),
            source,
        })?),
        None => None,
    };
    let now = clock.now();
    let writer = resume(directory, config, replica, head_key.as_ref(), now)
        .map_err(|error| unusable(config, error))?;
    let sink = config
        .second
        .as_ref()
        .map(|second| Sink::new(second, replica, metrics.clone()));
    let parts = Parts {
        sync: config.sync,
        whose_word: match (&sink, config.require) {
            (None, _) => WhoseWord::Journal,
            (Some(_), Require::All) => WhoseWord::Both,
            (Some(_), Require::Any) => WhoseWord::Either,
        },
        sink,
        head_key,
        clock: clock.clone(),
        metrics,
    };
    let journal = Journal::new(writer, parts);
    let writing = Arc::clone(&journal);
    start("audit-writer", move || writing.write_until_stopped())
        .map_err(|error| unusable(config, error))?;
    let (order, orders) = mpsc::sync_channel::<()>(1);
    if config.sync == Sync::Interval {
        let journal = Arc::downgrade(&journal);
        start("audit-sync", move || {
            while let (Ok(()), Some(journal)) = (orders.recv(), journal.upgrade()) {
                journal.sync();
            }
        })
        .map_err(|error| unusable(config, error))?;
    }
    if let Some(sink) = journal.sink().cloned() {
        let journal = Arc::clone(&journal);
        start("audit-sink", move || {
            sink.send_until_closed(journal.health())
        })
        .map_err(|error| unusable(config, error))?;
    }
    let keeper = Keeper {
        journal: Arc::downgrade(&journal),
        clock: clock.clone(),
        sync: order,
        sync_interval: config.sync_interval,
    };
    Ok(Inner {
        journal,
        directory: config.directory.clone(),
        replica: Box::from(replica),
        clock,
        keeper: tokio::spawn(keeper.keep()).abort_handle(),
    })
}

/// Has the writer thread finish, and waits for it, but not for ever: a disk that hangs must not keep the
/// process from ending.
pub(super) async fn close(inner: &Inner) {
    inner.journal.order(|orders| orders.stop = true);
    let ended = inner.journal.ended();
    if inner.clock.timeout(LONGEST_END, ended).await.is_err() {
        tracing::error!("the audit trail could not be closed in time");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
        self.journal.order(|orders| orders.stop = true);
    }
}

struct Keeper {
    journal: Weak<Journal>,
    clock: Clock,
    sync: mpsc::SyncSender<()>,
    sync_interval: Duration,
}

impl Keeper {
    async fn keep(self) {
        let start = self.clock.now().elapsed;
        let mut next_sync = start + self.sync_interval;
        let mut next_examination = start + EXAMINATION;
        let mut next_head = start + HEAD;
        loop {
            self.clock.sleep(ROUND).await;
            let Some(journal) = self.journal.upgrade() else {
                return;
            };
            let now = self.clock.now().elapsed;
            journal.expire(now);
            let health = journal.health();
            if health.sync_hangs(now, LONGEST_SYNC)
                && health.set(
                    Trouble::Unsynced,
                    "the disk takes longer than a second to sync",
                )
            {
                tracing::error!("the disk does not take the audit trail; no question is answered");
            }
            if now >= next_sync {
                next_sync = now + self.sync_interval;
                // One that is still under way is as good as a new one.
                let _ = self.sync.try_send(());
            }
            let examine = now >= next_examination;
            if examine {
                next_examination = now + EXAMINATION;
                if let Some(sink) = journal.sink() {
                    sink.retry();
                }
            }
            let sign = now >= next_head;
            if sign {
                next_head = now + HEAD;
            }
            if examine || sign || health.is(Trouble::Failed) {
                journal.order(|orders| {
                    orders.write = true;
                    orders.examine |= examine;
                    orders.sign |= sign;
                });
            }
        }
    }
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
                .map_err(|error| at(&last.path, error))?;
            open = Some(OpenFile {
                file: Arc::new(file),
                path: last.path.clone(),
                size: mended.size,
                day: day(last.start),
            });
        }
    }
    let mut tip = match tip {
        Some(tip) => tip,
        None => repair::last_tip(&segments)?.unwrap_or(Tip::START),
    };
    if let Some(key) = head_key {
        heads::mend(&config.directory)?;
        let heads = key.verifier().collect(&config.directory)?;
        if let Some((seq, hash)) = heads.signed.last_key_value()
            && *seq > tip.seq
        {
            // Going on from the head leaves a gap for the verifier to name; going on from the file
            // would give the missing numbers away a second time.
            tracing::error!(
                from = tip.seq + 1,
                to = seq,
                "signed audit records are missing"
            );
            tip = Tip {
                seq: *seq,
                hash: *hash,
            };
            open = None;
        }
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
        "admin",
        |body| {
            body.text("replica", replica, room::SHORT);
            body.word("action", "started");
            body.text("version", env!("CARGO_PKG_VERSION"), room::SHORT);
            body.number("torn_bytes", torn);
        },
        |body| bodies.push(body),
    );
    writer.write(&bodies, now.wall)?;
    Ok(writer)
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

const ROUND: Duration = Duration::from_millis(100);
const HEAD: Duration = Duration::from_mins(1);
const EXAMINATION: Duration = Duration::from_secs(1);
const LONGEST_SYNC: Duration = Duration::from_secs(1);
const LONGEST_END: Duration = Duration::from_secs(5);
