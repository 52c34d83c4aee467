//! The HTTP client for all calls out, to Atlas and to issuers: whole answers of bounded size, within a time.
//!
//! Everything that the library does of its own accord is switched off: redirects, retries, referers,
//! proxies of the environment and decompression (G12). The whole of a call is timed by the [`Clock`].
//! Bodies are read here and nowhere else, and never beyond a bound.

mod generations;
mod proxy;

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::dns::Resolve;
use reqwest::{Request, Response};

use crate::system::{Clock, Moment, NoTls, Trust};
use generations::Generations;

pub(crate) use proxy::{ProxyError, ProxySettings};

/// What a client is made of.
pub(crate) struct ClientOptions<'s> {
    /// Who may prove to be whom we call.
    pub(crate) trust: Trust<'s>,
    /// Whether every call is over TLS.
    pub(crate) only_https: bool,
    /// The proxy on the way, if there is one.
    pub(crate) proxy: ProxySettings<'s>,
    /// Which addresses a name has; as the system says where it is `None`.
    pub(crate) resolver: Option<Arc<dyn Resolve>>,
    /// Until a new connection stands, TLS and proxy included.
    pub(crate) connect: Duration,
    /// Until the head of an answer is there, a new connection included.
    pub(crate) first_byte: Duration,
    /// How many idle connections are kept for each host.
    pub(crate) idle_connections: usize,
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientBuildError {
    /// There is no such proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// There is no TLS with those roots.
    #[error(transparent)]
    Roots(#[from] NoTls),
    /// There is none all the same.
    #[error("cannot speak TLS")]
    Tls(#[source] reqwest::Error),
}

/// A client with its connections.
pub(crate) struct HttpClient {
    generations: Generations,
    first_byte: Duration,
    clock: Clock,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub(crate) struct HttpReply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
    /// When its head arrived.
    pub(crate) at: Moment,
}

/// How an answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpErrorKind {
    /// Compressed, though we ask for no compression.
    #[error("it is compressed, which was not asked for")]
    Encoded,
    /// No HTTP.
    #[error("it is no HTTP")]
    Malformed,
    /// No connection.
    #[error("no connection can be made: the name, the network, or no server listens")]
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

/// A lost answer, and what the library says of it.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub(crate) struct HttpError {
    /// How it was lost.
    pub(crate) kind: HttpErrorKind,
    #[source]
    cause: Option<reqwest::Error>,
}

/// How much of an answer is taken, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallBounds {
    /// The largest body of a 200.
    pub(crate) bytes: u64,
    /// Until the whole answer is there, counted from `from`.
    pub(crate) time: Duration,
    /// When the call begins, by the clock's `elapsed`.
    pub(crate) from: Duration,
}

/// The head of an answer whose body has yet to be read. Dropped before, the rest of it is not taken.
pub(crate) struct ReplyHead<'c> {
    client: &'c HttpClient,
    /// Which connections the request may have been sent on.
    generation: u64,
    bounds: CallBounds,
    response: Response,
    at: Moment,
}

impl HttpClient {
    /// Makes the client; opens no connection yet. Reads files: waits for the disk.
    pub(crate) fn build(
        options: ClientOptions<'_>,
        clock: Clock,
    ) -> Result<Self, ClientBuildError> {
        Ok(Self {
            first_byte: options.first_byte,
            generations: Generations::build(options)?,
            clock,
        })
    }

    /// Sends `request` and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request,
        bounds: CallBounds,
    ) -> Result<HttpReply, HttpError> {
        self.head(request, bounds).await?.whole().await
    }

    /// Sends `request` and waits for the head of its answer.
    pub(crate) async fn head(
        &self,
        mut request: Request,
        bounds: CallBounds,
    ) -> Result<ReplyHead<'_>, HttpError> {
        let identity = HeaderValue::from_static("identity");
        request.headers_mut().insert(ACCEPT_ENCODING, identity);
        let (client, generation) = self.generations.current();
        // One timer at a time: first for the head, and then, unless all is there already, for the rest.
        let patience = self.first_byte.min(bounds.time);
        let head = client.execute(request);
        let Ok(head) = self.clock.timeout(patience, head).await else {
            return Err(self.failed(generation, bounds, HttpErrorKind::Timeout.into()));
        };
        let response = head.map_err(|error| {
            let failure = HttpError::because(before_head(&error), error);
            self.failed(generation, bounds, failure)
        })?;
        Ok(ReplyHead {
            client: self,
            generation,
            bounds,
            response,
            at: self.clock.now(),
        })
    }

    /// The next call uses new connections: for a caller who calls so seldom, or to whom whole answers are
    /// of so little use, that the rules of calls in vain do not help.
    pub(crate) fn leave_connections(&self) {
        let (_, generation) = self.generations.current();
        self.generations.leave(generation);
    }

    /// Looks whether a call that failed may have been sent on a connection that leads nowhere.
    fn failed(&self, generation: u64, bounds: CallBounds, failure: HttpError) -> HttpError {
        match failure.kind {
            // A call that had less time than that cannot tell.
            HttpErrorKind::Timeout if self.first_byte > bounds.time => {}
            HttpErrorKind::Timeout | HttpErrorKind::Torn => {
                self.generations.in_vain(generation, bounds.from);
            }
            HttpErrorKind::Reset => self.generations.was_reset(generation, bounds.from),
            // There was no connection, or it did answer.
            HttpErrorKind::Encoded
            | HttpErrorKind::Malformed
            | HttpErrorKind::NoConnection
            | HttpErrorKind::Tls
            | HttpErrorKind::TooLarge => {}
        }
        failure
    }
}

impl ReplyHead<'_> {
    /// The answer's status.
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Reads the rest of the answer.
    pub(crate) async fn whole(self) -> Result<HttpReply, HttpError> {
        let Self {
            client,
            generation,
            bounds,
            response,
            at,
        } = self;
        let spent = at.elapsed.saturating_sub(bounds.from);
        let left = bounds.time.saturating_sub(spent);
        let rest = pin!(whole(response, at, bounds.bytes));
        let rest = client.clock.timeout(left, rest).await;
        match rest.unwrap_or_else(|_| Err(HttpErrorKind::Timeout.into())) {
            Ok(answer) => {
                client.generations.answered(client.clock.elapsed());
                Ok(answer)
            }
            Err(failure) => Err(client.failed(generation, bounds, failure)),
        }
    }
}

impl HttpErrorKind {
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

impl HttpError {
    fn because(lost: HttpErrorKind, error: reqwest::Error) -> Self {
        Self {
            kind: lost,
            cause: Some(error.without_url()),
        }
    }
}

impl From<HttpErrorKind> for HttpError {
    fn from(lost: HttpErrorKind) -> Self {
        Self {
            kind: lost,
            cause: None,
        }
    }
}

/// Reads the body behind a head that arrived at `at`.
async fn whole(mut response: Response, at: Moment, most: u64) -> Result<HttpReply, HttpError> {
    let limit = if response.status() == StatusCode::OK {
        most
    } else {
        LARGEST_ERROR
    };
    if response.headers().contains_key(CONTENT_ENCODING) && !is_plain(response.headers()) {
        return Err(HttpErrorKind::Encoded.into());
    }
    let declared = response.content_length();
    if declared.is_some_and(|length| length > limit) {
        return Err(HttpErrorKind::TooLarge.into());
    }
    let mut body = BytesMut::with_capacity(capacity(declared));
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| HttpError::because(within_body(&error), error))?
    {
        let length = body.len().saturating_add(chunk.len());
        if u64::try_from(length).is_ok_and(|length| length > limit) {
            return Err(HttpErrorKind::TooLarge.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpReply {
        status: response.status(),
        headers: std::mem::take(response.headers_mut()),
        body: body.freeze(),
        at,
    })
}

/// Memory for a body is only reserved up to a size that costs nothing if the length was a lie.
fn capacity(declared: Option<u64>) -> usize {
    let declared = declared.map_or(0, |length| length.min(LARGEST_ERROR));
    usize::try_from(declared).expect("64 KiB fit into memory")
}

fn is_plain(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

fn before_head(error: &reqwest::Error) -> HttpErrorKind {
    if causes(error).any(is_tls) {
        HttpErrorKind::Tls
    } else if error.is_connect() {
        HttpErrorKind::NoConnection
    } else if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if causes(error).any(is_malformed) {
        HttpErrorKind::Malformed
    } else {
        HttpErrorKind::Reset
    }
}

fn within_body(error: &reqwest::Error) -> HttpErrorKind {
    if error.is_timeout() {
        HttpErrorKind::Timeout
    } else {
        HttpErrorKind::Torn
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
