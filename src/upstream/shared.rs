//! What all fetches share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::config::{Api, AtlasLimits};
use super::credential::Credential;
use super::limiter::ProjectLimiter;
use super::service_account::Environment;
use super::state::StateDirectory;
use crate::atlas::ProjectId;
use crate::telemetry::RateLimitedLog;

pub(super) struct UpstreamShared {
    pub(super) api: Api,
    pub(super) limits: AtlasLimits,
    pub(super) env: Environment,
    /// The lock of the state directory, while this process has it.
    pub(super) state: Mutex<Option<StateDirectory>>,
    pub(super) credentials: ArcSwap<Vec<Arc<Credential>>>,
    pub(super) retired: Mutex<Vec<RetiredCredential>>,
    pub(super) limiter: ProjectLimiter,
    /// Ends every fetch, because the process ends.
    pub(super) given_up: CancellationToken,
    /// Of answers that were refused as a protection.
    pub(super) answers_refused: RateLimitedLog,
}

/// A credential that no configuration names any more.
pub(super) struct RetiredCredential {
    pub(super) credential: Arc<Credential>,
    pub(super) at: Duration,
}

impl UpstreamShared {
    pub(super) fn credential(&self, project: &ProjectId) -> Option<Arc<Credential>> {
        let credentials = self.credentials.load();
        let mut credentials = credentials.iter();
        credentials.find(|it| it.covers(project)).map(Arc::clone)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Option<StateDirectory>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn retired(&self) -> MutexGuard<'_, Vec<RetiredCredential>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
