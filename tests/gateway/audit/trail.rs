//! A journal in a directory of its own, and what stands in it.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use atlas_cert_gateway::atlas::{CertQuery, Timestamp};
use atlas_cert_gateway::audit::search::{Filter, Order, Search};
use atlas_cert_gateway::audit::verify::{VerifyReport, verify};
use atlas_cert_gateway::audit::{
    Arrival, Audit, AuditError, CacheUse, Closing, Config, Entry, Origin, Outcome, Unrecorded,
    search,
};
use atlas_cert_gateway::identity::{Caller, RuleListNumber};
use atlas_cert_gateway::system::{Clock, ManualClock};
use atlas_cert_gateway::telemetry::metrics::audit::AuditMetrics;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::Value;
use uuid::Uuid;

use crate::harness::files::Files;
use crate::world::other_threads;

pub(crate) struct Trail {
    pub(crate) audit: Audit,
    pub(crate) clock: Clock,
    pub(crate) manual_clock: ManualClock,
    pub(crate) config: Config,
    pub(crate) metrics: AuditMetrics,
    registry: Registry,
    _place: Files,
}

impl Trail {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let place = Files::new();
        let mut config = Config {
            directory: place.path().join("audit"),
            ..Config::default()
        };
        change(&mut config);
        let (clock, manual_clock) = Clock::manual(START);
        let mut registry = Registry::default();
        let metrics = AuditMetrics::register(&mut registry);
        let audit = Audit::open(&config, "test", clock.clone(), metrics.clone()).unwrap();
        Self {
            audit,
            clock,
            manual_clock,
            config,
            metrics,
            registry,
            _place: place,
        }
    }

    pub(crate) fn entry(&self) -> Entry<'_> {
        self.audit.entry(self.arrival())
    }

    pub(crate) fn arrival(&self) -> Arrival<'static> {
        Arrival {
            request_id: Uuid::now_v7().into(),
            origin: Cow::Owned(Origin::new("192.0.2.7:50123".parse().unwrap(), None)),
            at: self.clock.now(),
            caller_request_id: None,
        }
    }

    pub(crate) fn closing(&self) -> Closing<'static> {
        Closing {
            outcome: Outcome::Answered,
            status: 200,
            error_code: None,
            reason: None,
            claim: None,
            cache: CacheUse::Hit,
            fill_id: None,
            fill_replica: None,
            age: Some(Duration::from_millis(1_500)),
            certificates: Some(2),
            list: Some(*b"n4bQgYhMfWWaL-qg"),
            upstream_calls: 0,
            now: self.clock.now(),
        }
    }

    /// Records one answered lookup by `subject`.
    pub(crate) async fn record(&self, subject: &str) -> Result<(), Unrecorded> {
        let query = query("app");
        let mut entry = self.entry();
        entry.set_caller(&caller(subject));
        entry.set_query(&query);
        entry.close(self.closing()).await
    }

    /// Ends the journal and begins it again.
    pub(crate) async fn restart(self) -> Self {
        self.restart_with(|_| ()).await
    }

    /// The same with another configuration.
    pub(crate) async fn restart_with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        self.audit.close().await;
        change(&mut self.config);
        let (clock, metrics) = (self.clock.clone(), self.metrics.clone());
        self.audit = Audit::open(&self.config, "test", clock, metrics).unwrap();
        self
    }

    pub(crate) fn reopened(&self) -> Result<Audit, AuditError> {
        Audit::open(
            &self.config,
            "test",
            self.clock.clone(),
            AuditMetrics::default(),
        )
    }

    /// How many batches were written, as a scrape shows it.
    pub(crate) fn writes(&self) -> u64 {
        self.count("audit_write_seconds_count ")
    }

    /// How often records were brought to the disk.
    pub(crate) fn syncs(&self) -> u64 {
        self.count("audit_sync_seconds_count ")
    }

    fn count(&self, name: &str) -> u64 {
        let mut page = String::new();
        encode(&mut page, &self.registry).unwrap();
        page.lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .parse()
            .unwrap()
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(&self.config.directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap() != ".lock")
            .collect();
        files.sort_by_key(|path| (number(path), path.clone()));
        files
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        self.files()
            .iter()
            .filter(|path| path.extension().is_none_or(|it| it != "torn"))
            // On a full disk files come and go: one that is gone held nothing.
            .filter_map(|path| match fs::read_to_string(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                text => Some(text.unwrap()),
            })
            .flat_map(|text| {
                assert!(text.is_ascii());
                // A line without its end is still being written.
                let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
                whole
                    .lines()
                    .map(|line| serde_json::from_str(line).expect(line))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    pub(crate) fn lookups(&self) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["kind"] == "lookup");
        lines
    }

    /// The id of the chain.
    pub(crate) fn chain(&self) -> String {
        let first = self.lines().remove(0);
        first["chain"].as_str().unwrap().to_owned()
    }

    pub(crate) fn verify(&self) -> VerifyReport {
        verify(&self.config.directory, 1, &[]).unwrap()
    }

    /// Moves the hands on by `span`, and lets everybody run who waited for that. No real time passes.
    pub(crate) async fn advance(&self, span: Duration) {
        self.manual_clock.advance(span);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets the hands move on until `reached` holds: what a thread does in its own time.
    pub(crate) async fn until(&self, mut reached: impl FnMut() -> bool) {
        while !reached() {
            self.manual_clock.advance(Duration::from_millis(1));
            for _ in 0..10 {
                other_threads().await;
            }
        }
    }

    /// Lets a minute pass, and the round of retention end that is due then, until `reached` holds. Only then
    /// the next minute: packing has the lowest priority, and what is to be packed would get too old meanwhile.
    pub(crate) async fn rounds(&self, mut reached: impl FnMut() -> bool) {
        while !reached() {
            let ended = self.metrics.retention.rounds.get();
            self.advance(Duration::from_mins(1)).await;
            // A round may wait for a moment for its own record.
            let metrics = &self.metrics.retention;
            self.until(|| metrics.rounds.get() != ended).await;
        }
    }
}

pub(crate) fn caller(subject: &str) -> Arc<Caller> {
    Arc::new(Caller {
        subject: Box::from(subject),
        issuer: Arc::from("https://idp.internal.example"),
        client_id: None,
        token_id: Some(Box::from("token-1")),
        key_id: None,
        scopes: Box::default(),
        expires_at: START.plus(Duration::from_hours(1)),
        rule_list: RuleListNumber::default(),
    })
}

pub(crate) fn query(username: &str) -> CertQuery {
    CertQuery {
        project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
        username: username.parse().unwrap(),
    }
}

/// The number of a file's first record, as its name says; 0 for a name without one.
pub(crate) fn number(path: &Path) -> u64 {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.split(['-', '.'])
        .nth(2)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

/// 2026-08-10T02:06:35Z.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_786_327_595);

/// The background task has gone round once: what failed is tried again.
pub(crate) const A_ROUND: Duration = Duration::from_millis(100);
/// The file that is written to has been looked at.
pub(crate) const PAST_EXAMINATION: Duration = Duration::from_millis(1_100);
/// The head of the chain has been signed.
pub(crate) const PAST_SIGNATURE: Duration = Duration::from_secs(61);
/// What was written has been brought to the disk, with `sync = "interval"`.
pub(crate) const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The numbers of all records that a search of `directory` finds, of which none is missing.
pub(crate) fn search_numbers(directory: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    let search = Search {
        directories: &[directory.to_owned()],
        filter: &Filter::default(),
        order: Order::OldestFirst,
    };
    let incomplete = search::search(&search, &|_| (), |record| {
        found.push(record.seq);
        ControlFlow::Continue(())
    });
    assert_eq!(incomplete.unwrap(), []);
    found
}
