//! One share of a project's bucket, for all replicas together; and one cooldown.

use std::time::Duration;

use atlas_simulator::{Answer, Asked, Fault};
use futures_util::future::join_all;
use http::StatusCode;

use super::{two_replicas, until_connected_is};
use crate::harness::engine::Engine;
use crate::world::{PROJECT, World, operator_token, set};

/// Two replicas whose share is a hundred calls at once and 250 each minute.
async fn replicas_with_a_small_share(engine: &Engine) -> [World; 2] {
    two_replicas(engine, |plan| {
        set(&mut plan.config, "fleet.replicas", 2);
        set(&mut plan.config, "atlas.limits.capacity", 120);
        set(&mut plan.config, "atlas.limits.reserve", 20);
        for number in 0..600 {
            let user = format!("user{number}");
            let mut project = plan.atlas.world.project(PROJECT);
            project.user(&user).certificates(1);
        }
    })
    .await
}

/// Asks for a hundred users at once, the first of which has this number; how many answers there were. Whoever has
/// none is told when to ask again.
async fn answered(world: &World, first: u32) -> usize {
    let names = (first..first + 100).map(|number| format!("user{number}"));
    let replies = join_all(names.map(|name| async move { world.ask(&name).await })).await;
    let (answered, refused): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 200);
    for reply in refused {
        assert_eq!(reply.status, 429, "{}", reply.text());
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    answered.len()
}

#[tokio::test]
async fn replicas_spend_one_share_together_and_each_its_part_of_it_alone() {
    let Some(mut engine) = Engine::start().await else {
        return;
    };
    let [first, second] = replicas_with_a_small_share(&engine).await;
    let (by_first, by_second) = tokio::join!(answered(&first, 0), answered(&second, 100));
    let together = by_first + by_second;
    assert_eq!(first.atlas.certificate_calls(), together);
    // The engine's clock goes on while the test runs.
    assert!((100..=103).contains(&together), "{by_first} + {by_second}");
    engine.kill();
    for world in [&first, &second] {
        while world.metric("fleet_connected").await != 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(
        answered(&first, 200).await,
        0,
        "it knows what both have spent"
    );
    // A hundred calls later, by the clock of both.
    first.advance(Duration::from_secs(24));
    assert_eq!(answered(&first, 300).await, 50);
    assert_eq!(answered(&second, 400).await, 50);
}

#[tokio::test]
async fn what_other_replicas_spend_is_not_blamed_on_others() {
    let Some(mut engine) = Engine::start().await else {
        return;
    };
    let [first, second] = replicas_with_a_small_share(&engine).await;
    let others = "upstream_others_calls_total{credential=\"platform\"}";
    for number in 0..20 {
        let world = if number % 5 == 0 { &first } else { &second };
        assert_eq!(world.ask(&format!("user{number}")).await.status, 200);
    }
    assert_eq!(first.metric(others).await, 0);
    let budgets = first.admin("GET", "/budgets", &operator_token(), "").await;
    let budgets = budgets.json();
    let project = &budgets["results"][0];
    assert_eq!(project["perMinute"]["others"], 0, "{project}");
    // Alone it cannot know who it was.
    engine.kill();
    for world in [&first, &second] {
        until_connected_is(world, 0).await;
    }
    for (number, world) in [(20, &first), (21, &second), (22, &second), (23, &first)] {
        assert_eq!(world.ask(&format!("user{number}")).await.status, 200);
    }
    assert_eq!(first.metric(others).await, 2);
}

#[tokio::test]
async fn a_429_at_one_replica_is_a_cooldown_at_the_other() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = replicas_with_a_small_share(&engine).await;
    let answer = Answer::new(
        StatusCode::TOO_MANY_REQUESTS,
        r#"{"error":429,"errorCode":"RATE_LIMITED"}"#,
    );
    let answer = answer
        .header("retry-after", "300")
        .header("content-type", "application/json");
    first
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(Fault::answer(answer));
    assert_eq!(first.ask("user1").await.status, 429);
    let told = "fleet_operations_total{operation=\"observe\",result=\"ok\"}";
    while first.metric(told).await == 0 {
        tokio::task::yield_now().await;
    }
    let reply = second.ask("user2").await;
    assert_eq!(reply.status, 429, "{}", reply.text());
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((240..=330).contains(&wait), "{wait}");
    let held_back = "upstream_fetches_withheld_total{reason=\"cooldown_429\"}";
    assert_eq!(second.metric(held_back).await, 1);
    assert_eq!(first.atlas.certificate_calls(), 1);
}
