//! What cannot be meant, and what is seldom meant: settings go in, mistakes with their places come out.
//! Pure.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jsonwebtoken::AlgorithmFamily;

use super::{Config, Demand, IssuerConfig, default_leeway, default_max_lifetime, trusted_url};
use crate::settings::{ConfigError, Ranges, Size};

impl Config {
    /// Everything that cannot be meant.
    pub fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        let allowed = Size::mebibytes(1)..=Size::mebibytes(1 << 20);
        let example = Self::default().token_cache_size;
        Ranges::of("identity", &mut config_errors).check(
            "token_cache_size",
            self.token_cache_size,
            allowed,
            example,
        );
        if self.issuers.is_empty() {
            config_errors.push(ConfigError::at(
                "identity.issuers",
                "nobody can call without an issuer of tokens; add [[identity.issuers]]",
            ));
        }
        for (index, issuer) in self.issuers.iter().enumerate() {
            issuer.report(&format!("identity.issuers[{index}]"), &mut config_errors);
            let mut earlier = self.issuers.iter().take(index);
            if earlier.any(|other| other.issuer == issuer.issuer && other.shares_audience(issuer)) {
                config_errors.push(ConfigError::at(
                    format!("identity.issuers[{index}].audiences"),
                    "another entry of this issuer has one of these audiences, and a token is judged by \
                     one entry alone; several entries of an issuer are for different audiences",
                ));
            }
        }
        config_errors
    }

    /// What is allowed and seldom meant.
    pub fn warnings(&self) -> Vec<ConfigError> {
        let mut warnings = Vec::new();
        for (index, issuer) in self.issuers.iter().enumerate() {
            let place = format!("identity.issuers[{index}]");
            if issuer.token_types.iter().any(String::is_empty) {
                warnings.push(ConfigError::at(
                    format!("{place}.token_types"),
                    "tokens without `typ` pass; other kinds of token of this issuer may pass as well",
                ));
            }
            if issuer.allow_id_token_claims {
                warnings.push(ConfigError::at(
                    format!("{place}.allow_id_token_claims"),
                    "tokens that tell a login who somebody is pass as well; whoever gets hold of one can \
                     call as that person, so its audience must be this gateway's alone",
                ));
            }
            if issuer.max_lifetime > LONG_LIFETIME {
                warnings.push(ConfigError::at(
                    format!("{place}.max_lifetime"),
                    "a stolen token is good for as long as this; a day is long",
                ));
            }
        }
        warnings
    }
}

impl IssuerConfig {
    fn report(&self, place: &str, config_errors: &mut Vec<ConfigError>) {
        let mut wrong = |key: &str, message: &str| {
            config_errors.push(ConfigError::at(format!("{place}.{key}"), message));
        };
        if self.issuer.is_empty() {
            wrong("issuer", "the issuer is empty; write its tokens' `iss`");
        }
        if self.audiences.is_empty() {
            wrong(
                "audiences",
                "without an audience every token of the issuer would pass; write this gateway's name",
            );
        }
        if self.audiences.iter().any(String::is_empty) {
            wrong("audiences", "an audience is empty");
        }
        if self.token_types.is_empty() {
            wrong(
                "token_types",
                "no type of token is allowed; leave the key out for the default",
            );
        }
        self.report_algorithms(&mut wrong);
        self.report_source(&mut wrong);
        self.report_way(&mut wrong);
        self.report_claims(&mut wrong);
        let mut ranges = Ranges::of(place, config_errors);
        // Beyond that, set the clocks instead.
        let leeway = Duration::ZERO..=LONGEST_LEEWAY;
        ranges.check("leeway", self.leeway, leeway, default_leeway());
        let max_lifetime = Duration::from_secs(1)..=LONGEST_LIFETIME;
        let example = default_max_lifetime();
        ranges.check("max_lifetime", self.max_lifetime, max_lifetime, example);
    }

    fn report_algorithms(&self, wrong: &mut impl FnMut(&str, &str)) {
        if self.algorithms.is_empty() {
            wrong(
                "algorithms",
                "no algorithm is allowed; write those that the issuer signs with, such as [\"RS256\"]",
            );
        }
        let shared_secret = self.hmac_secret.is_some() || self.secret_files().next().is_some();
        for algorithm in &self.algorithms {
            let needs_secret = algorithm.family() == AlgorithmFamily::Hmac;
            if needs_secret && !shared_secret {
                wrong(
                    "algorithms",
                    "HS256, HS384 and HS512 need `hmac_secret_file`; whoever can read published keys \
                     could sign with them",
                );
                break;
            }
            if !needs_secret && shared_secret {
                wrong(
                    "algorithms",
                    "a shared secret is for HS256, HS384 and HS512 only; other algorithms need \
                     `jwks_url`, `discovery_url` or `jwks_file`",
                );
                break;
            }
        }
    }

    fn report_source(&self, wrong: &mut impl FnMut(&str, &str)) {
        let sources = [
            self.jwks_url.is_some(),
            self.discovery_url.is_some(),
            self.jwks_file.is_some(),
            self.hmac_secret_file.is_some(),
            !self.hmac_secret_files.is_empty(),
            self.hmac_secret.is_some(),
        ];
        match sources.iter().filter(|present| **present).count() {
            1 => {}
            0 => wrong(
                "jwks_url",
                "nothing says where the keys are; write one of `jwks_url`, `discovery_url`, \
                 `jwks_file` or `hmac_secret_file`",
            ),
            _ => wrong(
                "jwks_url",
                "keys from several places; keep one of `jwks_url`, `discovery_url`, `jwks_file`, \
                 `hmac_secret_file` or `hmac_secret_files`",
            ),
        }
        if self.hmac_secret_files.len() > MOST_SECRETS {
            wrong(
                "hmac_secret_files",
                "more than two; while a secret is changed there are a new one and an old one",
            );
        }
        for (key, url) in [
            ("jwks_url", &self.jwks_url),
            ("discovery_url", &self.discovery_url),
        ] {
            if let Some(url) = url
                && let Err(message) = trusted_url(url)
            {
                wrong(key, message);
            }
        }
    }

    /// How keys are fetched.
    fn report_way(&self, wrong: &mut impl FnMut(&str, &str)) {
        let urls = [&self.jwks_url, &self.discovery_url];
        let is_fetched = urls.iter().any(|url| url.is_some());
        for (key, is_set) in [
            ("ca_certificate", self.ca_certificate.is_some()),
            ("bearer_file", self.bearer_file.is_some()),
            ("proxy", self.proxy.is_some()),
        ] {
            if is_set && !is_fetched {
                wrong(key, "only `jwks_url` and `discovery_url` use it");
            }
        }
        if let Some((key, message)) = self.proxy().config_error() {
            wrong(key, message);
        }
        let is_plain = |url: &&Option<String>| {
            let url = url.as_deref().unwrap_or_default();
            url.starts_with("http://")
        };
        if self.proxy.is_some() && urls.iter().any(is_plain) {
            wrong(
                "proxy",
                "through a proxy keys are fetched over https:// only: whoever is on its way could change \
                 them",
            );
        }
    }

    /// Where claims stand, and what they must be.
    fn report_claims(&self, wrong: &mut impl FnMut(&str, &str)) {
        let places = &self.claims;
        let one = [
            ("claims.subject", &places.subject),
            ("claims.audience", &places.audience),
        ];
        let clients = places
            .client_id
            .iter()
            .map(|place| ("claims.client_id", place));
        let required = self
            .required_claims
            .keys()
            .map(|place| ("required_claims", place));
        for (key, place) in one.into_iter().chain(clients).chain(required) {
            if place.is_of_names() {
                wrong(
                    key,
                    "only `claims.scopes` can be the names of members (`.*`)",
                );
            }
        }
        for (key, count) in [
            ("claims.client_id", places.client_id.len()),
            ("claims.scopes", places.scopes.len()),
            ("required_claims", self.required_claims.len()),
        ] {
            if count > MOST_CLAIMS {
                wrong(key, "more than 16");
            }
        }
        if self.required_claims.values().any(Demand::is_empty) {
            wrong(
                "required_claims",
                "a list without values is met by no token",
            );
        }
    }

    pub(in crate::identity) fn shares_audience(&self, other: &Self) -> bool {
        self.audiences
            .iter()
            .any(|audience| other.audiences.contains(audience))
    }
}

const LONGEST_LEEWAY: Duration = Duration::from_mins(5);
/// Ten years: as long as no token of a person or a service lives.
const LONGEST_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// A new one and an old one.
const MOST_SECRETS: usize = 2;
const MOST_CLAIMS: usize = 16;
const LONG_LIFETIME: Duration = Duration::from_hours(24);
