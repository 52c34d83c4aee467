//! The fleet's bucket against that of a single replica, on a real engine whose time the test sets.

mod script;

use std::env;
use std::time::Duration;

use futures_util::future::join_all;

use self::script::{Chance, LIFE, Script, Tally};
use super::super::CallOutcome;
use super::super::project::Project;
use super::super::token_bucket::{Quota, Rates, TokenBucket};
use crate::atlas::ProjectId;
use crate::fleet::Fleet;
use crate::fleet::test_engine::{Engine, Joined, START, at_time, set_time};
use crate::upstream::config::AtlasLimits;
use crate::upstream::error::Urgency;
use crate::upstream::jitter::Jitter;

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
        refused_by_fleet_alone * 10 < asked,
        "{refused_by_fleet_alone} of {asked}"
    );
}

/// A bucket of a hundred calls, and 250 each minute.
fn small_bucket() -> TokenBucket {
    let limits = AtlasLimits {
        capacity: 120,
        reserve: 20,
        ..AtlasLimits::default()
    };
    TokenBucket::new(Rates::new(&limits), START)
}

/// Whether a replica may make a call, which is answered at once.
async fn may_call(fleet: &Fleet, replica: &mut Project<()>, now: Duration) -> bool {
    let id: ProjectId = "1".repeat(24).parse().unwrap();
    let request = replica.request(1, Urgency::Miss, true, now);
    let answer = fleet.take_calls(&id, &request).await.unwrap();
    let is_taken = replica.follow(&answer, 1, now).is_ok();
    if is_taken {
        answered(fleet, &id, replica, now).await;
    }
    is_taken
}

#[tokio::test]
async fn fl06_an_engine_that_forgets_everything_each_second_costs_no_share() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let joined = Joined::to(&engine).await;
    let mut replicas = [(); 3].map(|()| Project::new(small_bucket(), 4));
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
            granted += u32::from(may_call(&joined.fleet, replica, now).await);
        }
    }
    // A hundred at once, and 250 each minute.
    assert!((540..=612).contains(&granted), "{granted}");
}

#[tokio::test]
async fn a_clock_of_the_engine_that_is_set_neither_gives_calls_nor_holds_them_up() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let joined = Joined::to(&engine).await;
    let mut replica = Project::new(small_bucket(), 4);
    let hour = Duration::from_hours(1);
    while may_call(&joined.fleet, &mut replica, START).await {}
    let mut now = START;
    for engine_time in [START + hour, START, START.saturating_sub(hour)] {
        set_time(&engine, engine_time).await;
        assert!(!may_call(&joined.fleet, &mut replica, now).await);
        // The time in which one call comes back.
        let call = Duration::from_millis(240);
        now += call;
        set_time(&engine, engine_time + call).await;
        assert!(may_call(&joined.fleet, &mut replica, now).await);
        assert!(!may_call(&joined.fleet, &mut replica, now).await);
    }
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

const STEPS: u32 = 60;
const TOGETHER: u64 = 100;
