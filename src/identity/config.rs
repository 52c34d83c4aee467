//! `[identity]`: whose tokens are believed, and where each issuer's keys come from.

mod claim_path;
mod config_errors;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http_client::ProxySettings;
use crate::settings::{self, Size};
use crate::system::Secret;

pub use claim_path::ClaimPath;

pub use claim_path::ClaimPlaces;

pub use claim_path::NoClaimPath;

/// `[identity]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How much verified tokens may take in memory; each is verified once while it is kept.
    pub(crate) token_cache_size: Size,
    /// `[[identity.issuers]]`: no other tokens are believed. One issuer may have several entries, for
    /// different audiences; a token is judged by one of them alone.
    pub issuers: Vec<IssuerConfig>,
}

/// One of `[[identity.issuers]]`.
///
/// Exactly one of `jwks_url`, `discovery_url`, `jwks_file`, `hmac_secret_file`, `hmac_secret_files` and
/// `hmac_secret` says where its keys are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// What `iss` must be, byte for byte.
    pub issuer: String,
    /// What `aud`, or what stands in its place, must name: one of these.
    #[serde(default)]
    pub audiences: Vec<String>,
    #[serde(default)]
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) jwks_url: Option<String>,
    /// Its OpenID Connect document, which says where its keys are published:
    /// `https://idp.example/.well-known/openid-configuration`.
    pub(crate) discovery_url: Option<String>,
    /// Its keys as a file, read again when it changes.
    pub(crate) jwks_file: Option<PathBuf>,
    /// The file with the secret that it shares with this gateway, read again when it changes.
    pub(crate) hmac_secret_file: Option<PathBuf>,
    /// Two such files while the secret is changed, the newer one first: tokens of both pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hmac_secret_files: Vec<PathBuf>,
    /// The same secret from the environment.
    pub hmac_secret: Option<Secret>,
    /// Certificates, in PEM, that are trusted for `jwks_url` and `discovery_url` besides the system's.
    pub(crate) ca_certificate: Option<PathBuf>,
    /// The file with a token that its keys are asked for with: `Authorization: Bearer`. Read for each fetch.
    pub(crate) bearer_file: Option<PathBuf>,
    /// The proxy on the way to its keys; the system's proxy variables are not read.
    pub(crate) proxy: Option<String>,
    /// The file with the password of the user in `proxy`.
    pub(crate) proxy_password_file: Option<PathBuf>,
    /// The same password, which only ever comes from the environment.
    pub(crate) proxy_password: Option<Secret>,
    /// Which `typ` a token may have; `""` lets a token without one pass.
    #[serde(default = "default_token_types")]
    pub(crate) token_types: Vec<String>,
    /// Whether a token may be meant for others as well. Each of them could use it here.
    #[serde(default)]
    pub(crate) several_audiences: bool,
    /// Whether a token may hold what only tokens about a login have: `nonce`, `at_hash`, `c_hash`.
    #[serde(default)]
    pub(crate) allow_id_token_claims: bool,
    /// How far its clock may be from ours.
    #[serde(default = "default_leeway", with = "settings::duration")]
    pub(crate) leeway: Duration,
    /// How long a token may live.
    #[serde(default = "default_max_lifetime", with = "settings::duration")]
    pub(crate) max_lifetime: Duration,
    /// Where things stand in its tokens.
    #[serde(default)]
    pub(crate) claims: ClaimPlaces,
    /// What further claims must be; one that is missing is none of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) required_claims: BTreeMap<ClaimPath, RequiredValue>,
}

/// What a claim must be, as `required_claims` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "what a claim must be is a text, a whole number, true or false, or a list of such values"
)]
pub enum RequiredValue {
    /// This value.
    One(Scalar),
    /// One of these.
    OneOf(Vec<Scalar>),
}

/// A value without parts. It is compared with its type: `"1"` is not `1`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "what a claim must be is a text, a whole number, true or false, or a list of such values"
)]
pub enum Scalar {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl RequiredValue {
    /// Whether a claim is that; of a list one item is enough.
    pub(super) fn is_met_by(&self, claim: &Value) -> bool {
        let accepted = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::OneOf(values) => values,
        };
        let is_accepted = |item: &Value| {
            accepted.iter().any(|value| match value {
                Scalar::Flag(flag) => item.as_bool() == Some(*flag),
                Scalar::Integer(number) => item.as_i64() == Some(*number),
                Scalar::Text(text) => item.as_str() == Some(text),
            })
        };
        match claim.as_array() {
            Some(items) => items.iter().any(is_accepted),
            None => is_accepted(claim),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token_cache_size: Size::mebibytes(96),
            issuers: Vec::new(),
        }
    }
}

impl Config {
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let named = self.issuers.iter().flat_map(|issuer| {
            let files = [
                &issuer.jwks_file,
                &issuer.hmac_secret_file,
                &issuer.ca_certificate,
                &issuer.bearer_file,
                &issuer.proxy_password_file,
            ];
            files.into_iter().flatten().chain(&issuer.hmac_secret_files)
        });
        named.cloned().collect()
    }
}

impl IssuerConfig {
    /// The proxy on the way to its keys.
    pub(super) fn proxy(&self) -> ProxySettings<'_> {
        ProxySettings {
            url: self.proxy.as_deref(),
            password_file: self.proxy_password_file.as_deref(),
            password: self.proxy_password.as_ref(),
        }
    }

    /// The URLs that keys are fetched from, by their keys.
    pub(super) fn urls(&self) -> [KeyUrl<'_>; 2] {
        [
            ("jwks_url", self.jwks_url.as_deref()),
            ("discovery_url", self.discovery_url.as_deref()),
        ]
    }

    pub(super) fn shares_audience(&self, other: &Self) -> bool {
        let others = &other.audiences;
        self.audiences
            .iter()
            .any(|audience| others.contains(audience))
    }

    /// The files of the secrets that it shares with us, the newest first.
    pub(super) fn secret_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.hmac_secret_file.iter().chain(&self.hmac_secret_files)
    }
}

/// A key of an issuer, and the URL that it may have.
type KeyUrl<'a> = (&'static str, Option<&'a str>);

/// A URL that keys may be fetched from: who can change the answer on its way can make any token.
pub(super) fn trusted_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "not a URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a user or password; keys are public, so leave them out");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("keys are fetched over https:// only; http:// is for a loopback address"),
    }
}

/// Whether the URL's host cannot be anything but this machine.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().expect("an http:// URL has a host");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

fn default_token_types() -> Vec<String> {
    ["at+jwt", "JWT"].map(str::to_owned).to_vec()
}

const fn default_leeway() -> Duration {
    Duration::from_secs(30)
}

const fn default_max_lifetime() -> Duration {
    Duration::from_hours(24)
}
