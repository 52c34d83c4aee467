//! What a failing, flapping or overrun Atlas costs, and whom.

use std::time::Duration;

use atlas_simulator::{Asked, Fault};
use futures_util::future::join_all;

use super::{PAST_TTL, advance_on_record, quiet_world};
use crate::client::Reply;
use crate::world::{PROJECT, World, set};

#[tokio::test]
async fn f01_f02_half_an_hour_without_atlas_is_bridged_cheaply_and_on_record() {
    let world = world_of(300).await;
    assert!(
        ask_all(&world)
            .await
            .iter()
            .all(|reply| reply.status == 200)
    );
    let outage = world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::unexpected_error());
    advance_on_record(&world, PAST_TTL).await;
    let mut asked = 300;
    for minute in 0..30 {
        let known = world.while_time_passes(world.ask("app7")).await;
        assert_eq!(known.status, 200, "{}", known.text());
        let unknown = world
            .while_time_passes(world.ask(&format!("new{minute}")))
            .await;
        // Atlas's own words while it is asked, ours while it is not.
        assert!([500, 503].contains(&unknown.status), "{}", unknown.text());
        assert!(unknown.status == 500 || unknown.header("retry-after").is_some());
        asked += 2;
        advance_on_record(&world, Duration::from_mins(1)).await;
    }
    // Sixty questions, each of which could have cost two calls or three.
    assert!(outage.applied() <= 90, "{} calls", outage.applied());
    let lookups = world.lookups();
    assert_eq!(lookups.len(), asked);
    assert!(lookups.iter().all(|record| record["outcome"].is_string()));

    outage.withdraw();
    let calls = world.atlas.certificate_calls();
    world.advance(Duration::from_secs(5));
    let first = world.while_time_passes(world.ask("new")).await;
    assert_eq!(first.status, 404, "{}", first.text());
    // Every list is past its time, and less is left of the bucket than there are lists.
    world.atlas.drain_bucket(PROJECT, 900);
    let replies = world.while_time_passes(ask_all(&world)).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert!(world.atlas.certificate_calls() - calls <= 301);
    assert_eq!(world.atlas.answers(429), 0);
    assert!(world.atlas.bucket_remaining(PROJECT) >= 190, "the reserve");
}

#[tokio::test]
async fn f03_an_atlas_that_flaps_is_not_asked_more_than_one_that_is_well() {
    let world = quiet_world().await;
    let (mut answered, mut asked) = (0, 0);
    for second in 0..120 {
        let down = (second % 2 == 1).then(|| {
            let certificates = world.atlas.on(Asked::certificates());
            certificates.respond(Fault::unexpected_error())
        });
        let reply = world
            .while_time_passes(world.ask(&format!("new{second}")))
            .await;
        asked += 1;
        answered += u32::from(reply.status == 404);
        assert!([404, 500, 503].contains(&reply.status), "{}", reply.text());
        if let Some(down) = down {
            down.withdraw();
        }
        world.advance(Duration::from_secs(1));
    }
    let calls = world.atlas.certificate_calls();
    assert!(calls <= 2 * asked, "{calls} calls for {asked} questions");
    assert!(answered >= 30, "{answered} of {asked} answered");
}

#[tokio::test]
async fn f05_nothing_is_served_past_the_bound_however_long_atlas_is_down() {
    let world = quiet_world().await;
    world.ask("app1").await;
    world.atlas.stop_accepting().await.unwrap();
    advance_on_record(&world, SURELY_STALE).await;
    let stale = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(stale.status, 200);
    let age: u64 = stale.header("age").unwrap().parse().unwrap();
    assert!(age >= 3_865, "{age}");
    advance_on_record(&world, UNTIL_DEAD).await;
    let dead = world.while_time_passes(world.ask("app1")).await;
    assert!(matches!(dead.status, 502 | 503), "{}", dead.text());
    assert_eq!(dead.header("x-error-origin"), Some("gateway"));
}

#[tokio::test]
async fn f04_g22_an_atlas_that_hangs_delays_a_stale_answer_only_a_little() {
    let world = quiet_world().await;
    world.ask("app1").await;
    advance_on_record(&world, PAST_TTL).await;
    world.ask("many").await;
    let silence = world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::silence());
    // Time stands still: a caller that is answered has not waited.
    let patient = world.ask("app1");
    let mut patient = std::pin::pin!(patient);
    tokio::select! {
        biased;
        _ = patient.as_mut() => panic!("answered before Atlas had its chance"),
        () = world.until(|_| silence.applied() > 0) => {}
    }
    for _ in 0..10 {
        let hit = world.ask("many").await;
        assert_eq!(
            (hit.status, hit.header("x-upstream-calls")),
            (200, Some("0"))
        );
    }
    world.advance(Duration::from_secs(3));
    let first = patient.await;
    assert_eq!(first.status, 200, "{}", first.text());
    // From now on no caller waits for this list.
    for _ in 0..10 {
        let stale = world.ask("app1").await;
        assert_eq!(stale.status, 200, "{}", stale.text());
        let status = stale.header("cache-status").unwrap();
        assert!(status.contains("; detail=stale-"), "{status}");
    }
}

#[tokio::test]
async fn g27_the_first_miss_after_an_outage_succeeds_within_five_seconds() {
    let world = quiet_world().await;
    world.atlas.stop_accepting().await.unwrap();
    for name in ["app1", "many"] {
        let reply = world.while_time_passes(world.ask(name)).await;
        assert_ne!(reply.status, 200);
    }
    advance_on_record(&world, Duration::from_mins(10)).await;
    let reply = world.while_time_passes(world.ask("app1")).await;
    assert_ne!(reply.status, 200);
    world.atlas.resume().await.unwrap();
    advance_on_record(&world, PAST_OUTAGE).await;
    assert_eq!(world.ask("app1").await.status, 200);
}

/// A world with users `app0` and on, each with one certificate.
async fn world_of(users: u32) -> World {
    World::with(|plan| {
        set(&mut plan.config, "audit.sync", "never");
        for number in 0..users {
            let mut project = plan.atlas.world.project(PROJECT);
            project.user(&format!("app{number}")).certificates(1);
        }
    })
    .await
}

/// Asks for `app0` to `app299` at the same time.
async fn ask_all(world: &World) -> Vec<Reply> {
    let names: Vec<String> = (0..300).map(|number| format!("app{number}")).collect();
    join_all(names.iter().map(|name| world.ask(name))).await
}

/// A list of this age is past its time and within what an outage is survived by, whatever its jitter.
const SURELY_STALE: Duration = Duration::from_secs(3_600 + 265);
/// With that, it is beyond what an outage is survived by, whatever its jitter.
const UNTIL_DEAD: Duration = Duration::from_secs(70);
/// How long after Atlas is back the first miss may have to wait (G27).
const PAST_OUTAGE: Duration = Duration::from_secs(5);
