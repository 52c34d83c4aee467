//! A cache, a clock and an Atlas that says what the test has told it to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::super::*;
use crate::atlas::{Certificate, CertificateList, Timestamp};
use crate::system::ManualClock;
use crate::upstream::{AtlasAnswer, FetchErrorKind, FetchStats};

/// What a scripted Atlas says.
#[derive(Clone, Debug)]
pub(super) enum Word {
    /// Certificates, each with the second of its `notAfter`.
    List(Vec<(String, i64)>),
    /// An error document.
    Refusal(StatusCode, &'static str),
    Failure(FetchErrorKind),
    Panic,
}

pub(super) struct Stage {
    pub(super) cache: Cache,
    pub(super) manual_clock: ManualClock,
    pub(super) metrics: CacheMetrics,
    pub(super) atlas: Arc<Atlas>,
}

/// Counts fetches, and lets each end only while the gate is open.
#[derive(Debug)]
pub(super) struct Atlas {
    word: watch::Sender<Word>,
    gate: Semaphore,
    fetches: AtomicU32,
    under_way: AtomicU32,
    most_at_once: AtomicU32,
    pub(super) urgencies: std::sync::Mutex<Vec<Urgency>>,
    clock: Clock,
}

/// As many fetches as no test makes.
const OPEN: usize = 1 << 20;
pub(super) const START: i64 = 1_800_000_000;
pub(super) const ADDRESS: Address<'static> = Address {
    scheme: "https",
    host: "gateway.example",
    root: "/api/atlas/v2",
};

pub(super) fn query(name: &str) -> CertQuery {
    CertQuery {
        project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
        username: name.parse().unwrap(),
    }
}

/// A list of certificates that outlive every test.
pub(super) fn list(names: &[&str]) -> Word {
    Word::List(
        names
            .iter()
            .map(|name| (format!("{{\"_id\":\"{name}\"}}"), i64::MAX / 2_000_000))
            .collect(),
    )
}

pub(super) fn down() -> Word {
    Word::Failure(FetchErrorKind::Unreachable)
}

impl Stage {
    pub(super) fn new(config: Config) -> Self {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(START));
        let metrics = CacheMetrics::default();
        Self {
            cache: Cache::new(config, clock.clone(), metrics.clone(), TaskTracker::new()),
            manual_clock,
            metrics,
            atlas: Arc::new(Atlas {
                word: watch::Sender::new(list(&["one"])),
                gate: Semaphore::new(OPEN),
                fetches: AtomicU32::new(0),
                under_way: AtomicU32::new(0),
                most_at_once: AtomicU32::new(0),
                urgencies: std::sync::Mutex::default(),
                clock,
            }),
        }
    }

    pub(super) async fn ask(&self, name: &str) -> Result<Found, NotFound> {
        self.ask_with(name, CacheMode::Cached).await
    }

    pub(super) async fn refresh(&self, name: &str) -> Result<Found, NotFound> {
        self.ask_with(name, CacheMode::ForceRefresh).await
    }

    pub(super) async fn ask_with(&self, name: &str, mode: CacheMode) -> Result<Found, NotFound> {
        let ask = Ask {
            address: ADDRESS,
            mode,
            now: self.manual_clock.now(),
        };
        let atlas = Arc::clone(&self.atlas);
        self.cache
            .0
            .get_or_fetch(
                &query(name),
                ask,
                |_| Ok(()),
                Box::new(move |request| Arc::clone(&atlas).fetch(request).map(Into::into).boxed()),
            )
            .await
    }

    /// The usual answer's certificates, as far as they are served now.
    pub(super) fn body(&self, name: &str, found: &Found) -> String {
        let now = self.manual_clock.now().wall;
        let usual = found.entry.usual(&query(name), ADDRESS, now);
        String::from_utf8(usual.body.to_vec()).unwrap()
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.manual_clock.advance(Duration::from_secs(seconds));
    }

    /// Lets every fetch under way come to its end.
    pub(super) async fn settle(&self) {
        while self.atlas.under_way.load(Ordering::SeqCst) > 0
            || self.metrics.fetches_in_flight.get() > 0
        {
            tokio::task::yield_now().await;
        }
    }

    /// Lets what has been spawned begin.
    pub(super) async fn breathe(&self) {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }
}

impl Atlas {
    pub(super) fn says(&self, word: Word) {
        self.word.send_replace(word);
    }

    /// Lets fetches begin, but not end.
    pub(super) fn hold(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    /// Lets one fetch end.
    pub(super) fn release_one(&self) {
        self.gate.add_permits(1);
    }

    pub(super) fn release(&self) {
        self.gate.add_permits(OPEN);
    }

    pub(super) fn fetches(&self) -> u32 {
        self.fetches.load(Ordering::SeqCst)
    }

    pub(super) fn most_at_once(&self) -> u32 {
        self.most_at_once.load(Ordering::SeqCst)
    }

    /// One fetch: reads what Atlas says now, and brings it once the gate is open.
    pub(super) async fn fetch(
        self: Arc<Self>,
        request: FetchRequest,
    ) -> Result<Fetched, FetchError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.urgencies.lock().unwrap().push(request.urgency);
        let at_once = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(at_once, Ordering::SeqCst);
        let (word, answered_at) = (self.word.borrow().clone(), self.clock.now());
        self.gate.acquire().await.unwrap().forget();
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let cost = FetchStats {
            credential: "platform".into(),
            calls: 2,
            pages: 1,
            duration: Duration::from_millis(50),
            status: Some(StatusCode::OK),
        };
        let reason = match word {
            Word::List(items) => {
                let list = CertificateList::join(items.iter().map(|(json, seconds)| Certificate {
                    json,
                    not_after: Timestamp::from_seconds(*seconds),
                }));
                return Ok(Fetched {
                    list: list.unwrap(),
                    answered_at,
                    stats: cost,
                    shared: None,
                });
            }
            Word::Refusal(of_atlas, code) => FetchErrorKind::Atlas(AtlasAnswer {
                status: of_atlas,
                body: Bytes::from_static(b"{}"),
                error_code: Some(code.into()),
                retry_after: None,
            }),
            Word::Failure(failure) => failure,
            Word::Panic => panic!("a bug in the fetch"),
        };
        Err(FetchError {
            reason,
            stats: cost,
        })
    }
}
