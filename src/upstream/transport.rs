//! The wire to Atlas: a request goes in, a whole answer of bounded size comes out, or how it was lost.
//!
//! Everything that a client library does of its own accord is switched off: redirects, retries,
//! referers, proxies of the environment and decompression (G12).

mod client;

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use http::HeaderMap;
use http::HeaderValue;
use http::Method;
use http::StatusCode;
use http::header::ACCEPT_ENCODING;
use http::header::CONTENT_ENCODING;
use reqwest::Request;
use reqwest::Response;
use reqwest::Url;
use reqwest::dns::Resolve;

use super::config::Config;
use super::config::origin;
use crate::clock::Clock;
use crate::clock::Moment;
use crate::settings::Mistake;
use client::Clients;

/// The one client of the process, bound to one origin.
#[derive(Clone)]
pub(crate) struct Transport {
    clients: Arc<Clients>,
    /// Scheme, host and port of Atlas, and nothing behind them.
    origin: Url,
    clock: Clock,
    first_byte: Duration,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When its head arrived.
    pub(crate) at: Moment,
}

/// How an answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Compressed, though we ask for no compression.
    #[error("it is compressed, which was not asked for")]
    Encoded,
    /// No HTTP.
    #[error("it is no HTTP")]
    Malformed,
    /// No connection.
    #[error("no connection can be made: the name, the network, or nobody listens")]
    NoConnection,
    /// The connection broke before the head.
    #[error("the connection broke")]
    Reset,
    /// Not in time.
    #[error("it did not come in time")]
    Timeout,
    /// TLS failed.
    #[error("no TLS can be agreed on: mostly a certificate that is not trusted")]
    Tls,
    /// More bytes than allowed.
    #[error("it is too large")]
    TooLarge,
    /// The connection broke within the body.
    #[error("the connection broke in the middle of it")]
    Torn,
}

/// How much of an answer is taken, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The largest body of a 200.
    pub(crate) bytes: u64,
    /// Until the whole answer is there, counted from `from`.
    pub(crate) time: Duration,
    /// When the call begins, by the clock's `elapsed`.
    pub(crate) from: Duration,
}

impl Lost {
    /// One of a few words, for traces.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Encoded | Self::Malformed | Self::TooLarge => "invalid",
            Self::NoConnection | Self::Reset | Self::Torn => "connection",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
        }
    }
}

impl Transport {
    pub(crate) fn build(
        config: &Config,
        clock: Clock,
        names: Option<&Arc<dyn Resolve>>,
    ) -> Result<Self, Vec<Mistake>> {
        let clients = Clients::build(config, names);
        let origin = origin(&config.base_url);
        let origin = origin.map_err(|message| Mistake::at("atlas.base_url", message));
        match (clients, origin) {
            (Ok(clients), Ok(origin)) => Ok(Self {
                clients: Arc::new(clients),
                origin,
                clock,
                first_byte: config.limits.first_byte,
            }),
            (clients, origin) => {
                let mut mistakes = clients.err().unwrap_or_default();
                mistakes.extend(origin.err());
                Err(mistakes)
            }
        }
    }

    /// Whom everything is sent to: a host and its port.
    pub(crate) fn place(&self) -> (&str, u16) {
        let port = self.origin.port_or_known_default().unwrap_or_default();
        (self.origin.host_str().unwrap_or_default(), port)
    }

    /// A request for exactly this target; `None` if the URL's parser would rewrite it.
    ///
    /// A path that changed on its way into the request would be asked for with our credential, which
    /// may read more than what the caller was allowed. Nor may a target name another host, as one with
    /// two slashes at its beginning would: what is sent is the origin, and behind it the target.
    pub(crate) fn request(&self, method: Method, target: &str) -> Option<Request> {
        let url = self.origin.join(target).ok()?;
        let origin = self.origin.as_str().strip_suffix('/')?;
        let is_same = url.as_str().strip_prefix(origin) == Some(target);
        if !is_same || !target.starts_with('/') || url.fragment().is_some() {
            return None;
        }
        let mut request = Request::new(method, url);
        let identity = HeaderValue::from_static("identity");
        request.headers_mut().insert(ACCEPT_ENCODING, identity);
        Some(request)
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(&self, request: Request, bounds: Bounds) -> Result<Answer, Lost> {
        let (client, number) = self.clients.current();
        // One timer at a time: first for the head, and then, unless all is there already, for the rest.
        let patience = self.first_byte.min(bounds.time);
        let head = client.execute(request);
        let Ok(head) = self.clock.timeout(patience, head).await else {
            if self.first_byte <= bounds.time {
                self.clients.waited_in_vain(number, bounds.from);
            }
            return Err(Lost::Timeout);
        };
        let response = head.map_err(|error| before_head(&error))?;
        let at = self.clock.now();
        self.clients.heard(at.elapsed);
        let left = bounds
            .time
            .saturating_sub(at.elapsed.saturating_sub(bounds.from));
        let rest = pin!(whole(response, at, bounds.bytes));
        match self.clock.timeout(left, rest).await {
            Ok(answer) => answer,
            Err(_) => Err(Lost::Timeout),
        }
    }
}

/// Reads the body behind a head that arrived at `at`.
async fn whole(mut response: Response, at: Moment, most: u64) -> Result<Answer, Lost> {
    let limit = if response.status() == StatusCode::OK {
        most
    } else {
        LARGEST_ERROR
    };
    if response.headers().contains_key(CONTENT_ENCODING) && !is_plain(response.headers()) {
        return Err(Lost::Encoded);
    }
    let declared = response.content_length();
    if declared.is_some_and(|length| length > limit) {
        return Err(Lost::TooLarge);
    }
    let mut body = BytesMut::with_capacity(capacity(declared));
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| within_body(&error))?
    {
        let length = body.len().saturating_add(chunk.len());
        if u64::try_from(length).is_ok_and(|length| length > limit) {
            return Err(Lost::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body: body.freeze(),
        at,
    })
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("origin", &self.origin.as_str())
            .finish_non_exhaustive()
    }
}

/// Memory for a body is only reserved up to a size that costs nothing if the length was a lie.
fn capacity(declared: Option<u64>) -> usize {
    let declared = declared.unwrap_or_default().min(LARGEST_ERROR);
    usize::try_from(declared).unwrap_or_default()
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn before_head(error: &reqwest::Error) -> Lost {
    if causes(error).any(is_tls) {
        Lost::Tls
    } else if error.is_connect() {
        Lost::NoConnection
    } else if error.is_timeout() {
        Lost::Timeout
    } else if causes(error).any(is_malformed) {
        Lost::Malformed
    } else {
        Lost::Reset
    }
}

fn within_body(error: &reqwest::Error) -> Lost {
    if error.is_timeout() {
        Lost::Timeout
    } else {
        Lost::Torn
    }
}

/// What stands behind an error. An `io::Error` does not list what it holds as its source, and rustls's
/// errors arrive inside two of them.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        let held = cause.downcast_ref::<io::Error>();
        next = match held.and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => cause.source(),
        };
        Some(cause)
    })
}

fn is_tls(cause: &(dyn Error + 'static)) -> bool {
    cause.is::<rustls::Error>()
}

fn is_malformed(cause: &(dyn Error + 'static)) -> bool {
    cause
        .downcast_ref::<hyper::Error>()
        .is_some_and(hyper::Error::is_parse)
}

const LARGEST_ERROR: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_would_be_rewritten_is_never_sent() {
        let config = Config::default();
        let transport = Transport::build(&config, Clock::system(), None).unwrap();
        let sent = |target: &str| {
            let request = transport.request(Method::GET, target)?;
            Some(request.url().as_str().to_owned())
        };
        let base = "/api/atlas/v2/groups/32b6e34b3d91647abb20e7b8/databaseUsers";
        for same in [
            format!("{base}/a%2Fb/certs?pageNum=1"),
            format!("{base}/CN%3Dapp1/certs"),
            format!("{base}/..%3B/certs"),
        ] {
            let expected = format!("https://cloud.mongodb.com{same}");
            assert_eq!(sent(&same), Some(expected));
        }
        for changed in [
            format!("{base}/../certs"),
            format!("{base}/%2e%2E/certs"),
            format!("{base}/a\tb/certs"),
            format!("{base}/a b/certs"),
            format!("{base}/a#b/certs"),
            format!("{base}\\x"),
            ".evil.example/certs".to_owned(),
            "@evil.example/certs".to_owned(),
            ":80/certs".to_owned(),
            "//evil.example/certs".to_owned(),
            "https://evil.example/certs".to_owned(),
            String::new(),
        ] {
            assert_eq!(sent(&changed), None, "{changed}");
        }
    }
}
