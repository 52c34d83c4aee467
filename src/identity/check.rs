//! `check`: an issuer's keys as they are now, what of them can be used and why the rest is left out.

use super::config::{Config, IssuerConfig};
use super::jwk::{VerificationKey, read_set};
use super::key_source::{KeyMaterial, read_key_set};
use crate::settings::ConfigError;
use crate::system::Clock;
use crate::telemetry::Chain;

#[derive(Debug)]
pub(crate) struct IssuerCheck {
    pub(crate) issuer: String,
    /// The keys that can be used, and for which of the issuer's `algorithms`; none of a shared secret.
    pub(crate) keys: Vec<String>,
    pub(crate) left_out: Vec<String>,
    /// Why its tokens cannot be verified, and what to do; `None` if they can.
    pub(crate) problem: Option<String>,
}

pub(crate) async fn check_online(config: &Config, clock: &Clock) -> Vec<IssuerCheck> {
    let mut checks = Vec::new();
    for (index, issuer) in config.issuers.iter().enumerate() {
        let mut check = issuer.check(clock).await;
        let namesakes = config
            .issuers
            .iter()
            .filter(|other| other.issuer == issuer.issuer);
        if namesakes.count() > 1 {
            check.issuer = format!("{} (identity.issuers[{index}])", issuer.issuer);
        }
        checks.push(check);
    }
    checks
}

/// The keys in files that are not used. Waits for the disk.
pub(crate) fn left_out_of_files(config: &Config) -> Vec<ConfigError> {
    let mut warnings = Vec::new();
    for (index, issuer) in config.issuers.iter().enumerate() {
        let Some(path) = &issuer.jwks_file else {
            continue;
        };
        // What cannot be read at all is a mistake, and said as one.
        let Ok(json) = read_key_set(path) else {
            continue;
        };
        let Ok(selection) = read_set(&json) else {
            continue;
        };
        warnings.extend(selection.left_out.iter().map(|key| {
            let place = format!("identity.issuers[{index}].jwks_file");
            ConfigError::at(place, format!("a key in it is left out: {key}"))
        }));
    }
    warnings
}

impl IssuerConfig {
    async fn check(&self, clock: &Clock) -> IssuerCheck {
        let mut check = IssuerCheck {
            issuer: self.issuer.clone(),
            keys: Vec::new(),
            left_out: Vec::new(),
            problem: None,
        };
        let source = match self.source(clock) {
            Ok((_, source)) => source,
            Err((key, error)) => {
                check.problem = Some(format!("{key}: {}", Chain(&*error)));
                return check;
            }
        };
        let selection = source.read().await.and_then(|material| match material {
            KeyMaterial::Jwks(json) => Ok(Some(read_set(&json)?)),
            KeyMaterial::Secrets(_) => Ok(None),
        });
        match selection {
            Ok(None) => {}
            Ok(Some(selection)) => {
                check.keys = selection.keys.iter().map(|key| self.told(key)).collect();
                check.left_out = selection.left_out.iter().map(ToString::to_string).collect();
                if selection.keys.iter().all(|key| self.usable(key).is_empty()) {
                    let none =
                        "none of its keys fits its `algorithms`; write those that it signs with";
                    check.problem = Some(none.to_owned());
                }
            }
            Err(error) => {
                let place = self.urls().into_iter().find_map(|(_, url)| url);
                let place = place.map_or(String::new(), |url| format!(" ({url})"));
                check.problem = Some(format!("{}{place}", Chain(&error)));
            }
        }
        check
    }

    fn usable(&self, key: &VerificationKey) -> Vec<String> {
        let algorithms = self.algorithms.iter().filter(|it| key.fits(**it));
        algorithms
            .map(|algorithm| format!("{algorithm:?}"))
            .collect()
    }

    fn told(&self, key: &VerificationKey) -> String {
        let name = key.id().map(|id| format!("kid {id:?}"));
        let name = name.unwrap_or_else(|| "without kid".to_owned());
        format!("{name} ({})", self.usable(key).join(", "))
    }
}
