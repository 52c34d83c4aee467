//! What can be wrong with a head goes in; the request that stands in its place comes out, and back.

use crate::telemetry::metrics::connections::Reason;

/// From one list the enum, what it says, its stand-ins and the list of all: a fault that were left out of
/// one of them would be answered as a path that nobody has.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $word:literal: $says:literal,)*) => {
        /// Why a head is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum Fault {
            $($(#[$doc])* #[error($says)] $fault,)*
        }

        impl Fault {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// The request that is read in place of a refused one, so that its answer comes in its turn.
            /// No caller can send it: a method that begins with a sign is refused.
            pub fn stand_in(self) -> &'static [u8] {
                let stand_in = match self {
                    $(Self::$fault => {
                        concat!("! /", $word, " HTTP/1.1\r\nConnection: close\r\n\r\n")
                    })*
                };
                stand_in.as_bytes()
            }

            /// Its place in the metrics, whose word for it is also its stand-in's.
            pub fn reason(self) -> Reason {
                match self {
                    $(Self::$fault => Reason::$fault,)*
                }
            }
        }
    };
}

faults! {
    /// `Content-Length` that is no number, is repeated, or stands beside `Transfer-Encoding`.
    BodyLength = "body_length": "a request has at most one length of its body, a whole number",
    /// A body whose chunks nobody can tell apart.
    Chunk = "chunk": "a body in chunks is sizes, data and line ends, as RFC 9112 has them",
    /// Lines that do not end in CR LF, or control characters within them.
    ControlCharacter = "control_character":
        "each line of a request's head ends with CR LF and holds no other control character",
    /// A header line that is no `name: value`.
    HeaderLine = "header_line": "a header line is a name, a colon and a value",
    /// A first line that is no `METHOD target HTTP/1.1`.
    RequestLine = "request_line":
        "a request begins with a method, a target and HTTP/1.1, one space between each",
    /// A target that nobody can read.
    Target = "target": "the request target is not a path",
    /// A target that fills the whole head.
    TargetTooLong = "target_too_long": "the request target is too long",
    /// It did not come in time.
    Timeout = "timeout": "the request's head did not arrive in time",
    /// Too many bytes.
    TooLarge = "too_large": "the request's headers are too large",
    /// Too many lines.
    TooMany = "too_many": "the request has too many headers",
    /// `Transfer-Encoding` other than one plain `chunked`.
    TransferEncoding = "transfer_encoding": "a transfer encoding is not taken here",
}

impl Fault {
    /// The fault that a request stands in for; `None` for a request that a caller has sent.
    pub fn behind<B>(request: &http::Request<B>) -> Option<Self> {
        let stands_in = request.version() == http::Version::HTTP_11 && request.method() == "!";
        if !stands_in {
            return None;
        }
        let name = request.uri().path().strip_prefix('/')?;
        let mut all = Self::ALL.iter().copied();
        all.find(|fault| fault.reason().as_str() == name)
    }
}
