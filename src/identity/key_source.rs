//! Where an issuer's keys come from: a file, shared secrets, or a URL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jsonwebtoken::Algorithm;

use super::config::{IssuerConfig, trusted_url};
use super::jwk::KeySetError;
use super::jwks_client::{JwksClient, JwksError, LARGEST_KEY_SET};
use crate::http_client::{ClientBuildError, ProxyError};
use crate::system::{Clock, NoTls, Secret, SecretFileError, may_wait, read_owned};

#[derive(Clone)]
pub(super) enum KeySource {
    File(PathBuf),
    Fixed(Secret),
    Published(Arc<JwksClient>),
    SecretFiles(Vec<PathBuf>),
}

pub(super) enum KeyMaterial {
    Jwks(Bytes),
    Secrets(Vec<Secret>),
}

/// The same as it is configured, to tell one place from another: the key and its value. All shared secrets are one
/// place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyLocation(&'static str, String);

#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("could not fetch the keys")]
    Fetch(#[from] JwksError),
    #[error("the key set cannot be used")]
    Set(#[from] KeySetError),
    #[error("the secret cannot be used")]
    Secret(#[from] SecretFileError),
    #[error(
        "the secret is too short: the algorithms need at least {0} bytes (RFC 7518, section 3.2)"
    )]
    ShortSecret(usize),
    #[error("cannot read the file")]
    Unreadable(#[source] std::io::Error),
}

pub(super) type SourceError = (&'static str, Box<dyn std::error::Error>);

impl KeySource {
    pub(super) fn is_published(&self) -> bool {
        matches!(self, Self::Published(_))
    }

    pub(super) async fn read(&self) -> Result<KeyMaterial, KeyError> {
        if let Self::Published(client) = self {
            return Ok(KeyMaterial::Jwks(client.fetch().await?));
        }
        let source = self.clone();
        let read = may_wait(move || source.read_files()).await?;
        Ok(read.expect("all but published keys are in files"))
    }

    /// The keys that are in files; `None` if they are published. Waits for the disk.
    pub(super) fn read_files(&self) -> Result<Option<KeyMaterial>, KeyError> {
        Ok(Some(match self {
            Self::File(path) => KeyMaterial::Jwks(read_key_set(path)?.into()),
            Self::Fixed(secret) => KeyMaterial::Secrets(vec![secret.clone()]),
            Self::Published(_) => return Ok(None),
            Self::SecretFiles(paths) => {
                let secrets: Result<_, _> = paths.iter().map(|path| Secret::read(path)).collect();
                KeyMaterial::Secrets(secrets?)
            }
        }))
    }
}

impl KeyLocation {
    pub(super) fn secret() -> Self {
        Self(SECRET, String::new())
    }

    pub(super) fn is_secret(&self) -> bool {
        self.0 == SECRET
    }
}

impl IssuerConfig {
    pub(super) fn source(&self, clock: &Clock) -> Result<(&'static str, KeySource), SourceError> {
        if let Some(path) = &self.jwks_file {
            return Ok(("jwks_file", KeySource::File(path.clone())));
        }
        if let Some(secret) = &self.hmac_secret {
            return Ok((SECRET, KeySource::Fixed(secret.clone())));
        }
        for (key, url) in self.urls() {
            if let Some(url) = url {
                let url = trusted_url(url).map_err(|message| (key, message.into()))?;
                let client = JwksClient::new(url, key == DISCOVERY, self, clock);
                let client = client.map_err(|error| (key_of(&error), Box::from(error)))?;
                return Ok((key, KeySource::Published(Arc::new(client))));
            }
        }
        let key = match &self.hmac_secret_file {
            Some(_) => "hmac_secret_file",
            None => "hmac_secret_files",
        };
        let paths = self.secret_files().cloned();
        Ok((key, KeySource::SecretFiles(paths.collect())))
    }

    pub(super) fn location(&self) -> KeyLocation {
        if let Some(path) = &self.jwks_file {
            return KeyLocation("jwks_file", path.display().to_string());
        }
        let mut urls = self.urls().into_iter();
        let url = urls.find_map(|(key, url)| Some(KeyLocation(key, url?.to_owned())));
        url.unwrap_or_else(KeyLocation::secret)
    }

    /// RFC 7518, section 3.2: "A key of the same size as the hash output [...] or larger MUST be used".
    pub(super) fn shortest_secret(&self) -> usize {
        let mut sizes = [
            (Algorithm::HS512, 64),
            (Algorithm::HS384, 48),
            (Algorithm::HS256, 32),
        ]
        .into_iter();
        let largest = sizes.find(|(algorithm, _)| self.algorithms.contains(algorithm));
        largest.map_or(0, |(_, bytes)| bytes)
    }
}

pub(super) fn read_key_set(path: &Path) -> Result<Vec<u8>, KeyError> {
    // Who may write to it says who is believed.
    read_owned(path, LARGEST_KEY_SET).map_err(KeyError::Unreadable)
}

fn key_of(error: &ClientBuildError) -> &'static str {
    match error {
        ClientBuildError::Roots(NoTls::Own(_)) => "ca_certificate",
        ClientBuildError::Proxy(ProxyError::Password(_)) => "proxy_password_file",
        ClientBuildError::Proxy(ProxyError::Url(_)) => "proxy",
        ClientBuildError::Roots(NoTls::Rootless | NoTls::Unspeakable(_))
        | ClientBuildError::Tls(_) => "jwks_url",
    }
}

const SECRET: &str = "hmac_secret";
const DISCOVERY: &str = "discovery_url";
