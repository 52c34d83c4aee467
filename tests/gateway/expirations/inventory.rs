//! `scope=all`: every user that Atlas lists, asked about at the lowest urgency.

use atlas_simulator::{Endpoint, X509Type};
use serde_json::json;

use crate::world::{NOW, OTHER_PROJECT, PROJECT, Plan, World, operator_token, set, set_rule};

use super::{DAY, ask, at, names, target};

/// A world whose usual project has an inventory each day, for a caller that may see it.
async fn world(change: impl FnOnce(&mut Plan)) -> World {
    World::with(|plan| {
        let named = format!("id = \"{PROJECT}\"\nname = \"payments\"");
        let named: toml::Table = named.parse().unwrap();
        let projects = vec![toml::Value::Table(named)];
        set(&mut plan.config, "insight.projects", projects);
        set(&mut plan.config, "insight.inventory", "24h");
        set_rule(plan, 0, "inventory", true);
        change(plan);
    })
    .await
}

fn stocks(world: &World) -> usize {
    let records = world.records();
    let of_inventory = records.iter().filter(|it| it["action"] == "inventory");
    of_inventory.count()
}

/// Lets time pass until there were so many inventories.
async fn until_made(world: &World, inventories: usize) {
    let made = async {
        world.until(|world| stocks(world) == inventories).await;
    };
    world.while_time_passes(made).await;
}

#[tokio::test]
async fn an_inventory_knows_of_users_whom_nobody_has_asked_about() {
    let world = world(|plan| {
        let mut project = plan.atlas.world.project(PROJECT);
        project.user("forgotten").certificate_until(at(5));
        project.user("without");
        project.user("self-managed").x509(X509Type::Customer);
    })
    .await;
    until_made(&world, 1).await;
    let reply = ask(&world, "?scope=all").await;
    let document = reply.json();
    assert_eq!(names(&reply), ["forgotten"], "{document}");
    let coverage = &document["coverage"];
    assert_eq!(coverage["scope"], "all");
    assert_eq!(coverage["complete"], true);
    assert!(coverage["listedAt"].as_str().unwrap() >= NOW);
    // `app1`, `many` and `forgotten`; what is denied to the caller, or has no certificate, is not counted.
    assert_eq!(coverage["users"], 3);
    assert_eq!(world.atlas.calls(Endpoint::DatabaseUsers), 1);
    let self_managed =
        |it: &atlas_simulator::SeenRequest| it.username.as_deref() == Some("self-managed");
    assert!(!world.atlas.requests().iter().any(self_managed));
    // A day later Atlas is asked again; who is gone by then is told of no more.
    world
        .atlas
        .world(|atlas| atlas.project(PROJECT).remove_user("forgotten"));
    world.advance(DAY);
    until_made(&world, 2).await;
    let later = crate::world::token_at(
        world.clock.now().wall.seconds(),
        &json!({"sub": "payments-api"}),
    );
    let reply = world.send("GET", &target("?scope=all"), &later, &[]).await;
    assert_eq!(names(&reply), [""; 0]);
    assert_eq!(
        world
            .metric("upstream_calls_total{endpoint=\"users\",status=\"200\"}")
            .await,
        2
    );
}

#[tokio::test]
async fn a_thousand_users_cost_a_call_each_and_never_the_reserve() {
    let world = world(|plan| {
        // Ten times as fast as Atlas's, so that the test is short.
        plan.atlas.rules.bucket.refill *= 10;
        set(&mut plan.config, "atlas.limits.refill_per_minute", 5_000);
        let mut project = plan.atlas.world.project(PROJECT);
        project.user("many").remove_all_certificates();
        for number in 0..997 {
            project
                .user(&format!("user-{number}"))
                .certificate_until(at(40));
        }
    })
    .await;
    let least = async {
        let mut least = u64::MAX;
        while stocks(&world) == 0 {
            least = least.min(world.atlas.bucket_remaining(PROJECT));
            tokio::task::yield_now().await;
            crate::world::other_threads().await;
        }
        least
    };
    let least = world.while_time_passes(least).await;
    // Two fifths of 1,200 are left to callers, whatever else is asked.
    assert!(least >= 480, "{least}");
    assert_eq!(world.atlas.calls(Endpoint::DatabaseUsers), 3);
    assert_eq!(world.atlas.certificate_calls(), 1_000);
    let by_cause = "upstream_calls_by_cause_total{cause=\"inventory\"}";
    assert_eq!(world.metric(by_cause).await, 1_000);
    // `app1` has one that ends in that time, too.
    let reply = ask(&world, "?scope=all&within=90d&itemsPerPage=1").await;
    assert_eq!(reply.json()["totalCount"], 998);
}

#[tokio::test]
async fn without_an_inventory_or_the_right_to_it_there_is_no_answer() {
    let world = world(|plan| set_rule(plan, 2, "inventory", false)).await;
    until_made(&world, 1).await;
    let reply = world
        .send("GET", &target("?scope=all"), &operator_token(), &[])
        .await;
    assert_eq!(reply.status, 403);
    let other = format!("/gateway/v1/groups/{OTHER_PROJECT}/expirations?scope=all");
    let reply = world.get(&other, &[]).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (400, "INVALID_QUERY_PARAMETER")
    );
    assert_eq!(reply.json()["parameters"], json!(["scope"]));
}

#[tokio::test]
async fn before_the_first_inventory_callers_are_told_to_come_again() {
    let world = world(|plan| {
        let credentials = plan.config["atlas"]["credentials"].as_array_mut().unwrap();
        credentials[0]["projects"] = vec![OTHER_PROJECT].into();
    })
    .await;
    let reply = ask(&world, "?scope=all").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("60"));
    assert_eq!(ask(&world, "").await.status, 200);
}

#[tokio::test]
async fn a_refused_setting_says_what_to_do() {
    for (settings, place) in [
        ("inventory = \"1m\"", "insight.inventory"),
        ("max_size = \"1KiB\"", "insight.max_size"),
        (
            "[[insight.projects]]\nid = \"x\"\nname = \"y\"",
            "insight.projects[0].id",
        ),
    ] {
        let errors =
            atlas_cert_gateway::config::Config::parse(&format!("[insight]\n{settings}"), []);
        let errors = errors.unwrap_err();
        assert!(
            errors.iter().any(|it| it.place.contains(place)),
            "{place}: {errors:?}"
        );
    }
}
