//! `GET /budgets` and `GET /usage`: what is left at Atlas and who spends it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{
    FOREIGN_PROJECT, OTHER_PROJECT, PROJECT, World, certs, operator_token, token, token_of,
};

async fn told(world: &World, target: &str) -> Value {
    let reply = world.admin("GET", target, &operator_token(), "").await;
    assert_eq!(reply.status, 200, "{target}: {}", reply.text());
    reply.json()
}

#[tokio::test]
async fn budgets_say_what_is_left_of_each_project_and_who_spends_it() {
    let world = World::new().await;
    assert_eq!(told(&world, "/budgets").await["totalCount"], 0);
    world.ask("app1").await;
    world.get(&certs(OTHER_PROJECT, "app1"), &[]).await;
    let now = told(&world, "/budgets").await;
    assert_eq!(now["totalCount"], 2);
    assert_eq!(now["asOf"], "2026-11-21T12:00:00Z");
    let project = |told: &Value, id: &str| -> Value {
        let mut results = told["results"].as_array().unwrap().iter();
        results.find(|it| it["groupId"] == id).unwrap().clone()
    };
    let first = project(&now, PROJECT);
    assert_eq!(first["credential"], "platform");
    assert_eq!(
        first["atlas"],
        json!({"remaining": 1199, "capacity": 1200, "saidSecondsAgo": 0})
    );
    assert_eq!(
        first["ours"],
        json!({"remaining": 999, "capacity": 1000, "refillPerMinute": 250})
    );
    assert_eq!(first["secondsToReserve"], Value::Null);
    assert_eq!(first["gateClosedForSeconds"], Value::Null);
    assert_eq!(
        (&first["breaker"], &first["users"]),
        (&json!("closed"), &json!(1))
    );
    // Others spend a hundred calls each minute, and we one.
    for minute in 0..5 {
        world.advance(Duration::from_mins(1));
        world.atlas.drain_bucket(PROJECT, 600);
        world.ask(&format!("nobody{minute}")).await;
    }
    let now = told(&world, "/budgets").await;
    let first = project(&now, PROJECT);
    let others = first["perMinute"]["others"].as_u64().unwrap();
    assert!((80..=600).contains(&others), "{first}");
    assert_eq!(first["perMinute"]["ours"], 1);
    let seconds = first["secondsToReserve"].as_u64().unwrap();
    assert!(
        seconds < first["secondsToEmpty"].as_u64().unwrap(),
        "{first}"
    );
    // The first to be down at its reserve comes first.
    assert_eq!(now["results"][0]["groupId"], PROJECT);
}

#[tokio::test]
async fn budgets_are_told_of_the_projects_that_an_operator_administers() {
    let world = World::with(|plan| {
        let rules = plan.config["access"]["rules"].as_array_mut().unwrap();
        let rule = format!(
            r#"it = {{ name = "own", subjects = ["owner"], projects = ["{OTHER_PROJECT}"], usernames = ["*"], admin = true }}"#
        );
        rules.push(rule.parse::<toml::Table>().unwrap()["it"].clone());
    })
    .await;
    world.ask("app1").await;
    world.get(&certs(OTHER_PROJECT, "app1"), &[]).await;
    world
        .send(
            "GET",
            &certs(FOREIGN_PROJECT, "app1"),
            &operator_token(),
            &[],
        )
        .await;
    let owner = token_of(&json!({"sub": "owner"}));
    let reply = world.admin("GET", "/budgets", &owner, "").await;
    let results = reply.json()["results"].clone();
    assert_eq!(results.as_array().unwrap().len(), 1, "{results}");
    assert_eq!(results[0]["groupId"], OTHER_PROJECT);
    assert_eq!(told(&world, "/budgets").await["totalCount"], 3);
    for (target, token, status) in [
        ("/budgets", token(), 403),
        ("/budgets", String::new(), 401),
        ("/usage", owner, 403),
        ("/budgets?x=1", operator_token(), 400),
    ] {
        assert_eq!(
            world.admin("GET", target, &token, "").await.status,
            status,
            "{target}"
        );
    }
    assert_eq!(
        world
            .admin("POST", "/budgets", &operator_token(), "")
            .await
            .status,
        405
    );
    let records = world.records();
    let of_budgets = records
        .iter()
        .filter(|it| it["action"] == "budgets" && it["outcome"] == "answered");
    let rules: Vec<&Value> = of_budgets.map(|it| &it["rule"]).collect();
    assert_eq!(rules, ["own", "operators"]);
}

#[tokio::test]
async fn usage_says_who_asked_how_often_in_the_last_minutes() {
    let world = World::new().await;
    for _ in 0..3 {
        world.ask("many").await;
    }
    world.advance(Duration::from_mins(30));
    world
        .send("GET", &certs(PROJECT, "app1"), &operator_token(), &[])
        .await;
    world.get(&certs(FOREIGN_PROJECT, "app1"), &[]).await;
    // What is denied to the operator is not counted.
    world.ask("secret-keeper").await;
    let hour = told(&world, "/usage").await;
    assert_eq!(
        (&hour["by"], &hour["totalCount"]),
        (&json!("subject"), &json!(2))
    );
    let first = &hour["results"][0];
    assert_eq!(first["subject"], "payments-api");
    assert_eq!(
        (&first["lookups"], &first["denied"]),
        (&json!(4), &json!(1))
    );
    // Three pages of 500 each time, and those of the first time and their proof were spent.
    assert_eq!(first["would_have_cost"], 9);
    assert_eq!(first["saved"], 6);
    let minutes = told(&world, "/usage?minutes=15&by=username&top=1").await;
    assert_eq!(minutes["totalCount"], 2, "{minutes}");
    assert_eq!(minutes["results"].as_array().unwrap().len(), 1);
    assert_eq!(minutes["results"][0]["username"], "app1");
    let rules = told(&world, "/usage?by=rule").await;
    let results = rules["results"].as_array().unwrap().iter();
    let names: Vec<Value> = results.map(|it| it["rule"].clone()).collect();
    let expected = json!(["payments reads its projects", "operators", null]);
    assert_eq!(Value::from(names), expected);
    for query in [
        "?by=all",
        "?minutes=0",
        "?minutes=1441",
        "?top=0",
        "?x=1",
        "?by=rule&by=rule",
    ] {
        let target = format!("/usage{query}");
        let reply = world.admin("GET", &target, &operator_token(), "").await;
        assert_eq!(reply.status, 400, "{query}");
    }
}
