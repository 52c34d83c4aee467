//! `[audit.second]`: where every record goes besides the journal.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::settings::Size;

/// `[audit.second]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SinkConfig {
    /// `stdout`, `tcp://host:port` or `unix:///path`.
    pub to: Destination,
    /// How a record is framed.
    #[serde(default)]
    pub format: SinkFormat,
    /// How much may wait for a sink that is slow or gone. What does not fit is dropped, and counted.
    #[serde(default = "default_queue")]
    pub queue: Size,
}

/// Where a second sink is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A TCP address, `host:port`.
    Tcp(String),
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// How a record is framed for a second sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkFormat {
    /// A line of JSON each, as in the journal.
    #[default]
    Json,
    /// Syslog (RFC 5424) with the count of octets before each message (RFC 6587, section 3.4.1).
    Rfc5424,
    /// The same messages by RELP, whose receiver acknowledges each: rsyslog's imrelp.
    Relp,
}

impl SinkFormat {
    /// Whether the receiver says that it has a record. A write into a socket says nothing of it.
    pub fn acknowledges(self) -> bool {
        self == Self::Relp
    }
}

/// A destination is written in one of three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a destination is \"stdout\", \"tcp://host:port\" or \"unix:///path\"")]
pub struct InvalidDestination;

impl TryFrom<String> for Destination {
    type Error = InvalidDestination;

    fn try_from(text: String) -> Result<Self, InvalidDestination> {
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        if let Some(address) = text.strip_prefix("tcp://") {
            let (host, port) = address.rsplit_once(':').ok_or(InvalidDestination)?;
            let port: u16 = port.parse().map_err(|_| InvalidDestination)?;
            return if host.is_empty() || port == 0 {
                Err(InvalidDestination)
            } else {
                Ok(Self::Tcp(address.to_owned()))
            };
        }
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            _ => Err(InvalidDestination),
        }
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> Self {
        match destination {
            Destination::Stdout => "stdout".to_owned(),
            Destination::Tcp(address) => format!("tcp://{address}"),
            Destination::Unix(path) => format!("unix://{}", path.display()),
        }
    }
}

impl SinkConfig {
    /// Why it can never take records, if it is on this machine and there now. Makes no connection.
    pub(in crate::audit) fn impossible(&self) -> Option<String> {
        let Destination::Unix(path) = &self.to else {
            return None;
        };
        let file = path.display();
        if !std::fs::metadata(path).ok()?.file_type().is_socket() {
            return Some(format!("{file} is no socket"));
        }
        // Where it is listed at all, it is listed with its type, which is in the fifth column.
        let sockets = std::fs::read_to_string("/proc/net/unix").ok()?;
        let is_for_datagrams = sockets.lines().any(|line| {
            let mut columns = line.split_ascii_whitespace().skip(4);
            let (kind, name) = (columns.next(), columns.nth(2));
            kind == Some(DATAGRAMS) && name.is_some_and(|name| Path::new(name) == path)
        });
        is_for_datagrams.then(|| {
            format!(
                "{file} is a socket for datagrams, which cannot say what was taken; have the receiver listen \
                 on a stream"
            )
        })
    }
}

/// `SOCK_DGRAM` (unix(7)), as the kernel lists it.
const DATAGRAMS: &str = "0002";

fn default_queue() -> Size {
    DEFAULT_QUEUE
}

pub(super) const DEFAULT_QUEUE: Size = Size::mebibytes(8);
pub(super) const SMALLEST_QUEUE: Size = Size::kibibytes(64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_read_as_it_is_printed_and_others_say_how_to_write_one() {
        for (text, expected) in [
            ("stdout", Some(Destination::Stdout)),
            (
                "tcp://logs:6514",
                Some(Destination::Tcp("logs:6514".to_owned())),
            ),
            (
                "tcp://[::1]:6514",
                Some(Destination::Tcp("[::1]:6514".to_owned())),
            ),
            (
                "unix:///run/log",
                Some(Destination::Unix(PathBuf::from("/run/log"))),
            ),
            ("tcp://logs", None),
            ("tcp://:1", None),
            ("unix://run/log", None),
            ("udp://logs:514", None),
        ] {
            let read = Destination::try_from(text.to_owned()).ok();
            assert_eq!(read, expected, "{text}");
            if let Some(read) = read {
                assert_eq!(String::from(read), text);
            }
        }
    }
}
