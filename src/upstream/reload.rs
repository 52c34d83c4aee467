//! Reload: other credentials while calls are under way, put in place once all of them are known to be good.
//!
//! An account that stays keeps its token, its mint log and its nonces, whatever else changes about it. One that
//! goes is given the time of a fetch before its token is given back, for those fetches that still use it.

use std::sync::Arc;

use futures_util::future::join_all;
use tracing::info;

use super::config::Config;
use super::credential::{Credential, PreparedCredential, prepare, read_secrets};
use super::limiter::Rates;
use super::{RetiredCredential, Upstream};
use crate::settings::ConfigError;

pub(crate) struct Prepared {
    credentials: Vec<PreparedCredential>,
    rates: Rates,
}

impl Upstream {
    /// Reads the secrets of another configuration. Changes nothing yet. What only a restart can change stays
    /// as it is.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, Vec<ConfigError>> {
        let config_errors = config.config_errors();
        if !config_errors.is_empty() {
            return Err(config_errors);
        }
        let mut present = self.0.credentials.load().to_vec();
        present.extend(self.0.retired().iter().map(|it| Arc::clone(&it.credential)));
        let secrets = read_secrets(config)?;
        Ok(Prepared {
            credentials: prepare(config, secrets, &self.0.env, &present)?,
            rates: Rates::new(&config.limits),
        })
    }

    pub(crate) fn adopt(&self, prepared: Prepared) {
        let credentials = prepared.credentials.into_iter();
        let fresh: Vec<_> = credentials.map(PreparedCredential::adopt).collect();
        let former = self.0.credentials.swap(Arc::new(fresh.clone()));
        self.0.limiter.replace_rates(prepared.rates);
        for gone in former.iter() {
            if fresh.iter().all(|it| it.name != gone.name) {
                self.0.env.metrics.forget(&gone.labels());
            }
        }
        let is_gone = |it: &Credential| fresh.iter().all(|fresh| fresh.id() != it.id());
        let mut retired = self.0.retired();
        retired.retain(|it| is_gone(&it.credential));
        let at = self.0.env.clock.elapsed();
        retired.extend(
            former
                .iter()
                .filter(|it| is_gone(it))
                .map(|it| RetiredCredential {
                    credential: Arc::clone(it),
                    at,
                }),
        );
    }

    /// Gives back the tokens of retired credentials that no fetch can be using any more.
    pub(super) async fn let_go(&self) {
        let now = self.0.env.clock.elapsed();
        let gone = self.take_retired(|it| now.saturating_sub(it.at) > self.0.limits.fetch);
        join_all(gone.iter().map(|credential| async move {
            credential.revoke().await;
            info!(credential = %credential.name, "a credential was given up");
        }))
        .await;
    }

    pub(super) fn take_retired(
        &self,
        mut which: impl FnMut(&RetiredCredential) -> bool,
    ) -> Vec<Arc<Credential>> {
        let mut retired = self.0.retired();
        let gone = retired.extract_if(.., |it| which(it));
        gone.map(|it| it.credential).collect()
    }
}
