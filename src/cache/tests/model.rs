//! The whole cache against a simple model: random questions, faults, purges, hang-ups and hours.
//!
//! Each fetch reads what Atlas says at the moment it begins and writes that into a log; each answer is
//! then judged by that log alone.

mod steps;
mod fetches;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use proptest::prelude::*;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::super::in_flight::FetchList;
use super::super::*;
use super::stage::{ADDRESS, START};
use crate::atlas::Timestamp;
use crate::system::ManualClock;
use crate::upstream::Verdict;
use fetches::{Scene, Word, scripted_fetch};
use steps::{Purged, Step, step};

/// The keys: alike enough to be mixed up, and one in another project.
const KEYS: [(&str, &str); 4] = [
    ("32b6e34b3d91647abb20e7b8", "a"),
    ("32b6e34b3d91647abb20e7b8", "a/b"),
    ("32b6e34b3d91647abb20e7b8", "A"),
    ("32b6e34b3d91647abb20e7b9", "a"),
];

struct World {
    cache: Cache,
    manual_clock: ManualClock,
    scene: Arc<Mutex<Scene>>,
    gate: Arc<Semaphore>,
    callers: Vec<Caller>,
    /// The event at which each key was last purged, softly or not, and not softly.
    purged: [u64; KEYS.len()],
    purged_hard: [u64; KEYS.len()],
    /// The event at which the calendar was last set: that may have ended the fresh life of every list.
    calendar_set: u64,
}

struct Caller {
    key: usize,
    answer: LocalBoxFuture<'static, Result<Found, NotFound>>,
}

fn config() -> Config {
    Config {
        ttl: Duration::from_secs(100),
        stale_if_error: Duration::from_mins(5),
        ..Config::default()
    }
}

impl World {
    fn new() -> Self {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(START));
        let list = Word::List {
            certificates: 2,
            first_ends_in: 9_999,
        };
        Self {
            cache: Cache::new(config(), clock, CacheMetrics::default(), TaskTracker::new()),
            manual_clock,
            scene: Arc::new(Mutex::new(Scene {
                words: [list; KEYS.len()],
                event: 1,
                fetches: HashMap::new(),
                under_way: [0; KEYS.len()],
            })),
            gate: Arc::new(Semaphore::new(0)),
            callers: Vec::new(),
            purged: [0; KEYS.len()],
            purged_hard: [0; KEYS.len()],
            calendar_set: 0,
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Ask { key, forces } => self.ask(key, forces),
            Step::HangUp { caller } => {
                if !self.callers.is_empty() {
                    self.callers.swap_remove(caller % self.callers.len());
                }
            }
            Step::Atlas { key, word } => self.scene.lock().unwrap().words[key] = word,
            Step::EndOneWalk => {
                let under_way: u32 = self.scene.lock().unwrap().under_way.iter().sum();
                if under_way > 0 {
                    self.gate.add_permits(1);
                }
            }
            Step::Pass { seconds } => self.manual_clock.advance(Duration::from_secs(seconds)),
            Step::SetCalendar { by } => {
                let wall = self.manual_clock.now().wall.micros() + by * 1_000_000;
                self.manual_clock.set_wall(Timestamp::from_micros(wall));
                self.calendar_set = self.scene.lock().unwrap().next();
            }
            Step::Purge { what, soft } => self.purge(what, soft),
            Step::Sweep => self.cache.sweep(self.manual_clock.now()),
        }
        self.hear().await;
    }

    fn ask(&mut self, key: usize, forces: bool) {
        let ask = Ask {
            address: ADDRESS,
            mode: if forces {
                CacheMode::ForceRefresh
            } else {
                CacheMode::Cached
            },
            now: self.manual_clock.now(),
        };
        let (cache, manual_clock) = (self.cache.clone(), self.manual_clock.clone());
        let (scene, gate) = (Arc::clone(&self.scene), Arc::clone(&self.gate));
        let expected = self.expected_hit(key, ask);
        let answer = Box::pin(async move {
            let fetch: FetchList = Box::new(move |request| {
                let scene = Arc::clone(&scene);
                scripted_fetch(
                    scene,
                    Arc::clone(&gate),
                    manual_clock.clone(),
                    (key, request),
                )
                .map(Into::into)
                .boxed()
            });
            cache
                .0
                .get_or_fetch(&asked(key), ask, |_| Ok(()), fetch)
                .await
        });
        let mut caller = Caller { key, answer };
        if let Some(fill_id) = expected {
            let answer = caller.answer.as_mut().now_or_never();
            let found = answer
                .expect("a fresh list was not served at once")
                .unwrap();
            assert_eq!(found.entry.fill_id(), fill_id);
            assert!(matches!(
                found.status,
                CacheStatus::Hit | CacheStatus::RefreshedAhead
            ));
            self.judge(key, Ok(found));
        } else {
            self.callers.push(caller);
        }
    }

    /// The list that must be served at once, where that is plain: the last fetch of the key brought it,
    /// it is younger than every share of chance allows, and nothing was purged since.
    fn expected_hit(&self, key: usize, ask: Ask<'_>) -> Option<FillId> {
        let scene = self.scene.lock().unwrap();
        let last = scene
            .fetches
            .iter()
            .filter(|(_, log)| log.key == key && log.ended.is_some())
            .max_by_key(|(_, log)| log.ended);
        let (fill_id, log) = last?;
        let age = log.age(ask.now);
        let plain = matches!(log.word, Word::List { .. })
            && ask.mode == CacheMode::Cached
            && scene.under_way[key] == 0
            && age < config().ttl * 9 / 10
            && log.began > self.purged[key].max(self.calendar_set);
        plain.then_some(*fill_id)
    }

    fn purge(&mut self, what: Purged, soft: bool) {
        let (purge, concerned): (_, Vec<usize>) = match what {
            Purged::All => (Purge::All, (0..KEYS.len()).collect()),
            Purged::Key(key) => (Purge::Key(asked(key)), vec![key]),
            Purged::ProjectOf(key) => {
                let same = |at: &usize| KEYS[*at].0 == KEYS[key].0;
                let purge = Purge::Project(asked(key).project);
                (purge, (0..KEYS.len()).filter(same).collect())
            }
        };
        self.cache.purge(&purge, soft);
        let event = self.scene.lock().unwrap().next();
        for at in concerned {
            // A softly purged list may still be served in an outage.
            self.purged[at] = event;
            if !soft {
                self.purged_hard[at] = event;
            }
        }
    }

    /// Lets tasks run and takes the answers that have come.
    async fn hear(&mut self) {
        for _ in 0..32 {
            tokio::task::yield_now().await;
        }
        let mut waiting = Vec::new();
        for mut caller in std::mem::take(&mut self.callers) {
            match caller.answer.as_mut().now_or_never() {
                Some(answer) => self.judge(caller.key, answer),
                None => waiting.push(caller),
            }
        }
        self.callers = waiting;
        for _ in 0..32 {
            tokio::task::yield_now().await;
        }
    }

    fn judge(&self, key: usize, answer: Result<Found, NotFound>) {
        match answer {
            Ok(found) => self.judge_list(key, &found),
            Err(NotFound::Fetch {
                error,
                fill_id,
                status,
                ..
            }) => {
                let scene = self.scene.lock().unwrap();
                let log = scene.fetches[&fill_id];
                assert_eq!(log.key, key, "crossed keys");
                assert!(!matches!(log.word, Word::List { .. }));
                if status == CacheStatus::Negative {
                    let since = self.manual_clock.now().elapsed.saturating_sub(log.ended_at);
                    assert_eq!(error.verdict(), Verdict::Missing);
                    assert!(since < config().negative_ttl);
                    assert!(log.began > self.purged[key], "a purged absence was served");
                }
            }
            Err(NotFound::FetchDied) => {
                let scene = self.scene.lock().unwrap();
                let mut of_key = scene.fetches.values().filter(|log| log.key == key);
                assert!(of_key.any(|log| log.word == Word::Dies));
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn judge_list(&self, key: usize, found: &Found) {
        let now = self.manual_clock.now();
        let scene = self.scene.lock().unwrap();
        let log = scene.fetches[&found.entry.fill_id()];
        let usual = found.entry.usual(&asked(key), ADDRESS, now.wall);
        let document: serde_json::Value = serde_json::from_slice(&usual.body.to_vec()).unwrap();
        let results = document["results"].as_array().unwrap();

        assert_eq!(log.key, key, "crossed keys");
        for certificate in results {
            assert_eq!(certificate["key"], key);
            let not_after = certificate["notAfter"].as_i64().unwrap();
            assert!(Timestamp::from_seconds(not_after) > now.wall, "G1");
        }
        let listed = log.certificates();
        let unexpired = listed.iter().filter(|end| **end > now.wall);
        assert_eq!(results.len(), unexpired.count(), "something is missing");
        assert_eq!(document["totalCount"], results.len());
        assert_eq!(usual.etag, found.entry.tag(now.wall).header(&[]));

        let age = found.entry.age(now);
        assert_eq!(age, log.age(now), "a false age");
        let ttl = config().ttl * 11 / 10;
        match found.status {
            CacheStatus::Fleet => panic!("there is no other replica"),
            CacheStatus::Hit | CacheStatus::RefreshedAhead => {
                assert!(age <= ttl, "G5: {age:?}");
                assert!(log.began > self.purged[key], "a purged list was a hit");
            }
            CacheStatus::Stale(staleness) => {
                assert!(age <= ttl + config().stale_if_error, "G5: {age:?}");
                let last = scene.last_of(key).map(|last| last.word);
                let (fails, limited) = (
                    matches!(last, Some(Word::Down | Word::Dies)),
                    last == Some(Word::Limited),
                );
                match staleness {
                    // A purge lets a fetch end unseen, so an earlier one may have been noted last.
                    Staleness::Error => assert!(fails || limited, "stale although Atlas answers"),
                    Staleness::HeldBack(_) => assert!(
                        fails || limited,
                        "stale although nothing holds the call back"
                    ),
                    Staleness::Allowance | Staleness::Overload | Staleness::Slow => assert!(
                        fails || limited || scene.under_way[key] > 0,
                        "stale although Atlas answers"
                    ),
                }
            }
            CacheStatus::Collapsed
            | CacheStatus::Forced
            | CacheStatus::Miss
            | CacheStatus::Renewed => {}
            CacheStatus::Failed | CacheStatus::Negative => panic!("a list is no absence"),
        }
        assert!(log.began > self.purged_hard[key], "G7");
        let denied = scene.fetches.values().any(|other| {
            other.key == key
                && matches!(other.word, Word::Denied | Word::Missing)
                && other.ended.is_some()
                && other.began > log.began
        });
        assert!(!denied, "a list outlived a denial");
    }
}

fn asked(key: usize) -> CertQuery {
    let (project, name) = KEYS[key];
    CertQuery {
        project: project.parse().unwrap(),
        username: name.parse().unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn whatever_happens_answers_are_true_fresh_separate_and_purged(
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.take(step).await;
            }
            // A caller that still waits is answered once the fetches end, and no fetch goes on for ever.
            world.gate.add_permits(10_000);
            for _ in 0..16 {
                world.hear().await;
            }
            assert!(world.callers.is_empty(), "a caller waits for ever");
            let under_way = world.scene.lock().unwrap().under_way;
            assert_eq!(under_way, [0; KEYS.len()]);
        });
    }
}
