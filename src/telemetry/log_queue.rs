//! Lines of the log on their way to standard error: a thread of their own writes them, so that nobody
//! who logs waits for whoever reads them, be it a pipe that is full or a disk that hangs.
//!
//! What does not fit into the queue is dropped and counted. `tracing-appender` has such a queue, too; but
//! it is bounded in lines and not in bytes, does not count what could not be written, and prints to
//! standard output when it cannot end in time, where the audit trail may be.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, mem, thread};

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::fmt::MakeWriter;

use crate::system::BlockingFile;

/// Takes lines and never waits. Cheap to clone: clones are the same queue.
#[derive(Clone, Debug)]
pub struct LogQueue(Arc<Queue>);

/// Dropped at the end of the process, it waits until what was said before is written, but not for long.
#[derive(Debug)]
pub struct LogEnd(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Lines that were dropped, and of which no line has told yet.
    untold: u64,
    closed: bool,
    ended: bool,
}

impl LogQueue {
    /// A queue before standard error, and the thread that empties it.
    pub fn to_standard_error(dropped: Counter) -> io::Result<(Self, LogEnd)> {
        // Past the lock that the process shares: whoever is stuck in a write would hold it.
        let descriptor = io::stderr().as_fd().try_clone_to_owned()?;
        Self::start(BlockingFile::from(descriptor), dropped)
    }

    fn start(out: impl Write + Send + 'static, dropped: Counter) -> io::Result<(Self, LogEnd)> {
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            dropped,
        });
        let writing = Arc::clone(&queue);
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || writing.write_until_closed(out))?;
        Ok((Self(Arc::clone(&queue)), LogEnd(queue)))
    }

    /// Takes a line over, with its end, or drops it if there is no room. Never waits.
    pub fn put(&self, line: &[u8]) {
        let mut waiting = self.0.lock();
        if waiting.ended || waiting.bytes + cost(line) > MOST_BYTES {
            self.0.drop_line(&mut waiting);
            return;
        }
        waiting.bytes += cost(line);
        waiting.lines.push_back(Box::from(line));
        drop(waiting);
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn write_until_closed(&self, mut out: impl Write) {
        while let Some(line) = self.next() {
            if out.write_all(&line).is_err() {
                // Nobody is there to read: the next line is tried, but not this one again.
                self.drop_line(&mut self.lock());
                continue;
            }
            let untold = mem::take(&mut self.lock().untold);
            if untold > 0 {
                tracing::warn!(
                    lines = untold,
                    "{untold} lines of this log were dropped, because they were not taken in time"
                );
            }
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits for a line; `None` once the queue is closed and empty.
    fn next(&self) -> Option<Box<[u8]>> {
        let idle = self.lock();
        let mut waiting = self
            .changed
            .wait_while(idle, |waiting| waiting.lines.is_empty() && !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let line = waiting.lines.pop_front()?;
        waiting.bytes -= cost(&line);
        Some(line)
    }

    fn drop_line(&self, waiting: &mut Waiting) {
        waiting.untold += 1;
        self.dropped.inc();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LogEnd {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.closed = true;
        self.0.changed.notify_all();
        // A pipe that nobody reads must not keep the process from ending. The thread ends with it.
        let _ = self
            .0
            .changed
            .wait_timeout_while(waiting, LONGEST_END, |waiting| !waiting.ended);
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// One call is one line.
impl Write for &LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a line takes of the queue.
fn cost(line: &[u8]) -> usize {
    line.len() + size_of::<Box<[u8]>>()
}

/// Some thousand lines: more than a reader that is only busy leaves lying.
const MOST_BYTES: usize = 1 << 20;
/// How long the last lines may take at the end of the process.
const LONGEST_END: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes one write for each leave it is given, and fails once nobody gives any.
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
    fn lines_beyond_a_bound_in_bytes_are_dropped_counted_and_told_of() {
        let scene = Scene::new();
        let line = [b'x'; 1_000];
        for _ in 0..2_000 {
            scene.queue.put(&line);
        }
        let dropped = scene.dropped.get();
        assert!((900..1_100).contains(&dropped), "{dropped}");
        assert!(scene.queue.0.lock().bytes <= MOST_BYTES);
        scene.queue.put(&vec![b'y'; MOST_BYTES]);
        assert_eq!(scene.dropped.get(), dropped + 1);
        for _ in 0..2_000 - dropped {
            scene.leave.send(()).unwrap();
        }
        drop(scene.end);
        assert_eq!(scene.queue.0.lock().untold, 0, "it was told of");
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
