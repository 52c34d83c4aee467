//! The configuration: a TOML file with the environment over it, read and checked as a whole.
//!
//! Each part owns the shape and the rules of its section; here they are only gathered. A value that
//! cannot be read is reported, removed, and the rest is read again, so that one run shows all mistakes,
//! each with its place.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Value;

mod include;
mod message;
mod environment;
mod place;
mod restart;
mod source;

use environment::Overlay;
use place::RemovedItems;
pub(crate) use restart::needs_restart;
pub use source::ConfigSource;

use crate::audit;
use crate::cache;
use crate::fleet;
use crate::identity;
use crate::insight;
use crate::memory;
use crate::policy;
use crate::server;
use crate::settings::ConfigError;
use crate::system::{WatchedFiles, hex};
use crate::telemetry;
use crate::upstream;

/// Every setting of the gateway.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "config/gateway.toml says what each setting is")]
pub struct Config {
    pub server: server::Config,
    pub admin: server::admin::Config,
    pub atlas: upstream::Config,
    pub identity: identity::Config,
    pub access: policy::Config,
    pub cache: cache::Config,
    pub audit: audit::Config,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<fleet::Config>,
    pub insight: insight::Config,
    pub memory: memory::Config,
    pub telemetry: telemetry::Config,
}

/// Why there is no configuration.
#[derive(Debug)]
pub struct RefusedConfig {
    file: String,
    pub(crate) config_errors: Vec<ConfigError>,
}

impl Config {
    /// Reads a text, lays `environment` over it and checks the whole.
    ///
    /// `environment` is every variable of the process; those without our prefix are ignored.
    ///
    /// Files that it includes are looked for from the working directory.
    pub fn parse(
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut watched = WatchedFiles::default();
        Self::parse_in(Path::new(""), text, environment, &mut watched)
    }

    /// The same for a file that lies in `directory`. `watched` becomes what was looked for besides, as it was
    /// before it was read.
    fn parse_in(
        directory: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        watched: &mut WatchedFiles,
    ) -> Result<Self, Vec<ConfigError>> {
        match Self::parse_parts(directory, text, environment, watched) {
            (Some(config), config_errors) if config_errors.is_empty() => Ok(config),
            (_, config_errors) => Err(config_errors),
        }
    }

    /// `[audit]` alone, whatever is wrong elsewhere: for those who read the trail, and run no gateway.
    fn parse_audit_in(
        directory: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<audit::Config, Vec<ConfigError>> {
        let mut watched = WatchedFiles::default();
        let (config, mut config_errors) =
            Self::parse_parts(directory, text, environment, &mut watched);
        if config.is_some() {
            config_errors.retain(|it| it.place.contains("audit."));
        }
        match config {
            Some(config) if config_errors.is_empty() => Ok(config.audit),
            Some(_) | None => Err(config_errors),
        }
    }

    /// What can be read, and everything that is wrong.
    fn parse_parts(
        directory: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
        watched: &mut WatchedFiles,
    ) -> (Option<Self>, Vec<ConfigError>) {
        let mut root = match text.parse() {
            Ok(table) => Value::Table(table),
            Err(error) => {
                let error: toml::de::Error = error;
                let message = place::of_syntax(text, &error);
                return (None, vec![ConfigError::at("the file", message)]);
            }
        };
        let mut config_errors = environment::secrets_in_text(&root);
        let mut overlay = environment::apply_environment(&mut root, environment, &known_places());
        let mut removed = RemovedItems::default();
        let mut config: Option<Self> =
            read_all(root, &mut overlay, &mut removed, &mut config_errors);
        if let Some(config) = &mut config {
            let included = include::read(directory, &mut config.access, watched);
            let in_the_file = |config_error: ConfigError| ConfigError {
                place: removed.in_the_file(&config_error.place),
                ..config_error
            };
            let of_parts = config.config_errors().into_iter().map(in_the_file);
            let of_parts = of_parts.map(|config_error| included.with_line(config_error));
            config_errors
                .extend(of_parts.filter(|config_error| !removed.is_from(&config_error.place)));
            config_errors.extend(included.config_errors);
        }
        for config_error in &mut config_errors {
            if let Some(variable) = overlay.variable(&config_error.place) {
                config_error.place = format!("{variable} ({})", config_error.place);
            } else if let Some(line) = place::line_of(text, &config_error.place) {
                let _ = write!(config_error.place, " (line {line})");
            }
        }
        (config, config_errors)
    }

    /// The effective settings as TOML, secrets redacted.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings are texts, numbers, lists and tables")
    }

    fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = self.server.config_errors();
        config_errors.extend(self.admin.config_errors());
        config_errors.extend(self.atlas.config_errors());
        config_errors.extend(self.identity.config_errors());
        config_errors.extend(self.access.config_errors());
        config_errors.extend(self.cache.config_errors());
        config_errors.extend(self.audit.config_errors());
        config_errors.extend(self.fleet.iter().flat_map(fleet::Config::config_errors));
        config_errors.extend(self.insight.config_errors());
        config_errors.extend(self.memory.config_errors());
        config_errors.extend(self.telemetry.config_errors());
        if overlap(self.server.listen, self.admin.listen) {
            config_errors.push(ConfigError::at(
                "admin.listen",
                "is the address of server.listen as well; operators need another port",
            ));
        }
        config_errors
    }

    /// A hash of what the replicas of a fleet should have in common: how long lists live, and Atlas's limits.
    pub(crate) fn fingerprint(&self) -> String {
        let common = (self.cache.common(), &self.atlas.limits);
        let common = serde_json::to_vec(&common).expect("settings are plain data");
        let hash = digest(&SHA256, &common);
        hex(hash.as_ref(), 6)
    }

    /// The files that a reload reads: whether the configuration can be put in place depends on them.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.server.files();
        files.extend(self.atlas.files());
        files.extend(self.identity.files());
        files.extend(self.access.deny_file.clone());
        files
    }

    /// What is allowed but is seldom meant: printed by `check`, logged at start.
    pub fn warnings(&self) -> Vec<ConfigError> {
        let issuers: Vec<&str> = self
            .identity
            .issuers
            .iter()
            .map(|issuer| issuer.issuer.as_str())
            .collect();
        let mut warnings = self.server.warnings();
        warnings.extend(self.atlas.warnings());
        warnings.extend(self.identity.warnings());
        warnings.extend(
            self.access
                .warnings(&issuers, |project| self.atlas.has_credential(project)),
        );
        warnings.extend(self.insight.warnings());
        warnings.extend(self.memory.warnings(self.cache.max_size));
        warnings
    }
}

impl fmt::Display for RefusedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is refused:", self.file)?;
        self.config_errors
            .iter()
            .try_for_each(|config_error| write!(f, "\n  {config_error}"))
    }
}

impl std::error::Error for RefusedConfig {}

/// Reads the values; what cannot be read is taken out and reported, until the rest can be.
fn read_all<T: DeserializeOwned>(
    mut root: Value,
    overlay: &mut Overlay,
    removed: &mut RemovedItems,
    config_errors: &mut Vec<ConfigError>,
) -> Option<T> {
    config_errors.append(&mut overlay.config_errors);
    // Each turn takes one value out, so this ends; the bound is for a file of nothing but mistakes.
    for _ in 0..MOST_ERRORS {
        let error = match serde_path_to_error::deserialize::<_, T>(root.clone()) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let path = error.path().clone();
        if overlay.retype(&mut root, &path) {
            continue;
        }
        let message = error.into_inner().message().to_owned();
        let place = removed.in_the_file(&place::printed(&path, &message));
        config_errors.push(ConfigError::at(place, message::without_value(&message)));
        if !place::remove(&mut root, &path, &message, removed) {
            break;
        }
    }
    None
}

/// Whether two listeners cannot have both addresses. Port 0 is a free one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let ips = (one.ip(), other.ip());
    let is_any = ips.0.is_unspecified() || ips.1.is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && (ips.0 == ips.1 || (is_any && ips.0.is_ipv4() == ips.1.is_ipv4()))
}

fn known_places() -> Vec<String> {
    fn add(table: &toml::Table, under: &str, places: &mut Vec<String>) {
        for (key, value) in table {
            let place = format!("{under}{key}");
            match value {
                Value::Table(inner) => add(inner, &format!("{place}."), places),
                Value::Array(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Float(_)
                | Value::Integer(_)
                | Value::String(_) => places.push(place),
            }
        }
    }
    let mut places = Vec::new();
    let defaults = toml::Table::try_from(Config::default());
    let defaults = defaults.expect("settings are texts, numbers, lists and tables");
    add(&defaults, "", &mut places);
    places
}

const MOST_ERRORS: usize = 200;
