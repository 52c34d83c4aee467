//! Other credentials while calls are under way: settings go in, and once all of them are known to be good
//! they take the place of the present ones.
//!
//! An account that stays keeps its token, its ledger and its nonces, whatever else changes about it. One
//! that goes is given the time of a walk before its token is given back, for those who still use it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tracing::info;

use super::budget::Rates;
use super::config::Config;
use super::credential::{Credential, Successor, Tools, secrets};
use super::{Inner, Upstream};
use crate::settings::ConfigError;
use crate::telemetry::metrics::upstream::CredentialLabels;
use crate::telemetry::say;

/// Credentials, and numbers of buckets, that are known to be good.
#[derive(Debug)]
pub struct Prepared {
    successors: Vec<Successor>,
    rates: Rates,
}

/// A credential that no configuration names any more.
#[derive(Debug)]
pub(super) struct Retired {
    credential: Arc<Credential>,
    at: Duration,
}

impl Upstream {
    /// Reads the secrets of another configuration. Changes nothing yet.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, Vec<ConfigError>> {
        let inner = &*self.0;
        let config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let mut present = inner.credentials.load().to_vec();
        present.extend(inner.retired().iter().map(|it| Arc::clone(&it.credential)));
        let rates = Rates::new(&config.limits);
        // What only a restart can change stays as it is.
        let config = Config {
            state_directory: inner.state_directory.clone(),
            limits: inner.limits.clone(),
            ..config.clone()
        };
        let tools = Tools {
            config: &config,
            transport: &inner.transport,
            clock: &inner.clock,
            jitter: inner.jitter,
            metrics: &inner.metrics,
            keeps: true,
            present: &present,
        };
        Ok(Prepared {
            successors: tools.credentials(secrets(&config)?)?,
            rates,
        })
    }

    /// Puts in place what was prepared: the next call uses it.
    pub fn adopt(&self, prepared: Prepared) {
        let inner = &*self.0;
        let now = inner.clock.elapsed();
        let successors = prepared.successors.into_iter();
        let fresh: Vec<_> = successors.map(Successor::succeed).collect();
        let former = inner.credentials.swap(Arc::new(fresh.clone()));
        inner.projects.replace_rates(prepared.rates, now);
        let is_named = |credential: &Credential| fresh.iter().any(|it| it.name == credential.name);
        for credential in former.iter().filter(|credential| !is_named(credential)) {
            inner.forget_metrics(credential);
        }
        let stays = |credential: &Credential| fresh.iter().any(|it| it.is_same_login(credential));
        let mut retired = inner.retired();
        retired.retain(|it| !stays(&it.credential));
        let gone = former.iter().filter(|credential| !stays(credential));
        retired.extend(gone.map(|credential| Retired {
            credential: Arc::clone(credential),
            at: now,
        }));
    }
}

impl Inner {
    /// Gives back the tokens of retired credentials that nobody can be using any more.
    pub(super) async fn let_go(&self) {
        let now = self.clock.elapsed();
        let gone = self.take_retired(|it| now.saturating_sub(it.at) > self.limits.fetch);
        join_all(gone.iter().map(|credential| async move {
            credential.revoke().await;
            say(|| info!(credential = %credential.name, "a credential was given up"));
        }))
        .await;
    }

    pub(super) fn take_retired(
        &self,
        mut which: impl FnMut(&Retired) -> bool,
    ) -> Vec<Arc<Credential>> {
        let mut retired = self.retired();
        let gone = retired.extract_if(.., |it| which(it));
        gone.map(|it| it.credential).collect()
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Retired>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_metrics(&self, credential: &Credential) {
        let labels = CredentialLabels {
            credential: credential.name.as_ref().to_owned(),
        };
        self.metrics.rate_limit_remaining.remove(&labels);
        self.metrics.reserve_in.remove(&labels);
        self.metrics.others_calls.remove(&labels);
        self.metrics.demand_ratio.remove(&labels);
        self.metrics.gate_closed.remove(&labels);
        self.metrics.token_expires.remove(&labels);
    }
}
