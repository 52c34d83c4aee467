//! Whose tokens are believed, ready to be asked: settings go in, [`Issuers`] with their keys come out.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::claims::Claims;
use super::config::{Config, IssuerConfig, trusted_url};
use super::fetch::Publisher;
use super::json::Object;
use super::key_set::Place;
use super::keys::Keys;
use super::source::Source;
use super::token::{Header, plain_type};
use super::{Caller, Unverified, claims};
use crate::atlas::Timestamp;
use crate::clock::{Clock, Moment};
use crate::http_client::{ClientBuildError as ClientError, ProxyError};
use crate::roots::NoTls;
use crate::secret::Secret;
use crate::settings::ConfigError;
use crate::telemetry::Chain;
use crate::telemetry::metrics::identity::IdentityMetrics;

/// The issuers of one configuration.
pub(super) struct Issuers {
    pub(super) generation: u64,
    pub(super) list: Vec<Issuer>,
}

/// One of them.
pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    pub(super) config: IssuerConfig,
    token_types: Vec<Box<str>>,
    pub(super) keys: Arc<Keys>,
}

impl Issuers {
    /// Takes a configuration over, or says everything that is wrong with it.
    pub(super) fn build(
        config: &Config,
        generation: u64,
        clock: &Clock,
        metrics: &IdentityMetrics,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let mut list = Vec::new();
        for (index, issuer) in config.issuers.iter().enumerate() {
            match Issuer::build(issuer, clock, metrics) {
                Ok(issuer) => list.push(issuer),
                Err((key, error)) => {
                    let place = format!("identity.issuers[{index}].{key}");
                    config_errors.push(ConfigError::at(place, Chain(&*error).to_string()));
                }
            }
        }
        if config_errors.is_empty() {
            Ok(Self { generation, list })
        } else {
            Err(config_errors)
        }
    }

    /// The entry by which a token is good, all but its signature, and what it claims.
    ///
    /// Of several entries of one issuer the first that has the token's audience judges it, and no other:
    /// nothing is put together from two.
    pub(super) fn judge(
        &self,
        header: &Header,
        claims: &Object<'_>,
        now: Timestamp,
    ) -> Result<(&Issuer, Claims), Unverified> {
        let name = claims::issuer(claims)?;
        let mut entries = self.list.iter().filter(|issuer| *issuer.name == *name);
        let first = entries.clone().next().ok_or(Unverified::UnknownIssuer)?;
        let meant = entries.find(|issuer| claims::names_one_of_us(claims, &issuer.config));
        let issuer = meant.unwrap_or(first);
        Ok((issuer, issuer.judge(header, claims, now)?))
    }
}

impl Issuers {
    /// Whose keys `issuer`, one of the successors of these, goes on with: the entry of its name which asks
    /// the same place, or has one of its audiences, or is the only one, as it is.
    pub(super) fn predecessor(&self, issuer: &Issuer, successors: &Self) -> Option<&Issuer> {
        let namesakes = |issuers: &'_ Self| -> usize {
            let of_name = issuers
                .list
                .iter()
                .filter(|other| other.name == issuer.name);
            of_name.count()
        };
        let is_only_one = namesakes(self) == 1 && namesakes(successors) == 1;
        let mut list = self.list.iter().filter(|other| other.name == issuer.name);
        let (place, config) = (issuer.config.place(), &issuer.config);
        let by_place = list.clone().find(|other| other.config.place() == place);
        let by_audience = || {
            list.clone()
                .find(|other| other.config.shares_audience(config))
        };
        by_place
            .or_else(by_audience)
            .or_else(|| list.next().filter(|_| is_only_one))
    }
}

/// The key of the configuration that a failure belongs to, and the failure.
pub(super) type BuildError = (&'static str, Box<dyn std::error::Error>);

impl Issuer {
    fn build(
        config: &IssuerConfig,
        clock: &Clock,
        metrics: &IdentityMetrics,
    ) -> Result<Self, BuildError> {
        let name: Arc<str> = Arc::from(config.issuer.as_str());
        let (key, source) = config.source(clock)?;
        let keys = Keys::new(Arc::clone(&name), source, config.place());
        keys.read_file(clock, metrics)
            .map_err(|error| (key, Box::from(error)))?;
        if let Some(path) = &config.bearer_file {
            // Read again for each fetch; but what cannot be read at all is no setting.
            Secret::read(path).map_err(|error| ("bearer_file", Box::from(error)))?;
        }
        if let Some(secret) = &config.hmac_secret {
            let secret = std::slice::from_ref(secret);
            keys.share(secret, config.shortest_secret(), clock)
                .map_err(|error| ("hmac_secret", Box::from(error)))?;
        }
        let types = config.token_types.iter();
        Ok(Self {
            name,
            config: config.clone(),
            token_types: types.map(|name| plain_type(name)).collect(),
            keys: Arc::new(keys),
        })
    }

    /// Goes on with the keys of `old`, which has the same name, until this one has its own.
    pub(super) fn inherit(&self, old: &Self, now: Moment) {
        let asked_alike =
            self.config.place() == old.config.place() && self.config.way() == old.config.way();
        self.keys.inherit(&old.keys, asked_alike, now);
    }

    /// Everything but the signature.
    fn judge(
        &self,
        header: &Header,
        claims: &Object<'_>,
        now: Timestamp,
    ) -> Result<Claims, Unverified> {
        if !self.config.algorithms.contains(&header.algorithm) {
            return Err(Unverified::Algorithm);
        }
        if !self.token_types.contains(&header.token_type) {
            return Err(Unverified::TokenType);
        }
        Claims::read(claims, &self.config, now)
    }

    /// Who a token makes the caller, once its signature holds, which the key `key_id` has made.
    pub(super) fn caller(&self, claims: Claims, key_id: Option<Box<str>>) -> Caller {
        Caller {
            expires_at: claims.expires_at,
            subject: claims.subject,
            issuer: Arc::clone(&self.name),
            client_id: claims.client_id,
            token_id: claims.token_id,
            key_id,
            scopes: claims.scopes,
        }
    }
}

impl IssuerConfig {
    /// Where the keys come from, and which key of the configuration says so.
    pub(super) fn source(&self, clock: &Clock) -> Result<(&'static str, Source), BuildError> {
        if let Some(path) = &self.jwks_file {
            return Ok(("jwks_file", Source::File(path.clone())));
        }
        let paths: Vec<PathBuf> = self.secret_files().cloned().collect();
        if !paths.is_empty() {
            let key = match &self.hmac_secret_file {
                Some(_) => "hmac_secret_file",
                None => "hmac_secret_files",
            };
            let shortest = self.shortest_secret();
            return Ok((key, Source::SecretFiles { paths, shortest }));
        }
        if let Some(url) = &self.jwks_url {
            let url = trusted_url(url).map_err(|message| ("jwks_url", message.into()))?;
            let publisher = Publisher::of_keys(url, self, clock).map_err(of_client)?;
            return Ok(("jwks_url", Source::Published(Box::new(publisher))));
        }
        if let Some(url) = &self.discovery_url {
            let url = trusted_url(url).map_err(|message| ("discovery_url", message.into()))?;
            let publisher = Publisher::by_discovery(url, self, clock).map_err(of_client)?;
            return Ok(("discovery_url", Source::Published(Box::new(publisher))));
        }
        Ok(("hmac_secret", Source::Fixed))
    }

    /// RFC 7518, section 3.2: "A key of the same size as the hash output [...] or larger MUST be used".
    fn shortest_secret(&self) -> usize {
        [
            (Algorithm::HS512, 64),
            (Algorithm::HS384, 48),
            (Algorithm::HS256, 32),
        ]
        .into_iter()
        .find(|(algorithm, _)| self.algorithms.contains(algorithm))
        .map_or(0, |(_, bytes)| bytes)
    }

    /// How it is asked there.
    fn way(&self) -> [Option<&OsStr>; 4] {
        let files = [
            &self.ca_certificate,
            &self.bearer_file,
            &self.proxy_password_file,
        ];
        let [roots, bearer, password] = files.map(|file| file.as_deref().map(Path::as_os_str));
        [
            roots,
            bearer,
            password,
            self.proxy.as_deref().map(OsStr::new),
        ]
    }

    /// Which place that is.
    fn place(&self) -> Place {
        if let Some(path) = &self.jwks_file {
            Place::File(path.clone())
        } else if let Some(url) = &self.jwks_url {
            Place::Url(url.clone())
        } else if let Some(url) = &self.discovery_url {
            Place::Discovery(url.clone())
        } else {
            Place::Secret
        }
    }
}

fn of_client(error: ClientError) -> BuildError {
    let key = match error {
        ClientError::Roots(NoTls::Own(_)) => "ca_certificate",
        ClientError::Proxy(ProxyError::Password(_)) => "proxy_password_file",
        ClientError::Proxy(ProxyError::Url(_)) => "proxy",
        ClientError::Roots(NoTls::Rootless | NoTls::Unspeakable(_)) | ClientError::Tls(_) => {
            "jwks_url"
        }
    };
    (key, Box::from(error))
}
