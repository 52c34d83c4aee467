//! What `GET /cache/explain` says of a list in a fleet.

use atlas_simulator::Asked;
use serde_json::{Value, json};

use super::two_replicas;
use crate::harness::engine::Engine;
use crate::world::{PROJECT, World, operator_token};

#[tokio::test]
async fn explain_says_what_the_engine_has_and_whose_fetch_brought_it() {
    let Some(mut engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    assert_eq!(
        explain(&second).await["fleet"],
        json!({ "connected": true })
    );

    let held = first.atlas.on(Asked::certificates()).hold();
    let explained_meanwhile = async {
        held.arrived(1).await;
        let explained = explain(&second).await;
        held.open();
        explained
    };
    let (asked, meanwhile) = tokio::join!(first.ask("app1"), explained_meanwhile);
    assert_eq!(asked.status, 200);
    let lease_left = &meanwhile["fleet"]["leaseEndsInMilliseconds"];
    assert!(
        (1..=1_000).contains(&lease_left.as_u64().unwrap()),
        "{meanwhile}"
    );

    let stored = explain(&second).await;
    assert_eq!(stored["state"], "absent", "looking adopts nothing");
    let fleet = &stored["fleet"];
    assert!(fleet["storedSecondsAgo"].as_u64().is_some(), "{stored}");
    assert!(fleet["freshForSeconds"].as_u64() > Some(200), "{stored}");
    assert_eq!(fleet["leaseEndsInMilliseconds"], Value::Null);

    second.ask("app1").await;
    let (own, adopted) = (explain(&first).await, explain(&second).await);
    assert_eq!(own["list"]["fillReplica"], Value::Null);
    assert_eq!(adopted["list"]["fillReplica"], "gateway-1");

    engine.kill();
    assert_eq!(
        explain(&first).await["fleet"],
        json!({ "connected": false })
    );
}

#[tokio::test]
async fn explain_shows_nothing_of_a_list_that_was_purged() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    first.ask("app1").await;
    let body = json!({ "groupId": PROJECT }).to_string();
    second
        .admin("POST", "/cache/purge", &operator_token(), &body)
        .await;
    assert_eq!(explain(&first).await["fleet"], json!({ "connected": true }));
}

async fn explain(world: &World) -> Value {
    let target = format!("/cache/explain?groupId={PROJECT}&username=app1");
    let reply = world.admin("GET", &target, &operator_token(), "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}
