//! The commands, one file each; all of them end with an [`ExitStatus`].

use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};

use crate::config::ConfigSource;
use crate::system::REVISION;

pub mod audit;
pub(crate) mod check;
pub(crate) mod fleet;
pub(crate) mod health;
mod client;
mod expirations;
mod lookup;
mod packaged;
mod private_memory;
pub(crate) mod serve;
mod table;

/// One authenticated, cached, audited endpoint for the X.509 certificates of MongoDB Atlas database
/// users.
#[derive(Debug, Parser)]
#[command(name = "atlas-cert-gateway", version = VERSION.as_str(), after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// With the revision.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} ({REVISION})", env!("CARGO_PKG_VERSION")));

/// Which configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct ConfigArguments {
    /// The configuration, in TOML; environment variables `ATLAS_CERT_GATEWAY__SECTION__KEY` override
    /// its keys. Without it, what `ATLAS_CERT_GATEWAY_CONFIG` names, or else
    /// `/etc/atlas-cert-gateway/gateway.toml`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// As it should.
    Well,
    /// It could not do what it was asked for.
    Failed,
    /// Its arguments mean nothing.
    Misused,
    /// Something ends soon.
    Ending,
    /// The configuration is refused.
    Misconfigured,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    Serve(serve::ServeArguments),
    /// Checks a configuration and prints the effective settings, secrets redacted.
    Check(check::CheckArguments),
    /// Reads the audit trail.
    Audit(audit::AuditArguments),
    /// Says what replicas that share a Valkey or Redis need there.
    Fleet(fleet::FleetArguments),
    /// Asks a running gateway for a database user's certificates.
    Lookup(lookup::LookupArguments),
    /// Asks a running gateway which certificates of a project end soon. Ends with 3 if any does.
    Expirations(expirations::ExpirationsArguments),
    /// Asks a running gateway whether it is well.
    Health(health::HealthArguments),
    /// Prints what a shell needs to complete this program's arguments.
    Completions(packaged::CompletionsArguments),
    /// Writes the manual's pages, of each command and of gateway.toml, into a directory.
    Man(packaged::ManArguments),
}

/// Runs a command to its end.
pub fn run(arguments: Arguments) -> ExitStatus {
    // Of every command: `check` and `audit verify` read secrets, too.
    if let Err(error) = private_memory::seal() {
        complain(&format_args!(
            "warning: a crash may write secrets into a core dump: {error}"
        ));
    }
    match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Audit(arguments) => audit::run(arguments),
        Command::Fleet(arguments) => fleet::run(&arguments),
        Command::Lookup(arguments) => lookup::run(&arguments),
        Command::Expirations(arguments) => expirations::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Completions(arguments) => packaged::complete(&arguments),
        Command::Man(arguments) => packaged::write_manual(&arguments),
    }
}

impl ConfigArguments {
    fn source(&self) -> ConfigSource {
        let path = self.config.clone();
        let path = path.or_else(|| Some(env::var_os(CONFIG_VARIABLE)?.into()));
        ConfigSource::new(path.unwrap_or_else(|| PathBuf::from(USUAL_CONFIG)))
    }
}

/// Writes to standard error, where people look for what went wrong. A closed one is no failure.
fn complain(message: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

fn say(message: &dyn std::fmt::Display) -> bool {
    writeln!(std::io::stdout(), "{message}").is_ok()
}

const EXIT_CODES: &str = "Exit codes: 0 it went well, 1 it failed, 2 the arguments mean nothing, 3 something expires (expirations), 78 the configuration is refused.";
const CONFIG_VARIABLE: &str = "ATLAS_CERT_GATEWAY_CONFIG";
const USUAL_CONFIG: &str = "/etc/atlas-cert-gateway/gateway.toml";
