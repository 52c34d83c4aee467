//! A replica that is killed, or stands still, while it fetches for all.

use std::env;
use std::time::Duration;

use atlas_cert_gateway::system::Clock;
use atlas_simulator::Asked;
use redis::Value;

use super::processes::{Replicas, until};
use crate::harness::engine::Engine;
use crate::world::PROJECT;

/// FL02. `FLEET_KILLS=100 cargo test --test gateway fl02 -- --nocapture` is the long run.
// The simulated Atlas answers while a test waits for a program.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures of the long run")]
async fn fl02_the_others_are_answered_when_the_replica_that_fetches_is_killed() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let kills = env::var_os("FLEET_KILLS")
        .map_or(KILLS, |kills| kills.into_string().unwrap().parse().unwrap());
    let mut replicas = Replicas::start(&engine, REPLICAS, kills).await;
    let clock = Clock::system();
    let (mut most_calls, mut longest) = (0, Duration::ZERO);
    for kill in 0..kills {
        let leader = kill % REPLICAS;
        let (username, calls) = (format!("user{kill}"), replicas.atlas.certificate_calls());
        let held = replicas
            .atlas
            .on(Asked::certificates().user(&username))
            .hold();
        let took = {
            let others = (0..REPLICAS).filter(|replica| *replica != leader);
            let asked = others
                .clone()
                .map(|replica| replicas.ask(replica, &username));
            let killed = async {
                for replica in others.clone() {
                    until(&replicas.programs[replica], "cache_waiters", 1).await;
                }
                replicas.programs[leader].signal("-KILL");
                let began = clock.now().elapsed;
                held.arrived(2).await;
                held.open();
                clock.now().elapsed.saturating_sub(began)
            };
            let leading = replicas.ask(leader, &username);
            let followed = async {
                held.arrived(1).await;
                tokio::join!(futures_util::future::join_all(asked), killed)
            };
            let (_, (answers, took)) = tokio::join!(leading, followed);
            for answer in answers {
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            took
        };
        longest = longest.max(took);
        most_calls = most_calls.max(replicas.atlas.certificate_calls() - calls);
        replicas.start_again(leader).await;
    }
    println!(
        "{kills} kills: at most {most_calls} calls; a lease was taken over within {longest:?}"
    );
    assert_eq!(most_calls, 2);
}

/// FL03: what it brings after its lease has ended is its own callers' only.
#[tokio::test(flavor = "multi_thread")]
async fn fl03_a_replica_that_stood_still_beyond_its_lease_stores_nothing() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let replicas = Replicas::start(&engine, 3, 0).await;
    let atlas = &replicas.atlas;
    let held = atlas.on(Asked::certificates()).once().hold();
    let stopped = &replicas.programs[0];
    let others = async {
        held.arrived(1).await;
        stopped.signal("-STOP");
        // Its lease ends, and this one fetches.
        let taken_over = replicas.ask(1, "app1").await;
        assert_eq!(taken_over.status, 200, "{}", taken_over.text());
        let entry = entry(&engine).await;
        atlas.world(|world| {
            world.project(PROJECT).user("app1").certificates(1);
        });
        held.open();
        stopped.signal("-CONT");
        (taken_over, entry)
    };
    let (late, (taken_over, stored)) = tokio::join!(replicas.ask(0, "app1"), others);
    assert_eq!(late.status, 200, "{}", late.text());
    until(
        stopped,
        "fleet_operations_total{operation=\"store\",result=\"ok\"}",
        1,
    )
    .await;
    assert_eq!(entry(&engine).await, stored);
    let adopted = replicas.ask(2, "app1").await;
    assert_eq!(adopted.body, taken_over.body);
    assert_eq!(atlas.certificate_calls(), 2);
}

/// The only entry that the engine has.
async fn entry(engine: &Engine) -> Value {
    let keys: Vec<String> =
        redis::from_redis_value(engine.command(&["KEYS", "*}:e:*"]).await).unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    engine.command(&["GET", &keys[0]]).await
}

const REPLICAS: usize = 3;
const KILLS: usize = 5;
