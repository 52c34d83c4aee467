//! Asking an issuer for its keys: a URL goes in, the bytes of its key set come out.
//!
//! The issuer is trusted for its keys and for nothing else: no redirect is followed, no proxy is taken
//! from the environment, and an answer is cut off at a size, not only at a time (G12).

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use bytes::BytesMut;
use reqwest::Client;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::redirect;
use reqwest::retry;

use super::config::trusted_url;
use super::json::Object;
use crate::roots::NoTls;
use crate::roots::Trust;

/// Where an issuer publishes its keys.
pub(super) struct Publisher {
    client: Client,
    place: Place,
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
    /// The discovery document is another issuer's, or names no place that keys may come from.
    #[error("the discovery document cannot be used: {0}")]
    Discovery(&'static str),
    /// More bytes than any key set has.
    #[error("the answer is larger than 256 KiB")]
    TooLarge,
    /// Not 200; a redirect is not followed.
    #[error("the issuer answered {0}")]
    Status(reqwest::StatusCode),
    /// No answer, or none in time.
    #[error("the issuer could not be reached")]
    Unreachable(#[source] reqwest::Error),
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// There is no TLS with the roots that are configured.
    #[error("{0}")]
    Roots(#[from] NoTls),
    /// There is none all the same.
    #[error("no TLS client can be made")]
    Tls(#[source] reqwest::Error),
}

impl Publisher {
    /// Asks `url` for the key set.
    pub(super) fn of_keys(url: Url, ca_certificate: Option<&PathBuf>) -> Result<Self, ClientError> {
        let system = url.scheme() == "https";
        Ok(Self {
            client: client(system, ca_certificate)?,
            place: Place::Keys(url),
        })
    }

    /// Asks `document` where the keys of `issuer` are, each time.
    pub(super) fn by_discovery(
        document: Url,
        issuer: String,
        ca_certificate: Option<&PathBuf>,
    ) -> Result<Self, ClientError> {
        // Wherever the document is, it may name a place that is called over TLS.
        Ok(Self {
            client: client(true, ca_certificate)?,
            place: Place::Discovery { document, issuer },
        })
    }

    /// Fetches the key set.
    pub(super) async fn fetch(&self) -> Result<Bytes, FetchError> {
        match &self.place {
            Place::Keys(url) => self.get(url.clone()).await,
            Place::Discovery { document, issuer } => {
                let answer = self.get(document.clone()).await?;
                self.get(keys_url(&answer, issuer)?).await
            }
        }
    }

    async fn get(&self, url: Url) -> Result<Bytes, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable(error.without_url());
        let mut answer = self
            .client
            .get(url)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .send()
            .await
            .map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len().saturating_add(chunk.len()) > LARGEST_KEY_SET {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
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

fn client(system: bool, ca_certificate: Option<&PathBuf>) -> Result<Client, ClientError> {
    let own = ca_certificate.map(PathBuf::as_path);
    Client::builder()
        .tls_backend_preconfigured(Trust { system, own }.tls()?)
        .user_agent(concat!("atlas-cert-gateway/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(WHOLE_ANSWER)
        .build()
        .map_err(ClientError::Tls)
}

pub(super) const LARGEST_KEY_SET: usize = 256 << 10;
const CONNECT: Duration = Duration::from_secs(2);
const WHOLE_ANSWER: Duration = Duration::from_secs(5);
