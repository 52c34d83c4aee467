//! Reload: other credentials while calls are under way, put in place once all of them are known to be good.
//!
//! An account that stays keeps its token, its mint log and its nonces, whatever else changes about it. One that
//! goes is given the time of a fetch before its token is given back, for those fetches that still use it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tracing::info;

use super::config::Config;
use super::credential::{Credential, PreparedCredential, prepare, read_secrets};
use super::limiter::Rates;
use super::{Upstream, UpstreamShared};
use crate::settings::ConfigError;

/// Credentials, and rates of buckets, that are known to be good.
pub struct Prepared {
    credentials: Vec<PreparedCredential>,
    rates: Rates,
}

/// A credential that no configuration names any more.
pub(super) struct Retired {
    credential: Arc<Credential>,
    at: Duration,
}

impl Upstream {
    /// Reads the secrets of another configuration. Changes nothing yet. What only a restart can change stays
    /// as it is.
    pub fn prepare(&self, config: &Config) -> Result<Prepared, Vec<ConfigError>> {
        let inner = &*self.0;
        let config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let mut present = inner.credentials.load().to_vec();
        present.extend(inner.retired().iter().map(|it| Arc::clone(&it.credential)));
        let secrets = read_secrets(config)?;
        Ok(Prepared {
            credentials: prepare(config, secrets, &inner.env, &present)?,
            rates: Rates::new(&config.limits),
        })
    }

    /// Puts in place what was prepared: the next call uses it.
    pub fn adopt(&self, prepared: Prepared) {
        let inner = &*self.0;
        let credentials = prepared.credentials.into_iter();
        let fresh: Vec<_> = credentials.map(PreparedCredential::adopt).collect();
        let former = inner.credentials.swap(Arc::new(fresh.clone()));
        inner.limiter.replace_rates(prepared.rates);
        for gone in former.iter() {
            if fresh.iter().all(|it| it.name != gone.name) {
                inner.env.metrics.forget(&gone.labels());
            }
        }
        let is_gone = |it: &Credential| fresh.iter().all(|fresh| fresh.id() != it.id());
        let mut retired = inner.retired();
        retired.retain(|it| is_gone(&it.credential));
        let at = inner.env.clock.elapsed();
        retired.extend(former.iter().filter(|it| is_gone(it)).map(|it| Retired {
            credential: Arc::clone(it),
            at,
        }));
    }
}

impl UpstreamShared {
    /// Gives back the tokens of retired credentials that no fetch can be using any more.
    pub(super) async fn let_go(&self) {
        let now = self.env.clock.elapsed();
        let gone = self.take_retired(|it| now.saturating_sub(it.at) > self.limits.fetch);
        join_all(gone.iter().map(|credential| async move {
            credential.revoke().await;
            info!(credential = %credential.name, "a credential was given up");
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
}
