//! `[audit.database]`: where the central trail is.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::config::{Host, SslMode};

use crate::settings;
use crate::settings::Ranges;
use crate::system::{Secret, Trust};

/// `[audit.database]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://user@host/database`, without a password.
    pub url: DatabaseUrl,
    /// The file with the password; read anew for each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The password, from the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// How often new records are shipped.
    #[serde(with = "settings::duration", default = "usual_interval")]
    pub interval: Duration,
    /// Roots of our own, beside the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certificate: Option<PathBuf>,
}

/// The address of a database, as libpq writes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseConfig {
    pub(in crate::audit) fn check(&self, ranges: &mut Ranges<'_>) {
        if let Err(message) = self.url.read() {
            ranges.wrong("url", message);
        }
        if self.password.is_some() && self.password_file.is_some() {
            ranges.wrong(
                "password_file",
                "give `password_file`, or the password in the environment, and not both",
            );
        }
        let interval = SHORTEST_INTERVAL..=LONGEST_INTERVAL;
        ranges.check("interval", self.interval, interval, usual_interval());
    }

    pub(super) fn trust(&self) -> Trust<'_> {
        Trust {
            system: true,
            own: self.ca_certificate.as_deref(),
        }
    }
}

impl DatabaseUrl {
    /// What the client understands; the message says what to write instead, and nothing of what was found.
    pub(super) fn read(&self) -> Result<tokio_postgres::Config, &'static str> {
        let has_scheme = ["postgres://", "postgresql://"].map(|it| self.0.starts_with(it));
        if !has_scheme.contains(&true) {
            return Err(NO_URL);
        }
        let mut config: tokio_postgres::Config = self.0.parse().map_err(|_| NO_URL)?;
        if config.get_password().is_some() {
            return Err(
                "must not hold a password: write it into a file that `password_file` names",
            );
        }
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(NO_URL);
        }
        // `hostaddr` is where it goes, whatever the name says.
        let is_loopback = config.get_hostaddrs().iter().all(IpAddr::is_loopback);
        let is_local = is_loopback && config.get_hosts().iter().all(is_local);
        match (config.get_ssl_mode(), is_local) {
            (SslMode::Disable, false) => return Err(WITHOUT_TLS),
            (SslMode::Require, _) | (_, false) => config.ssl_mode(SslMode::Require),
            (_, true) => config.ssl_mode(SslMode::Disable),
        };
        Ok(config)
    }

    /// The servers that it names, for people.
    pub(crate) fn servers(&self) -> String {
        let config = self.read().unwrap_or_default();
        let hosts = config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        hosts.collect::<Vec<_>>().join(", ")
    }
}

/// A socket, or an address that never leaves this machine.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            let address = name.parse::<IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

fn usual_interval() -> Duration {
    Duration::from_secs(1)
}

const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_mins(5);
const NO_URL: &str = "is no address of a database; write postgres://user@db.internal/audit";
const WITHOUT_TLS: &str =
    "switches TLS off, which is only for a socket or a loopback address; leave `sslmode` out";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_but_for_what_stays_on_this_machine() {
        for (url, expected) in [
            ("postgres://a@db.internal/audit", Ok(SslMode::Require)),
            (
                "postgresql://a@one,two/audit?sslmode=prefer",
                Ok(SslMode::Require),
            ),
            ("postgres://a@localhost,db/audit", Ok(SslMode::Require)),
            ("postgres://a@127.0.0.1:5433/audit", Ok(SslMode::Disable)),
            (
                "postgres://a@localhost/audit?hostaddr=192.0.2.7",
                Ok(SslMode::Require),
            ),
            (
                "postgres://a@%2Frun%2Fpostgresql/audit",
                Ok(SslMode::Disable),
            ),
            (
                "postgres://a@localhost/audit?sslmode=require",
                Ok(SslMode::Require),
            ),
            ("postgres://a@db/audit?sslmode=disable", Err(WITHOUT_TLS)),
            ("host=db dbname=audit", Err(NO_URL)),
            ("postgres://a@db", Err(NO_URL)),
            ("mysql://a@db/audit", Err(NO_URL)),
        ] {
            let read = DatabaseUrl(url.to_owned()).read();
            assert_eq!(read.map(|read| read.get_ssl_mode()), expected, "{url}");
        }
        let with_password = DatabaseUrl("postgres://a:canary@db/audit".to_owned());
        assert!(!with_password.read().unwrap_err().contains("canary"));
    }
}
