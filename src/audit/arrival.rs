//! How a request came: its id, its time and its connection.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::identity::{PeerCertificate, Requester, Thumbprint, network};
use crate::system::Moment;

use super::record::{Record, limits};

/// How a request came.
#[derive(Debug)]
pub struct Arrival<'a> {
    /// Ours; also in the answer and in every log line.
    pub request_id: RequestId,
    /// Over which connection.
    pub origin: Cow<'a, Origin>,
    /// When its head was read.
    pub at: Moment,
    /// The `X-Request-Id` that the caller sent, whatever it is.
    pub caller_request_id: Option<Cow<'a, [u8]>>,
}

/// A request's id, and the text of it that record and answer have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    id: Uuid,
    text: [u8; Hyphenated::LENGTH],
}

/// What the records of one connection say of it: who is connected, or for whom a trusted proxy is.
#[derive(Clone, Debug)]
pub struct Origin {
    peer: Arc<str>,
    certificate: Option<Arc<PeerCertificate>>,
    /// A trusted proxy has brought the request, and the certificate is the proxy's.
    is_forwarded: bool,
    source: IpAddr,
}

impl Arrival<'_> {
    /// The same, borrowed from this one.
    #[must_use]
    pub fn borrowed(&self) -> Arrival<'_> {
        Arrival {
            request_id: self.request_id,
            origin: Cow::Borrowed(&self.origin),
            at: self.at,
            caller_request_id: self.caller_request_id.as_deref().map(Cow::Borrowed),
        }
    }
}

impl RequestId {
    /// Its 36 characters, ASCII.
    pub fn as_bytes(&self) -> &[u8; Hyphenated::LENGTH] {
        &self.text
    }

    /// The id itself.
    pub fn uuid(&self) -> Uuid {
        self.id
    }
}

impl From<Uuid> for RequestId {
    fn from(id: Uuid) -> Self {
        let mut text = [0; Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Self { id, text }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

impl Origin {
    /// A connection from `peer`, which has shown `certificate`.
    pub fn new(peer: SocketAddr, certificate: Option<&PeerCertificate>) -> Self {
        Self {
            peer: peer.to_string().into(),
            certificate: certificate.map(|it| Arc::new(it.clone())),
            is_forwarded: false,
            source: network(peer.ip()),
        }
    }

    /// The same connection, by which a trusted proxy has brought a request from `address`, and from `port` if
    /// it says so.
    #[must_use]
    pub fn forwarded(&self, address: IpAddr, port: Option<u16>) -> Self {
        let peer = match port {
            Some(port) => SocketAddr::new(address, port).to_string(),
            None => address.to_string(),
        };
        Self {
            peer: peer.into(),
            certificate: self.certificate.clone(),
            is_forwarded: true,
            source: network(address),
        }
    }

    /// The certificate that the caller itself has shown.
    pub fn holder(&self) -> Option<&Thumbprint> {
        let certificate = self.certificate.as_ref().filter(|_| !self.is_forwarded);
        certificate.map(|certificate| &certificate.thumbprint)
    }

    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// The source, as queues that are fair to all sources know it.
    pub fn asker(&self) -> Requester {
        Requester::at(self.source)
    }

    pub(super) fn write(&self, record: &mut Record<'_>) {
        record.word("peer", &*self.peer);
        if let Some(certificate) = &self.certificate {
            record.text_some("tls_subject", certificate.subject.as_deref(), limits::NAME);
            record.texts("tls_names", &certificate.names, limits::ISSUER);
        }
    }
}
