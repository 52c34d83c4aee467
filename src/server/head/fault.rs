//! Why a head is refused, and the synthetic error request that replaces it.

use http::{Request, Version};

use crate::telemetry::metrics::connections::Reason;

/// Makes from one list the enum, its sentences, its synthetic requests and the list of all: a fault left
/// out of one of them would be answered as an unknown path.
macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $word:literal: $sentence:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        pub(crate) enum HeadFault {
            $($(#[$doc])* #[error($sentence)] $fault,)*
        }

        impl HeadFault {
            pub(super) const ALL: &[Self] = &[$(Self::$fault,)*];

            /// The request that hyper reads in place of a refused one, so that its answer comes in its turn.
            /// No caller can send it: a method that begins with a sign is refused.
            pub(super) fn synthetic_request(self) -> &'static [u8] {
                let request = match self {
                    $(Self::$fault => {
                        concat!("! /", $word, " HTTP/1.1\r\nConnection: close\r\n\r\n")
                    })*
                };
                request.as_bytes()
            }

            /// Its label in the metrics, which is also the path of its synthetic request.
            pub(crate) fn reason(self) -> Reason {
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
    Chunk = "chunk": "a body in chunks is sizes, data and line ends, as RFC 9112 has them",
    /// Lines that do not end in CR LF, or control characters within them.
    ControlCharacter = "control_character":
        "each line of a request's head ends with CR LF and holds no other control character",
    HeaderLine = "header_line": "a header line is a name, a colon and a value",
    RequestLine = "request_line":
        "a request begins with a method, a target and HTTP/1.1, one space between each",
    Target = "target": "the request target is not a path",
    TargetTooLong = "target_too_long": "the request target is too long",
    Timeout = "timeout": "the request's head did not arrive in time",
    TooLarge = "too_large": "the request's headers are too large",
    TooMany = "too_many": "the request has too many headers",
    /// `Transfer-Encoding` other than one plain `chunked`.
    TransferEncoding = "transfer_encoding": "a transfer encoding is not taken here",
}

impl HeadFault {
    /// The fault of which `request` is the synthetic request; `None` for a request that a caller has sent.
    pub(crate) fn of_synthetic<B>(request: &Request<B>) -> Option<Self> {
        if request.version() != Version::HTTP_11 || request.method() != "!" {
            return None;
        }
        let name = request.uri().path().strip_prefix('/')?;
        let mut all = Self::ALL.iter().copied();
        all.find(|fault| fault.reason().word() == name)
    }
}
