//! `check`: prints the effective settings, or every error in the configuration.

mod access;
mod advice;
mod finding;
mod fleet;
mod online;

use clap::Args;

use super::{ConfigArguments, ExitStatus, complain, say};
use crate::app::App;
use crate::system::Clock;

/// What `check` is told.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Also tries all that the gateway would ask or open: a token and a page with every credential, the keys of
    /// every issuer, the clock, the fleet, addresses and directories.
    #[arg(long)]
    online: bool,
    /// How `--online` says what it found; `json` without the settings.
    #[arg(long, value_enum, default_value_t, requires = "online")]
    format: online::FindingFormat,
    #[command(flatten)]
    access: access::AccessArguments,
}

pub(crate) fn run(arguments: &CheckArguments) -> ExitStatus {
    let config = match arguments.config.source().read() {
        Ok(config) => config,
        Err(refused) => {
            complain(&refused);
            return ExitStatus::Misconfigured;
        }
    };
    // The files that the settings name are read, too: keys, secrets, certificates.
    let clock = Clock::system();
    let policy = match App::check(&config, &clock) {
        Ok(policy) => policy,
        Err(config_errors) => {
            complain(&"the files that the configuration names are refused:");
            for config_error in config_errors {
                complain(&format_args!("  {config_error}"));
            }
            return ExitStatus::Misconfigured;
        }
    };
    if let Some(status) = arguments.access.answer(&config, &policy) {
        return status;
    }
    for warning in App::warnings(&config, &clock) {
        complain(&format_args!("warning: {warning}"));
    }
    if arguments.format == online::FindingFormat::Text && !say(&config.to_toml()) {
        return ExitStatus::Failed;
    }
    if arguments.online {
        online::run(&config, arguments.format)
    } else {
        ExitStatus::Well
    }
}
