//! `check`: a configuration goes in; the effective settings come out, or every mistake in it.

mod advice;

use clap::Args;
use tokio::runtime;

use super::ConfigArguments;
use super::Ending;
use super::complain;
use super::say;
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::identity::IssuerCheck;

/// What `check` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Also mints a token and reads one page with every credential, and fetches the keys of every issuer.
    #[arg(long)]
    online: bool,
}

/// Checks.
pub fn run(arguments: &Arguments) -> Ending {
    let config = match arguments.config.source().read() {
        Ok(config) => config,
        Err(refused) => {
            complain(&refused);
            return Ending::Misconfigured;
        }
    };
    // The files that the settings name are read, too: keys, secrets, certificates.
    let clock = Clock::system();
    if let Err(mistakes) = App::check(&config, &clock) {
        complain(&"the files that the configuration names are refused:");
        for mistake in mistakes {
            complain(&format_args!("  {mistake}"));
        }
        return Ending::Misconfigured;
    }
    for warning in App::warnings(&config, &clock) {
        complain(&format_args!("warning: {warning}"));
    }
    say(&config.to_toml());
    if arguments.online {
        online(&config)
    } else {
        Ending::Well
    }
}

fn online(config: &Config) -> Ending {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format_args!("cannot start: {error}"));
            return Ending::Failed;
        }
    };
    let checks = runtime.block_on(App::check_online(config, Clock::system()));
    let issuers = runtime.block_on(App::check_issuers(config, &Clock::system()));
    // A name that is still being resolved keeps nobody waiting.
    runtime.shutdown_background();
    let checks = match checks {
        Ok(checks) => checks,
        Err(mistakes) => {
            for mistake in mistakes {
                complain(&mistake);
            }
            return Ending::Misconfigured;
        }
    };
    let mut ending = Ending::Well;
    for check in checks {
        let credential = check.credential;
        match check.problem {
            None => {
                say(&format_args!("# {credential}: Atlas accepts it"));
            }
            Some(problem) => {
                let advice = advice::on(&problem.reason, &config.atlas);
                complain(&format_args!("{credential}: {}", problem.reason));
                complain(&format_args!("  {advice}"));
                ending = Ending::Failed;
            }
        }
    }
    for issuer in &issuers {
        if !tell(issuer) {
            ending = Ending::Failed;
        }
    }
    ending
}

/// Says what there is of an issuer's keys; whether its tokens can be verified.
fn tell(check: &IssuerCheck) -> bool {
    let issuer = &check.issuer;
    for key in &check.left_out {
        complain(&format_args!(
            "{issuer}: a published key is left out: {key}"
        ));
    }
    match &check.problem {
        None => {
            say(&format_args!("# {issuer}: {}", keys_of(check)));
            true
        }
        Some(problem) => {
            complain(&format_args!("{issuer}: {problem}"));
            false
        }
    }
}

fn keys_of(check: &IssuerCheck) -> String {
    if check.keys.is_empty() {
        return "it shares a secret with this gateway".to_owned();
    }
    let keys = check.keys.iter().map(|key| {
        let name = key
            .id
            .as_ref()
            .map_or_else(|| "without kid".to_owned(), |id| format!("kid {id:?}"));
        let algorithms = key
            .algorithms
            .iter()
            .map(|algorithm| format!("{algorithm:?}"));
        let algorithms = algorithms.collect::<Vec<_>>().join(", ");
        format!("{name} ({algorithms})")
    });
    format!(
        "its keys are there: {}",
        keys.collect::<Vec<_>>().join(", ")
    )
}
