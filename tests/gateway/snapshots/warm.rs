//! After a start the lists that are wanted at once are fetched before callers ask for them.

use std::time::Duration;

use super::{ask, cache_status, world};
use crate::world::{PROJECT, World, set};

async fn known(patterns: &[&str]) -> World {
    let world = world(|plan| {
        set(&mut plan.config, "cache.warm", patterns.to_vec());
        let mut project = plan.atlas.world.project(PROJECT);
        for number in 0..5 {
            project.user(&format!("payments-{number}")).certificates(1);
        }
    })
    .await;
    for number in 0..5 {
        ask(&world, &format!("payments-{number}")).await;
    }
    ask(&world, "app1").await;
    world
}

async fn warmed(world: &World) -> u64 {
    world
        .metric("upstream_calls_by_cause_total{cause=\"warm\"}")
        .await
}

#[tokio::test]
async fn names_that_fit_are_fetched_after_a_start_and_others_are_not() {
    let pattern = format!("{PROJECT}/payments-*");
    let world = known(&[&pattern]).await;
    // Too old for anything but an outage.
    let later = Duration::from_mins(20);
    let world = world.restart(|_, clock| clock.advance(later)).await;
    let all = async {
        while warmed(&world).await < 5 || world.metric("cache_fetches_in_flight").await > 0 {
            tokio::task::yield_now().await;
        }
    };
    world.while_time_passes(all).await;
    let calls = world.atlas.certificate_calls();
    for number in 0..5 {
        let reply = ask(&world, &format!("payments-{number}")).await;
        assert!(cache_status(&reply).starts_with("hit; ttl="));
        assert!(!cache_status(&reply).contains("restored"));
    }
    assert_eq!(world.atlas.certificate_calls(), calls);
    assert_eq!(warmed(&world).await, 5);
    let other = ask(&world, "app1").await;
    assert_eq!(cache_status(&other), "fwd=stale; stored");
    // A list that came back fresh needs no fetch.
    let world = world.restart(|_, _| {}).await;
    ask(&world, "payments-0").await;
    assert_eq!(warmed(&world).await, 0);
}

#[tokio::test]
async fn warming_leaves_the_bucket_to_those_who_wait() {
    let pattern = format!("{PROJECT}/*");
    let world = known(&[&pattern]).await;
    let later = Duration::from_mins(20);
    let atlas = std::sync::Arc::clone(&world.atlas);
    let world = world
        .restart(|_, clock| {
            clock.advance(later);
            atlas.drain_bucket(PROJECT, 900);
        })
        .await;
    // The first call learns what is left, which is below what renewals may use.
    let reply = ask(&world, "app1").await;
    assert_eq!(reply.status, 200);
    assert!(warmed(&world).await <= 1);
    assert!(world.atlas.bucket_remaining(PROJECT) >= 290);
}
