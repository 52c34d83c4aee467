//! What can be wrong with a head goes in; the request that stands in its place comes out, and back.

use crate::telemetry::metrics::connections::Reason;

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// `Content-Length` that is no number, is repeated, or stands beside `Transfer-Encoding`.
    #[error("a request has at most one length of its body, a whole number")]
    BodyLength,
    /// Lines that do not end in CR LF, or control characters within them.
    #[error("each line of a request's head ends with CR LF and holds no other control character")]
    ControlCharacter,
    /// A header line that is no `name: value`.
    #[error("a header line is a name, a colon and a value")]
    HeaderLine,
    /// A first line that is no `METHOD target HTTP/1.1`.
    #[error("a request begins with a method, a target and HTTP/1.1, one space between each")]
    RequestLine,
    /// A target with bytes that no target has.
    #[error("the request target is not a path")]
    Target,
    /// A target that fills the whole head.
    #[error("the request target is too long")]
    TargetTooLong,
    /// It did not come in time.
    #[error("the request's head did not arrive in time")]
    Timeout,
    /// Too many bytes.
    #[error("the request's headers are too large")]
    TooLarge,
    /// Too many lines.
    #[error("the request has too many headers")]
    TooMany,
    /// `Transfer-Encoding` other than one plain `chunked`.
    #[error("a transfer encoding is not taken here")]
    TransferEncoding,
}

impl Fault {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::BodyLength,
        Self::ControlCharacter,
        Self::HeaderLine,
        Self::RequestLine,
        Self::Target,
        Self::TargetTooLong,
        Self::Timeout,
        Self::TooLarge,
        Self::TooMany,
        Self::TransferEncoding,
    ];

    /// The request that is read in place of a refused one, so that its answer comes in its turn. No
    /// caller can send it: a method that begins with a sign is refused.
    pub fn stand_in(self) -> &'static [u8] {
        match self {
            Self::BodyLength => b"! /body_length HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::ControlCharacter => b"! /control_character HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::HeaderLine => b"! /header_line HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::RequestLine => b"! /request_line HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::Target => b"! /target HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::TargetTooLong => b"! /target_too_long HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::Timeout => b"! /timeout HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::TooLarge => b"! /too_large HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::TooMany => b"! /too_many HTTP/1.1\r\nConnection: close\r\n\r\n",
            Self::TransferEncoding => b"! /transfer_encoding HTTP/1.1\r\nConnection: close\r\n\r\n",
        }
    }

    /// The fault that a request stands in for; `None` for a request that a caller has sent.
    pub fn behind<B>(request: &http::Request<B>) -> Option<Self> {
        let stands_in = request.version() == http::Version::HTTP_11 && request.method() == "!";
        if !stands_in {
            return None;
        }
        let name = request.uri().path().strip_prefix('/')?;
        let mut all = Self::ALL.into_iter();
        all.find(|fault| fault.reason().as_str() == name)
    }

    /// Its place in the metrics, whose word for it is also its stand-in's.
    pub fn reason(self) -> Reason {
        match self {
            Self::BodyLength => Reason::BodyLength,
            Self::ControlCharacter => Reason::ControlCharacter,
            Self::HeaderLine => Reason::HeaderLine,
            Self::RequestLine => Reason::RequestLine,
            Self::Target => Reason::Target,
            Self::TargetTooLong => Reason::TargetTooLong,
            Self::Timeout => Reason::Timeout,
            Self::TooLarge => Reason::TooLarge,
            Self::TooMany => Reason::TooMany,
            Self::TransferEncoding => Reason::TransferEncoding,
        }
    }
}
