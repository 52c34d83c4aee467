//! Logs, metrics and traces: their names live here.

use std::io;

use serde::Deserialize;
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::Mistake;

pub mod metrics;

pub use metrics::Metrics;
pub use metrics::Scrape;

/// Settings of logs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is logged, as a `tracing` filter: `info`, or `info,atlas_cert_gateway=debug`.
    pub log: String,
    /// How a line looks.
    pub log_format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Changes what is logged while the process runs.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// The logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A subscriber is there already.
    #[error("logging is set up twice")]
    AlreadySet,
    /// The filter cannot be read.
    #[error("not a log filter")]
    Filter,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Json,
        }
    }
}

impl Config {
    /// What cannot be meant.
    pub fn mistakes(&self) -> Vec<Mistake> {
        match EnvFilter::builder().parse(&self.log) {
            Ok(_) => Vec::new(),
            Err(error) => vec![Mistake::at(
                "telemetry.log",
                format!("is no filter: {error}"),
            )],
        }
    }
}

/// An error with everything that caused it, in one line: for the one place that logs it.
#[derive(Debug)]
pub struct Chain<'e>(pub &'e dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Starts logging to standard error.
pub fn start(config: &Config) -> Result<LogLevel, LogError> {
    let filter = filter(&config.log)?;
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match config.log_format {
        LogFormat::Json => registry
            .with(
                lines
                    .json()
                    .flatten_event(true)
                    .with_span_list(false)
                    .with_current_span(true),
            )
            .try_init(),
        LogFormat::Text => registry.with(lines).try_init(),
    }
    .map_err(|_| LogError::AlreadySet)?;
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Logs by the new settings from now on.
    pub fn change(&self, config: &Config) -> Result<(), LogError> {
        self.0
            .reload(filter(&config.log)?)
            .map_err(|_| LogError::Filter)
    }
}

/// The configured filter, and above it the rule that libraries which see credentials keep quiet.
///
/// At their finest levels hyper, h2 and reqwest print headers and frames, and so tokens.
pub fn filter(log: &str) -> Result<EnvFilter, LogError> {
    let mut filter = EnvFilter::builder()
        .parse(log)
        .map_err(|_| LogError::Filter)?;
    for library in LIBRARIES_THAT_SEE_CREDENTIALS {
        let directive = format!("{library}=warn")
            .parse()
            .map_err(|_| LogError::Filter)?;
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}

const LIBRARIES_THAT_SEE_CREDENTIALS: [&str; 6] =
    ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tower"];
