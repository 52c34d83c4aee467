//! No caller spends for all: fixed limits of a rule, and a fair share while Atlas's bucket runs low.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::world::{PROJECT, World, certs, operator_token, set_rule, token_of};

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
async fn l01_a_loop_over_unknown_names_ends_at_the_miss_limit_and_hits_go_on() {
    let world = World::with(|plan| set_rule(plan, 0, "misses_per_minute", 5)).await;
    world.ask("app1").await;
    let mut statuses = Vec::new();
    for at in 0..10 {
        statuses.push(world.ask(&format!("nobody-{at}")).await.status);
    }
    assert_eq!(statuses, [404, 404, 404, 404, 429, 429, 429, 429, 429, 429]);
    assert_eq!(world.atlas.certificate_calls(), 5);
    assert_eq!(world.ask("app1").await.status, 200);
    let limited = world.ask("nobody-again").await;
    assert_eq!(limited.error_code(), "RATE_LIMITED");
    assert!(limited.header("retry-after").is_some());
    // No other caller notices: the same rule, another caller, a name that is not known.
    let other = token_of(&json!({ "sub": "payments-batch" }));
    let target = certs(PROJECT, "somebody");
    assert_eq!(world.send("GET", &target, &other, &[]).await.status, 404);
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

#[tokio::test]
async fn while_the_bucket_is_low_a_greedy_caller_ends_at_its_fair_share() {
    let world = World::new().await;
    world.ask("app1").await;
    // Others of Atlas's clients take most of it; the next answer says so.
    world.atlas.drain_bucket(PROJECT, 800);
    let ask = async |subject: &str, name: &str| {
        let token = token_of(&json!({ "sub": subject }));
        let target = certs(PROJECT, name);
        world.send("GET", &target, &token, &[]).await
    };
    for number in 0..9 {
        let subject = format!("payments-{number}");
        assert_eq!(ask(&subject, &subject).await.status, 404);
    }
    let mut answered = 0;
    let limited = loop {
        let reply = ask("payments-greedy", &format!("nobody-{answered}")).await;
        if reply.status != 404 {
            break reply;
        }
        answered += 1;
    };
    // Our half of what comes back in a minute is 250 calls, and the callers are eleven.
    assert_eq!(answered, 22);
    assert_eq!(limited.error_code(), "RATE_LIMITED");
    assert_eq!(limited.header("x-error-origin"), Some("gateway"));
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(ask("payments-greedy", "app1").await.status, 200, "a hit");
    assert_eq!(ask("payments-0", "another").await.status, 404);
    assert_eq!(ask("payments-late", "one more").await.status, 404);
    let record = world.lookups();
    let record = record.iter().find(|record| record["status"] == 429);
    assert_eq!(record.unwrap()["subject"], "payments-greedy");
    assert_eq!(world.atlas.answers(429), 0);
}

#[tokio::test]
async fn l03_a_thousand_callers_with_new_names_leave_the_project_its_reserve() {
    let world = World::new().await;
    world.ask("app1").await;
    world.atlas.drain_bucket(PROJECT, 400);
    let callers: Vec<usize> = (0..1_000).collect();
    let mut answered = 0;
    for callers in callers.chunks(50) {
        let replies = callers.iter().map(async |number| {
            let token = token_of(&json!({ "sub": format!("payments-{number}") }));
            let target = certs(PROJECT, &format!("nobody-{number}"));
            world.send("GET", &target, &token, &[]).await
        });
        for reply in join_all(replies).await {
            if reply.status == 404 {
                answered += 1;
            } else {
                assert_eq!(reply.error_code(), "RATE_LIMITED", "{}", reply.text());
                assert!(reply.header("retry-after").is_some());
            }
        }
    }
    assert!((550..=620).contains(&answered), "{answered}");
    assert_eq!(world.atlas.answers(429), 0);
    assert!(world.atlas.bucket_remaining(PROJECT) >= 190);
}

/// draft-ietf-httpapi-ratelimit-headers-10.
#[tokio::test]
async fn every_answer_says_what_is_left_of_its_callers_allowance() {
    let world = World::with(|plan| {
        set_rule(plan, 0, "lookups_per_minute", 6);
        set_rule(plan, 0, "misses_per_minute", 3);
    })
    .await;
    let target = certs(PROJECT, "app1");
    for (username, rest) in [
        ("app1", r#""lookups";r=5;t=10, "misses";r=2;t=20"#),
        ("app1", r#""lookups";r=4;t=20, "misses";r=2;t=20"#),
        ("nobody", r#""lookups";r=3;t=30, "misses";r=1;t=40"#),
        ("secret-keeper", ""),
        ("app1", r#""lookups";r=2;t=40, "misses";r=1;t=40"#),
        ("app1", r#""lookups";r=1;t=50, "misses";r=1;t=40"#),
        ("app1", r#""lookups";r=0;t=60, "misses";r=1;t=40"#),
        ("app1", r#""lookups";r=0;t=60, "misses";r=1;t=40"#),
    ] {
        let reply = world.ask(username).await;
        let said = reply.header("ratelimit").unwrap_or("");
        assert_eq!(said, rest, "{username} {}", reply.status);
        let policy = reply.header("ratelimit-policy").unwrap_or("");
        let expected = r#""lookups";q=6;w=60, "misses";q=3;w=60"#;
        assert_eq!(policy, if rest.is_empty() { "" } else { expected });
    }
    assert_eq!(world.ask("app1").await.status, 429);
    world.advance(Duration::from_secs(25));
    let reply = world.ask("app1").await;
    assert_eq!(
        reply.header("ratelimit"),
        Some(r#""lookups";r=1;t=45, "misses";r=2;t=15"#)
    );
    // Of those whose rules set no limit nothing is said, and of Atlas's own numbers never.
    let reply = world.send("GET", &target, &operator_token(), &[]).await;
    assert_eq!(
        (reply.header("ratelimit"), reply.header("ratelimit-policy")),
        (None, None)
    );
}
