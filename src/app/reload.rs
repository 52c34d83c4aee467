//! Another configuration for a running gateway: everything that can be refused is tried before the first
//! thing changes, so that it is put in place whole or not at all (G33). Either way it goes on record.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::App;
use super::parts::both;
use crate::audit::{AdminAction, AdminRecord, Outcome};
use crate::config::{Config, ConfigSource, needs_restart};
use crate::gateway::Gateway;
use crate::identity;
use crate::policy::{DenyList, Policy};
use crate::server::tls::ServerTls;
use crate::settings::ConfigError;
use crate::system::{WatchedFiles, may_wait};
use crate::upstream;

struct Fresh {
    policy: Policy,
    /// `None` if its file is where it was: then the list stays, and its file is watched.
    deny_list: Option<Arc<DenyList>>,
    tls: Option<ServerTls>,
    identity: identity::Prepared,
    upstream: upstream::Prepared,
}

impl Fresh {
    fn prepare(gateway: &Gateway, config: &Config) -> Result<Self, Vec<ConfigError>> {
        let policy = Policy::build(&config.access);
        let deny_list = gateway
            .deny_file
            .read_if_moved(config.access.deny_file.as_deref());
        let tls = config.server.tls.as_ref().map(ServerTls::load).transpose();
        let identity = gateway.identity.prepare(&config.identity);
        let upstream = gateway.upstream.prepare(&config.atlas);
        let deny_list = deny_list.map_err(|config_error| vec![config_error]);
        let rules = both(policy, deny_list);
        let ((policy, deny_list), (tls, (identity, upstream))) =
            both(rules, both(tls, both(identity, upstream)))?;
        Ok(Self {
            policy,
            deny_list,
            tls,
            identity,
            upstream,
        })
    }
}

impl App {
    /// Reads the configuration again and puts it in place. `None` if it is refused: then the old one
    /// stays, the log says why, and a change of a file that it names is a change of it.
    pub async fn reload_from(&self, source: &mut ConfigSource) -> Option<Config> {
        let reloaded = match source.read_again().await {
            Ok(config) => {
                // Before they are read, so that no change is missed.
                let named = WatchedFiles::new(config.files()).await;
                let reloaded = self.reload(&config).await;
                if reloaded.is_err() {
                    source.watch(named);
                }
                reloaded.map(|_| config)
            }
            Err(refused) => {
                self.write_down(false).await;
                Err(refused.config_errors)
            }
        };
        match reloaded {
            Ok(config) => Some(config),
            Err(config_errors) => {
                for config_error in config_errors {
                    error!(
                        place = config_error.place,
                        "the old configuration stays: {config_error}"
                    );
                }
                None
            }
        }
    }

    /// Puts another configuration in place: issuers, rules, Atlas's credentials and the numbers of its
    /// buckets, the cache's times and certificates. Returns the keys that are not as this configuration
    /// has them until the process is started anew; the log names them, too.
    pub async fn reload(&self, config: &Config) -> Result<Vec<String>, Vec<ConfigError>> {
        let applied = self.apply(config).await;
        self.write_down(applied.is_ok()).await;
        applied?;
        let waiting = needs_restart(&self.started, config);
        for key in &waiting {
            warn!(place = key, "{key} stays as it was until the next restart");
        }
        info!("the configuration was read again");
        Ok(waiting)
    }

    /// Begins a new audit file, as SIGHUP asks for after the present one was renamed: whatever becomes of
    /// the configuration, and not when that is read again of our own accord.
    pub fn begin_audit_file(&self) {
        self.gateway.audit.reopen();
    }

    /// Fetches the keys of all issuers, as SIGHUP asks for, whatever becomes of the configuration: one of
    /// them may have been taken down because it was stolen.
    pub fn fetch_keys(&self) {
        self.gateway.identity.fetch_keys();
    }

    /// Waits until the configuration's file is another one, or one that a refused configuration names.
    pub async fn until_changed(&self, source: &mut ConfigSource) {
        source.changed(&self.clock).await;
    }

    async fn apply(&self, config: &Config) -> Result<(), Vec<ConfigError>> {
        let (gateway, wanted) = (Arc::clone(&self.gateway), config.clone());
        let fresh = may_wait(move || Fresh::prepare(&gateway, &wanted)).await?;
        let state = self.gateway.upstream.clone();
        let (state, atlas) = (state, config.atlas.clone());
        let taken = may_wait(move || state.take_state(&atlas)).await;
        taken.map_err(|refused| vec![refused.config_error()])?;
        self.gateway.identity.adopt(fresh.identity);
        let granting = fresh.policy.granting();
        self.gateway.policy_metrics.know(granting);
        self.gateway.policy.rcu(|earlier| {
            let policy = fresh.policy.clone().following(earlier);
            match &fresh.deny_list {
                Some(list) => policy.with_deny_list(Arc::clone(list)),
                None => policy,
            }
        });
        if fresh.deny_list.is_some() {
            let path = config.access.deny_file.clone();
            self.gateway.deny_file.place(path);
        }
        self.gateway.upstream.adopt(fresh.upstream);
        self.gateway.cache.replace_config(config.cache.clone());
        if let (Some(present), Some(fresh)) = (&self.tls, fresh.tls) {
            present.take_over(&fresh);
            present.warn(self.clock.now().wall);
        }
        Ok(())
    }

    async fn write_down(&self, taken: bool) {
        self.reloads.reloaded(taken);
        let outcome = if taken {
            Outcome::Answered
        } else {
            Outcome::Rejected
        };
        let reload = AdminRecord::bare(AdminAction::Reload, outcome, self.clock.now());
        if let Err(problem) = self.gateway.audit.record_admin(&reload).await {
            warn!("a reload is not on record: {problem}");
        }
    }
}
