//! What the service manager is told (`sd_notify`): ready, reloading, stopping, alive, and what is ill. Without
//! `NOTIFY_SOCKET` in the environment nothing happens. A manager that does not listen is not waited for long,
//! and on a thread that may wait.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::app::App;
use crate::server::admin::ReadinessReport;
use crate::system::{Clock, may_wait};
use crate::telemetry::{RateLimitedLog, Tally};

pub(super) async fn ready(clock: &Clock) {
    tell(clock, vec![NotifyState::Ready]).await;
}

pub(super) async fn reloading(clock: &Clock) {
    // The time tells the manager which of its requests this one answers.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(clock, vec![NotifyState::Reloading, now]).await,
        Err(error) => warn!(%error, "the service manager is not told of a reload"),
    }
}

pub(super) async fn reloaded(clock: &Clock, taken: bool, report: &ReadinessReport) {
    let mut status = if taken {
        "the configuration was read again"
    } else {
        "the configuration was refused and the old one stays; the log says why"
    }
    .to_owned();
    if !report.is_well() {
        status = format!("{status}; {report}");
    }
    let told = move || sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    send(clock, told, &RateLimitedLog::default()).await;
}

/// Tells, whenever that changes, whether this replica is ready and what is ill. Never ends.
pub(super) async fn tell_readiness(app: &App, clock: &Clock) -> Infallible {
    let mut told = "ready".to_owned();
    let failures = RateLimitedLog::default();
    loop {
        let state = app.readiness().to_string();
        if state != told {
            let status = state.clone();
            let tell = move || sd_notify::notify(&[NotifyState::Status(&status)]);
            send(clock, tell, &failures).await;
            told = state;
        }
        clock.sleep(BETWEEN_LOOKS).await;
    }
}

pub(super) async fn stopping(clock: &Clock) {
    tell(clock, vec![NotifyState::Stopping]).await;
}

/// Says twice in each of the manager's intervals that the runtime still runs its tasks, where it wants to
/// know that.
pub(super) fn keep_alive(clock: Clock) -> Option<AbortOnDropHandle<()>> {
    let interval = sd_notify::watchdog_enabled()?;
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        let failures = RateLimitedLog::default();
        loop {
            let told = || sd_notify::notify(&[NotifyState::Watchdog]);
            send(&clock, told, &failures).await;
            clock.sleep(interval / 2).await;
        }
    })))
}

async fn tell(clock: &Clock, state: Vec<NotifyState<'static>>) {
    send(
        clock,
        move || sd_notify::notify(&state),
        &RateLimitedLog::default(),
    )
    .await;
}

async fn send(
    clock: &Clock,
    tell: impl FnOnce() -> io::Result<()> + Send + 'static,
    failures: &RateLimitedLog,
) {
    if let Ok(Err(error)) = clock.timeout(LONGEST_WORD, may_wait(tell)).await
        && let Some(Tally { times, .. }) = failures.happened(clock.elapsed())
    {
        warn!(%error, times, "the service manager cannot be told how we are");
    }
}

const LONGEST_WORD: Duration = Duration::from_secs(1);
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
