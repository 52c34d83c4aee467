//! Purges and changes that replicas tell one another.

use serde_json::{Value, json};

use super::{join, two_replicas, until_connected, until_connected_is};
use crate::harness::engine::Engine;
use crate::world::{OTHER_PROJECT, PROJECT, Plan, World, operator_token};

async fn purge(world: &World, body: &Value) -> Value {
    let (token, body) = (operator_token(), body.to_string());
    let reply = world.admin("POST", "/cache/purge", &token, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    serde_json::from_str(&reply.text()).unwrap()
}

#[tokio::test]
async fn a_purge_at_one_replica_is_one_at_all_and_says_so() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    for body in [
        json!({ "groupId": PROJECT, "username": "app1" }),
        json!({ "groupId": PROJECT }),
        json!({ "all": true }),
        json!({ "groupId": PROJECT, "username": "app1", "soft": true }),
        json!({ "groupId": PROJECT, "soft": true }),
        json!({ "all": true, "soft": true }),
    ] {
        first.ask("app1").await;
        second.ask("app1").await;
        let calls = first.atlas.certificate_calls();
        let purged = purge(&first, &body).await;
        assert_eq!(
            purged,
            json!({ "entries": 1, "replicas": 2, "confirmed": 2 }),
            "{body}"
        );
        let asked = second.ask("app1").await;
        assert_eq!(asked.header("x-upstream-calls"), Some("1"), "{body}");
        // And what it has brought is the other's, too.
        let adopted = first.ask("app1").await;
        assert_eq!(adopted.header("x-upstream-calls"), Some("0"), "{body}");
        assert_eq!(first.atlas.certificate_calls(), calls + 1, "{body}");
    }
    let told = |world: &World| {
        let records = world.records();
        let purges = records.into_iter().filter(|it| it["action"] == "purge");
        purges.collect::<Vec<_>>()
    };
    let (ordered, obeyed) = (told(&first), told(&second));
    assert_eq!((ordered.len(), obeyed.len()), (6, 6));
    for (ordered, obeyed) in ordered.iter().zip(&obeyed) {
        assert_eq!(ordered["request_id"], obeyed["request_id"]);
        assert_eq!(obeyed["told_by"], "gateway-1");
        assert_eq!(obeyed["entries"], 1);
        assert_eq!(obeyed["group_id"], ordered["group_id"]);
    }
}

#[tokio::test]
async fn a_replica_that_has_stopped_is_not_waited_for() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    first.ask("app1").await;
    let stopped = second.app.stop();
    first.while_time_passes(stopped).await;
    let purged = purge(&first, &json!({ "all": true })).await;
    let expected = json!({ "entries": 1, "replicas": 1, "confirmed": 1 });
    assert_eq!(purged, expected);
}

/// What the answer of a replica cost.
async fn calls_of(world: &World, username: &str) -> String {
    let reply = world.ask(username).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-upstream-calls").unwrap().to_owned()
}

/// Denies the operator one list of the project.
fn deny_operator_app2(plan: &mut Plan) {
    let rules = plan.config["access"]["rules"].as_array_mut().unwrap();
    let denied = format!(
        "name = \"not app2\"\nsubjects = [\"operator\"]\nprojects = [\"{PROJECT}\"]\nusernames = \
         [\"app2\"]\ndeny = true"
    );
    rules.push(denied.parse::<toml::Table>().unwrap().into());
    let mut project = plan.atlas.world.project(PROJECT);
    project.user("app2").certificates(1);
}

#[tokio::test]
async fn what_a_rule_denies_the_operator_stays_at_every_replica_and_in_the_engine() {
    for body in [
        json!({ "groupId": PROJECT }),
        json!({ "all": true }),
        json!({ "groupId": PROJECT, "soft": true }),
        json!({ "all": true, "soft": true }),
    ] {
        let Some(engine) = Engine::start().await else {
            return;
        };
        let [first, second] = two_replicas(&engine, deny_operator_app2).await;
        for username in ["app1", "app2"] {
            first.ask(username).await;
            second.ask(username).await;
        }
        let expected = json!({ "entries": 1, "replicas": 2, "confirmed": 2 });
        assert_eq!(purge(&first, &body).await, expected, "{body}");
        assert_eq!(calls_of(&second, "app2").await, "0", "{body}");
        // What has nothing in memory goes by the engine's, also if it began after the purge.
        let third = first.beside(|plan: &mut Plan| {
            join(&engine, plan, "gateway-3");
            deny_operator_app2(plan);
        });
        let third = third.await;
        until_connected(&third).await;
        assert_eq!(calls_of(&third, "app2").await, "0", "{body}");
        assert_eq!(calls_of(&third, "app1").await, "1", "{body}");
        assert_eq!(calls_of(&second, "app1").await, "0", "{body}");
    }
}

#[tokio::test]
async fn a_replica_that_begins_after_a_purge_of_everything_adopts_nothing_older() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, second] = two_replicas(&engine, |_| {}).await;
    assert_eq!(calls_of(&first, "app1").await, "1");
    purge(&second, &json!({ "all": true })).await;
    let third = first.beside(|plan| join(&engine, plan, "gateway-3")).await;
    until_connected(&third).await;
    assert_eq!(calls_of(&third, "app1").await, "1");
}

/// Also where a rule denies the operator another one.
#[tokio::test]
async fn a_purge_of_one_list_concerns_no_other_of_the_project() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let change = |plan: &mut Plan| {
        deny_operator_app2(plan);
        plan.atlas
            .world
            .project(PROJECT)
            .user("app3")
            .certificates(1);
    };
    let [first, second] = two_replicas(&engine, change).await;
    for username in ["app1", "app3"] {
        first.ask(username).await;
    }
    purge(&first, &json!({ "groupId": PROJECT, "username": "app1" })).await;
    assert_eq!(calls_of(&second, "app3").await, "0");
    assert_eq!(calls_of(&second, "app1").await, "1");
}

/// Whether the engine has forgotten everything, or others have told more since than a replica had heard before.
#[tokio::test]
async fn where_events_were_lost_every_list_is_ended_once() {
    for others in [0, 1, 3] {
        let Some(mut engine) = Engine::start().await else {
            return;
        };
        let [first, second] = two_replicas(&engine, |_| {}).await;
        let elsewhere = json!({ "groupId": OTHER_PROJECT });
        for _ in 0..2 {
            purge(&first, &elsewhere).await;
        }
        second.ask("app1").await;
        engine.kill();
        until_connected_is(&first, 0).await;
        until_connected_is(&second, 0).await;
        engine.resume().await;
        first.while_time_passes(until_connected(&first)).await;
        for _ in 0..others {
            purge(&first, &elsewhere).await;
        }
        first.while_time_passes(until_connected(&second)).await;
        let lost = async {
            while second.metric("fleet_events_lost_total").await == 0 {
                tokio::task::yield_now().await;
            }
        };
        first.while_time_passes(lost).await;
        let asked = second.ask("app1").await;
        assert_eq!(asked.header("x-upstream-calls"), Some("1"), "{others}");
        assert_eq!(second.metric("fleet_events_lost_total").await, 1);
    }
}
