//! A local Atlas and an [`Upstream`] that asks it, by one clock that stands still until it is moved.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atlas_cert_gateway::atlas::{CertQuery, ProjectId, Timestamp};
use atlas_cert_gateway::system::{Clock, ManualClock, Secret};
use atlas_cert_gateway::telemetry::metrics::upstream::{MintResult, UpstreamMetrics};
use atlas_cert_gateway::upstream::{
    ApiKeyConfig, BuildOptions, Config, CredentialConfig, FetchError, FetchErrorKind, Fetched,
    HeldBack, Jitter, ServiceAccountConfig, Upstream, Urgency,
};
use atlas_simulator::{
    CLIENT_ID, CLIENT_SECRET, Endpoint, PRIVATE_KEY, PUBLIC_KEY, Settings, Simulator,
    World as Projects,
};
use reqwest::dns::Resolve;

use crate::harness::files::Files;
use crate::world::other_threads;

pub(crate) const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
pub(crate) const OTHER: &str = "5e2211c17a3e5a48f5497de3";

pub(crate) struct World {
    pub(crate) atlas: Simulator,
    pub(crate) upstream: Upstream,
    pub(crate) metrics: UpstreamMetrics,
    pub(crate) manual_clock: ManualClock,
    pub(crate) clock: Clock,
    pub(crate) config: Config,
    pub(crate) state: Files,
    names: Option<Arc<dyn Resolve>>,
}

impl World {
    /// One project with one user, `app1`, who has two certificates; a service account for all.
    pub(crate) async fn new() -> Self {
        Self::with(|_| (), |_| ()).await
    }

    /// The same with `count` certificates.
    pub(crate) async fn of(count: u32) -> Self {
        let certificates = |settings: &mut Settings| {
            let mut user = settings.world.project(PROJECT);
            user.user("app1")
                .remove_all_certificates()
                .certificates(count);
        };
        Self::with(certificates, |_| ()).await
    }

    pub(crate) async fn with(
        change_settings: impl FnOnce(&mut Settings),
        change_config: impl FnOnce(&mut Config),
    ) -> Self {
        Self::where_names_lead(None, change_settings, change_config).await
    }

    /// The same, where someone else than the system says which address a name has.
    pub(crate) async fn where_names_lead(
        names: Option<Arc<dyn Resolve>>,
        change_settings: impl FnOnce(&mut Settings),
        change_config: impl FnOnce(&mut Config),
    ) -> Self {
        let start = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
        let (clock, manual_clock) = Clock::manual(start);
        let mut projects = Projects::new(SystemTime::from(start));
        projects.project(PROJECT).user("app1").certificates(2);
        let reader = manual_clock.clone();
        let mut settings = Settings {
            now: Arc::new(move || SystemTime::from(reader.now().wall)),
            ..Settings::with_world(projects)
        };
        change_settings(&mut settings);
        let atlas = Simulator::start(settings).await.unwrap();
        let state = Files::new();
        let mut config = Config {
            base_url: atlas.base_url(),
            state_directory: state.path().to_owned(),
            credentials: vec![service_account()],
            ..Config::default()
        };
        // Its limit goes by the real clock, which the worlds of a busy machine fall behind.
        config.limits.connect = Duration::from_hours(1);
        change_config(&mut config);
        let metrics = UpstreamMetrics::default();
        let upstream = start_upstream(&config, &clock, &metrics, names.clone());
        Self {
            atlas,
            upstream,
            metrics,
            manual_clock,
            clock,
            config,
            state,
            names,
        }
    }

    /// What a process that is killed and started again has: another `Upstream`, the same directory.
    pub(crate) fn restart(&mut self) {
        let names = self.names.clone();
        self.upstream = start_upstream(&self.config, &self.clock, &self.metrics, names);
    }

    /// Asks, and lets time pass meanwhile, so that pauses end; slowly enough for the sockets.
    pub(crate) async fn ask(&self) -> Result<Fetched, FetchError> {
        self.ask_for(PROJECT, "app1", Urgency::Miss).await
    }

    pub(crate) async fn ask_for(
        &self,
        project: &str,
        username: &str,
        urgency: Urgency,
    ) -> Result<Fetched, FetchError> {
        let query = query(project, username);
        self.pass_time(self.upstream.fetch(&query, urgency.into()))
            .await
    }

    /// Asks while time stands still.
    pub(crate) async fn ask_at_once(&self) -> Result<Fetched, FetchError> {
        let query = query(PROJECT, "app1");
        self.upstream.fetch(&query, Urgency::Miss.into()).await
    }

    /// Waits until each call for a token has its answer: one under way would not outlive a jump of the clock.
    pub(crate) async fn tokens_arrived(&self) {
        let ended = || {
            let mints = [
                MintResult::Limited,
                MintResult::Minted,
                MintResult::Refused,
                MintResult::Unavailable,
            ]
            .map(|result| {
                let mints = self
                    .metrics
                    .token_mints
                    .get_or_create(&[("result", result)]);
                mints.get()
            });
            usize::try_from(mints.iter().sum::<u64>()).unwrap()
        };
        for _ in 0..YIELDS {
            tokio::task::yield_now().await;
        }
        while ended() < self.atlas.calls(Endpoint::Token) {
            other_threads().await;
        }
    }

    /// Runs something, and lets time pass until it is done.
    pub(crate) async fn pass_time<T>(&self, work: impl Future<Output = T>) -> T {
        let pass = async {
            loop {
                for _ in 0..YIELDS {
                    tokio::task::yield_now().await;
                }
                other_threads().await;
                self.manual_clock.advance(Duration::from_millis(1));
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = pass => unreachable!("time does not end"),
        }
    }

    /// The serial numbers that Atlas holds now.
    pub(crate) fn held(&self) -> Vec<i64> {
        serials_of(&self.atlas)
    }
}

fn start_upstream(
    config: &Config,
    clock: &Clock,
    metrics: &UpstreamMetrics,
    names: Option<Arc<dyn Resolve>>,
) -> Upstream {
    let options = BuildOptions {
        jitter: Jitter::Fixed(0),
        resolver: names,
        persists: true,
    };
    Upstream::build(config, clock.clone(), metrics.clone(), options).unwrap()
}

pub(crate) fn service_account() -> CredentialConfig {
    CredentialConfig {
        name: "platform".to_owned(),
        projects: vec!["*".to_owned()],
        service_account: Some(ServiceAccountConfig {
            client_id: CLIENT_ID.to_owned(),
            client_secret_file: None,
            client_secret: Some(Secret::new(CLIENT_SECRET.to_owned())),
        }),
        api_key: None,
    }
}

pub(crate) fn api_key() -> CredentialConfig {
    CredentialConfig {
        name: "legacy".to_owned(),
        projects: vec!["*".to_owned()],
        service_account: None,
        api_key: Some(ApiKeyConfig {
            public_key: PUBLIC_KEY.to_owned(),
            private_key_file: None,
            private_key: Some(Secret::new(PRIVATE_KEY.to_owned())),
        }),
    }
}

pub(crate) fn query(project: &str, username: &str) -> CertQuery {
    CertQuery {
        project: project_id(project),
        username: username.parse().unwrap(),
    }
}

pub(crate) fn project_id(project: &str) -> ProjectId {
    project.parse().unwrap()
}

pub(crate) fn serials_of(atlas: &Simulator) -> Vec<i64> {
    atlas.world(|world| {
        let unexpired = world.unexpired(PROJECT, "app1");
        unexpired
            .iter()
            .map(|certificate| certificate.serial)
            .collect()
    })
}

/// The serial numbers in a list, in its order.
pub(crate) fn serials(fetched: &Fetched) -> Vec<i64> {
    let certificates = fetched.list.iter();
    certificates
        .map(|certificate| {
            let document: serde_json::Value = serde_json::from_str(certificate.json).unwrap();
            document["_id"].as_i64().unwrap()
        })
        .collect()
}

/// A failure's name, as short as it goes.
pub(crate) fn name(failure: &FetchErrorKind) -> String {
    match failure {
        FetchErrorKind::Atlas(answer) => {
            let code = answer.error_code.as_deref().unwrap_or_default();
            format!("{} {code}", answer.status.as_u16())
        }
        FetchErrorKind::BreakerOpen { .. } => "breaker".to_owned(),
        FetchErrorKind::Credential(why) => {
            let why = format!("{why:?}");
            format!("credential {}", why.split('(').next().unwrap())
        }
        FetchErrorKind::Inconsistent => "inconsistent".to_owned(),
        FetchErrorKind::InvalidResponse(_) => "invalid".to_owned(),
        FetchErrorKind::NoCredential => "no credential".to_owned(),
        FetchErrorKind::NoDocument { status, .. } => format!("{} no document", status.as_u16()),
        FetchErrorKind::HeldBack {
            why: HeldBack::Busy,
            ..
        } => "busy".to_owned(),
        FetchErrorKind::HeldBack {
            why: HeldBack::Unavailable,
            ..
        } => "unavailable".to_owned(),
        FetchErrorKind::HeldBack { .. } => "rate limited".to_owned(),
        FetchErrorKind::Timeout => "timeout".to_owned(),
        FetchErrorKind::Tls => "tls".to_owned(),
        FetchErrorKind::Unreachable => "unreachable".to_owned(),
    }
}

/// What became of asking: how many certificates, or why none.
pub(crate) fn outcome(result: &Result<Fetched, FetchError>) -> String {
    match result {
        Ok(fetched) => format!("{} certificates", fetched.list.len()),
        Err(error) => name(&error.reason),
    }
}

/// Turns of all other tasks, sockets included, per millisecond that passes.
const YIELDS: usize = 50;
