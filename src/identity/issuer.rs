//! The issuers whose tokens are believed, with their keys, as one configuration has them.

use std::sync::Arc;

use super::claims::{Claims, has_audience_of, issuer};
use super::config::{Config, IssuerConfig};
use super::issuer_keys::IssuerKeys;
use super::key_source::SourceError;
use super::token::{JwtHeader, plain_type};
use super::unverified::Unverified;
use crate::atlas::Timestamp;
use crate::settings::ConfigError;
use crate::strict_json::Object;
use crate::system::{Clock, Moment, Secret};
use crate::telemetry::Chain;
use crate::telemetry::metrics::identity::IdentityMetrics;

pub(super) struct Issuers {
    pub(super) generation: u64,
    pub(super) list: Vec<Issuer>,
}

pub(super) struct Issuer {
    pub(super) name: Arc<str>,
    config: IssuerConfig,
    token_types: Vec<Box<str>>,
    pub(super) keys: Arc<IssuerKeys>,
}

impl Issuers {
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
        header: &JwtHeader,
        claims: &Object,
        now: Timestamp,
    ) -> Result<(&Issuer, Claims), Unverified> {
        let name = issuer(claims)?;
        let mut entries = self.list.iter().filter(|issuer| *issuer.name == *name);
        let first = entries.clone().next().ok_or(Unverified::UnknownIssuer)?;
        let meant = entries.find(|issuer| has_audience_of(claims, &issuer.config));
        let issuer = meant.unwrap_or(first);
        if !issuer.config.algorithms.contains(&header.algorithm) {
            return Err(Unverified::Algorithm);
        }
        if !issuer.token_types.contains(&header.token_type) {
            return Err(Unverified::TokenType);
        }
        Ok((issuer, Claims::read(claims, &issuer.config, now)?))
    }

    /// Goes on with the keys of `old`, issuer by issuer: with those of the entry of its name which asks
    /// the same place, or has one of its audiences, or is the only one, as it is.
    pub(super) fn inherit(&self, old: &Self, now: Moment) {
        for issuer in &self.list {
            let of_name = |issuers: &'_ Self| {
                let of_name = issuers
                    .list
                    .iter()
                    .filter(|other| other.name == issuer.name);
                of_name.count()
            };
            let is_only_one = of_name(old) == 1 && of_name(self) == 1;
            let config = &issuer.config;
            let mut entries = old.list.iter().filter(|other| other.name == issuer.name);
            let by_place = entries
                .clone()
                .find(|other| other.config.location() == config.location());
            let by_audience = || {
                let mut entries = entries.clone();
                entries.find(|other| other.config.shares_audience(config))
            };
            let inherited = by_place
                .or_else(by_audience)
                .or_else(|| entries.next().filter(|_| is_only_one));
            if let Some(other) = inherited {
                let asked_alike = config.is_fetched_as(&other.config);
                issuer.keys.inherit(&other.keys, asked_alike, now);
            }
        }
    }
}

impl Issuer {
    fn build(
        config: &IssuerConfig,
        clock: &Clock,
        metrics: &IdentityMetrics,
    ) -> Result<Self, SourceError> {
        let name: Arc<str> = Arc::from(config.issuer.as_str());
        let keys = IssuerKeys::build(Arc::clone(&name), config, clock, metrics)?;
        if let Some(path) = &config.bearer_file {
            // Read again for each fetch; but what cannot be read at all is no setting.
            Secret::read(path).map_err(|error| ("bearer_file", Box::from(error)))?;
        }
        let types = config.token_types.iter();
        Ok(Self {
            name,
            config: config.clone(),
            token_types: types.map(|name| plain_type(name)).collect(),
            keys: Arc::new(keys),
        })
    }
}

impl IssuerConfig {
    fn is_fetched_as(&self, other: &Self) -> bool {
        self.location() == other.location()
            && self.ca_certificate == other.ca_certificate
            && self.bearer_file == other.bearer_file
            && self.proxy_password_file == other.proxy_password_file
            && self.proxy == other.proxy
    }
}
