//! The log's queue: lines are written to standard error by a thread of their own, so that no code that logs
//! waits for a full pipe or a disk that hangs.
//!
//! What does not fit into the queue is dropped and counted. `tracing-appender` has such a queue, too; but
//! it is bounded in lines and not in bytes, does not count what could not be written, and prints to
//! standard output when it cannot end in time, where the audit trail may be.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

use crate::system::BlockingFile;

type Line = Option<Box<[u8]>>;

/// Takes lines and never waits. Cheap to clone: clones are the same queue.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue {
    lines: mpsc::Sender<Line>,
    bytes: Arc<AtomicUsize>,
    dropped: Counter,
}

/// Dropped at the end of the process, it waits until the lines before are written, but not for long.
#[derive(Debug)]
pub(crate) struct LogEnd {
    lines: mpsc::Sender<Line>,
    ended: mpsc::Receiver<()>,
}

impl LogQueue {
    /// A queue before standard error, and the thread that empties it.
    pub(crate) fn to_standard_error(dropped: Counter) -> io::Result<(Self, LogEnd)> {
        // Past the lock that the process shares: another thread that is stuck in a write would hold it.
        let descriptor = io::stderr().as_fd().try_clone_to_owned()?;
        Self::start(BlockingFile::from(descriptor), dropped)
    }

    fn start(out: impl Write + Send + 'static, dropped: Counter) -> io::Result<(Self, LogEnd)> {
        let (lines, waiting) = mpsc::channel();
        let (at_end, ended) = mpsc::channel();
        let queue = Self {
            lines: lines.clone(),
            bytes: Arc::default(),
            dropped,
        };
        let (bytes, dropped) = (Arc::clone(&queue.bytes), queue.dropped.clone());
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || {
            write_until_closed(&waiting, out, &bytes, &dropped);
            drop((waiting, at_end));
        })?;
        Ok((queue, LogEnd { lines, ended }))
    }

    /// Takes a line over, with its end, or drops it if there is no space for it. Never waits.
    pub(crate) fn put(&self, line: &[u8]) {
        let before = self.bytes.fetch_add(cost(line), Ordering::Relaxed);
        let fits = before.saturating_add(cost(line)) <= MOST_BYTES;
        if !fits || self.lines.send(Some(Box::from(line))).is_err() {
            self.bytes.fetch_sub(cost(line), Ordering::Relaxed);
            self.dropped.inc();
        }
    }
}

fn write_until_closed(
    lines: &mpsc::Receiver<Line>,
    mut out: impl Write,
    bytes: &AtomicUsize,
    dropped: &Counter,
) {
    let mut reported = dropped.get();
    while let Ok(Some(line)) = lines.recv() {
        bytes.fetch_sub(cost(&line), Ordering::Relaxed);
        if out.write_all(&line).is_err() {
            // There is no reader: the next line is tried, but not this one again.
            dropped.inc();
            continue;
        }
        let lost = dropped.get() - reported;
        if lost > 0 {
            reported += lost;
            tracing::warn!(
                lines = lost,
                "{lost} lines of this log were dropped, because they were not taken in time"
            );
        }
    }
}

impl Drop for LogEnd {
    fn drop(&mut self) {
        // A pipe without a reader must not keep the process from ending. The thread ends with it.
        let _ = self.lines.send(None);
        let _ = self.ended.recv_timeout(LONGEST_END);
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cost(line: &[u8]) -> usize {
    line.len() + size_of::<Box<[u8]>>()
}

/// Some thousand lines: more than a reader that is only busy leaves lying.
const MOST_BYTES: usize = 1 << 20;
const LONGEST_END: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes one write for each permission it is given, and fails once there are no more to come.
    struct Gate {
        leave: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let leave = self.leave.recv();
            leave.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Scene {
        queue: LogQueue,
        end: LogEnd,
        leave: mpsc::Sender<()>,
        written: Arc<Mutex<Vec<u8>>>,
        dropped: Counter,
    }

    impl Scene {
        fn new() -> Self {
            let (leave, waiting) = mpsc::channel();
            let written = Arc::default();
            let gate = Gate {
                leave: waiting,
                written: Arc::clone(&written),
            };
            let dropped = Counter::default();
            let (queue, end) = LogQueue::start(gate, dropped.clone()).unwrap();
            Self {
                queue,
                end,
                leave,
                written,
                dropped,
            }
        }
    }

    #[test]
    fn what_was_said_before_the_end_is_written_in_its_order() {
        let scene = Scene::new();
        for line in ["one\n", "two\n", "three\n"] {
            scene.queue.put(line.as_bytes());
            scene.leave.send(()).unwrap();
        }
        drop(scene.end);
        assert_eq!(*scene.written.lock().unwrap(), b"one\ntwo\nthree\n");
        scene.queue.put(b"too late\n");
        assert_eq!(scene.dropped.get(), 1);
    }

    #[test]
    fn lines_beyond_a_bound_in_bytes_are_dropped_counted_and_reported() {
        let scene = Scene::new();
        let line = [b'x'; 1_000];
        for _ in 0..2_000 {
            scene.queue.put(&line);
        }
        let dropped = scene.dropped.get();
        assert!((900..1_100).contains(&dropped), "{dropped}");
        assert!(scene.queue.bytes.load(Ordering::Relaxed) <= MOST_BYTES);
        scene.queue.put(&vec![b'y'; MOST_BYTES]);
        assert_eq!(scene.dropped.get(), dropped + 1);
        for _ in 0..2_000 - dropped {
            scene.leave.send(()).unwrap();
        }
        drop(scene.end);
    }

    #[test]
    fn a_reader_that_is_gone_costs_its_lines_and_ends_nothing() {
        let scene = Scene::new();
        drop(scene.leave);
        for _ in 0..10 {
            scene.queue.put(b"line\n");
        }
        drop(scene.end);
        assert_eq!(scene.dropped.get(), 10);
    }

    #[test]
    fn a_reader_that_takes_nothing_does_not_keep_the_process_from_ending() {
        let scene = Scene::new();
        scene.queue.put(b"line\n");
        drop(scene.end);
        assert!(scene.written.lock().unwrap().is_empty());
        drop(scene.leave);
    }
}
