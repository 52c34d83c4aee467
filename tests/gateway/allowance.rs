//! No caller spends for all: fixed limits of a rule, and a fair share while Atlas's bucket runs low.

use std::time::Duration;

use serde_json::json;

use crate::world::PROJECT;
use crate::world::World;
use crate::world::certs;
use crate::world::set_rule;
use crate::world::token_of;

#[tokio::test]
async fn a_rule_limits_lookups_of_each_caller_and_no_other() {
    let world = World::with(|plan| set_rule(plan, 0, "lookups_per_minute", 3)).await;
    for _ in 0..3 {
        assert_eq!(world.ask("app1").await.status, 200);
    }
    let limited = world.ask("app1").await;
    assert_eq!(
        (limited.status, limited.error_code().as_str()),
        (429, "RATE_LIMITED")
    );
    assert!(limited.header("retry-after").is_some());
    assert_eq!(limited.header("x-error-origin"), Some("gateway"));
    let other = token_of(&json!({ "sub": "payments-batch" }));
    assert_eq!(
        world
            .send("GET", &certs(PROJECT, "app1"), &other, &[])
            .await
            .status,
        200
    );
    let record = world.lookups().into_iter().nth(3).unwrap();
    assert_eq!(
        (&record["outcome"], &record["status"]),
        (&"rejected".into(), &429.into())
    );
    world.advance(Duration::from_mins(2));
    assert_eq!(world.ask("app1").await.status, 200);
}

#[tokio::test]
async fn a_loop_over_unknown_names_ends_at_the_miss_limit_and_hits_go_on() {
    let world = World::with(|plan| set_rule(plan, 0, "misses_per_minute", 5)).await;
    world.ask("app1").await;
    let mut statuses = Vec::new();
    for at in 0..10 {
        statuses.push(world.ask(&format!("nobody-{at}")).await.status);
    }
    assert_eq!(
        statuses,
        [404, 404, 404, 404, 429, 429, 429, 429, 429, 429],
        "L01"
    );
    assert_eq!(world.atlas.certificate_calls(), 5);
    assert_eq!(world.ask("app1").await.status, 200);
}

#[tokio::test]
async fn a_caller_beyond_its_limit_gets_an_old_list_where_there_is_one() {
    let world = World::with(|plan| set_rule(plan, 0, "misses_per_minute", 1)).await;
    world.ask("app1").await;
    world.advance(Duration::from_mins(6));
    world.ask("nobody").await;
    let stale = world.ask("app1").await;
    assert_eq!(stale.status, 200);
    let status = stale.header("cache-status").unwrap();
    assert!(status.ends_with("; detail=stale-rate-limited"), "{status}");
}
