//! Asking an issuer for its keys: a URL goes in, the bytes of its key set come out.
//!
//! The issuer is trusted for its keys and for nothing else: no redirect is followed, no proxy is taken
//! from the environment, and an answer is cut off at a size, not only at a time (G12). The token that an
//! issuer may want for them goes to the host that is configured and to no other.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Request, Url};

use super::config::{IssuerConfig, trusted_url};
use super::json::Object;
use crate::blocking::may_wait;
use crate::clock::Clock;
use crate::http_client::{
    CallBounds, ClientBuildError, ClientOptions, HttpClient, HttpError, HttpErrorKind,
};
use crate::roots::Trust;
use crate::secret::{Secret, SecretFileError};

/// Where an issuer publishes its keys.
pub(super) struct Publisher {
    client: HttpClient,
    clock: Clock,
    place: Place,
    bearer_file: Option<PathBuf>,
}

enum Place {
    /// The key set itself.
    Keys(Url),
    /// A document that says where the key set is.
    Discovery { document: Url, issuer: String },
}

/// Why no key set was fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The token that the keys are asked for with cannot be read.
    #[error("the token of `bearer_file` cannot be used")]
    Bearer(#[source] SecretFileError),
    /// It holds something that no header can.
    #[error("the token of `bearer_file` is none: it holds a line end or another control character")]
    BearerForm,
    /// The discovery document is another issuer's, or names no place that keys may come from.
    #[error("the discovery document cannot be used: {0}")]
    Discovery(&'static str),
    /// More bytes than any key set has.
    #[error("the answer is larger than 256 KiB")]
    TooLarge,
    /// Not 200; a redirect is not followed.
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    /// No answer, or not all of it.
    #[error("the issuer has given no answer")]
    NoAnswer(#[source] HttpError),
}

impl Publisher {
    /// Asks `url` for the key set.
    pub(super) fn of_keys(
        url: Url,
        config: &IssuerConfig,
        clock: &Clock,
    ) -> Result<Self, ClientBuildError> {
        Self::build(Place::Keys(url), config, clock)
    }

    /// Asks `document` where the issuer's keys are, each time.
    pub(super) fn by_discovery(
        document: Url,
        config: &IssuerConfig,
        clock: &Clock,
    ) -> Result<Self, ClientBuildError> {
        let issuer = config.issuer.clone();
        Self::build(Place::Discovery { document, issuer }, config, clock)
    }

    fn build(place: Place, config: &IssuerConfig, clock: &Clock) -> Result<Self, ClientBuildError> {
        let system = match &place {
            Place::Keys(url) => url.scheme() == "https",
            // Wherever the document is, it may name a place that is called over TLS.
            Place::Discovery { .. } => true,
        };
        Ok(Self {
            client: client(system, config, clock)?,
            clock: clock.clone(),
            place,
            bearer_file: config.bearer_file.clone(),
        })
    }

    /// Fetches the key set.
    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        let from = self.clock.elapsed();
        let bearer = self.bearer().await?;
        match &self.place {
            Place::Keys(url) => self.get(url.clone(), bearer, from).await,
            Place::Discovery { document, issuer } => {
                let answer = self.get(document.clone(), bearer.clone(), from).await?;
                let url = keys_url(&answer, issuer)?;
                let bearer = bearer.filter(|_| url.origin() == document.origin());
                self.get(url, bearer, from).await
            }
        }
    }

    /// `Authorization`, as its file has it now: whoever has issued it replaces it before it ends.
    async fn bearer(&self) -> Result<Option<HeaderValue>, FetchError> {
        let Some(path) = self.bearer_file.clone() else {
            return Ok(None);
        };
        let token = may_wait(move || Secret::read(&path)).await;
        let token = token.map_err(FetchError::Bearer)?;
        let header = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let mut header = header.map_err(|_| FetchError::BearerForm)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// The next fetch uses new connections. Whatever was wrong with the last one, it may have been the
    /// connection: one of HTTP/2 can stay with a server behind a balancer that is ill.
    pub(super) fn leave_connections(&self) {
        self.client.leave_connections();
    }

    /// One answer of a fetch that began at `from`.
    async fn get(
        &self,
        url: Url,
        bearer: Option<HeaderValue>,
        from: Duration,
    ) -> Result<Bytes, FetchError> {
        let mut request = Request::new(Method::GET, url);
        let accepted = HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(ACCEPT, accepted);
        if let Some(bearer) = bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        let now = self.clock.elapsed();
        let bounds = CallBounds {
            bytes: LARGEST_KEY_SET,
            time: WHOLE_FETCH.saturating_sub(now.saturating_sub(from)),
            from: now,
        };
        let head = self.client.head(request, bounds).await;
        let head = head.map_err(FetchError::NoAnswer)?;
        if head.status() != StatusCode::OK {
            return Err(FetchError::Status(head.status()));
        }
        match head.whole().await {
            Ok(answer) => Ok(answer.body),
            Err(failed) if failed.kind == HttpErrorKind::TooLarge => Err(FetchError::TooLarge),
            Err(failed) => Err(FetchError::NoAnswer(failed)),
        }
    }
}

/// OpenID Connect Discovery, section 4.3: "The `issuer` value returned MUST be identical to the Issuer
/// URL". Else whoever may publish any document could name keys for this issuer.
fn keys_url(document: &[u8], issuer: &str) -> Result<Url, FetchError> {
    let document =
        Object::read(document).map_err(|_| FetchError::Discovery("it is not a JSON object"))?;
    if document.text("issuer") != Ok(Some(issuer)) {
        return Err(FetchError::Discovery("it is of another issuer"));
    }
    let url = document.text("jwks_uri").ok().flatten();
    trusted_url(url.unwrap_or_default()).map_err(FetchError::Discovery)
}

fn client(
    system: bool,
    config: &IssuerConfig,
    clock: &Clock,
) -> Result<HttpClient, ClientBuildError> {
    let proxy = config.proxy();
    let options = ClientOptions {
        trust: Trust {
            // A proxy may be called over TLS as well.
            system: system || proxy.url.is_some(),
            own: config.ca_certificate.as_deref(),
        },
        // Each URL was looked at: without TLS only this machine is called, and that not through a proxy.
        only_https: proxy.url.is_some(),
        proxy,
        resolver: None,
        connect: CONNECT,
        first_byte: WHOLE_FETCH,
        idle_connections: 1,
    };
    HttpClient::build(options, clock.clone())
}

/// In bytes.
pub(super) const LARGEST_KEY_SET: u64 = 256 << 10;
const CONNECT: Duration = Duration::from_secs(2);
const WHOLE_FETCH: Duration = Duration::from_secs(5);
