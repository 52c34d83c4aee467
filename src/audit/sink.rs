//! The second sink: sealed lines go in, and leave for standard output or a socket, from a queue and a
//! thread of their own.
//!
//! Nothing here can hold up the journal. What does not fit into the queue is dropped and counted; a
//! socket that takes nothing for a second is closed, and connected anew on the keeper's next round.

use std::collections::VecDeque;
use std::io;
use std::io::Write;
use std::mem;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::blocking::BlockingFile;
use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::commit::Commit;
use super::config::Destination;
use super::config::Format;
use super::config::Second;
use super::health::Health;
use super::health::Trouble;

/// The queue of the second sink.
#[derive(Debug)]
pub(super) struct Sink {
    to: Destination,
    format: Format,
    /// The name of the machine in syslog's header.
    host: Box<str>,
    limit: usize,
    metrics: AuditMetrics,
    queue: Mutex<Waiting>,
    changed: Condvar,
    /// Nothing more is sent.
    ended: CancellationToken,
}

/// Lines that are on their way, and whose answers wait for them.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) lines: Vec<u8>,
    pub(super) records: u64,
    /// Settled by the sink's word; `None` where it does not count.
    pub(super) commit: Option<Arc<Commit>>,
}

#[derive(Debug, Default)]
struct Waiting {
    parcels: VecDeque<Parcel>,
    size: usize,
    /// A round of the keeper has passed: connecting is worth another try.
    retry: bool,
    closed: bool,
}

impl Sink {
    pub(super) fn new(second: &Second, replica: &str, metrics: AuditMetrics) -> Arc<Self> {
        Arc::new(Self {
            to: second.to.clone(),
            format: second.format,
            host: header_name(replica),
            limit: usize::try_from(second.queue.0).unwrap_or(usize::MAX),
            metrics,
            queue: Mutex::default(),
            changed: Condvar::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Takes lines over, or drops them if there is no room. Never waits.
    pub(super) fn offer(&self, parcel: Parcel, health: &Health) {
        let mut queue = self.lock();
        if queue.closed || queue.size + parcel.lines.len() > self.limit {
            let full = !queue.closed;
            drop(queue);
            self.drop_parcel(&parcel);
            if full {
                health.set(
                    Trouble::Sink,
                    "the second audit sink is slower than the records",
                );
            }
            return;
        }
        queue.size += parcel.lines.len();
        queue.parcels.push_back(parcel);
        drop(queue);
        self.changed.notify_one();
    }

    /// Connecting may be tried again.
    pub(super) fn retry(&self) {
        self.lock().retry = true;
        self.changed.notify_one();
    }

    /// Sends what it can at once and ends.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits until a sink that was closed has sent what waited.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.cancelled()
    }

    /// The sink's thread: sends until it is closed.
    pub(super) fn send_until_closed(&self, health: &Health) {
        let mut connection = self.connect(health);
        loop {
            let (parcel, closed) = {
                let idle = self.lock();
                let mut queue = self
                    .changed
                    .wait_while(idle, |queue| {
                        !queue.closed
                            && !queue.retry
                            && (connection.is_none() || queue.parcels.is_empty())
                    })
                    .unwrap_or_else(PoisonError::into_inner);
                if mem::take(&mut queue.retry) {
                    if connection.is_none() {
                        drop(queue);
                        connection = self.connect(health);
                        continue;
                    }
                    if queue.parcels.is_empty() {
                        // Somebody may have called it slow just after it had taken the last one, and
                        // while it is called that, nothing more comes.
                        health.clear(Trouble::Sink);
                    }
                }
                let parcel = connection.as_ref().and_then(|_| queue.parcels.pop_front());
                queue.size -= parcel.as_ref().map_or(0, |parcel| parcel.lines.len());
                (parcel, queue.closed)
            };
            match (parcel, connection.as_mut()) {
                (Some(parcel), Some(open)) => {
                    if let Err(error) = self.send(&parcel, open) {
                        tracing::warn!(%error, "the second audit sink was lost");
                        health.set(Trouble::Sink, "the second audit sink does not take records");
                        connection = None;
                        self.return_parcel(parcel);
                    } else {
                        if let Some(commit) = parcel.commit {
                            commit.settle(Ok(()));
                        }
                        health.clear(Trouble::Sink);
                    }
                }
                _ if closed => break,
                _ => (),
            }
        }
        for parcel in mem::take(&mut self.lock().parcels) {
            self.drop_parcel(&parcel);
        }
        self.ended.cancel();
    }

    fn send(&self, parcel: &Parcel, connection: &mut Box<dyn Write>) -> io::Result<()> {
        match self.format {
            Format::Json => connection.write_all(&parcel.lines)?,
            Format::Rfc5424 => {
                let mut framed = Vec::with_capacity(parcel.lines.len() + parcel.lines.len() / 4);
                for line in parcel.lines.split(|byte| *byte == b'\n') {
                    if !line.is_empty() {
                        frame(&mut framed, line, &self.host);
                    }
                }
                connection.write_all(&framed)?;
            }
        }
        connection.flush()
    }

    fn connect(&self, health: &Health) -> Option<Box<dyn Write>> {
        match open(&self.to) {
            Ok(connection) => {
                if health.clear(Trouble::Sink) {
                    tracing::info!("the second audit sink is connected again");
                }
                Some(connection)
            }
            Err(error) => {
                if health.set(Trouble::Sink, "the second audit sink cannot be reached") {
                    tracing::warn!(%error, "the second audit sink cannot be reached");
                }
                None
            }
        }
    }

    /// Puts a parcel that did not get through first again; the receiver may see lines twice, and knows
    /// them by their numbers.
    fn return_parcel(&self, parcel: Parcel) {
        let mut queue = self.lock();
        queue.size += parcel.lines.len();
        queue.parcels.push_front(parcel);
    }

    fn drop_parcel(&self, parcel: &Parcel) {
        self.metrics.sink_dropped.inc_by(parcel.records);
        if let Some(commit) = &parcel.commit {
            commit.settle(Err(Unrecorded::Unwritable));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(destination: &Destination) -> io::Result<Box<dyn Write>> {
    Ok(match destination {
        Destination::Stdout => {
            let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
            Box::new(BlockingFile::from(descriptor))
        }
        Destination::Tcp(address) => Box::new(connect_tcp(address)?),
        Destination::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(DEADLINE))?;
            Box::new(stream)
        }
    })
}

fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => {
                stream.set_write_timeout(Some(DEADLINE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `<length> <110>1 <time> <host> atlas-cert-gateway - audit - <line>`.
fn frame(out: &mut Vec<u8>, line: &[u8], host: &str) {
    // A line begins with its time, in a form that RFC 5424 takes as it is.
    let time = line.get(9..36).unwrap_or(b"-");
    let mut message = Vec::with_capacity(line.len() + 96);
    message.extend_from_slice(PRIORITY_AND_VERSION);
    message.extend_from_slice(time);
    message.push(b' ');
    message.extend_from_slice(host.as_bytes());
    message.extend_from_slice(b" atlas-cert-gateway - audit - ");
    message.extend_from_slice(line);
    out.extend_from_slice(message.len().to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(&message);
}

/// A name as syslog's header allows it: up to 255 printable characters without a space.
fn header_name(name: &str) -> Box<str> {
    let kept: String = name
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    if kept.is_empty() {
        Box::from("-")
    } else {
        kept.into()
    }
}

/// Facility 13 (log audit), severity 6 (informational).
const PRIORITY_AND_VERSION: &[u8] = b"<110>1 ";
/// How long a socket may take nothing, or a connection take to be made.
const DEADLINE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syslog_message_is_framed_by_its_length() {
        let line = br#"{"time":"2026-08-10T02:06:35.000000Z","seq":1}"#;
        let mut out = Vec::new();
        frame(&mut out, line, "gateway-1");
        let text = String::from_utf8(out).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        assert_eq!(
            message,
            "<110>1 2026-08-10T02:06:35.000000Z gateway-1 atlas-cert-gateway - audit - \
             {\"time\":\"2026-08-10T02:06:35.000000Z\",\"seq\":1}"
        );
        assert_eq!(&*header_name("a b\n"), "ab");
        assert_eq!(&*header_name(" "), "-");
    }
}
