//! `serve`: runs the gateway until it is told to stop.

use clap::Args;
use tokio::runtime;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
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
use crate::telemetry;
use crate::telemetry::Chain;
use crate::telemetry::LogLevel;

/// What `serve` is told.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

/// Serves.
pub fn run(arguments: &Arguments) -> Ending {
    let mut source = arguments.config.source();
    let config = match source.read() {
        Ok(config) => config,
        Err(refused) => {
            complain(&refused);
            return Ending::Misconfigured;
        }
    };
    match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(observed(source, &config)),
        Err(error) => {
            complain(&format_args!("cannot start: {error}"));
            Ending::Failed
        }
    }
}

/// Serves, with logs and traces.
async fn observed(source: Source, config: &Config) -> Ending {
    match telemetry::start(&config.telemetry) {
        Ok(telemetry) => {
            let ending = serve(source, config, &telemetry.level).await;
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

async fn serve(mut source: Source, config: &Config, log: &LogLevel) -> Ending {
    // A limit on the size of files ends a write, not the process (G16).
    if let Err(problem) = survive_file_size_limit() {
        warn!("a limit on file sizes would end the process: {problem}");
    }
    for warning in config.warnings() {
        warn!(place = warning.place, "{}", warning.message);
    }
    let app = match App::start(config, Clock::system()).await {
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
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        error!("cannot listen to signals");
        return Ending::Failed;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&app, &mut source, log).await,
            () = app.until_changed(&mut source) => reload(&app, &mut source, log).await,
        }
    }
    info!("stopping: finishing what is under way");
    tokio::select! {
        () = app.stop() => info!("stopped"),
        _ = terminate.recv() => warn!("told to stop twice: stopping at once"),
        _ = interrupt.recv() => warn!("told to stop twice: stopping at once"),
    }
    Ending::Well
}

/// Applies the configuration anew, as a whole or not at all.
async fn reload(app: &App, source: &mut Source, log: &LogLevel) {
    if let Some(config) = app.reload_from(source).await
        && let Err(problem) = log.change(&config.telemetry)
    {
        warn!("the log level stays as it was: {}", Chain(&problem));
    }
}
