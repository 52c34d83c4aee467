//! The trail of all replicas on the admin listener, and what readiness says of the database.

use rustix::process::Signal;
use serde_json::Value;

use crate::client::Reply;
use crate::harness::postgres::Postgres;
use crate::world::{PROJECT, World, operator_token, set};

#[tokio::test]
async fn operators_read_the_trail_of_all_replicas_from_any_of_them() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let one = world(&postgres, "one").await;
    let other = world(&postgres, "other").await;
    for _ in 0..3 {
        assert_eq!(one.ask("app1").await.status, 200);
        assert_eq!(other.ask("app1").await.status, 200);
    }
    let shipped = "SELECT count(*) FROM audit.record WHERE kind = 'lookup'";
    for world in [&one, &other] {
        world.while_time_passes(until(&postgres, shipped, 6)).await;
    }
    // This one is not shipped, and found all the same.
    assert_eq!(one.ask("nobody").await.status, 404);
    let page = read(&one, "limit=1000").await;
    assert_eq!(page["records"].as_array().unwrap().len(), 7, "{page}");
    assert_eq!(page["chains"].as_array().unwrap().len(), 2);
    let mut found = Vec::new();
    let mut behind = String::new();
    loop {
        let page = read(&one, &format!("limit=2{behind}")).await;
        found.extend(page["records"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => behind = format!("&behind={next}"),
            None => break,
        }
    }
    assert_eq!(Value::from(found), page["records"]);
    let of_other = read(&one, "username=app1&first=oldest").await;
    let replicas = of_other["records"].as_array().unwrap().iter();
    let replicas: Vec<&Value> = replicas.map(|record| &record["replica"]).collect();
    assert_eq!(replicas.iter().filter(|it| ***it == "other").count(), 3);
    postgres.stop(Signal::QUIT);
    let reply = lookups(&one, "limit=1").await;
    assert_eq!(reply.status, 503);
    let until_degraded = async {
        loop {
            let ready = one.admin("GET", "/readyz", "", "").await;
            assert_eq!(ready.status, 200);
            if ready.text().contains("\"database\"") {
                break;
            }
        }
    };
    one.while_time_passes(until_degraded).await;
    assert_eq!(one.ask("app1").await.status, 200);
    let alone = World::new().await;
    let refused = lookups(&alone, "limit=1").await;
    assert_eq!(refused.status, 400, "{}", refused.text());
}

async fn world(postgres: &Postgres, replica: &str) -> World {
    World::with(|plan| {
        set(&mut plan.config, "audit.replica", replica);
        set(
            &mut plan.config,
            "audit.database.url",
            postgres.url("gateway_audit"),
        );
    })
    .await
}

async fn until(postgres: &Postgres, count: &str, wanted: i64) {
    while postgres.number(count).await < wanted {
        tokio::task::yield_now().await;
    }
}

async fn lookups(world: &World, query: &str) -> Reply {
    let target = format!("/audit/lookups?scope=fleet&group={PROJECT}&{query}");
    world.admin("GET", &target, &operator_token(), "").await
}

async fn read(world: &World, query: &str) -> Value {
    let reply = lookups(world, query).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_str(&reply.text()).unwrap()
}
