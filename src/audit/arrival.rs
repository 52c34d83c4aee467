//! How a question came: its id and its connection go in, once, as the text that every record of them has.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use uuid::Uuid;

use crate::clock::Moment;
use crate::identity::{PeerCertificate, Requester, Thumbprint, network};

use super::record::digits::hyphenated;
use super::record::{Body, name, room};

/// How a question came.
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
    text: [u8; Self::LENGTH],
}

/// What the records of one connection say of it, written once: who is connected, or for whom a trusted proxy
/// is, never what anybody else claims.
#[derive(Clone)]
pub struct Origin {
    members: Arc<[u8]>,
    certificate: Option<Thumbprint>,
    /// How many bytes of the members are the peer's.
    of_peer: usize,
    /// With whom its refusals are counted.
    source: IpAddr,
}

impl Arrival<'_> {
    /// The same, for when what it was read from is gone.
    #[must_use]
    pub fn into_owned(&self) -> Arrival<'static> {
        let id = self.caller_request_id.as_deref();
        Arrival {
            request_id: self.request_id,
            origin: Cow::Owned(Origin::clone(&self.origin)),
            at: self.at,
            caller_request_id: id.map(|id| Cow::Owned(id.to_owned())),
        }
    }
}

impl RequestId {
    pub(super) const LENGTH: usize = 36;

    /// Its 36 characters, ASCII.
    pub fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.text
    }

    /// The id itself.
    pub fn uuid(&self) -> Uuid {
        self.id
    }
}

impl From<Uuid> for RequestId {
    fn from(id: Uuid) -> Self {
        Self {
            id,
            text: hyphenated(id),
        }
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
        let alone = Body::members(|body| body.peer(name!("peer"), &peer));
        let of_peer = alone.len();
        let members = match certificate {
            None => alone,
            Some(certificate) => {
                let shown = |body: &mut Body<'_>| {
                    if let Some(subject) = &certificate.subject {
                        body.text(name!("tls_subject"), subject, room::NAME);
                    }
                    body.texts(name!("tls_names"), &certificate.names, room::ISSUER);
                };
                [alone, Body::members(shown)].concat().into()
            }
        };
        Self {
            members: members.into(),
            certificate: certificate.map(|certificate| certificate.thumbprint),
            of_peer,
            source: network(peer.ip()),
        }
    }

    /// Which certificate was shown, if one was.
    pub(super) fn certificate(&self) -> Option<&Thumbprint> {
        self.certificate.as_ref()
    }

    /// The same connection, by which a trusted proxy has brought a request from `address`, and from `port` if
    /// it says so. The certificate on it is the proxy's, and no caller is its holder.
    #[must_use]
    pub fn forwarded(&self, address: IpAddr, port: Option<u16>) -> Self {
        let peer = Body::members(|body| match port {
            Some(port) => body.peer(name!("peer"), &SocketAddr::new(address, port)),
            None => body.word(name!("peer"), &address.to_string()),
        });
        let others = self.members.get(self.of_peer..).unwrap_or_default();
        Self {
            members: [&peer[..], others].concat().into(),
            certificate: None,
            of_peer: peer.len(),
            source: network(address),
        }
    }

    /// The members from `peer` to `tls_names`.
    pub(super) fn members(&self) -> &[u8] {
        &self.members
    }

    /// With whom its refusals are counted.
    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// Who that is, to whoever shares things out among sources.
    pub fn asker(&self) -> Requester {
        Requester::at(self.source)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.members.escape_ascii())
    }
}
