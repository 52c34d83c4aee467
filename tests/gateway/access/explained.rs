//! Why a caller may or may not ask: told to an operator, and by `check --as`.

use serde_json::json;

use super::explain_access;
use crate::program::{command, output};
use crate::reload::Scene;
use crate::world::{PROJECT, World, operator_token, token};

#[tokio::test]
async fn an_operator_learns_why_somebody_may_or_may_not() {
    let world = World::new().await;
    assert_eq!(world.metric("access_rules_unused").await, 3);
    assert_eq!(world.ask("app1").await.status, 200);
    assert_eq!(world.metric("access_rules_unused").await, 2);
    let explain = |of: &str| {
        let target = explain_access(of);
        let world = &world;
        async move { world.admin("GET", &target, &operator_token(), "").await }
    };
    let allowed = explain("username=app1&sub=payments-api&scope=a%20b").await;
    assert_eq!(allowed.status, 200);
    let allowed = allowed.json();
    assert_eq!(
        (&allowed["allowed"], &allowed["rule"], &allowed["admin"]),
        (
            &json!(true),
            &json!("payments reads its projects"),
            &json!(false)
        )
    );
    assert_eq!(allowed["unusedRules"], json!(["nobody reads secrets"]));
    let denied = explain("username=app1&sub=web").await.json();
    assert_eq!(denied["allowed"], json!(false));
    assert_eq!(
        denied["rules"][0],
        json!({ "name": "payments reads its projects", "effect": "grant", "doesNotFit": "subject" })
    );
    let own = explain("username=app1").await.json();
    assert_eq!(
        (&own["admin"], &own["forceRefresh"]),
        (&json!(true), &json!(true))
    );
    let record = world.records().pop().unwrap();
    assert_eq!(
        (&record["action"], &record["username"], &record["rule"]),
        (
            &json!("explain_access"),
            &json!("app1"),
            &json!("operators")
        )
    );
    for (of, said) in [
        (
            "username=app1&colour=blue",
            "\"colour\", which is none of sub",
        ),
        ("username=app1&sub=a&sub=b", "has sub twice"),
        ("username=app1&scope=a", "must have a sub"),
        (
            "username=app1&sub=a&iss=other",
            "iss that is one of https://idp.internal.example",
        ),
        ("sub=a", "must be groupId="),
    ] {
        let refused = explain(of).await;
        assert_eq!(refused.status, 400, "{of}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(said), "{of}: {detail}");
    }
    let target = explain_access("username=app1");
    assert_eq!(world.admin("GET", &target, &token(), "").await.status, 403);
    assert_eq!(
        world
            .admin("POST", &target, &operator_token(), "")
            .await
            .status,
        405
    );
}

#[tokio::test]
async fn check_says_what_a_caller_may() {
    let scene = Scene::new().await;
    let ask = |claims: &str, username: &str| {
        let file = scene.path("gateway.toml").display().to_string();
        output(
            command()
                .args(["check", "--config", &file, "--as", claims])
                .args(["--group", PROJECT, "--username", username]),
        )
    };
    let allowed = ask("sub=payments-api,scope=certs:read", "app1");
    assert_eq!(allowed.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(allowed.stdout).unwrap(),
        "allowed: granted by rule \"payments reads its projects\"\n  \
         force_refresh: no\n  \
         lookups_per_minute: no limit\n  \
         misses_per_minute: no limit\n  \
         admin: no\n  \
         rule \"payments reads its projects\" grants it\n  \
         rule \"nobody reads secrets\" denies it but for its `usernames`, which do not fit\n  \
         rule \"operators\" grants it but for its `subjects`, which do not fit\n"
    );
    let denied = ask("sub=payments-api", "secret-keeper");
    assert_eq!(denied.status.code(), Some(1));
    assert!(
        denied
            .stdout
            .starts_with(b"denied: denied by rule \"nobody reads secrets\"\n")
    );
    let misused = ask("subject=payments-api", "app1");
    assert_eq!(misused.status.code(), Some(2));
    assert!(
        String::from_utf8(misused.stderr)
            .unwrap()
            .contains("none of sub, iss, scope")
    );
}
