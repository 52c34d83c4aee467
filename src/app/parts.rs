//! The parts that a configuration is built into, with all that is wrong with it.

use std::sync::Arc;

use crate::audit::Audit;
use crate::config::Config;
use crate::fleet::{self, Fleet};
use crate::gateway::DenyFile;
use crate::identity::Identity;
use crate::policy::{self, Policy};
use crate::server::tls::ServerTls;
use crate::settings::ConfigError;
use crate::system::Clock;
use crate::telemetry::Metrics;
use crate::upstream::{BuildOptions, Upstream};

pub(super) struct BuiltParts {
    pub(super) identity: Identity,
    pub(super) policy: Policy,
    pub(super) fleet: Option<Fleet>,
    pub(super) upstream: Upstream,
    pub(super) tls: Option<ServerTls>,
}

impl BuiltParts {
    pub(super) fn build(
        config: &Config,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<Self, Vec<ConfigError>> {
        let identity = Identity::build(&config.identity, clock.clone(), metrics.identity.clone());
        let policy = policy(&config.access);
        let fleet = fleet(config, clock, metrics);
        let (options, atlas) = (BuildOptions::default(), metrics.upstream.clone());
        let shared = fleet.as_ref().ok().cloned().flatten();
        let upstream =
            Upstream::build_in_fleet(&config.atlas, clock.clone(), atlas, options, shared);
        let tls = config.server.tls.as_ref().map(ServerTls::load).transpose();
        let audit = Audit::check(&config.audit);
        let audit = if audit.is_empty() { Ok(()) } else { Err(audit) };
        let callers = both(identity, policy);
        let atlas = both(fleet, upstream);
        let ((identity, policy), ((fleet, upstream), (tls, ()))) =
            both(callers, both(atlas, both(tls, audit)))?;
        metrics.policy.know(policy.granting());
        Ok(Self {
            identity,
            policy,
            fleet,
            upstream,
            tls,
        })
    }

    /// Shows how long our certificate is good: in the log if it is not, and at each scrape.
    pub(super) fn show_certificate(&self, clock: &Clock, metrics: &Metrics) {
        if let Some(tls) = self.tls.clone() {
            tls.warn(clock.now().wall);
            let clock = clock.clone();
            metrics.tls.ask(move || tls.seconds_left(clock.now().wall));
        }
    }
}

pub(super) type Checked<T> = Result<T, Vec<ConfigError>>;

pub(super) fn both<A, B>(one: Checked<A>, other: Checked<B>) -> Checked<(A, B)> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (one, other) => {
            let wrong = [one.err(), other.err()];
            Err(wrong.into_iter().flatten().flatten().collect())
        }
    }
}

pub(super) fn fleet(
    config: &Config,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Option<Fleet>, Vec<ConfigError>> {
    let Some(fleet) = &config.fleet else {
        return Ok(None);
    };
    let (replica, atlas) = (config.audit.replica(), &config.atlas);
    let identity = fleet::ReplicaIdentity {
        replica: &replica,
        atlas: [&atlas.base_url, atlas.api.word()],
        fingerprint: config.fingerprint(),
        fetches_per_project: config.atlas.limits.concurrency_per_project,
    };
    Fleet::build(fleet, &identity, clock.clone(), metrics.fleet.clone()).map(Some)
}

fn policy(access: &policy::Config) -> Result<Policy, Vec<ConfigError>> {
    let policy = Policy::build(access)?;
    match &access.deny_file {
        Some(path) => {
            let read = DenyFile::read(path).map_err(|config_error| vec![config_error])?;
            Ok(policy.with_deny_list(Arc::new(read.list)))
        }
        None => Ok(policy),
    }
}
