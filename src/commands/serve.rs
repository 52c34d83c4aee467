//! `serve`: runs the gateway until it is told to stop.

mod manager;
mod signals;
mod sockets;

use std::pin::pin;

use clap::Args;
use tokio::runtime;
use tracing::error;
use tracing::info;
use tracing::warn;

use super::ConfigArguments;
use super::Ending;
use super::complain;
use crate::app::App;
use crate::app::StartError;
use crate::audit::survive_file_size_limit;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::Source;
use crate::server::Passed;
use crate::telemetry;
use crate::telemetry::Chain;
use crate::telemetry::LogLevel;
use signals::Signals;
use signals::Told;

/// What `serve` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

/// Serves.
pub fn run(arguments: &Arguments) -> Ending {
    // Before there are other threads, as it asks for.
    let passed = match sockets::take() {
        Ok(passed) => passed,
        Err(error) => {
            complain(&Chain(&error));
            return Ending::Failed;
        }
    };
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format_args!("cannot start: {error}"));
            return Ending::Failed;
        }
    };
    let ending = runtime.block_on(signalled(arguments, passed));
    // All that matters has ended in good order. A name that is still being resolved keeps nobody waiting.
    runtime.shutdown_background();
    ending
}

/// Serves, and listens to signals before anything else: one that comes early is not lost.
async fn signalled(arguments: &Arguments, passed: Passed) -> Ending {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format_args!("cannot listen to signals: {error}"));
            return Ending::Failed;
        }
    };
    let mut source = arguments.config.source();
    let config = match source.read() {
        Ok(config) => config,
        Err(refused) => {
            complain(&refused);
            return Ending::Misconfigured;
        }
    };
    match telemetry::start(&config.telemetry) {
        Ok(telemetry) => {
            let ending = serve(source, &config, passed, &mut signals, &telemetry.level).await;
            if let Some(traces) = telemetry.traces {
                traces.close().await;
            }
            ending
        }
        Err(error) => {
            complain(&Chain(&error));
            Ending::Failed
        }
    }
}

async fn serve(
    mut source: Source,
    config: &Config,
    passed: Passed,
    signals: &mut Signals,
    log: &LogLevel,
) -> Ending {
    // A limit on the size of files ends a write, not the process (G16).
    if let Err(problem) = survive_file_size_limit() {
        warn!("a limit on file sizes would end the process: {problem}");
    }
    for warning in config.warnings() {
        warn!(place = warning.place, "{}", warning.message);
    }
    let started = pin!(App::start_on(passed, config, Clock::system()));
    let started = tokio::select! {
        biased;
        () = signals.stop() => {
            info!("told to stop before anything was begun");
            return Ending::Well;
        }
        started = started => started,
    };
    let app = match started {
        Ok(app) => app,
        Err(StartError::Misconfigured(mistakes)) => {
            for mistake in mistakes {
                error!(place = mistake.place, "{}", mistake.message);
            }
            return Ending::Misconfigured;
        }
        Err(failed) => {
            error!("cannot start: {}", Chain(&failed));
            return Ending::Failed;
        }
    };
    info!(
        listen = %app.address(),
        admin = %app.admin_address(),
        version = env!("CARGO_PKG_VERSION"),
        "listening on {}, for operators on {}",
        app.address(),
        app.admin_address()
    );
    manager::ready();
    let _watched = manager::keep_alive(Clock::system());
    {
        let mut readiness = pin!(manager::tell_readiness(&app, Clock::system()));
        loop {
            tokio::select! {
                biased;
                told = signals.next() => match told {
                    Told::Reload => reload(&app, &mut source, log).await,
                    Told::Stop => break,
                },
                () = app.until_changed(&mut source) => reload(&app, &mut source, log).await,
                never = readiness.as_mut() => match never {},
            }
        }
    }
    info!("stopping: finishing what is under way");
    manager::stopping();
    app.stop_unless(signals.stop()).await;
    info!("stopped");
    Ending::Well
}

/// Applies the configuration anew, as a whole or not at all.
async fn reload(app: &App, source: &mut Source, log: &LogLevel) {
    manager::reloading();
    let taken = app.reload_from(source).await;
    if let Some(config) = &taken
        && let Err(problem) = log.change(&config.telemetry)
    {
        warn!("the log level stays as it was: {}", Chain(&problem));
    }
    manager::reloaded(taken.is_some(), &app.readiness());
}
