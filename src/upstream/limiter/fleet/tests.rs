//! The fleet's bucket against that of a single replica, on a real engine whose time the test sets.

#[expect(dead_code, reason = "other tests stop and kill it")]
#[path = "../../../../tests/harness/engine.rs"]
mod engine;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::{env, fs};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use self::engine::Engine;
use super::super::CallOutcome;
use super::super::cooldown::{CooldownCause, CooldownRequest};
use super::super::project::Project;
use super::super::token_bucket::{Quota, Rates, TokenBucket};
use crate::atlas::{ProjectId, Timestamp};
use crate::fleet::{self, Fleet, LIBRARY};
use crate::system::{Clock, ManualClock};
use crate::telemetry::metrics::fleet::FleetMetrics;
use crate::upstream::config::AtlasLimits;
use crate::upstream::error::Urgency;
use crate::upstream::jitter::Jitter;

/// Numbers that look random and are the same in each run (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len().try_into().unwrap())).unwrap()]
    }
}

/// A call that was taken, and what was known when it was sent.
#[derive(Clone, Copy)]
struct Call {
    taken_at: Duration,
    sent: Option<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    at: Duration,
    /// How many had ended before, by the replica and by the single one.
    ended_before: [u64; 2],
    /// What was left at Atlas then.
    remaining: u64,
}

/// One script: a replica of the fleet, and one that is single and makes the same calls.
struct Script {
    chance: Chance,
    id: ProjectId,
    replica: Project<()>,
    single: Project<()>,
    calls: Vec<Call>,
    /// What Atlas has, and may have.
    level: u64,
    capacity: u64,
    tally: Tally,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    asked: u64,
    granted: u64,
    refused_by_fleet_alone: u64,
}

impl Script {
    fn new(number: u64) -> Self {
        let mut chance = Chance(number);
        let capacity = chance.of(&[20, 60, 1_200]);
        let limits = AtlasLimits {
            capacity,
            reserve: capacity / chance.of(&[4, 6, 100]),
            refill_per_minute: capacity * 5 / 12,
            share_percent: chance.of(&[33, 50, 100]),
            ..AtlasLimits::default()
        };
        let bucket = TokenBucket::new(Rates::new(&limits), START);
        Self {
            chance,
            id: format!("{number:024x}").parse().unwrap(),
            replica: Project::new(bucket.clone(), 4),
            single: Project::new(bucket, 4),
            calls: Vec::new(),
            level: capacity,
            capacity,
            tally: Tally::default(),
        }
    }

    async fn step(&mut self, fleet: &Fleet, now: Duration) {
        match self.chance.below(10) {
            0..=3 => self.take(fleet, now).await,
            4..=5 => self.send(now),
            6..=7 => self.answer(fleet, now).await,
            8 => match self.chance.below(4) {
                0 => self.challenge(now),
                1 => self.level = self.level.saturating_sub(self.chance.below(self.capacity)),
                2 => self.level = (self.level + self.capacity * 5 / 12).min(self.capacity),
                _ => {}
            },
            _ => {
                if let Some(at) = self.calls.iter().position(|call| call.sent.is_none()) {
                    self.calls.remove(at);
                    self.give_back();
                }
            }
        }
    }

    async fn take(&mut self, fleet: &Fleet, now: Duration) {
        let urgency = self.chance.of(&[
            Urgency::Miss,
            Urgency::Miss,
            Urgency::Revalidate,
            Urgency::RefreshAhead,
        ]);
        let most = if self.capacity > 100 { 19 } else { 3 };
        let calls = self.chance.of(&[1, 1, 1, 2, 3, most]);
        let first = self.chance.below(4) > 0;
        let request = self.replica.request(calls, urgency, first, now);
        let answer = fleet.take_calls(&self.id, &request).await.unwrap();
        let taken = self.replica.follow(&answer, calls, now);
        let single = self.single.clone().take(calls, urgency, first, now);
        self.tally.asked += 1;
        if taken.is_ok() {
            let id = self.id;
            assert_eq!(single, Ok(()), "script {id}, at {now:?}: {answer:?}");
            self.single.take(calls, urgency, first, now).unwrap();
            let call = Call {
                taken_at: now,
                sent: None,
            };
            self.calls.extend((0..calls).map(|_| call));
            self.tally.granted += 1;
        } else {
            self.single.bucket.refill(now);
            self.tally.refused_by_fleet_alone += u64::from(single.is_ok());
        }
    }

    fn send(&mut self, now: Duration) {
        let Some(at) = self.calls.iter().position(|call| call.sent.is_none()) else {
            return;
        };
        let Ok(by_replica) = self.replica.send(Urgency::Miss, now) else {
            self.calls.remove(at);
            self.give_back();
            return;
        };
        let by_single = self
            .single
            .send(Urgency::Miss, now)
            .expect("the replica was stricter");
        self.level = self.level.saturating_sub(1);
        self.calls[at].sent = Some(Sent {
            at: now,
            ended_before: [by_replica, by_single],
            remaining: self.level,
        });
    }

    /// One of the calls under way is answered, by what Atlas had when it was sent or has now.
    async fn answer(&mut self, fleet: &Fleet, now: Duration) {
        let under_way: Vec<usize> = (0..self.calls.len())
            .filter(|at| self.calls[*at].sent.is_some())
            .collect();
        if under_way.is_empty() {
            return;
        }
        let Call { sent, .. } = self.calls.remove(self.chance.of(&under_way));
        let sent = sent.unwrap();
        let (outcome, quota, cooldown) = self.say(&sent);
        let [waits, _] = self.learn(&sent, outcome, (quota, cooldown), now);
        let cooldown = cooldown
            .zip(waits)
            .map(|(request, wait)| (request.cause.status(), wait));
        let window = LIFE + now.saturating_sub(sent.at);
        if let Some(observed) = self.replica.observed((outcome, quota, cooldown), window) {
            fleet.observe(&self.id, &observed).await.unwrap();
        }
        self.replica.bucket.ended();
        self.single.bucket.ended();
    }

    fn say(&mut self, sent: &Sent) -> (Option<CallOutcome>, Quota, Option<CooldownRequest>) {
        let remaining = self.chance.of(&[sent.remaining, self.level]);
        let limit = self.chance.of(&[None, Some(self.capacity)]);
        let quota = Quota {
            limit,
            remaining: Some(remaining),
        };
        let wait = self.chance.of(&[
            None,
            Some(Duration::from_secs(1)),
            Some(Duration::from_secs(40)),
        ]);
        let cause = self
            .chance
            .of(&[CooldownCause::RateLimited, CooldownCause::Unavailable]);
        match self.chance.below(20) {
            0 => (
                Some(CallOutcome::Answered),
                quota,
                Some(CooldownRequest { cause, wait }),
            ),
            1 => (Some(CallOutcome::Unanswered), Quota::default(), None),
            2 => (Some(CallOutcome::Answered), Quota::default(), None),
            _ => (Some(CallOutcome::Answered), quota, None),
        }
    }

    fn learn(
        &mut self,
        sent: &Sent,
        outcome: Option<CallOutcome>,
        (quota, cooldown): (Quota, Option<CooldownRequest>),
        now: Duration,
    ) -> [Option<Duration>; 2] {
        let [by_replica, by_single] = sent.ended_before;
        let at = (Jitter::Fixed(0), now);
        let (_, replica) = self
            .replica
            .learn(outcome, (by_replica, quota), cooldown, at);
        let (_, single) = self.single.learn(outcome, (by_single, quota), cooldown, at);
        [replica, single]
    }

    fn give_back(&mut self) {
        self.replica.bucket.give_back();
        self.replica.returned += 1;
        self.single.bucket.give_back();
    }

    /// A call that was made and not taken.
    fn challenge(&mut self, now: Duration) {
        for project in [&mut self.replica, &mut self.single] {
            project.bucket.take(1, now);
            project.bucket.sent();
            project.bucket.ended();
        }
        self.replica.untaken += 1;
    }

    /// No call lives for longer.
    fn end_before(&mut self, later: Duration) {
        let (gone, kept) = self
            .calls
            .iter()
            .partition(|call| later.saturating_sub(call.taken_at) > LIFE);
        self.calls = kept;
        let gone: Vec<Call> = gone;
        for call in gone {
            if call.sent.is_none() {
                self.give_back();
            } else {
                self.replica.bucket.ended();
                self.single.bucket.ended();
            }
        }
    }
}

#[tokio::test]
async fn fl15_what_the_fleets_bucket_grants_a_single_replica_would_too() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let joined = Joined::to(&engine).await;
    let scripts = env::var_os("BUCKET_SCRIPTS");
    let scripts = scripts.map_or(1_000, |count| count.to_str().unwrap().parse().unwrap());
    let mut sum = Tally::default();
    for batch in 0..scripts / TOGETHER {
        let numbers = batch * TOGETHER..(batch + 1) * TOGETHER;
        let mut scripts: Vec<Script> = numbers.map(Script::new).collect();
        let (mut chance, mut now) = (Chance(batch), START);
        for _ in 0..STEPS {
            now += Duration::from_millis(chance.of(&[0, 0, 1, 40, 240, 1_000, 7_000, 61_000]));
            set_time(&engine, now).await;
            for script in &mut scripts {
                script.end_before(now);
            }
            join_all(
                scripts
                    .iter_mut()
                    .map(|script| script.step(&joined.fleet, now)),
            )
            .await;
        }
        for Script { tally, .. } in &scripts {
            sum.asked += tally.asked;
            sum.granted += tally.granted;
            sum.refused_by_fleet_alone += tally.refused_by_fleet_alone;
        }
    }
    let Tally {
        asked,
        granted,
        refused_by_fleet_alone,
    } = sum;
    assert!(granted * 10 > asked * 3, "{granted} of {asked}");
    assert!(
        refused_by_fleet_alone * 50 < asked,
        "{refused_by_fleet_alone} of {asked}"
    );
}

#[tokio::test]
async fn fl06_an_engine_that_forgets_everything_each_second_costs_no_share() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let joined = Joined::to(&engine).await;
    let limits = AtlasLimits {
        capacity: 120,
        reserve: 20,
        ..AtlasLimits::default()
    };
    let bucket = TokenBucket::new(Rates::new(&limits), START);
    let mut replicas = [(); 3].map(|()| Project::<()>::new(bucket.clone(), 4));
    let id: ProjectId = "1".repeat(24).parse().unwrap();
    let (mut chance, mut granted, mut now) = (Chance(6), 0, START);
    for tenth in 0..1_200 {
        now += Duration::from_millis(100);
        let is_flushed = tenth % 10 == 0;
        let what = if is_flushed {
            "redis.call('FLUSHALL')"
        } else {
            ""
        };
        at_time(&engine, what, now).await;
        for _ in 0..4 {
            let replica = &mut replicas[usize::try_from(chance.below(3)).unwrap()];
            let request = replica.request(1, Urgency::Miss, true, now);
            let answer = joined.fleet.take_calls(&id, &request).await.unwrap();
            if replica.follow(&answer, 1, now).is_ok() {
                granted += 1;
                answered(&joined.fleet, &id, replica, now).await;
            }
        }
    }
    // A hundred at once, and 250 each minute.
    assert!((540..=612).contains(&granted), "{granted}");
}

/// A call was sent and answered at once; a project's bucket at Atlas is never low here.
async fn answered(fleet: &Fleet, id: &ProjectId, replica: &mut Project<()>, now: Duration) {
    let ended_before = replica.send(Urgency::Miss, now).unwrap();
    let quota = Quota {
        limit: Some(1_200),
        remaining: Some(1_000),
    };
    let outcome = Some(CallOutcome::Answered);
    let at = (Jitter::Fixed(0), now);
    replica.learn(outcome, (ended_before, quota), None, at);
    let observed = replica.observed((outcome, quota, None), LIFE).unwrap();
    fleet.observe(id, &observed).await.unwrap();
    replica.bucket.ended();
}

/// A replica that is connected, until it is dropped.
struct Joined {
    fleet: Fleet,
    _clock: ManualClock,
    _stop: tokio_util::sync::DropGuard,
}

impl Joined {
    async fn to(engine: &Engine) -> Self {
        set_time(engine, START).await;
        let library = LIBRARY.replace(
            "redis.call('TIME')",
            "redis.call('HMGET', 'time', 'seconds', 'micros')",
        );
        assert_ne!(library, LIBRARY);
        engine
            .command(&["FUNCTION", "LOAD", "REPLACE", &library])
            .await;
        let key = engine.socket().with_file_name("key");
        fs::write(&key, "a key of the fleet for tests, 32 and more").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let config = format!(
            "name = 'tests'\nreplicas = 5\nurl = '{}'\nkey_files = ['{}']",
            engine.url(),
            key.display()
        );
        let identity = fleet::Identity {
            replica: "gateway-1",
            atlas: ["https://cloud.mongodb.com", "v2"],
            fingerprint: "00".to_owned(),
        };
        // It stands still: the engine is waited for however slow it is.
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(0));
        let config = toml::from_str(&config).unwrap();
        let fleet = Fleet::build(&config, &identity, clock, FleetMetrics::default()).unwrap();
        let stop = CancellationToken::new();
        let (running, until) = (fleet.clone(), stop.clone());
        tokio::spawn(async move { running.run(until).await });
        while !fleet.is_connected() {
            tokio::task::yield_now().await;
        }
        Self {
            fleet,
            _clock: manual_clock,
            _stop: stop.drop_guard(),
        }
    }
}

async fn set_time(engine: &Engine, now: Duration) {
    at_time(engine, "", now).await;
}

/// Does something in the engine, and sets its time in the same moment: the replica goes on calling it.
async fn at_time(engine: &Engine, what: &str, now: Duration) {
    let set = "redis.call('HSET', 'time', 'seconds', ARGV[1], 'micros', ARGV[2])";
    let (seconds, micros) = (now.as_secs().to_string(), now.subsec_micros().to_string());
    let script = format!("{what} {set}");
    engine
        .command(&["EVAL", &script, "0", &seconds, &micros])
        .await;
}

/// As late as the engine's clock is, by which a float has to count microseconds.
const START: Duration = Duration::from_secs(1_800_000_000);
const LIFE: Duration = Duration::from_secs(10);
const STEPS: u32 = 60;
const TOGETHER: u64 = 100;
