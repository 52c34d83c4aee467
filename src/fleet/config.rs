//! The settings under `[fleet]`.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::settings;
use crate::settings::{ConfigError, Ranges};
use crate::system::{Secret, Trust};

/// What is written under `[fleet]`: replicas that share lists, fetches, tokens, budgets and purges.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Fleets of different names never meet.
    pub name: String,
    /// The most replicas that ever run at a time: alone, each takes its part of what all may spend.
    pub replicas: u32,
    /// `rediss://host:port`, `redis://` for a loopback address only, or `unix:///path`.
    pub url: EngineUrl,
    /// The user of the engine; its default user where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The file with the user's password; read anew for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The password, from the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Files with the fleet's secrets, 32 characters or more each: the first seals, all open.
    pub key_files: Vec<PathBuf>,
    /// Roots of our own, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
    /// Whether lists and fetches are shared.
    #[serde(default = "yes")]
    pub lists: bool,
    /// Whether the service accounts' tokens are shared.
    #[serde(default = "yes")]
    pub tokens: bool,
    /// For how long the engine may not say anything before this replica goes on alone.
    #[serde(with = "settings::duration", default = "usual_silence")]
    pub silence: Duration,
}

/// The address of a Valkey or Redis.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct EngineUrl(String);

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EngineAddress {
    Tls { host: String, port: u16 },
    Plain { host: String, port: u16 },
    Socket(PathBuf),
}

impl Config {
    /// What cannot be meant.
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        let mut ranges = Ranges::of("fleet", &mut config_errors);
        if self.name.trim().is_empty() || self.name.len() > LONGEST_NAME {
            ranges.wrong(
                "name",
                "must be a name of 1 to 64 bytes, like \"production\"",
            );
        }
        ranges.check("replicas", self.replicas, 1..=MOST_REPLICAS, 5);
        if let Err(message) = self.url.read() {
            ranges.wrong("url", message);
        }
        if self.password.is_some() && self.password_file.is_some() {
            ranges.wrong(
                "password_file",
                "give `password_file`, or the password in the environment, and not both",
            );
        }
        if self.key_files.is_empty() {
            let message = "must name a file with 32 random characters or more, the same for all replicas; \
                           make one by `openssl rand -hex 32`";
            ranges.wrong("key_files", message);
        }
        let silence = Duration::from_millis(5)..=Duration::from_secs(1);
        ranges.check("silence", self.silence, silence, usual_silence());
        config_errors
    }

    pub(super) fn trust(&self) -> Trust<'_> {
        Trust {
            system: true,
            own: self.ca_certificate.as_deref(),
        }
    }
}

impl EngineUrl {
    /// What it says; the message says what to write instead, and nothing of what was found.
    pub(crate) fn read(&self) -> Result<EngineAddress, &'static str> {
        if let Some(path) = self.0.strip_prefix("unix://") {
            let is_path = path.starts_with('/') && path.len() > 1;
            return is_path
                .then(|| EngineAddress::Socket(path.into()))
                .ok_or(NO_URL);
        }
        let uri: Uri = self.0.parse().map_err(|_| NO_URL)?;
        let authority = uri.authority().ok_or(NO_URL)?;
        if authority.as_str().contains('@') {
            return Err(
                "must hold neither user nor password: write `username` and `password_file`",
            );
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(NO_URL);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => port.parse().map_err(|_| NO_URL)?,
            Some(_) | None => USUAL_PORT,
        };
        if host.is_empty() {
            return Err(NO_URL);
        }
        match uri.scheme_str() {
            Some("rediss" | "valkeys") => Ok(EngineAddress::Tls { host, port }),
            Some("redis" | "valkey") if is_loopback(&host) => {
                Ok(EngineAddress::Plain { host, port })
            }
            Some("redis" | "valkey") => Err(WITHOUT_TLS),
            Some(_) | None => Err(NO_URL),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn yes() -> bool {
    true
}

fn usual_silence() -> Duration {
    Duration::from_millis(20)
}

const LONGEST_NAME: usize = 64;
const MOST_REPLICAS: u32 = 100;
const USUAL_PORT: u16 = 6379;
const NO_URL: &str = "is no address of a Valkey or Redis; write rediss://valkey.internal:6379";
const WITHOUT_TLS: &str =
    "is without TLS, which is only for a loopback address or a socket; write rediss://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_but_for_what_stays_on_this_machine() {
        let tls = |host: &str, port| {
            let host = host.to_owned();
            Ok(EngineAddress::Tls { host, port })
        };
        let plain = |host: &str, port| {
            let host = host.to_owned();
            Ok(EngineAddress::Plain { host, port })
        };
        for (url, expected) in [
            ("rediss://valkey.internal", tls("valkey.internal", 6379)),
            ("rediss://[fd00::1]:7000", tls("fd00::1", 7000)),
            ("redis://127.0.0.1:6380", plain("127.0.0.1", 6380)),
            ("redis://localhost/", plain("localhost", 6379)),
            ("redis://[::1]", plain("::1", 6379)),
            ("redis://valkey.internal", Err(WITHOUT_TLS)),
            (
                "unix:///run/valkey.sock",
                Ok(EngineAddress::Socket("/run/valkey.sock".into())),
            ),
            ("unix://run", Err(NO_URL)),
            ("rediss://valkey:99999", Err(NO_URL)),
            ("rediss://valkey/0", Err(NO_URL)),
            ("https://valkey", Err(NO_URL)),
            ("valkey:6379", Err(NO_URL)),
            ("", Err(NO_URL)),
        ] {
            assert_eq!(EngineUrl(url.to_owned()).read(), expected, "{url}");
        }
        let with_password = EngineUrl("rediss://a:canary@valkey".to_owned());
        assert!(!with_password.read().unwrap_err().contains("canary"));
    }
}
