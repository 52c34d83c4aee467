//! Disks that hang, and who waits for them.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::{fs, io, thread};

use futures_util::FutureExt;

use super::*;
use crate::atlas::Timestamp;
use crate::audit::chain::Tip;
use crate::audit::directory::{Directory, private};
use crate::audit::verify::verify;
use crate::audit::writer::{OpenFile, day};
use crate::audit::{Arrival, Audit, Closing, Config, Origin};
use crate::system::ManualClock;

mod syncing;

/// What every sync passes; a test that holds it is a disk that does not come back.
#[derive(Debug, Default)]
pub(super) struct Gate {
    held: Mutex<()>,
    hangs: AtomicBool,
}

impl Gate {
    pub(super) fn pass(&self) {
        if self.held.try_lock().is_err() {
            self.hangs.store(true, Ordering::Release);
        }
        drop(lock(&self.held));
    }
}

struct Trail {
    audit: Audit,
    clock: Clock,
    manual_clock: ManualClock,
    place: tempfile::TempDir,
}

impl Trail {
    fn new(sync: Sync) -> Self {
        let place = tempfile::tempdir().unwrap();
        let key = place.path().join("key");
        let mut file = private().create_new(true).write(true).open(&key).unwrap();
        file.write_all(b"a secret of 32 characters or more")
            .unwrap();
        let config = Config {
            directory: place.path().join("audit"),
            sync,
            head_key_file: Some(key),
            ..Config::default()
        };
        let (clock, manual_clock) = Clock::manual(NOW);
        let metrics = AuditMetrics::default();
        let audit = Audit::open(&config, "test", clock.clone(), metrics).unwrap();
        Self {
            audit,
            clock,
            manual_clock,
            place,
        }
    }

    fn journal(&self) -> &Arc<Journal> {
        &self.audit.0.journal
    }

    fn record(&self) -> impl Future<Output = Result<(), Unrecorded>> {
        let entry = self.audit.entry(Arrival {
            request_id: uuid::Uuid::nil().into(),
            origin: Cow::Owned(Origin::new(([127, 0, 0, 1], 1).into(), None)),
            at: self.clock.now(),
            caller_request_id: None,
        });
        entry.close(Closing::abandoned(self.clock.now()))
    }

    /// Holds the writer as a disk would that does not come back, until the sender is dropped.
    fn hang(&self) -> mpsc::Sender<()> {
        self.hang_and(|_| ())
    }

    /// The same, with what the disk does in the end.
    fn hang_and(&self, in_the_end: impl FnOnce(&mut Writer) + Send + 'static) -> mpsc::Sender<()> {
        hold(
            self.journal(),
            |journal| &journal.writer,
            |writer| in_the_end(writer.as_mut().unwrap()),
        )
    }

    /// Holds every sync of the sync thread, until the sender is dropped.
    fn hang_syncs(&self) -> mpsc::Sender<()> {
        hold(self.journal(), |journal| &journal.disk.held, |()| ())
    }

    /// What stands in the files whose names begin like this.
    fn read(&self, name: &str) -> Vec<String> {
        let files = fs::read_dir(self.place.path().join("audit")).unwrap();
        let files = files.map(|entry| entry.unwrap());
        let named = files.filter(|it| it.file_name().to_string_lossy().starts_with(name));
        named
            .map(|it| fs::read_to_string(it.path()).unwrap())
            .collect()
    }

    /// The records whose heads are signed.
    fn heads(&self) -> Vec<u64> {
        let text = self.read("heads").concat();
        let heads = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let mut heads: Vec<u64> = heads
            .map(|head: serde_json::Value| head["seq"].as_u64().unwrap())
            .collect();
        heads.sort_unstable();
        heads
    }

    async fn pass(&self, span: Duration) {
        self.manual_clock.advance(span);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// What becomes of a record while the clock stands.
    async fn outcome(&self) -> Result<(), Unrecorded> {
        let mut record = Box::pin(self.record());
        let mut outcome = None;
        self.until(|| {
            outcome = (&mut record).now_or_never();
            outcome.is_some()
        })
        .await;
        outcome.unwrap()
    }

    async fn until(&self, mut reached: impl FnMut() -> bool) {
        for _ in 0..5_000 {
            if reached() {
                return;
            }
            tokio::task::yield_now().await;
            thread::park_timeout(Duration::from_millis(1));
        }
        panic!("it has not come to pass");
    }
}

type Part<T> = fn(&Journal) -> &Mutex<T>;

/// Locks a part of the journal on a thread, until the sender is dropped.
fn hold<T: 'static>(
    journal: &Arc<Journal>,
    part: Part<T>,
    in_the_end: impl FnOnce(&mut T) + Send + 'static,
) -> mpsc::Sender<()> {
    let journal = Arc::clone(journal);
    let (release, released) = mpsc::channel::<()>();
    let (held, holding) = mpsc::channel();
    thread::spawn(move || {
        let mut part = lock(part(&journal));
        held.send(()).unwrap();
        let _ = released.recv();
        in_the_end(&mut part);
        drop(part);
        journal.writer_orders.give(WriterOrder::Write);
    });
    holding.recv().unwrap();
    release
}

/// F44, G16.
#[tokio::test]
async fn a_disk_that_hangs_holds_an_answer_for_a_second_and_then_there_is_none() {
    for sync in [Sync::Always, Sync::Interval, Sync::Never] {
        let trail = Trail::new(sync);
        let disk = trail.hang();
        let mut waiting = Box::pin(trail.record());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        trail.pass(Duration::from_millis(850)).await;
        assert!(futures_util::poll!(&mut waiting).is_pending());
        trail.pass(Duration::from_millis(150)).await;
        assert_eq!(waiting.await, Err(Unrecorded::TooLate));
        // From now on nobody waits.
        assert_eq!(trail.record().await, Err(Unrecorded::Unwritable));
        assert!(
            trail.audit.health().faults[0]
                .problem
                .contains("longer than a second")
        );
        drop(disk);
        trail.until(|| trail.audit.is_writable()).await;
        assert_eq!(trail.record().await, Ok(()));
    }
}

/// G16: to find out that a record is late takes a moment, and in that moment the disk may come back.
#[tokio::test]
async fn a_write_that_ends_while_it_is_called_late_is_no_trouble_for_ever() {
    let trail = Trail::new(Sync::Interval);
    let disk = trail.hang();
    let mut waiting = Box::pin(trail.record());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let commit = {
        let queue = lock(&trail.journal().queue);
        Arc::clone(queue.unsettled.back().unwrap())
    };
    commit.journaled();
    trail.pass(Duration::from_millis(850)).await;
    trail.pass(Duration::from_millis(150)).await;
    assert_eq!(waiting.await, Err(Unrecorded::TooLate));
    assert!(!trail.audit.is_writable());
    drop(disk);
    trail.until(|| trail.audit.is_writable()).await;
    assert_eq!(trail.audit.health().faults, []);
}

/// G15: the late batch is gone, so that no write of it can prove that the disk is quick again.
#[tokio::test]
async fn a_disk_that_hangs_then_fails_and_comes_back_is_written_again() {
    let trail = Trail::new(Sync::Interval);
    let directory = trail.place.path().join("audit");
    let aside = trail.place.path().join("aside");
    let disk = trail.hang_and(|writer| writer.give_up(&io::Error::other("lost")));
    let mut waiting = Box::pin(trail.record());
    assert!(futures_util::poll!(&mut waiting).is_pending());
    trail.pass(Duration::from_millis(850)).await;
    trail.pass(Duration::from_millis(150)).await;
    assert_eq!(waiting.await, Err(Unrecorded::TooLate));
    fs::rename(&directory, &aside).unwrap();
    drop(disk);
    trail
        .until(|| trail.journal().health.is(Condition::WriteFailed))
        .await;
    fs::rename(&aside, &directory).unwrap();
    trail
        .until(|| {
            trail.manual_clock.advance(Duration::from_millis(10));
            trail.audit.is_writable()
        })
        .await;
    assert_eq!(trail.record().await, Ok(()));
}

/// Has the threads stop, of which `sync` has not begun yet.
async fn stop(journal: &Arc<Journal>, sync: SyncThread) {
    thread::spawn(move || sync.run());
    journal.writer_orders.give(WriterOrder::Stop);
    journal.ended().await;
}

/// A journal that writes with `writer`, with its writer thread alone.
fn started(writer: Writer, clock: &Clock, metrics: &AuditMetrics) -> Arc<Journal> {
    let journal = Journal::new(
        writer,
        JournalParts {
            identity: Box::from(*b",\"replica\":\"test\""),
            sync: Sync::Interval,
            quorum: Quorum::Journal,
            sink: None,
            head_key: None,
            clock: clock.clone(),
            metrics: metrics.clone(),
        },
    );
    let writing = Arc::clone(&journal);
    thread::spawn(move || writing.run_writer());
    journal
}

/// One that waits while the writer is in use is not forgotten.
#[tokio::test]
async fn a_batch_that_was_left_over_is_written_when_the_writer_is_free() {
    let trail = Trail::new(Sync::Never);
    let busy = trail.hang();
    let mut waiting = Box::pin(trail.record());
    for _ in 0..10 {
        assert!(futures_util::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
    }
    drop(busy);
    trail
        .until(|| lock(&trail.journal().queue).open.is_none())
        .await;
    assert_eq!(waiting.await, Ok(()));
}

/// The task of the one who leads may not be run, for whatever reason; those behind it do not pay.
#[tokio::test]
async fn a_leader_who_never_comes_to_its_turn_holds_nobody_up() {
    let trail = Trail::new(Sync::Interval);
    // The background task begins its round.
    trail.pass(Duration::ZERO).await;
    let mut leader = Box::pin(trail.record());
    assert!(futures_util::poll!(&mut leader).is_pending());
    let mut behind = Box::pin(trail.record());
    assert!(futures_util::poll!(&mut behind).is_pending());
    trail.pass(Duration::from_millis(100)).await;
    assert_eq!(behind.await, Ok(()));
    assert_eq!(leader.await, Ok(()));
}

#[tokio::test]
async fn a_queue_that_is_full_takes_nothing_more() {
    let trail = Trail::new(Sync::Interval);
    let disk = trail.hang();
    let now = trail.clock.now();
    let body = vec![b'x'; 1 << 20];
    let mut tickets = Vec::new();
    while let Ok(ticket) = trail.journal().push(&body, now) {
        tickets.push(ticket);
        assert!(tickets.len() < 20);
    }
    assert!(tickets.len() >= 8);
    drop(disk);
}

const NOW: Timestamp = Timestamp::from_seconds(1_786_327_595);
