//! A machine that is suspended or paused, and clocks that are set while everything runs (R8, G34).

use std::time::Duration;

use atlas_simulator::{Asked, Endpoint, Fault};
use serde_json::json;

use crate::world::{NOW, PROJECT, Plan, World, certs, set, set_rule, token_at};
use atlas_cert_gateway::atlas::Timestamp;

/// What happens to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// It is suspended: its own clocks go on, its timers do not.
    Suspended,
    /// It is a virtual machine that is paused: no clock goes on, and NTP sets the calendar afterwards.
    Paused,
}

const BOTH: [Pause; 2] = [Pause::Suspended, Pause::Paused];
const TWO_HOURS: Duration = Duration::from_hours(2);

impl Pause {
    fn lasts(self, world: &World, span: Duration) {
        match self {
            Self::Suspended => world.clock.suspend(span),
            Self::Paused => ahead(world, span),
        }
    }
}

/// Sets the calendar forward.
fn ahead(world: &World, span: Duration) {
    let wall = world.clock.now().wall;
    world.clock.set_wall(wall.plus(span));
}

/// Sets the calendar back.
fn back(world: &World, span: Duration) {
    let wall = world.clock.now().wall;
    world.clock.set_wall(wall.minus(span));
}

/// The usual caller's token, good for a day.
fn long_token() -> String {
    let now = Timestamp::parse(NOW).unwrap().seconds();
    token_at(
        now,
        &json!({ "sub": "payments-api", "exp": now + 24 * 3_600 }),
    )
}

async fn world(change: impl FnOnce(&mut Plan)) -> World {
    World::with(|plan| {
        let issuer = &mut plan.config["identity"]["issuers"].as_array_mut().unwrap()[0];
        let issuer = issuer.as_table_mut().unwrap();
        issuer.insert("max_lifetime".to_owned(), "1d".into());
        change(plan);
    })
    .await
}

async fn ask(world: &World, username: &str) -> crate::client::Reply {
    let target = certs(PROJECT, username);
    let token = long_token();
    world
        .while_time_passes(world.send("GET", &target, &token, &[]))
        .await
}

fn age(reply: &crate::client::Reply) -> u64 {
    reply.header("age").unwrap().parse().unwrap()
}

#[tokio::test]
async fn r8_the_first_answer_after_two_hours_of_sleep_is_a_renewed_list() {
    for pause in BOTH {
        let world = world(|_| {}).await;
        ask(&world, "app1").await;
        assert!(
            ask(&world, "app1")
                .await
                .header("cache-status")
                .unwrap()
                .contains("; hit"),
            "{pause:?}"
        );
        let calls = world.atlas.certificate_calls();
        pause.lasts(&world, TWO_HOURS);
        let reply = ask(&world, "app1").await;
        assert_eq!(reply.status, 200, "{pause:?} {}", reply.text());
        assert!(age(&reply) < 60, "{pause:?}");
        assert_eq!(world.atlas.certificate_calls(), calls + 1, "{pause:?}");
    }
}

#[tokio::test]
async fn r8_with_atlas_down_the_age_is_told_and_the_hard_limit_holds() {
    for pause in BOTH {
        let world = world(|plan| set(&mut plan.config, "cache.stale_if_error", "3h")).await;
        ask(&world, "app1").await;
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::unexpected_error());
        pause.lasts(&world, TWO_HOURS);
        let stale = ask(&world, "app1").await;
        assert_eq!(stale.status, 200, "{pause:?} {}", stale.text());
        assert!(age(&stale) >= 7_200, "{pause:?}: {}", age(&stale));
        let status = stale.header("cache-status").unwrap().to_owned();
        assert!(
            status.contains("detail=stale-if-error"),
            "{pause:?} {status}"
        );
        pause.lasts(&world, TWO_HOURS);
        let dead = ask(&world, "app1").await;
        assert!(dead.status >= 500, "{pause:?} {}", dead.text());
    }
}

#[tokio::test]
async fn r8_a_clock_set_by_a_minute_neither_ends_nor_lengthens_a_fresh_life() {
    let world = world(|_| {}).await;
    ask(&world, "app1").await;
    let calls = world.atlas.certificate_calls();
    ahead(&world, Duration::from_secs(59));
    assert_eq!(age(&ask(&world, "app1").await), 0);
    back(&world, Duration::from_hours(1));
    world.advance(Duration::from_secs(100));
    assert_eq!(age(&ask(&world, "app1").await), 100);
    assert_eq!(world.atlas.certificate_calls(), calls);
    world.advance(Duration::from_mins(6));
    ask(&world, "app1").await;
    assert_eq!(world.atlas.certificate_calls(), calls + 1);
}

#[tokio::test]
async fn r8_a_life_that_a_clock_ahead_has_ended_stays_ended_when_it_is_set_back() {
    let world = world(|plan| set(&mut plan.config, "cache.stale_if_error", "3h")).await;
    ask(&world, "app1").await;
    let down = world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::unexpected_error());
    ahead(&world, TWO_HOURS);
    assert_eq!(ask(&world, "app1").await.status, 200);
    back(&world, TWO_HOURS);
    down.withdraw();
    world.advance(Duration::from_secs(30));
    let calls = world.atlas.certificate_calls();
    let reply = ask(&world, "app1").await;
    assert_eq!((reply.status, age(&reply)), (200, 0));
    assert_eq!(world.atlas.certificate_calls(), calls + 1);
}

#[tokio::test]
async fn r8_a_token_of_ours_from_before_the_sleep_is_not_sent_after_it() {
    for pause in BOTH {
        let world = world(|_| {}).await;
        ask(&world, "app1").await;
        assert_eq!(world.atlas.mints(), 1);
        pause.lasts(&world, TWO_HOURS);
        assert_eq!(ask(&world, "app1").await.status, 200, "{pause:?}");
        assert_eq!(world.atlas.mints(), 2, "{pause:?}");
        // A dead token would have cost a 401.
        assert_eq!(world.atlas.answers(401), 0, "{pause:?}");
    }
}

#[tokio::test]
async fn r8_an_absence_is_forgotten_over_the_sleep() {
    for pause in BOTH {
        let world = world(|_| {}).await;
        assert_eq!(ask(&world, "nobody").await.status, 404);
        let calls = world.atlas.certificate_calls();
        assert_eq!(ask(&world, "nobody").await.status, 404);
        assert_eq!(world.atlas.certificate_calls(), calls, "{pause:?}");
        pause.lasts(&world, TWO_HOURS);
        assert_eq!(ask(&world, "nobody").await.status, 404);
        assert_eq!(world.atlas.certificate_calls(), calls + 1, "{pause:?}");
    }
}

#[tokio::test]
async fn r8_a_callers_token_that_ended_over_the_sleep_is_refused() {
    for pause in BOTH {
        let world = World::new().await;
        assert_eq!(world.ask("app1").await.status, 200);
        // Good for three hours.
        pause.lasts(&world, TWO_HOURS * 2);
        assert_eq!(world.ask("app1").await.status, 401, "{pause:?}");
    }
}

#[tokio::test]
async fn g24_setting_the_clock_ends_neither_retry_after_nor_an_allowance() {
    let world = world(|plan| set_rule(plan, 0, "misses_per_minute", 1)).await;
    world
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(Fault::rate_limited(600));
    let limited = ask(&world, "app1").await;
    assert!(
        limited.status == 429 || limited.status == 503,
        "{}",
        limited.text()
    );
    let calls = world.atlas.calls(Endpoint::Certificates);
    for _ in 0..3 {
        ahead(&world, TWO_HOURS);
        let limited = ask(&world, "app1").await;
        assert!(
            limited.status == 429 || limited.status == 503,
            "{}",
            limited.text()
        );
    }
    assert_eq!(world.atlas.calls(Endpoint::Certificates), calls);
    back(&world, TWO_HOURS * 3);
    // In suspend time passes for Atlas, too.
    world.clock.suspend(Duration::from_mins(11));
    assert_eq!(ask(&world, "app1").await.status, 200);
}

#[tokio::test]
async fn g24_a_callers_allowance_comes_back_in_suspend_and_not_by_the_calendar() {
    let world = world(|plan| set_rule(plan, 0, "lookups_per_minute", 1)).await;
    let ask = async || {
        let target = certs(PROJECT, "app1");
        world.send("GET", &target, &long_token(), &[]).await.status
    };
    assert_eq!((ask().await, ask().await), (200, 429));
    ahead(&world, TWO_HOURS);
    assert_eq!(ask().await, 429);
    back(&world, TWO_HOURS);
    world.clock.suspend(TWO_HOURS);
    world.advance(Duration::from_millis(1));
    assert_eq!(ask().await, 200);
}
