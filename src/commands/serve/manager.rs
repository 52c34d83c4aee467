//! What the service manager is told, where there is one (`sd_notify`). Without `NOTIFY_SOCKET` in the
//! environment nothing happens.

use std::convert::Infallible;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::app::App;
use crate::clock::Clock;
use crate::server::admin::Report;

/// Callers are answered from now on.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The configuration is being read again.
pub(super) fn reloading() {
    // The moment tells the manager which of its own wishes this one answers.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!(%error, "the service manager is not told of a reload"),
    }
}

/// It was, and either taken or refused.
pub(super) fn reloaded(taken: bool, report: &Report) {
    let mut status = if taken {
        "the configuration was read again"
    } else {
        "the configuration was refused and the old one stays; the log says why"
    }
    .to_owned();
    if !report.is_well() {
        status = format!("{status}; {report}");
    }
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Tells, whenever that changes, whether this replica is ready and what is ill. Never ends.
pub(super) async fn tell_readiness(app: &App, clock: Clock) -> Infallible {
    let mut told = "ready".to_owned();
    loop {
        let state = app.readiness().to_string();
        if state != told {
            tell(&[NotifyState::Status(&state)]);
            told = state;
        }
        clock.sleep(BETWEEN_LOOKS).await;
    }
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says twice in each of the manager's intervals that the runtime still runs its tasks, where it wants to
/// know that.
pub(super) fn keep_alive(clock: Clock) -> Option<AbortOnDropHandle<()>> {
    let interval = sd_notify::watchdog_enabled()?;
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tell(&[NotifyState::Watchdog]);
            clock.sleep(interval / 2).await;
        }
    })))
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager cannot be told how we are");
    }
}

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
