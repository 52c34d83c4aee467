//! Purges: what they end, and what they leave for an outage.

use atlas_simulator::Asked;
use serde_json::{Value, json};

use super::{quiet_world, words};
use crate::client::Reply;
use crate::world::{PROJECT, World, operator_token};

#[tokio::test]
async fn f09_a_purge_during_a_fetch_wins() {
    let world = quiet_world().await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let (reply, purged) = tokio::join!(world.ask("app1"), async {
        gate.arrived(1).await;
        let purged = purge(&world, &json!({ "all": true })).await;
        world.atlas.world(|atlas| {
            atlas.project(PROJECT).user("app1").certificates(5);
        });
        gate.open();
        purged
    });
    assert_eq!(purged.json(), json!({ "entries": 0 }));
    assert_eq!(
        reply.json()["totalCount"],
        7,
        "what was read before is told to no caller"
    );
    assert_eq!(world.ask("app1").await.json()["totalCount"], 7);
}

#[tokio::test]
async fn a_soft_purge_asks_anew_and_keeps_the_list_for_an_outage() {
    let world = quiet_world().await;
    world.ask("app1").await;
    let soft = json!({ "groupId": PROJECT, "username": "app1", "soft": true });
    assert_eq!(purge(&world, &soft).await.json(), json!({ "entries": 1 }));
    let renewed = world.ask("app1").await;
    assert_eq!(renewed.header("x-upstream-calls"), Some("1"));

    purge(&world, &soft).await;
    world.atlas.stop_accepting().await.unwrap();
    let stale = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(stale.status, 200, "{}", stale.text());
    let status = stale.header("cache-status").unwrap();
    assert!(status.ends_with("; detail=stale-if-error"), "{status}");
    assert_eq!(words(&world, "cache").last().unwrap(), "stale");
}

async fn purge(world: &World, what: &Value) -> Reply {
    let body = what.to_string();
    world
        .admin("POST", "/cache/purge", &operator_token(), &body)
        .await
}
