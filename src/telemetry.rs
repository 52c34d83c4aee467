//! Logs, metrics and traces: their names live here.

use std::io::{self, IsTerminal};

use http::Uri;
use serde::{Deserialize, Serialize};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::settings::{self, ConfigError, Ranges};

mod log_queue;
pub mod metrics;
mod panics;
mod rate_limited_log;
pub(crate) mod traces;

pub(crate) use log_queue::LogQueue;
pub use metrics::{Metrics, Scrape};
pub(crate) use rate_limited_log::{RateLimitedLog, Tally};
pub(crate) use traces::Traces;

/// Settings of logs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) otlp_endpoint: Option<String>,
    #[serde(deserialize_with = "settings::whole")]
    pub(crate) otlp_sample_percent: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Json,
    Text,
}

/// Changes what is logged while the process runs.
#[derive(Clone, Debug)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// The logs could not be set up.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum LogError {
    #[error("logging is set up twice")]
    AlreadySet,
    #[error("not a log filter")]
    Filter,
    #[error("traces cannot be sent to `telemetry.otlp_endpoint`")]
    Traces(#[from] opentelemetry_otlp::ExporterBuildError),
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Json,
            otlp_endpoint: None,
            otlp_sample_percent: 10,
        }
    }
}

impl Config {
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        if let Err(error) = EnvFilter::builder().parse(&self.log) {
            // What the library says of it shows what was found.
            drop(error);
            let message = "is no filter; write a level, such as \"info\", or \"info,atlas_cert_gateway::upstream=debug\"";
            config_errors.push(ConfigError::at("telemetry.log", message));
        }
        let endpoint = self.otlp_endpoint.as_deref();
        if let Some(message) = endpoint.and_then(impossible_endpoint) {
            config_errors.push(ConfigError::at("telemetry.otlp_endpoint", message));
        }
        let mut ranges = Ranges::of("telemetry", &mut config_errors);
        ranges.check("otlp_sample_percent", self.otlp_sample_percent, 0..=100, 10);
        config_errors
    }
}

fn impossible_endpoint(url: &str) -> Option<&'static str> {
    let parsed: Result<Uri, _> = url.parse();
    let authority = parsed.as_ref().ok().and_then(Uri::authority);
    match (&parsed, authority) {
        (_, Some(authority)) if authority.as_str().contains('@') => Some(
            "names a user; a collector that wants one is reached through an agent on this host",
        ),
        (Ok(uri), Some(_)) if uri.scheme_str() == Some("http") => None,
        (Ok(uri), Some(_)) if uri.scheme_str() == Some("https") => Some(
            "is https, which is not spoken here; send to a collector on this host or in this network, such as \
             \"http://127.0.0.1:4317\"",
        ),
        _ => Some("is no URL; write it like \"http://127.0.0.1:4317\""),
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

#[derive(Debug)]
pub(crate) struct Telemetry {
    pub(crate) level: LogLevel,
    pub(crate) traces: Option<Traces>,
}

/// Starts logging to `queue`, and sending traces of this `replica` where that is configured. To be called
/// inside a tokio runtime.
pub(crate) fn start(
    config: &Config,
    replica: &str,
    queue: LogQueue,
) -> Result<Telemetry, LogError> {
    let (filter, level) = filter(&config.log)?;
    // What goes wrong with a line would be printed by the thread that logs it, which may not wait.
    let lines = fmt::layer().with_writer(queue).log_internal_errors(false);
    let lines = match config.log_format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_current_span(true)
            .boxed(),
        // Colours are for people, not for files.
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
    };
    let endpoint = config.otlp_endpoint.as_deref();
    let traces = endpoint
        .map(|endpoint| Traces::to(endpoint, config.otlp_sample_percent, replica))
        .transpose()?;
    // Spans for traces are finer than what is logged, and each has its own filter.
    // Lines of the log are none of them, and may name a project.
    let ours = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), Level::DEBUG)
        .and(filter_fn(is_span));
    let spans = traces
        .as_ref()
        .map(|traces| traces.layer().with_filter(ours));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans)
        .try_init()
        .map_err(|_| LogError::AlreadySet)?;
    panics::log();
    Ok(Telemetry { level, traces })
}

fn is_span(data: &Metadata<'_>) -> bool {
    data.is_span()
}

impl LogLevel {
    pub(crate) fn change(&self, config: &Config) -> Result<(), LogError> {
        self.0
            .reload(configured(&config.log)?)
            .map_err(|_| LogError::Filter)
    }
}

/// What is logged: the configured filter, and above it the rule that libraries which see credentials keep
/// quiet.
///
/// At their finest levels hyper, h2 and reqwest print headers and frames, and so tokens. The rule is a
/// filter of its own, because a directive such as `h2::codec=trace` or `[request]=trace` overrules a broader
/// one.
pub fn filter(
    log: &str,
) -> Result<(impl Filter<Registry> + Send + Sync + 'static, LogLevel), LogError> {
    let (configured, handle) = reload::Layer::new(configured(log)?);
    // At `WARN` h2 writes a line for each frame against the rules, which a client can send without end.
    let quiet = LIBRARIES_THAT_SEE_CREDENTIALS.map(|library| (library, Level::ERROR));
    let rule = Targets::new()
        .with_default(Level::TRACE)
        .with_targets(quiet);
    Ok((configured.and(rule), LogLevel(handle)))
}

fn configured(log: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(log)
        .map_err(|_| LogError::Filter)
}

const LIBRARIES_THAT_SEE_CREDENTIALS: [&str; 6] =
    ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tower"];
