//! An answer before it is put on the wire: status, headers and the whole body.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

/// What the simulator is about to answer. A [`Fault`](crate::Fault) may replace or change it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status, also one that Atlas would never send.
    pub status: StatusCode,
    /// All headers but those of the connection, `Date` and the framing.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl Answer {
    /// An answer with a body, without a content type.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
        }
    }

    /// The same answer with one more header, replacing an earlier one of that name.
    ///
    /// # Panics
    ///
    /// Panics if HTTP does not allow the name or the value; [`Fault::raw`](crate::Fault::raw) sends
    /// such headers too.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers
            .insert(name, value.parse().expect("a header value"));
        self
    }

    pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Self {
        // A struct or a map with text keys always serializes.
        Self::bytes(status, serde_json::to_vec(document).unwrap_or_default())
    }

    /// JSON bytes with the headers that every answer of Atlas carries.
    pub(crate) fn bytes(status: StatusCode, body: Vec<u8>) -> Self {
        let mut answer = Self::new(status, body);
        let fixed = STANDARD_HEADERS.iter().map(|&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        answer.headers.extend(fixed);
        answer
            .headers
            .insert(SERVER, HeaderValue::from_static("mdbws"));
        answer
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

/// An answer that ends the way to another one. Boxed, because it is the rarer of the two.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Answer>);

impl From<Answer> for Refusal {
    fn from(answer: Answer) -> Self {
        Self(Box::new(answer))
    }
}

/// As recorded.
const STANDARD_HEADERS: [(&str, &str); 8] = [
    ("referrer-policy", "strict-origin-when-cross-origin"),
    (
        "strict-transport-security",
        "max-age=31536000; includeSubdomains;",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-envoy-upstream-service-time", "55"),
    ("x-frame-options", "DENY"),
    ("x-java-version", "17.0.19+10-LTS"),
    (
        "x-mongodb-service-version",
        "gitHash=203ac0360368239eed8f27b82e06b1be8429648c; versionString=master",
    ),
    ("x-permitted-cross-domain-policies", "none"),
];
