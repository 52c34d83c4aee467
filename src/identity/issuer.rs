//! Whose tokens are believed, ready to be asked: settings go in, [`Issuers`] with their keys come out.

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use super::Caller;
use super::Unverified;
use super::config::Config;
use super::config::IssuerConfig;
use super::config::trusted_url;
use super::fetch::Publisher;
use super::keys::Keys;
use super::keys::Place;
use super::keys::Source;
use super::token::UncheckedToken;
use super::token::plain_type;
use crate::atlas::Timestamp;
use crate::clock::Clock;
use crate::clock::Moment;
use crate::http_client::BuildError as ClientError;
use crate::roots::NoTls;
use crate::settings::Mistake;
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
    ) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let mut list = Vec::new();
        for (index, issuer) in config.issuers.iter().enumerate() {
            match Issuer::build(issuer, clock, metrics) {
                Ok(issuer) => list.push(issuer),
                Err((key, error)) => {
                    let place = format!("identity.issuers[{index}].{key}");
                    mistakes.push(Mistake::at(place, Chain(&*error).to_string()));
                }
            }
        }
        if mistakes.is_empty() {
            Ok(Self { generation, list })
        } else {
            Err(mistakes)
        }
    }

    /// The issuer that calls itself `name`.
    pub(super) fn of(&self, name: &str) -> Option<&Issuer> {
        self.list.iter().find(|issuer| *issuer.name == *name)
    }
}

/// The key of the configuration that a failure belongs to, and the failure.
type BuildError = (&'static str, Box<dyn std::error::Error>);

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
        if let Some(secret) = &config.hmac_secret {
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
        let asked_alike = self.config.place() == old.config.place()
            && self.config.ca_certificate == old.config.ca_certificate;
        self.keys.inherit(&old.keys, asked_alike, now);
    }

    /// Everything but the signature.
    pub(super) fn judge(
        &self,
        token: &UncheckedToken<'_>,
        now: Timestamp,
    ) -> Result<(), Unverified> {
        if !self
            .config
            .algorithms
            .contains(&token.envelope.header.algorithm)
        {
            return Err(Unverified::Algorithm);
        }
        if !self.token_types.contains(&token.envelope.header.token_type) {
            return Err(Unverified::TokenType);
        }
        token.claims.judge(&self.config, now)
    }

    /// Who a token makes the caller, once its signature holds, which the key `key_id` has made.
    pub(super) fn caller(&self, token: UncheckedToken<'_>, key_id: Option<Box<str>>) -> Caller {
        let claims = token.claims;
        Caller {
            expires_at: claims.end(self.config.leeway),
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
    fn source(&self, clock: &Clock) -> Result<(&'static str, Source), BuildError> {
        let ca_certificate = self.ca_certificate.as_ref();
        if let Some(path) = &self.jwks_file {
            return Ok(("jwks_file", Source::File(path.clone())));
        }
        if let Some(path) = &self.hmac_secret_file {
            let (path, shortest) = (path.clone(), self.shortest_secret());
            return Ok(("hmac_secret_file", Source::SecretFile { path, shortest }));
        }
        if let Some(url) = &self.jwks_url {
            let url = trusted_url(url).map_err(|message| ("jwks_url", message.into()))?;
            let publisher = Publisher::of_keys(url, ca_certificate, clock).map_err(of_client)?;
            return Ok(("jwks_url", Source::Published(Box::new(publisher))));
        }
        if let Some(url) = &self.discovery_url {
            let url = trusted_url(url).map_err(|message| ("discovery_url", message.into()))?;
            let publisher =
                Publisher::by_discovery(url, self.issuer.clone(), ca_certificate, clock)
                    .map_err(of_client)?;
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
        ClientError::Proxy
        | ClientError::Roots(NoTls::Rootless | NoTls::Unspeakable(_))
        | ClientError::Tls(_) => "jwks_url",
    };
    (key, Box::from(error))
}
