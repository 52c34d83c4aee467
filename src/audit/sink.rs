//! The second sink: sealed lines leave for standard output or a socket, by a bounded queue and a thread of their
//! own.
//!
//! A write into a socket is no receipt: only a receiver that acknowledges ([`relp`]) can stand in for a
//! journal that cannot be written.
//!
//! Nothing here can hold up the journal. What does not fit into the queue is dropped and counted; a
//! socket that takes nothing for a second is closed, and connected anew on the background task's next round.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, mem};

use tokio_util::sync::CancellationToken;

use crate::system::BlockingFile;
use crate::telemetry::metrics::audit::AuditMetrics;

use super::Unrecorded;
use super::commit::Commit;
use super::config::{Destination, SinkConfig, SinkFormat};
use super::health::{Condition, Health};

mod relp;

#[derive(Debug)]
pub(super) struct AuditSink {
    to: Destination,
    format: SinkFormat,
    host: Box<str>,
    limit: usize,
    metrics: AuditMetrics,
    queue: Mutex<SinkQueue>,
    changed: Condvar,
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
struct SinkQueue {
    parcels: VecDeque<Parcel>,
    size: usize,
    /// A round of the background task has passed: connecting is worth another try.
    retry: bool,
    closed: bool,
}

enum SinkConnection {
    /// Takes lines, and does not say whether they have arrived.
    Plain(Box<dyn Write>),
    Relp(relp::RelpSession<Box<dyn Duplex>>),
}

trait Duplex: Read + Write {}

impl<S: Read + Write> Duplex for S {}

impl AuditSink {
    pub(super) fn new(second: &SinkConfig, replica: &str, metrics: AuditMetrics) -> Arc<Self> {
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

    /// Takes lines over, or drops them if the queue is full (load shedding). Never waits.
    pub(super) fn offer(&self, parcel: Parcel, health: &Health) {
        let mut queue = self.lock();
        if queue.closed || queue.size + parcel.lines.len() > self.limit {
            let full = !queue.closed;
            drop(queue);
            self.drop_parcel(&parcel);
            if full {
                health.set(
                    Condition::SinkDown,
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

    pub(super) fn retry(&self) {
        self.lock().retry = true;
        self.changed.notify_one();
    }

    /// Sends what it can at once and ends.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn ended(&self) -> impl Future<Output = ()> + '_ {
        self.ended.cancelled()
    }

    pub(super) fn run(&self, health: &Health) {
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
                        // It may have been called slow just after it had taken the last one, and while
                        // it is called that, nothing more comes.
                        health.clear(Condition::SinkDown);
                    }
                }
                let parcel = connection.as_ref().and_then(|_| queue.parcels.pop_front());
                queue.size -= parcel.as_ref().map_or(0, |parcel| parcel.lines.len());
                (parcel, queue.closed)
            };
            match (parcel, connection.as_mut()) {
                // Its questions were answered 503, and its records are counted as missing.
                (Some(parcel), _) if parcel.is_missing() => self.drop_parcel(&parcel),
                (Some(parcel), Some(open)) => {
                    if let Err(error) = self.send(&parcel, open) {
                        tracing::warn!(%error, "the second audit sink was lost");
                        health.set(
                            Condition::SinkDown,
                            "the second audit sink does not take records",
                        );
                        connection = None;
                        self.return_parcel(parcel);
                    } else {
                        if let Some(commit) = &parcel.commit {
                            commit.settle(Ok(()));
                        }
                        health.clear(Condition::SinkDown);
                    }
                }
                _ if closed => break,
                _ => (),
            }
        }
        for parcel in mem::take(&mut self.lock().parcels) {
            self.drop_parcel(&parcel);
        }
        if let Some(SinkConnection::Relp(session)) = &mut connection {
            // Whatever the receiver says to that, it has what it has acknowledged.
            let _ = session.close();
        }
        self.ended.cancel();
    }

    /// Sends a parcel; where the receiver acknowledges, until it has acknowledged every record.
    fn send(&self, parcel: &Parcel, connection: &mut SinkConnection) -> io::Result<()> {
        let lines = parcel.lines.split(|byte| *byte == b'\n');
        let messages = lines
            .filter(|line| !line.is_empty())
            .map(|line| message(line, &self.host));
        let stream = match connection {
            SinkConnection::Relp(session) => return session.send(&messages.collect::<Vec<_>>()),
            SinkConnection::Plain(stream) => stream,
        };
        if self.format == SinkFormat::Rfc5424 {
            let mut framed = Vec::with_capacity(parcel.lines.len() + parcel.lines.len() / 4);
            for message in messages {
                framed.extend_from_slice(message.len().to_string().as_bytes());
                framed.push(b' ');
                framed.extend_from_slice(&message);
            }
            stream.write_all(&framed)?;
        } else {
            stream.write_all(&parcel.lines)?;
        }
        stream.flush()
    }

    fn connect(&self, health: &Health) -> Option<SinkConnection> {
        match open(&self.to, self.format) {
            Ok(connection) => {
                if health.clear(Condition::SinkDown) {
                    tracing::info!("the second audit sink is connected again");
                }
                Some(connection)
            }
            Err(error) => {
                if health.set(
                    Condition::SinkDown,
                    "the second audit sink cannot be reached",
                ) {
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

    fn lock(&self) -> MutexGuard<'_, SinkQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parcel {
    /// Whether its records are counted as missing already: then it is not sent any more.
    fn is_missing(&self) -> bool {
        self.commit
            .as_ref()
            .is_some_and(|commit| commit.is_missing())
    }
}

fn open(destination: &Destination, format: SinkFormat) -> io::Result<SinkConnection> {
    match destination {
        Destination::Stdout => {
            let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
            Ok(SinkConnection::Plain(Box::new(BlockingFile::from(
                descriptor,
            ))))
        }
        Destination::Tcp(address) => {
            let stream = connect_tcp(address)?;
            stream.set_write_timeout(Some(DEADLINE))?;
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.set_nodelay(true)?;
            over(stream, format)
        }
        Destination::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_write_timeout(Some(DEADLINE))?;
            stream.set_read_timeout(Some(DEADLINE))?;
            over(stream, format)
        }
    }
}

fn over(stream: impl Read + Write + 'static, format: SinkFormat) -> io::Result<SinkConnection> {
    if format.acknowledges() {
        let stream: Box<dyn Duplex> = Box::new(stream);
        return Ok(SinkConnection::Relp(relp::RelpSession::open(stream)?));
    }
    Ok(SinkConnection::Plain(Box::new(stream)))
}

fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `<110>1 <time> <host> atlas-cert-gateway - audit - <line>`.
fn message(line: &[u8], host: &str) -> Vec<u8> {
    // A line begins with its time, in a form that RFC 5424 takes as it is.
    let time = line.get(9..36).unwrap_or(b"-");
    let mut message = Vec::with_capacity(line.len() + 96);
    message.extend_from_slice(PRIORITY_AND_VERSION);
    message.extend_from_slice(time);
    message.push(b' ');
    message.extend_from_slice(host.as_bytes());
    message.extend_from_slice(b" atlas-cert-gateway - audit - ");
    message.extend_from_slice(line);
    message
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
/// How long a socket may take or give nothing, or a connection take to be made.
const DEADLINE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syslog_message_has_the_time_of_its_record_and_the_name_of_its_host() {
        let line = br#"{"time":"2026-08-10T02:06:35.000000Z","seq":1}"#;
        assert_eq!(
            String::from_utf8(message(line, "gateway-1")).unwrap(),
            "<110>1 2026-08-10T02:06:35.000000Z gateway-1 atlas-cert-gateway - audit - \
             {\"time\":\"2026-08-10T02:06:35.000000Z\",\"seq\":1}"
        );
        assert_eq!(&*header_name("a b\n"), "ab");
        assert_eq!(&*header_name(" "), "-");
    }
}
