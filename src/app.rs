//! The wiring (composition root): the only file that knows every part.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::atlas::CertQuery;
use crate::audit::{Audit, AuditError};
use crate::cache::{self, Cache};
use crate::config::Config;
use crate::fleet::{ConnectError, FleetCheck};
use crate::gateway::{DenyFile, Gateway, LastHour, Panics, Snapshot};
use crate::identity::{self, IssuerCheck};
use crate::insight::KnownLists;
use crate::memory::{Memory, Stage};
use crate::policy::Policy;
use crate::policy::allowance::Allowance;
use crate::server::admin::{Admin, Readiness, ReadinessReport};
use crate::server::connection::{Eviction, Listener};
use crate::server::public::PublicHandler;
use crate::server::tls::ServerTls;
use crate::server::unsent_budget::UnsentBudget;
use crate::server::{Bound, PassedSockets};
use crate::settings::ConfigError;
use crate::system::private_files::DirectoryFault;
use crate::system::{Clock, Ids, unwritable_directory};
use crate::telemetry::metrics::cache::CacheMetrics;
use crate::telemetry::metrics::connections::ConnectionMetrics;
use crate::telemetry::metrics::lookups::LookupMetrics;
use crate::telemetry::metrics::process::ReloadMetrics;
use crate::telemetry::{Chain, Metrics};
use crate::upstream::{BuildOptions, OnlineCheck, StateError, Upstream};

mod parts;
mod reload;
mod stop;

use parts::BuiltParts;

/// A running gateway.
pub struct App {
    started: Config,
    reloads: ReloadMetrics,
    gateway: Arc<Gateway>,
    clock: Clock,
    tls: Option<ServerTls>,
    address: SocketAddr,
    admin_address: SocketAddr,
    readiness: Arc<Readiness>,
    stop: Shutdown,
    fetches: TaskTracker,
    listeners: Vec<JoinHandle<()>>,
    background: TaskTracker,
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum StartError {
    #[error("the audit trail cannot be opened")]
    Audit(#[source] AuditError),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the configuration is refused")]
    Misconfigured(Vec<ConfigError>),
    #[error("our tokens at Atlas cannot be kept account of")]
    State(#[source] StateError),
    #[error("the directory {} of the snapshot is used by another process", .0.display())]
    SnapshotInUse(PathBuf),
}

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::InUse { .. } => Self::State(error),
            StateError::Unusable { .. } => Self::Misconfigured(vec![error.config_error()]),
        }
    }
}

impl From<AuditError> for StartError {
    fn from(error: AuditError) -> Self {
        match error.config_error() {
            Some(config_error) => Self::Misconfigured(vec![config_error]),
            None => Self::Audit(error),
        }
    }
}

#[derive(Debug)]
pub(crate) struct AtlasCheck {
    pub(crate) credentials: Vec<OnlineCheck>,
    /// By how many seconds our clock is ahead of its; behind, if negative. `None` where it does not say.
    pub(crate) clock_ahead: Option<i64>,
}

#[derive(Clone, Default)]
struct Shutdown {
    callers: CancellationToken,
    operators: CancellationToken,
    abort: CancellationToken,
    background: CancellationToken,
}

impl App {
    /// Whether everything that the configuration names can be used: key files, secrets, certificates.
    /// Returns who may ask what.
    pub fn check(config: &Config, clock: &Clock) -> Result<Policy, Vec<ConfigError>> {
        let (metrics, _) = Metrics::register();
        BuiltParts::build(config, clock, &metrics).map(|parts| parts.policy)
    }

    /// What is allowed but is seldom meant, in the configuration and in the files that it names.
    pub fn warnings(config: &Config, clock: &Clock) -> Vec<ConfigError> {
        let mut warnings = config.warnings();
        warnings.extend(Self::unwritable(config));
        let tls = config
            .server
            .tls
            .as_ref()
            .and_then(|tls| ServerTls::load(tls).ok());
        let listed = config.access.deny_file.as_deref().map(DenyFile::read);
        let lines = listed.and_then(Result::ok).map(|read| read.bad);
        warnings.extend(lines.into_iter().flatten().map(|line| {
            ConfigError::at("access.deny_file", format!("{line}; it denies no caller"))
        }));
        warnings.extend(tls.iter().flat_map(|tls| tls.warnings(clock.now().wall)));
        warnings.extend(identity::left_out_of_files(&config.identity));
        warnings
    }

    /// Mints a token and reads one page with each credential, of the projects that it or a rule names.
    pub(crate) async fn check_online(
        config: &Config,
        clock: Clock,
    ) -> Result<AtlasCheck, Vec<ConfigError>> {
        let (metrics, _) = Metrics::register();
        let options = BuildOptions {
            persists: false,
            ..BuildOptions::default()
        };
        let upstream = Upstream::build(&config.atlas, clock, metrics.upstream, options)?;
        let credentials = upstream.check_online(&config.access.named_projects()).await;
        let clock_ahead = upstream.clock_ahead().await;
        upstream.close().await;
        Ok(AtlasCheck {
            credentials,
            clock_ahead,
        })
    }

    pub(crate) fn unwritable(config: &Config) -> Vec<ConfigError> {
        let warnings = Self::places(config).filter_map(|(key, path)| {
            let message = unwritable_directory(path)?;
            Some(ConfigError::at(key, message))
        });
        warnings.collect()
    }

    /// The directories that the gateway writes to.
    pub(crate) fn places(config: &Config) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let snapshot = config.cache.snapshot.as_ref();
        [
            ("audit.directory", &config.audit.directory),
            ("atlas.state_directory", &config.atlas.state_directory),
        ]
        .into_iter()
        .chain(snapshot.map(|path| ("cache.snapshot", path)))
    }

    /// Looks at the engine of the fleet; `None` without a fleet.
    pub(crate) async fn check_fleet(
        config: &Config,
        clock: &Clock,
    ) -> Result<Option<Result<FleetCheck, ConnectError>>, Vec<ConfigError>> {
        let (metrics, _) = Metrics::register();
        match parts::fleet(config, clock, &metrics)? {
            Some(fleet) => Ok(Some(fleet.check().await)),
            None => Ok(None),
        }
    }

    pub(crate) async fn check_issuers(config: &Config, clock: &Clock) -> Vec<IssuerCheck> {
        identity::check_online(&config.identity, clock).await
    }

    /// Starts. Neither Atlas nor an issuer need be there (G32).
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_on(PassedSockets::default(), config, clock).await
    }

    /// The same, on the sockets that the service manager has passed, where there are some.
    pub(crate) async fn start_on(
        passed: PassedSockets,
        config: &Config,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let (metrics, scrape) = Metrics::register();
        let parts =
            BuiltParts::build(config, &clock, &metrics).map_err(StartError::Misconfigured)?;
        parts.show_certificate(&clock, &metrics);
        let callers = bind(passed.callers, config.server.listen).await?;
        let operators = bind(passed.operators, config.admin.listen).await?;
        let (address, admin_address) = (callers.address(), operators.address());
        parts.upstream.take_state(&config.atlas)?;
        let (trail, replica) = (&config.audit, config.audit.replica());
        let audit = Audit::open(trail, &replica, clock.clone(), metrics.audit)?;
        let (fetches, stop) = (TaskTracker::new(), Shutdown::default());
        let (cache, snapshot) = cache(&config.cache, &clock, metrics.cache, &fetches)?;
        let gateway = Arc::new(Gateway {
            identity: Arc::new(parts.identity),
            policy: ArcSwap::from_pointee(parts.policy),
            deny_file: DenyFile::default(),
            policy_metrics: metrics.policy,
            allowance: Allowance::in_fleet(parts.fleet.clone()),
            cache,
            fleet: parts.fleet,
            upstream: parts.upstream,
            snapshot,
            last_hour: LastHour::default(),
            known_lists: KnownLists::new(&config.insight, metrics.insight),
            audit,
            metrics: metrics.lookups.clone(),
            panics: Panics::default(),
            repeats: Arc::default(),
            memory: Memory::new(metrics.memory),
            ids: Ids::default(),
            clock: clock.clone(),
            limits: config.server.limits.of_lookups(),
        });
        gateway.deny_file.place(config.access.deny_file.clone());
        let warmed = gateway.restore(&config.cache).await;
        let readiness = Readiness::new(&gateway, parts.tls.clone(), metrics.readiness);
        let (seen, draining) = (Arc::clone(&readiness), readiness.draining());
        let handler = PublicHandler::new(Arc::clone(&gateway), &config.server, draining);
        let admin = Admin::new(Arc::clone(&gateway), &config.admin, scrape, seen);
        let served = (metrics.lookups, metrics.connections);
        let acceptor = acceptor(config, &gateway, parts.tls.clone(), &stop, served);
        let for_operators = acceptor.for_operators(stop.operators.clone());
        let for_operators = for_operators.run(operators, Arc::new(admin), Eviction::Any);
        let for_callers = acceptor.run(callers, Arc::new(handler), Eviction::IdleUnauthenticated);
        Ok(Self {
            started: config.clone(),
            reloads: metrics.reloads,
            background: spawn_background(&gateway, config, warmed, &stop.background),
            gateway,
            clock,
            tls: parts.tls,
            address,
            admin_address,
            readiness,
            stop,
            fetches,
            listeners: vec![tokio::spawn(for_callers), tokio::spawn(for_operators)],
        })
    }

    pub(crate) fn readiness(&self) -> ReadinessReport {
        self.readiness.report()
    }

    /// Where callers connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators connect to.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }
}

fn acceptor(
    config: &Config,
    gateway: &Gateway,
    tls: Option<ServerTls>,
    stop: &Shutdown,
    (metrics, refusals): (LookupMetrics, ConnectionMetrics),
) -> Listener {
    let limits = config.server.limits.clone();
    Listener {
        unsent: UnsentBudget::new(&limits, config.memory.bound(), metrics.clone()),
        limits,
        tls,
        trusted_proxies: config.server.trusted_proxies.clone(),
        proxy_protocol: config.server.proxy_protocol,
        clock: gateway.clock.clone(),
        stop: stop.callers.clone(),
        abort: stop.abort.clone(),
        tasks: TaskTracker::new(),
        metrics,
        memory: gateway.memory.clone(),
        refusals,
        bodies: false,
    }
}

fn spawn_background(
    gateway: &Arc<Gateway>,
    config: &Config,
    warmed: Vec<CertQuery>,
    stop: &CancellationToken,
) -> TaskTracker {
    let background = TaskTracker::new();
    background.spawn(Arc::clone(&gateway.identity).run(stop.clone()));
    if let Some(fleet) = gateway.fleet.clone() {
        let until = stop.clone();
        gateway.listen_to_fleet();
        background.spawn(async move { fleet.run(until).await });
    }
    let (upstream, until) = (gateway.upstream.clone(), stop.clone());
    background.spawn(async move { upstream.run(until).await });
    let (watching, until) = (Arc::clone(gateway), stop.clone());
    background.spawn(async move {
        until.run_until_cancelled(watching.watch_deny_file()).await;
    });
    let (sharer, until) = (Arc::clone(gateway), stop.clone());
    background.spawn(async move {
        let sharing = sharer.allowance.share(&sharer.clock);
        until.run_until_cancelled(sharing).await;
    });
    let (stocktaker, until) = (Arc::clone(gateway), stop.clone());
    background.spawn(async move {
        until
            .run_until_cancelled(stocktaker.make_inventories())
            .await;
    });
    let (restarted, until) = (Arc::clone(gateway), stop.clone());
    let interval = config.cache.snapshot_interval;
    background.spawn(async move {
        let keeping =
            async { tokio::join!(restarted.warm(warmed), restarted.keep_snapshot(interval)) };
        until.run_until_cancelled(keeping).await;
    });
    let (saver, until, memory) = (Arc::clone(gateway), stop.clone(), config.memory.clone());
    background.spawn(async move {
        let save = |stage| {
            saver.cache.save(stage >= Stage::Saving);
            saver.known_lists.save(stage >= Stage::Saving);
        };
        let clock = saver.clock.clone();
        let caches = (saver.cache.clone(), saver.identity.token_cache());
        let watch = saver.memory.watch(memory, clock, caches, save);
        until.run_until_cancelled(watch).await;
    });
    let (sweeper, stop) = (Arc::clone(gateway), stop.clone());
    background.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sweeper.clock.sleep(SWEEP_PERIOD) => {
                    sweeper.last_hour.note(sweeper.call_counts());
                    let (cache, now) = (sweeper.cache.clone(), sweeper.clock.now());
                    // It looks at every entry. A panic in it has been logged.
                    let _ = spawn_blocking(move || cache.sweep(now)).await;
                }
            }
        }
    });
    background
}

type KeptLists = (Cache, Option<Arc<Snapshot>>);

/// The lists in memory, and where they lie for the next process.
fn cache(
    config: &cache::Config,
    clock: &Clock,
    metrics: CacheMetrics,
    fetches: &TaskTracker,
) -> Result<KeptLists, StartError> {
    let snapshot = config.snapshot.clone().map(|directory| {
        let most = config.max_size.0 / 2;
        let taken = Snapshot::take(directory.clone(), most, clock.clone(), metrics.clone());
        taken.map(Arc::new).map_err(|fault| match fault {
            DirectoryFault::InUse => StartError::SnapshotInUse(directory),
            DirectoryFault::Unusable(_) => {
                let message = Chain(&fault).to_string();
                StartError::Misconfigured(vec![ConfigError::at("cache.snapshot", message)])
            }
        })
    });
    let snapshot = snapshot.transpose()?;
    let cache = Cache::new(config.clone(), clock.clone(), metrics, fetches.clone());
    Ok((cache, snapshot))
}

async fn bind(passed: Option<TcpListener>, address: SocketAddr) -> Result<Bound, StartError> {
    let bound = match passed {
        Some(listener) => Bound::take(listener),
        None => Bound::listen(address).await,
    };
    bound.map_err(|source| StartError::Listen { address, source })
}

const SWEEP_PERIOD: Duration = Duration::from_mins(1);
