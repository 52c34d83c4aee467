//! Whose tokens are believed: `identity.issuers` goes in, mistakes and warnings with their place come
//! out.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use jsonwebtoken::AlgorithmFamily;
use reqwest::Url;
use serde::Deserialize;
use serde::Serialize;

use crate::secret::Secret;
use crate::settings;
use crate::settings::Mistake;
use crate::settings::Ranges;

/// `[identity]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[[identity.issuers]]`: nobody else's tokens are believed.
    pub issuers: Vec<IssuerConfig>,
}

/// One of `[[identity.issuers]]`.
///
/// Exactly one of `jwks_url`, `discovery_url`, `jwks_file`, `hmac_secret_file` and `hmac_secret` says
/// where its keys are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerConfig {
    /// What `iss` must be, byte for byte.
    pub issuer: String,
    /// What `aud` must name: one of these.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Which algorithms its tokens may be signed with.
    #[serde(default)]
    pub algorithms: Vec<Algorithm>,
    /// Where its keys are published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// Its OpenID Connect document, which says where its keys are published:
    /// `https://idp.example/.well-known/openid-configuration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery_url: Option<String>,
    /// Its keys as a file, read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// The file with the secret that it shares with this gateway, read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_secret_file: Option<PathBuf>,
    /// The same secret from the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_secret: Option<Secret>,
    /// Certificates, in PEM, that are trusted for `jwks_url` and `discovery_url` besides the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    /// Which `typ` a token may have; `""` lets a token without one pass.
    #[serde(default = "default_token_types")]
    pub token_types: Vec<String>,
    /// Whether a token may be meant for others as well. Each of them could use it here.
    #[serde(default)]
    pub several_audiences: bool,
    /// How far its clock may be from ours.
    #[serde(default = "default_leeway", with = "settings::duration")]
    pub leeway: Duration,
    /// How long a token may live.
    #[serde(default = "default_max_lifetime", with = "settings::duration")]
    pub max_lifetime: Duration,
}

impl Config {
    /// The files that a reload reads.
    pub fn files(&self) -> Vec<PathBuf> {
        let named = self.issuers.iter().flat_map(|issuer| {
            [
                &issuer.jwks_file,
                &issuer.hmac_secret_file,
                &issuer.ca_certificate,
            ]
        });
        named.flatten().cloned().collect()
    }

    /// Everything that cannot be meant.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.issuers.is_empty() {
            mistakes.push(Mistake::at(
                "identity.issuers",
                "nobody can call without an issuer of tokens; add [[identity.issuers]]",
            ));
        }
        for (index, issuer) in self.issuers.iter().enumerate() {
            issuer.report(&format!("identity.issuers[{index}]"), &mut mistakes);
            let earlier = self.issuers.iter().take(index);
            if earlier
                .into_iter()
                .any(|other| other.issuer == issuer.issuer)
            {
                mistakes.push(Mistake::at(
                    format!("identity.issuers[{index}].issuer"),
                    "this issuer occurs twice; each has one set of keys and one entry",
                ));
            }
        }
        mistakes
    }

    /// What is allowed and seldom meant.
    pub fn warnings(&self) -> Vec<Mistake> {
        let mut warnings = Vec::new();
        for (index, issuer) in self.issuers.iter().enumerate() {
            let place = format!("identity.issuers[{index}]");
            if issuer.token_types.iter().any(String::is_empty) {
                warnings.push(Mistake::at(
                    format!("{place}.token_types"),
                    "tokens without `typ` pass; other kinds of token of this issuer may pass as well",
                ));
            }
            if issuer.max_lifetime > LONG_LIFETIME {
                warnings.push(Mistake::at(
                    format!("{place}.max_lifetime"),
                    "a stolen token is good for as long as this; a day is long",
                ));
            }
        }
        warnings
    }
}

impl IssuerConfig {
    fn report(&self, place: &str, mistakes: &mut Vec<Mistake>) {
        let mut wrong = |key: &str, message: &str| {
            mistakes.push(Mistake::at(format!("{place}.{key}"), message));
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
        let mut ranges = Ranges::of(place, mistakes);
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
        let shared_secret = self.hmac_secret_file.is_some() || self.hmac_secret.is_some();
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
                 `hmac_secret_file`",
            ),
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
        if self.ca_certificate.is_some() && self.jwks_url.is_none() && self.discovery_url.is_none()
        {
            wrong(
                "ca_certificate",
                "only `jwks_url` and `discovery_url` use it",
            );
        }
    }
}

/// A URL that keys may be fetched from: whoever can change the answer on its way can call as anybody.
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
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || bare
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
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

const LONGEST_LEEWAY: Duration = Duration::from_mins(5);
/// Ten years: as long as no token of a person or a service lives.
const LONGEST_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
const LONG_LIFETIME: Duration = Duration::from_hours(24);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        issuer = "https://idp.test"
        audiences = ["atlas-cert-gateway"]
        algorithms = ["RS256"]
        jwks_url = "https://idp.test/jwks"
    "#;

    fn config(text: &str) -> Config {
        let issuer = toml::from_str(text).unwrap();
        Config {
            issuers: vec![issuer],
        }
    }

    fn places(mistakes: Vec<Mistake>) -> Vec<String> {
        mistakes
            .into_iter()
            .map(|mistake| mistake.place.replace("identity.issuers[0].", ""))
            .collect()
    }

    #[test]
    fn the_usual_issuer_has_the_defaults_of_the_manual() {
        let config = config(GOOD);
        assert!(config.mistakes().is_empty());
        assert!(config.warnings().is_empty());
        let issuer = &config.issuers[0];
        assert_eq!(issuer.token_types, ["at+jwt", "JWT"]);
        assert_eq!(issuer.leeway, Duration::from_secs(30));
        assert_eq!(issuer.max_lifetime, Duration::from_hours(24));
        assert!(!issuer.several_audiences);
    }

    #[test]
    fn what_would_let_anybody_in_is_a_mistake_with_its_place() {
        for (from, to, expected) in [
            ("[\"RS256\"]", "[]", &["algorithms"][..]),
            ("[\"RS256\"]", "[\"RS256\", \"HS256\"]", &["algorithms"]),
            ("[\"atlas-cert-gateway\"]", "[]", &["audiences"]),
            ("[\"atlas-cert-gateway\"]", "[\"\"]", &["audiences"]),
            ("\"https://idp.test\"\n", "\"\"\n", &["issuer"]),
            (
                "https://idp.test/jwks",
                "http://idp.test/jwks",
                &["jwks_url"],
            ),
            (
                "https://idp.test/jwks",
                "https://a:b@idp.test/",
                &["jwks_url"],
            ),
            ("https://idp.test/jwks", "file:///jwks", &["jwks_url"]),
            ("https://idp.test/jwks", "idp.test", &["jwks_url"]),
            (
                "https://idp.test/jwks",
                "http://127.0.0.1.evil.test/",
                &["jwks_url"],
            ),
            ("jwks_url", "discovery_url", &[]),
            ("https://idp.test/jwks", "http://127.0.0.1:8/jwks", &[]),
            ("https://idp.test/jwks", "http://[::1]:8/jwks", &[]),
            ("https://idp.test/jwks", "http://localhost/jwks", &[]),
            (
                "issuer",
                "jwks_file = \"a\"\nhmac_secret_file = \"b\"\nissuer",
                &["algorithms", "jwks_url"],
            ),
            ("jwks_url = \"https://idp.test/jwks\"", "", &["jwks_url"]),
            ("issuer", "leeway = \"6m\"\nissuer", &["leeway"]),
            ("issuer", "max_lifetime = \"0s\"\nissuer", &["max_lifetime"]),
            ("issuer", "token_types = []\nissuer", &["token_types"]),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_eq!(places(config(&text).mistakes()), expected, "{text}");
        }
        assert_eq!(
            places(Config::default().mistakes()),
            ["identity.issuers"],
            "no issuer at all"
        );
        let twice = Config {
            issuers: [config(GOOD).issuers, config(GOOD).issuers].concat(),
        };
        assert_eq!(places(twice.mistakes()), ["identity.issuers[1].issuer"]);
        for unknown in ["algorithms = [\"none\"]", "unknown = 1"] {
            let text = GOOD.replace("algorithms = [\"RS256\"]", unknown);
            assert!(toml::from_str::<IssuerConfig>(&text).is_err(), "{unknown}");
        }
    }

    #[test]
    fn what_weakens_the_door_is_warned_of() {
        let text = format!("{GOOD}\ntoken_types = [\"\"]\nmax_lifetime = \"25h\"");
        assert_eq!(
            places(config(&text).warnings()),
            ["token_types", "max_lifetime"]
        );
    }
}
