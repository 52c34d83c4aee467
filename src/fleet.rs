//! The fleet: what the replicas of this gateway share in a Valkey or Redis, so that together they cost Atlas what
//! one replica costs.
//!
//! Nothing in here may be needed for an answer. While the engine is away each replica goes on *alone*, with its
//! part of what all may spend, and no caller waits for longer than `silence` to find that out. What lies there may
//! be lost at any moment; and whoever writes there can neither read nor forge a list, an event or a token
//! ([`seal`]).
//!
//! The module knows bytes, leases and replicas, and nothing of certificates: that is [`gateway`](crate::gateway)'s.

mod allowances;
mod bucket;
mod check;
mod config;
mod connection;
mod event;
mod events;
mod functions;
mod lease;
mod lists;
mod look;
mod members;
mod names;
mod purge_times;
mod purges;
mod reply;
mod reply_limit;
pub(crate) mod seal;
#[cfg(test)]
pub(crate) mod test_engine;
mod tokens;
mod turns;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::{Cmd, RedisError, Value};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub(crate) use allowances::{AccountName, Spending};
pub(crate) use bucket::{
    BucketAnswer, BucketKnown, BucketRefusal, BucketRequest, FleetCooldown, FleetPhase, Observed,
};
pub(crate) use check::FleetCheck;
pub use config::{Config, EngineUrl};
pub(crate) use connection::ConnectError;
pub(crate) use event::{FleetEvent, Operator, What};
pub(crate) use functions::{LIBRARY, RIGHTS};
pub(crate) use lists::{Lease, ListAnswer, SharedEntry, Wanted};
pub(crate) use members::Confirmed;
pub(crate) use purges::PurgeTarget;
pub(crate) use tokens::{
    HASH, MintEnd, MintLimits, OwnMint, OwnToken, SharedToken, TokenAnswer, TokenLease, TokenNeed,
};

use self::connection::{Connection, OnBell};
use self::events::Events;
use self::lists::ListWaiters;
use self::members::Members;
use self::names::Names;
use self::seal::Keys;
use self::tokens::TokenBells;
use self::turns::Turns;
use crate::settings::ConfigError;
use crate::system::Clock;
use crate::telemetry::metrics::fleet::{FleetFunction, FleetMetrics, FleetResult};
use crate::telemetry::{Chain, RateLimitedLog, Tally};

/// The fleet that this replica is part of. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<Shared>);

struct Shared {
    config: Config,
    replica: String,
    names: Names,
    keys: Keys,
    clock: Clock,
    metrics: FleetMetrics,
    connection: ArcSwapOption<Connection>,
    /// Why nothing can be shared now.
    problem: ArcSwapOption<String>,
    turns: Turns,
    list_waiters: ListWaiters,
    events: Events,
    members: Members,
    failures: RateLimitedLog,
    token_bells: TokenBells,
}

/// The engine cannot be asked now: this replica is alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fleet's engine cannot be asked now")]
pub(crate) struct Alone;

/// What makes a fleet besides its configuration.
#[derive(Debug)]
pub(crate) struct ReplicaIdentity<'i> {
    /// The name of this replica; each has its own.
    pub(crate) replica: &'i str,
    /// Atlas's address and API: fleets in front of another Atlas never meet.
    pub(crate) atlas: [&'i str; 2],
    /// Of the settings that all replicas should have in common.
    pub(crate) fingerprint: String,
    /// How many fetches of a project a replica makes at a time.
    pub(crate) fetches_per_project: usize,
}

impl Fleet {
    /// Reads the keys; connects to nothing yet.
    pub(crate) fn build(
        config: &Config,
        identity: &ReplicaIdentity<'_>,
        clock: Clock,
        metrics: FleetMetrics,
    ) -> Result<Self, Vec<ConfigError>> {
        let keys = Keys::read(&config.key_files)?;
        let [base_url, api] = identity.atlas;
        metrics.joined(config.replicas);
        Ok(Self(Arc::new(Shared {
            names: Names::new(&[&config.name, base_url, api], keys.names()),
            config: config.clone(),
            replica: identity.replica.to_owned(),
            keys,
            clock,
            metrics,
            connection: ArcSwapOption::empty(),
            problem: ArcSwapOption::empty(),
            turns: Turns::new(identity.fetches_per_project),
            list_waiters: ListWaiters::default(),
            events: Events::default(),
            members: Members::new(identity.fingerprint.clone()),
            failures: RateLimitedLog::default(),
            token_bells: TokenBells::default(),
        })))
    }

    /// The name of this replica.
    pub(crate) fn replica(&self) -> &str {
        &self.0.replica
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &FleetMetrics {
        &self.0.metrics
    }

    /// The most replicas that ever run at a time.
    pub(crate) fn replicas(&self) -> u32 {
        self.0.config.replicas
    }

    /// Why this replica shares nothing with the others now; `None` if it does.
    pub(crate) fn problem(&self) -> Option<Arc<String>> {
        let not_yet = || (!self.is_connected()).then(|| Arc::new("there is no connection".into()));
        self.0.problem.load_full().or_else(not_yet)
    }

    /// Whether there is a connection, by which purges are heard.
    pub(crate) fn is_connected(&self) -> bool {
        self.0.connection.load().is_some()
    }

    /// Connects, and connects again whenever the connection is lost, until `stop` is cancelled.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let mut pause = SHORTEST_PAUSE;
        while !stop.is_cancelled() {
            match stop.run_until_cancelled(self.connect()).await {
                Some(Ok(connection)) => {
                    pause = SHORTEST_PAUSE;
                    let shared = self.share_until_lost(&connection);
                    if stop.run_until_cancelled(shared).await.is_none() {
                        self.leave().await;
                    }
                    self.lose(&connection);
                }
                Some(Err(error)) => {
                    self.note_failure(&error);
                    self.0.token_bells.tried.cancel();
                }
                None => return,
            }
            stop.run_until_cancelled(self.0.clock.sleep(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<Arc<Connection>, ConnectError> {
        let (shared, channel) = (Arc::downgrade(&self.0), self.0.names.of_fleet("bell"));
        let on_bell: OnBell = Arc::new(move |message| {
            if let Some(shared) = shared.upgrade() {
                match message {
                    b"events" => shared.events.ring(),
                    b"heard" => shared.members.ring(),
                    b"token" => shared.token_bells.ended.notify_waiters(),
                    name => shared.list_waiters.ring(name),
                }
            }
        });
        let Shared { config, clock, .. } = &*self.0;
        let connection = Connection::open(config, clock, &channel, on_bell).await;
        connection.map(Arc::new)
    }

    /// Tells the others that this replica runs, and hears what they tell, for as long as the connection lasts.
    async fn share_until_lost(&self, connection: &Arc<Connection>) {
        self.0.connection.store(Some(Arc::clone(connection)));
        self.0.token_bells.tried.cancel();
        // What was missed meanwhile comes before anything is adopted from the others.
        if self.hear().await.is_err() {
            return;
        }
        self.note_usable();
        if let Some(Tally { times, span }) = self.0.failures.is_over(self.0.clock.elapsed()) {
            let seconds = span.as_secs();
            info!(times, seconds, "connected to the fleet's engine again");
        } else {
            info!("connected to the fleet's engine");
        }
        while !connection.closed.is_cancelled() {
            self.be_present().await;
            tokio::select! {
                () = connection.closed.cancelled() => return,
                () = self.0.events.rung() => {}
                () = self.0.clock.sleep(BETWEEN_ROUNDS) => {}
            }
            if self.hear().await.is_err() {
                return;
            }
        }
    }

    fn lose(&self, connection: &Arc<Connection>) {
        let is_present = |present: &Option<Arc<Connection>>| {
            present
                .as_ref()
                .is_some_and(|present| Arc::ptr_eq(present, connection))
        };
        connection.closed.cancel();
        if is_present(&self.0.connection.load()) {
            self.0.connection.store(None);
            self.0.metrics.connected.set(0);
            // Nothing will be rung for them.
            self.0.list_waiters.ring_all();
        }
    }

    fn note_usable(&self) {
        self.0.problem.store(None);
        self.0.metrics.connected.set(1);
    }

    fn note_problem(&self, problem: String) {
        self.0.problem.store(Some(Arc::new(problem)));
        self.0.metrics.connected.set(0);
    }

    fn note_failure(&self, error: &ConnectError) {
        self.note_problem(Chain(error).to_string());
        let now = self.0.clock.elapsed();
        if let Some(Tally { times, .. }) = self.0.failures.happened(now) {
            warn!(
                times,
                "no connection to the fleet's engine, so this replica is alone: {}",
                Chain(error)
            );
        }
    }

    /// Calls a function of the library.
    pub(crate) fn call(
        &self,
        function: FleetFunction,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> impl Future<Output = Result<Value, Alone>> + Send + use<'_> {
        let mut command = redis::cmd("FCALL");
        command
            .arg(format!("acg1_{}", function.word()))
            .arg(keys.len());
        for key in keys {
            command.arg(*key);
        }
        for argument in arguments {
            command.arg(*argument);
        }
        async move { self.send(function, &command).await }
    }

    async fn send(&self, function: FleetFunction, command: &Cmd) -> Result<Value, Alone> {
        let Shared {
            metrics,
            clock,
            config,
            ..
        } = &*self.0;
        let Some(connection) = self.0.connection.load_full() else {
            metrics.called(function, FleetResult::Alone);
            return Err(Alone);
        };
        let began = clock.elapsed();
        let result = match connection.call(command, config.silence, clock).await {
            Ok(Ok(value)) => {
                let took = clock.elapsed().saturating_sub(began);
                metrics.answered(function, took.as_secs_f64());
                metrics.called(function, FleetResult::Ok);
                // It is called each second, and refused where there is no room.
                if function == FleetFunction::Here && self.0.problem.load().is_some() {
                    self.note_usable();
                }
                return Ok(value);
            }
            Ok(Err(error)) if is_of_this_call(&error) => {
                if error.code() == Some("OOM") {
                    self.note_problem(format!("its memory is full, raise `maxmemory`: {error}"));
                }
                let now = clock.elapsed();
                if let Some(Tally { times, .. }) = self.0.failures.happened(now) {
                    warn!(
                        times,
                        function = function.word(),
                        "the fleet's engine refuses a call: {error}"
                    );
                }
                metrics.called(function, FleetResult::Refused);
                return Err(Alone);
            }
            Ok(Err(error)) => {
                self.note_failure(&ConnectError::Refused(error));
                FleetResult::Refused
            }
            Err(_) => {
                self.note_failure(&ConnectError::Late);
                FleetResult::Silent
            }
        };
        metrics.called(function, result);
        self.lose(&connection);
        Err(Alone)
    }
}

/// Whether an error says nothing of the next call: any other ends the connection, so that the next one finds
/// another primary, the functions, or a password that has changed.
fn is_of_this_call(error: &RedisError) -> bool {
    matches!(error.code(), Some("OOM" | "WRONGTYPE"))
}

/// Between two attempts to connect.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often a replica says that it runs, and looks for events of which the bell was lost.
const BETWEEN_ROUNDS: Duration = Duration::from_secs(1);
