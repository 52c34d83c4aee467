//! The client that fetches an issuer's key set, and its discovery document first where that says where.
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
use crate::http_client::{
    CallBounds, ClientBuildError, ClientOptions, HttpClient, HttpError, HttpErrorKind,
};
use crate::strict_json::{read_object, text};
use crate::system::{Clock, Secret, SecretFileError, Trust, may_wait};

pub(super) struct JwksClient {
    client: HttpClient,
    clock: Clock,
    url: Url,
    /// Whose document `url` is; `None` if it is the key set itself.
    discovery_of: Option<String>,
    bearer_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum JwksError {
    #[error("the token of `bearer_file` cannot be used")]
    Bearer(#[source] SecretFileError),
    #[error("the token of `bearer_file` is none: it holds a line end or another control character")]
    BearerForm,
    #[error("the discovery document cannot be used: {0}")]
    Discovery(&'static str),
    #[error("the answer is larger than 256 KiB")]
    TooLarge,
    /// Not 200; a redirect is not followed.
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    #[error("the issuer has given no answer")]
    NoAnswer(#[source] HttpError),
}

impl JwksClient {
    pub(super) fn new(
        url: Url,
        is_discovery: bool,
        config: &IssuerConfig,
        clock: &Clock,
    ) -> Result<Self, ClientBuildError> {
        let proxy = config.proxy();
        let setup = ClientOptions {
            trust: Trust {
                // The document may name a place that is called over TLS, and so may a proxy be.
                system: url.scheme() == "https" || is_discovery || proxy.url.is_some(),
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
        Ok(Self {
            client: HttpClient::build(setup, clock.clone())?,
            clock: clock.clone(),
            url,
            discovery_of: is_discovery.then(|| config.issuer.clone()),
            bearer_file: config.bearer_file.clone(),
        })
    }

    pub(super) async fn fetch(&self) -> Result<Bytes, JwksError> {
        let from = self.clock.elapsed();
        let bearer = self.bearer().await?;
        let answer = self.get(self.url.clone(), bearer.clone(), from).await?;
        let Some(issuer) = &self.discovery_of else {
            return Ok(answer);
        };
        let url = keys_url(&answer, issuer)?;
        let bearer = bearer.filter(|_| url.origin() == self.url.origin());
        self.get(url, bearer, from).await
    }

    /// `Authorization`, as its file has it now: it is replaced before it ends.
    async fn bearer(&self) -> Result<Option<HeaderValue>, JwksError> {
        let Some(path) = self.bearer_file.clone() else {
            return Ok(None);
        };
        let token = may_wait(move || Secret::read(&path)).await;
        let token = token.map_err(JwksError::Bearer)?;
        let header = HeaderValue::try_from(format!("Bearer {}", token.expose()));
        let mut header = header.map_err(|_| JwksError::BearerForm)?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// The next fetch uses new connections. Whatever was wrong with the last one, it may have been the
    /// connection: one of HTTP/2 can stay with a server behind a balancer that is ill.
    pub(super) fn leave_connections(&self) {
        self.client.leave_connections();
    }

    async fn get(
        &self,
        url: Url,
        bearer: Option<HeaderValue>,
        from: Duration,
    ) -> Result<Bytes, JwksError> {
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
        let head = head.map_err(JwksError::NoAnswer)?;
        if head.status() != StatusCode::OK {
            return Err(JwksError::Status(head.status()));
        }
        match head.whole().await {
            Ok(answer) => Ok(answer.body),
            Err(failed) if failed.kind == HttpErrorKind::TooLarge => Err(JwksError::TooLarge),
            Err(failed) => Err(JwksError::NoAnswer(failed)),
        }
    }
}

/// OpenID Connect Discovery, section 4.3: "The `issuer` value returned MUST be identical to the Issuer
/// URL". Else any document at the place could name keys for this issuer.
fn keys_url(document: &[u8], issuer: &str) -> Result<Url, JwksError> {
    let document = read_object(document);
    let document = document.map_err(|_| JwksError::Discovery("it is not a JSON object"))?;
    if text(&document, "issuer") != Ok(Some(issuer)) {
        return Err(JwksError::Discovery("it is of another issuer"));
    }
    let url = text(&document, "jwks_uri").ok().flatten();
    let url = url.ok_or(JwksError::Discovery("it names no `jwks_uri`"))?;
    trusted_url(url).map_err(JwksError::Discovery)
}

pub(super) const LARGEST_KEY_SET: u64 = 256 << 10;
const CONNECT: Duration = Duration::from_secs(2);
const WHOLE_FETCH: Duration = Duration::from_secs(5);
