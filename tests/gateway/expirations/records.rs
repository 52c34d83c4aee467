//! What is on record of it.

use serde_json::{Value, json};

use crate::audit::recording::schema::hold_to_schema;
use crate::world::{PROJECT, World, operator_token, token_of};

use super::{ask, at, names as names_in, target, world};

#[tokio::test]
async fn who_was_told_which_names_is_on_record_and_found_by_each_of_them() {
    let world = world().await;
    let reply = ask(&world, "?within=90d").await;
    let records = inventories(&world);
    assert_eq!(records.len(), 1);
    let record = &records[0];
    world.lines().iter().for_each(|line| hold_to_schema(line));
    assert_eq!(record["request_id"], reply.header("x-request-id").unwrap());
    for (member, value) in [
        ("outcome", json!("answered")),
        ("status", json!(200)),
        ("subject", json!("payments-api")),
        ("rule", json!("payments reads its projects")),
        ("group_id", json!(PROJECT)),
        ("within", json!("90d")),
        ("which", json!("last")),
        ("scope", json!("known")),
        ("users", json!(4)),
        ("certificates", json!(3)),
        (
            "usernames",
            json!(["ends-soon", "ends-later", "was-renewed"]),
        ),
        ("upstream_calls", json!(0)),
    ] {
        assert_eq!(record[member], value, "{member}");
    }
    for (name, found) in [
        ("was-renewed", 1),
        ("far-away", 0),
        ("ends-soon", 1),
        ("soon", 0),
    ] {
        let search = format!("/audit/lookups?kind=inventory&username={name}");
        let reply = world.admin("GET", &search, &operator_token(), "").await;
        let records = reply.json()["records"].as_array().unwrap().len();
        assert_eq!(records, found, "{name}: {}", reply.text());
    }
    // Of an answer that named one of them an operator sees nothing who may not know of that one.
    let search = "/audit/lookups?kind=inventory";
    let auditor = token_of(&json!({"sub": "auditor"}));
    let reply = world.admin("GET", search, &auditor, "").await;
    assert_eq!(reply.json()["records"].as_array().unwrap().len(), 0);
    // A refusal is on record as one of the same kind.
    world
        .send(
            "GET",
            &target(""),
            &token_of(&json!({"sub": "somebody"})),
            &[],
        )
        .await;
    let records = inventories(&world);
    assert_eq!(records[1]["outcome"], "denied");
    assert!(records[1].get("usernames").is_none());
    assert_eq!(
        world
            .metric("expirations_questions_total{outcome=\"answered\"}")
            .await,
        1
    );
    assert_eq!(
        world
            .metric("expirations_questions_total{outcome=\"denied\"}")
            .await,
        1
    );
}

#[tokio::test]
async fn more_names_than_a_record_holds_are_in_further_records_of_the_same_request() {
    let world = World::new().await;
    let names: Vec<String> = (0..150)
        .map(|number| format!("user-{number}-{}", "ü".repeat(20)))
        .collect();
    for name in &names {
        world.atlas.world(|atlas| {
            let mut project = atlas.project(PROJECT);
            project.user(name).certificate_until(at(1));
        });
        world.ask(name).await;
    }
    let reply = ask(&world, "").await;
    assert_eq!(names_in(&reply).len(), 150);
    let records = inventories(&world);
    assert!(records.len() > 1);
    let id = reply.header("x-request-id").unwrap();
    assert!(records.iter().all(|record| record["request_id"] == id));
    let told = records
        .iter()
        .flat_map(|record| record["usernames"].as_array().unwrap());
    let mut told: Vec<&str> = told.map(|name| name.as_str().unwrap()).collect();
    told.sort_unstable();
    let mut expected: Vec<&str> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

fn inventories(world: &World) -> Vec<Value> {
    let mut records = world.records();
    records.retain(|record| record["kind"] == "inventory");
    records
}
