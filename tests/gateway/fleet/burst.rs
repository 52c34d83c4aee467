//! Many lists, and many callers of one, at five replicas at once.

use std::env;

use atlas_simulator::{Asked, BucketSize};
use futures_util::future::join_all;

use super::processes::{Replicas, until};
use crate::client::Connection;
use crate::harness::engine::Engine;
use crate::program::{request_for, token_now};
use crate::world::set;

/// FL01. `FLEET_LISTS=1000 cargo test --test gateway fl01_each_list -- --nocapture` is the long run, so
/// many at a time as the short one has.
// The simulated Atlas answers while a test waits for a program.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures of the long run")]
async fn fl01_each_list_that_five_replicas_ask_for_at_once_costs_one_call() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let lists = env::var_os("FLEET_LISTS")
        .map_or(LISTS, |lists| lists.into_string().unwrap().parse().unwrap());
    let replicas = Replicas::with(&engine, REPLICAS, lists, |config| {
        set(config, "atlas.limits.capacity", 100_000);
        set(config, "atlas.limits.refill_per_minute", 50_000);
    })
    .await;
    replicas.atlas.rules(|rules| {
        rules.bucket = BucketSize {
            capacity: 100_000,
            refill: 50_000,
            ..BucketSize::X509
        };
    });
    for first in (0..lists).step_by(LISTS) {
        let asked = (first..lists.min(first + LISTS)).flat_map(|list| {
            let replicas = &replicas;
            (0..REPLICAS).map(move |replica| async move {
                let reply = replicas.ask(replica, &format!("user{list}")).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                reply.body
            })
        });
        let answers = join_all(asked).await;
        for of_one_list in answers.chunks(REPLICAS) {
            assert!(of_one_list.iter().all(|answer| *answer == of_one_list[0]));
        }
    }
    let calls = replicas.atlas.certificate_calls();
    println!("{lists} lists of {REPLICAS} replicas: {calls} calls");
    assert_eq!(calls, lists);
}

/// FL01: some of them hang up before there is an answer.
#[tokio::test(flavor = "multi_thread")]
async fn fl01_three_hundred_callers_of_one_list_cost_one_call_whoever_hangs_up() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let replicas = Replicas::start(&engine, REPLICAS, 0).await;
    let held = replicas.atlas.on(Asked::certificates()).hold();
    let mut callers = Vec::new();
    for program in &replicas.programs {
        for _ in 0..CALLERS {
            let mut caller = Connection::open(program.address).await;
            let request = request_for("app1", &token_now(), "close");
            caller.send(&request).await;
            callers.push(caller);
        }
    }
    for program in &replicas.programs {
        until(program, "cache_waiters", CALLERS).await;
    }
    let mut staying = Vec::new();
    for (number, caller) in callers.into_iter().enumerate() {
        if number % 2 == 0 {
            caller.reset();
        } else {
            staying.push(caller);
        }
    }
    for program in &replicas.programs {
        until(program, "cache_waiters", CALLERS / 2).await;
    }
    held.open();
    for mut caller in staying {
        assert_eq!(caller.reply(false).await.status, 200);
    }
    assert_eq!(replicas.atlas.certificate_calls(), 1);
}

/// FL05: an engine that has much to do is not one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn fl05_a_burst_of_misses_never_makes_a_replica_go_alone() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let replicas = Replicas::with(&engine, 1, MISSES, |config| {
        // Much shorter than the burst is.
        set(config, "fleet.silence", "100ms");
    })
    .await;
    let failed_before = replicas.failed_operations().await;
    let asked = (0..MISSES).map(|user| {
        let replicas = &replicas;
        async move { replicas.ask(0, &format!("user{user}")).await.status }
    });
    let statuses = join_all(asked).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(replicas.failed_operations().await, failed_before);
    let led = "fleet_lists_total{result=\"led\"}";
    let led = replicas.programs[0].metric(led).await;
    assert_eq!(led, Some(MISSES.try_into().unwrap()));
    assert_eq!(replicas.atlas.certificate_calls(), MISSES);
}

const REPLICAS: usize = 5;
/// Of a short run, and at a time.
const LISTS: usize = 100;
const CALLERS: u64 = 60;
const MISSES: usize = 500;
