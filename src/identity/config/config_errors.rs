//! Errors and warnings of `[identity]`, each with its place.

use std::time::Duration;

use jsonwebtoken::AlgorithmFamily;

use super::{
    Config, IssuerConfig, RequiredValue, default_leeway, default_max_lifetime, trusted_url,
};
use crate::settings::{ConfigError, Ranges, Size};

impl Config {
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
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
                "no caller is accepted without an issuer of tokens; add [[identity.issuers]]",
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

    pub(crate) fn warnings(&self) -> Vec<ConfigError> {
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
                    "ID tokens pass as well, and anyone who gets hold of one can call as that person, so its \
                     audience must be this gateway's alone",
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
        let wrong = [
            self.of_tokens(),
            self.of_algorithms(),
            self.of_source(),
            self.of_fetch(),
            self.of_claims(),
        ];
        let wrong = wrong.into_iter().flatten();
        config_errors
            .extend(wrong.map(|(key, message)| ConfigError::at(format!("{place}.{key}"), message)));
        let mut ranges = Ranges::of(place, config_errors);
        // Beyond that, set the clocks instead.
        let leeway = Duration::ZERO..=LONGEST_LEEWAY;
        ranges.check("leeway", self.leeway, leeway, default_leeway());
        let max_lifetime = Duration::from_secs(1)..=LONGEST_LIFETIME;
        let example = default_max_lifetime();
        ranges.check("max_lifetime", self.max_lifetime, max_lifetime, example);
    }

    fn of_tokens(&self) -> Vec<WrongKey> {
        only([
            (
                self.issuer.is_empty(),
                "issuer",
                "the issuer is empty; write its tokens' `iss`",
            ),
            (
                self.audiences.is_empty(),
                "audiences",
                "without an audience every token of the issuer would pass; write this gateway's name",
            ),
            (
                self.audiences.iter().any(String::is_empty),
                "audiences",
                "an audience is empty",
            ),
            (
                self.token_types.is_empty(),
                "token_types",
                "no type of token is allowed; leave the key out for the default",
            ),
        ])
    }

    fn of_algorithms(&self) -> Vec<WrongKey> {
        let has_secret = self.hmac_secret.is_some() || self.secret_files().next().is_some();
        let mut algorithms = self.algorithms.iter();
        let misfit = algorithms.find(|it| (it.family() == AlgorithmFamily::Hmac) != has_secret);
        only([
            (
                self.algorithms.is_empty(),
                "algorithms",
                "no algorithm is allowed; write those that the issuer signs with, such as [\"RS256\"]",
            ),
            (
                misfit.is_some() && !has_secret,
                "algorithms",
                "HS256, HS384 and HS512 need `hmac_secret_file`; anyone who can read published keys \
                 could sign with them",
            ),
            (
                misfit.is_some() && has_secret,
                "algorithms",
                "a shared secret is for HS256, HS384 and HS512 only; other algorithms need \
                 `jwks_url`, `discovery_url` or `jwks_file`",
            ),
        ])
    }

    fn of_source(&self) -> Vec<WrongKey> {
        let sources = [
            self.jwks_url.is_some(),
            self.discovery_url.is_some(),
            self.jwks_file.is_some(),
            self.hmac_secret_file.is_some(),
            !self.hmac_secret_files.is_empty(),
            self.hmac_secret.is_some(),
        ];
        let sources = sources.into_iter().filter(|is_set| *is_set).count();
        let mut wrong = only([
            (
                sources == 0,
                "jwks_url",
                "nothing says where the keys are; write one of `jwks_url`, `discovery_url`, \
                 `jwks_file` or `hmac_secret_file`",
            ),
            (
                sources > 1,
                "jwks_url",
                "keys from several places; keep one of `jwks_url`, `discovery_url`, `jwks_file`, \
                 `hmac_secret_file` or `hmac_secret_files`",
            ),
            (
                self.hmac_secret_files.len() > MOST_SECRETS,
                "hmac_secret_files",
                "more than two; while a secret is changed there are a new one and an old one",
            ),
        ]);
        for (key, url) in self.urls() {
            let refused = url.and_then(|url| trusted_url(url).err());
            wrong.extend(refused.map(|message| (key, message)));
        }
        wrong
    }

    fn of_fetch(&self) -> Vec<WrongKey> {
        let unused = "only `jwks_url` and `discovery_url` use it";
        let urls = || self.urls().into_iter().filter_map(|(_, url)| url);
        let is_fetched = urls().next().is_some();
        let mut wrong = only([
            (
                self.ca_certificate.is_some() && !is_fetched,
                "ca_certificate",
                unused,
            ),
            (
                self.bearer_file.is_some() && !is_fetched,
                "bearer_file",
                unused,
            ),
            (self.proxy.is_some() && !is_fetched, "proxy", unused),
        ]);
        wrong.extend(self.proxy().config_error());
        if self.proxy.is_some() && urls().any(|url| url.starts_with("http://")) {
            wrong.push((
                "proxy",
                "through a proxy keys are fetched over https:// only: anyone on the way could change \
                 them",
            ));
        }
        wrong
    }

    fn of_claims(&self) -> Vec<WrongKey> {
        let places = &self.claims;
        let clients = places.client_id.iter();
        let clients = clients.map(|place| ("claims.client_id", place));
        let required = self.required_claims.keys();
        let required = required.map(|place| ("required_claims", place));
        let one = [
            ("claims.subject", &places.subject),
            ("claims.audience", &places.audience),
        ];
        let all = one.into_iter().chain(clients).chain(required);
        let of_names = all.filter(|(_, place)| place.is_of_names());
        let of_names = of_names.map(|(key, _)| {
            (
                key,
                "only `claims.scopes` can be the names of members (`.*`)",
            )
        });
        let is_empty = |value: &RequiredValue| matches!(value, RequiredValue::OneOf(values) if values.is_empty());
        let numbers = only([
            (
                places.client_id.len() > MOST_CLAIMS,
                "claims.client_id",
                "more than 16",
            ),
            (
                places.scopes.len() > MOST_CLAIMS,
                "claims.scopes",
                "more than 16",
            ),
            (
                self.required_claims.len() > MOST_CLAIMS,
                "required_claims",
                "more than 16",
            ),
            (
                self.required_claims.values().any(is_empty),
                "required_claims",
                "a list without values is met by no token",
            ),
        ]);
        of_names.chain(numbers).collect()
    }
}

type WrongKey = (&'static str, &'static str);

type KeyCheck = (bool, &'static str, &'static str);

fn only<const N: usize>(rows: [KeyCheck; N]) -> Vec<WrongKey> {
    let wrong = rows.into_iter().filter(|(is_so, _, _)| *is_so);
    wrong.map(|(_, key, message)| (key, message)).collect()
}

const LONGEST_LEEWAY: Duration = Duration::from_mins(5);
/// Ten years: as long as no token of a person or a service lives.
const LONGEST_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
const MOST_SECRETS: usize = 2;
const MOST_CLAIMS: usize = 16;
const LONG_LIFETIME: Duration = Duration::from_hours(24);
