//! `serve`: runs the gateway until it is told to stop.

mod manager;
mod signals;
mod sockets;

use std::pin::pin;
use std::time::Duration;
use std::{fmt, thread};

use clap::Args;
use tokio::runtime;
use tracing::{error, info, warn};

use super::{ConfigArguments, ExitStatus, complain};
use crate::app::{App, StartError};
use crate::audit::survive_file_size_limit;
use crate::config::{Config, ConfigSource};
use crate::server::PassedSockets;
use crate::system::Clock;
use crate::telemetry;
use crate::telemetry::metrics::process::log_lines_dropped;
use crate::telemetry::{Chain, LogLevel, LogQueue};
use signals::{SignalRequest, Signals};

/// What `serve` is told.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    #[command(flatten)]
    config: ConfigArguments,
}

pub(crate) fn run(arguments: &ServeArguments) -> ExitStatus {
    // Before there are other threads, as it asks for.
    let passed = sockets::take();
    let (log, _end_of_log) = match LogQueue::to_standard_error(log_lines_dropped()) {
        Ok(started) => started,
        Err(error) => {
            complain(&format_args!("cannot start: {error}"));
            return ExitStatus::Failed;
        }
    };
    let passed = match passed {
        Ok(passed) => passed,
        Err(error) => return failed(&log, &Chain(&error)),
    };
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&log, &format_args!("cannot start: {error}")),
    };
    let ending = thread::scope(|scope| {
        // The first randomness of a process takes 40 ms and more: gathered while the configuration is read, and not
        // when the first caller waits for a connection. Joined, because the library must not go beneath it.
        scope.spawn(|| aws_lc_rs::rand::fill(&mut [0; 1]));
        runtime.block_on(signalled(arguments, passed, &log))
    });
    // All that matters has ended in good order. A name that is still being resolved is not waited for.
    runtime.shutdown_background();
    ending
}

/// Serves, and listens to signals before anything else: one that comes early is not lost.
async fn signalled(
    arguments: &ServeArguments,
    passed: PassedSockets,
    log: &LogQueue,
) -> ExitStatus {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return failed(log, &format_args!("cannot listen to signals: {error}")),
    };
    let mut source = arguments.config.source();
    let config = match source.read() {
        Ok(config) => config,
        Err(refused) => {
            say(log, &refused);
            return ExitStatus::Misconfigured;
        }
    };
    match telemetry::start(&config.telemetry, &config.audit.replica(), log.clone()) {
        Ok(telemetry) => {
            let ending = Box::pin(serve(
                source,
                &config,
                passed,
                &mut signals,
                &telemetry.level,
            ))
            .await;
            if let Some(traces) = telemetry.traces {
                traces.close().await;
            }
            ending
        }
        Err(error) => failed(log, &Chain(&error)),
    }
}

fn failed(log: &LogQueue, why: &dyn fmt::Display) -> ExitStatus {
    say(log, why);
    ExitStatus::Failed
}

fn say(log: &LogQueue, message: &dyn fmt::Display) {
    log.put(format!("{message}\n").as_bytes());
}

async fn serve(
    mut source: ConfigSource,
    config: &Config,
    passed: PassedSockets,
    signals: &mut Signals,
    log: &LogLevel,
) -> ExitStatus {
    // A limit on the size of files ends a write, not the process (G16).
    if let Err(problem) = survive_file_size_limit() {
        warn!("a limit on file sizes would end the process: {problem}");
    }
    for warning in config.warnings() {
        warn!(place = warning.place, "{}", warning.message);
    }
    let clock = Clock::system();
    let started = pin!(App::start_on(passed, config, clock.clone()));
    let started = tokio::select! {
        biased;
        () = signals.stop() => {
            info!("told to stop before anything was begun");
            return ExitStatus::Well;
        }
        started = started => started,
    };
    let app = match started {
        Ok(app) => app,
        Err(StartError::Misconfigured(config_errors)) => {
            for config_error in config_errors {
                error!(place = config_error.place, "{}", config_error.message);
            }
            return ExitStatus::Misconfigured;
        }
        Err(failed) => {
            error!("cannot start: {}", Chain(&failed));
            return ExitStatus::Failed;
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
    manager::ready(&clock).await;
    let _watched = manager::keep_alive(clock.clone());
    let running = Running {
        app: &app,
        log,
        clock: &clock,
    };
    running.until_told_to_stop(&mut source, signals).await;
    info!("stopping: finishing what is under way");
    manager::stopping(&clock).await;
    app.stop_unless(signals.stop()).await;
    info!("stopped");
    ExitStatus::Well
}

#[derive(Clone, Copy)]
struct Running<'a> {
    app: &'a App,
    log: &'a LogLevel,
    clock: &'a Clock,
}

impl Running<'_> {
    async fn until_told_to_stop(self, source: &mut ConfigSource, signals: &mut Signals) {
        let mut readiness = pin!(manager::tell_readiness(self.app, self.clock));
        loop {
            let is_told = tokio::select! {
                biased;
                told = signals.next() => match told {
                    SignalRequest::Reload => true,
                    SignalRequest::Stop => return,
                },
                () = self.app.until_changed(source) => false,
                never = readiness.as_mut() => match never {},
            };
            if is_told {
                self.app.begin_audit_file();
            }
            let mut reloading = pin!(self.reload(source));
            tokio::select! {
                biased;
                // From where the configuration, as it is now, says that they are.
                () = &mut reloading => if is_told {
                    self.app.fetch_keys();
                },
                () = signals.stop() => {
                    // A disk that hangs must not keep it from ending.
                    let _ = self.clock.timeout(LONGEST_RELOAD, reloading).await;
                    return;
                }
            }
        }
    }

    async fn reload(self, source: &mut ConfigSource) {
        let Self { app, log, clock } = self;
        manager::reloading(clock).await;
        let taken = app.reload_from(source).await;
        if let Some(config) = &taken
            && let Err(problem) = log.change(&config.telemetry)
        {
            warn!("the log level stays as it was: {}", Chain(&problem));
        }
        manager::reloaded(clock, taken.is_some(), &app.readiness()).await;
    }
}

const LONGEST_RELOAD: Duration = Duration::from_secs(1);
