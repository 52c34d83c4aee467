//! The section `atlas` of the configuration.

mod config_errors;

pub(crate) use config_errors::origin;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::http_client::ProxySettings;
use crate::settings::{self, Size, duration};
use crate::system::{Secret, Trust};

/// The section `atlas`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct Config {
    pub base_url: String,
    pub api: Api,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_password: Option<Secret>,
    pub state_directory: PathBuf,
    pub limits: AtlasLimits,
    pub credentials: Vec<CredentialConfig>,
}

/// A version of Atlas's Administration API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Api {
    /// The versioned API.
    #[default]
    #[serde(rename = "v2")]
    V2,
    /// The older one.
    #[serde(rename = "v1.0")]
    V1,
}

impl Api {
    /// Its word in the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1.0",
        }
    }
}

/// The section `atlas.limits`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct AtlasLimits {
    #[serde(deserialize_with = "settings::whole")]
    pub share_percent: u64,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) reserve: u64,
    #[serde(deserialize_with = "settings::whole")]
    pub capacity: u64,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) refill_per_minute: u64,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) concurrency: usize,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) concurrency_per_project: usize,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) queue: usize,
    #[serde(with = "duration")]
    pub(crate) queue_wait: Duration,
    pub(crate) page_bytes: Size,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) pages: u64,
    pub proof: Proof,
    #[serde(with = "duration")]
    pub connect: Duration,
    #[serde(with = "duration")]
    pub(crate) first_byte: Duration,
    #[serde(with = "duration")]
    pub(crate) page: Duration,
    #[serde(with = "duration")]
    pub(crate) fetch: Duration,
}

/// How a list of several pages is proven to be of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// By the age of its certificates and their count, at one call a page; where these prove nothing,
    /// as [`Proof::EveryPage`] does.
    #[default]
    CreatedAt,
    /// All pages are read twice, and must be the same.
    EveryPage,
    /// The first page is read again: one call more, and a revocation together with an issue that both
    /// fall behind the first page goes unnoticed.
    FirstPage,
}

/// One of `atlas.credentials`: who we are to Atlas for some projects.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct CredentialConfig {
    pub name: String,
    pub projects: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyConfig>,
}

/// A service account of Atlas.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct ServiceAccountConfig {
    pub client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_file: Option<PathBuf>,
    /// Its secret, which only ever comes from the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
}

/// A legacy API key of Atlas.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct ApiKeyConfig {
    pub public_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_file: Option<PathBuf>,
    /// Its private half, which only ever comes from the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
}

impl Config {
    pub(crate) fn trust(&self) -> Trust<'_> {
        Trust {
            system: self.base_url.starts_with("https://"),
            own: self.ca_certificate.as_deref(),
        }
    }

    pub(crate) fn proxy(&self) -> ProxySettings<'_> {
        ProxySettings {
            url: self.proxy.as_deref(),
            password_file: self.proxy_password_file.as_deref(),
            password: self.proxy_password.as_ref(),
        }
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let named = self.credentials.iter().flat_map(|credential| {
            let account = credential.service_account.as_ref();
            let key = credential.api_key.as_ref();
            [
                account.and_then(|account| account.client_secret_file.clone()),
                key.and_then(|key| key.private_key_file.clone()),
            ]
        });
        named.flatten().collect()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base_url: "https://cloud.mongodb.com".to_owned(),
            api: Api::V2,
            ca_certificate: None,
            proxy: None,
            proxy_password_file: None,
            proxy_password: None,
            state_directory: PathBuf::from("state"),
            limits: AtlasLimits::default(),
            credentials: Vec::new(),
        }
    }
}

impl Default for AtlasLimits {
    fn default() -> Self {
        Self {
            share_percent: 50,
            reserve: 200,
            capacity: 1_200,
            refill_per_minute: 500,
            concurrency: 32,
            concurrency_per_project: 4,
            queue: 1_000,
            queue_wait: Duration::from_secs(5),
            page_bytes: Size::mebibytes(8),
            pages: 20,
            proof: Proof::CreatedAt,
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(3),
            page: Duration::from_secs(5),
            fetch: Duration::from_secs(10),
        }
    }
}
