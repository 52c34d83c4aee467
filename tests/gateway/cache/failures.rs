//! Lists that cannot be had: remembered as such, and asked for ever more rarely.

use std::time::Duration;

use atlas_simulator::{Asked, Fault};
use futures_util::future::join_all;
use serde_json::json;

use crate::world::{PROJECT, World, certs, set_rule};

#[tokio::test]
async fn a_hundred_lookups_of_a_list_that_fails_for_a_minute_are_five_calls() {
    for fault in [
        Fault::unexpected_error(),
        Fault::html(502),
        Fault::api_error(403, "ACCESS_FORBIDDEN", "No."),
        Fault::api_error(400, "USER_NOT_MANAGED_X509", "No."),
        Fault::truncate(40),
        Fault::json(|document| document["results"][0]["groupId"] = json!("0".repeat(24))),
    ] {
        let world = World::new().await;
        let asked = Asked::certificates().user("app1");
        let failing = world.atlas.on(asked).respond(fault);
        let mut statuses = Vec::new();
        for _ in 0..100 {
            let reply = world.while_time_passes(world.ask("app1")).await;
            statuses.push(reply.status);
            world.advance(Duration::from_millis(550));
        }
        assert!(statuses.iter().all(|status| *status >= 400), "{statuses:?}");
        let calls = world.atlas.certificate_calls();
        assert!(calls <= 5, "{calls} calls: {}", statuses[0]);
        let reply = world.ask("app1").await;
        let status = reply.header("cache-status").unwrap();
        assert_eq!(status, "atlas-cert-gateway; hit; detail=failed");
        assert_eq!(world.lookups().last().unwrap()["cache"], "negative");
        failing.withdraw();
        world.advance(Duration::from_secs(30));
        let well = world.while_time_passes(world.ask("app1")).await;
        assert_eq!(well.status, 200);
    }
}

#[tokio::test]
async fn a_follower_is_charged_nothing() {
    let world = World::with(|plan| set_rule(plan, 0, "misses_per_minute", 5)).await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let asking = join_all((0..60).map(|_| world.ask("app1")));
    let (replies, ()) = tokio::join!(asking, async {
        gate.arrived(1).await;
        world
            .until(|world| {
                // All but those who wait for the list are told at once.
                world.lookups().len() <= 60
            })
            .await;
        while world.metric("inflight_requests").await < 60 {}
        gate.open();
    });
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(world.atlas.certificate_calls(), 1);
    // One of five was spent.
    for user in ["many", "nobody-1", "nobody-2", "nobody-3"] {
        assert_ne!(world.ask(user).await.status, 429, "{user}");
    }
    assert_eq!(world.ask("nobody-4").await.status, 429);
}

#[tokio::test]
async fn a_count_that_is_off_is_no_outage() {
    for miscount in [1, -1, -2] {
        let world = World::new().await;
        world.atlas.world(|atlas| {
            atlas.project(PROJECT).user("app1").miscount(miscount);
        });
        let reply = world.ask("app1").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json()["totalCount"], 2);
        assert_eq!(reply.header("x-upstream-calls"), Some("1"));
        assert_eq!(world.metric("upstream_lists_miscounted_total").await, 1);
    }
}

#[tokio::test]
async fn what_the_gateway_does_not_use_arrives_as_atlas_sent_it_in_every_form() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::body(|body| {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let odd = r#""odd":[1e400,"\ud800",-0.0E+1],"subject""#;
            text.replace(r#""subject""#, odd).into()
        }));
    let target = certs(PROJECT, "app1");
    for query in [
        "",
        "?pretty=true",
        "?itemsPerPage=1&pageNum=2",
        "?envelope=true",
    ] {
        let reply = world.get(&format!("{target}{query}"), &[]).await;
        assert_eq!(reply.status, 200, "{query}");
        let text = reply.text();
        for odd in ["1e400", r#""\ud800""#, "-0.0E+1"] {
            assert!(text.contains(odd), "{query}: {text}");
        }
    }
}
