//! What expires soon: told from what is known already, at no call to Atlas, and only of those that a caller may
//! look up.

use std::time::{Duration, SystemTime};

use atlas_cert_gateway::atlas::Timestamp;
use serde_json::json;

use crate::client::Reply;
use crate::world::{
    FOREIGN_PROJECT, NOW, OTHER_PROJECT, PROJECT, World, certs, operator_token, set_rule, token,
    token_of,
};

mod formats;
mod inventory;
mod records;

const DAY: Duration = Duration::from_hours(24);

/// A user, and after how many days its certificates end.
type Lives = (&'static str, &'static [u32]);

/// Users of the usual project.
const USERS: [Lives; 5] = [
    ("ends-soon", &[3]),
    ("ends-later", &[20, 10]),
    ("was-renewed", &[5, 80]),
    ("far-away", &[700]),
    ("secret-soon", &[2]),
];

/// A world with these users, whose certificates an operator has looked at.
async fn world() -> World {
    let world = World::with(|plan| {
        for (name, ends) in USERS {
            let mut project = plan.atlas.world.project(PROJECT);
            for days in ends {
                project.user(name).certificate_until(at(*days));
            }
        }
        set_rule(plan, 1, "subjects", vec!["payments-*"]);
        for rule in [
            r#"{ name = "auditors", subjects = ["auditor"], admin = true }"#,
            r#"{ name = "not of renewed", subjects = ["auditor"], projects = ["*"], usernames = ["was-*"], deny = true }"#,
        ] {
            let rule: toml::Value = format!("it = {rule}").parse::<toml::Table>().unwrap()["it"].clone();
            let rules = plan.config["access"]["rules"].as_array_mut().unwrap();
            rules.push(rule);
        }
    })
    .await;
    for (name, _) in USERS {
        let reply = world
            .send("GET", &certs(PROJECT, name), &operator_token(), &[])
            .await;
        assert_eq!(reply.status, 200);
    }
    world
}

fn at(days: u32) -> SystemTime {
    Timestamp::parse(NOW).unwrap().plus(DAY * days).into()
}

fn target(query: &str) -> String {
    format!("/gateway/v1/groups/{PROJECT}/expirations{query}")
}

async fn ask(world: &World, query: &str) -> Reply {
    world.get(&target(query), &[]).await
}

/// The names in an answer, in its order.
fn names(reply: &Reply) -> Vec<String> {
    let document = reply.json();
    let results = document["results"].as_array().unwrap().iter();
    results
        .map(|it| it["username"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_expires_is_told_from_what_is_known_and_costs_no_call() {
    let world = world().await;
    let calls = world.atlas.requests().len();
    let reply = ask(&world, "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-upstream-calls"), Some("0"));
    assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
    let document = reply.json();
    assert_eq!(document["asOf"], NOW);
    assert_eq!(document["within"], "30d");
    assert_eq!(document["which"], "last");
    assert_eq!(document["totalCount"], 2);
    assert_eq!(
        document["coverage"],
        json!({"scope": "known", "users": 4, "complete": false, "oldestAnswer": NOW, "listedAt": null})
    );
    let first = &document["results"][0];
    assert_eq!(first["username"], "ends-soon");
    assert_eq!(first["subject"], "CN=ends-soon");
    assert_eq!(first["notAfter"], "2026-11-24T12:00:00Z");
    assert_eq!(first["secondsLeft"], 3 * 86_400);
    assert_eq!(first["certificates"], 1);
    assert_eq!(first["answeredAt"], NOW);
    assert!(first["_id"].is_i64() && first["fillId"].is_string());
    assert_eq!(document["results"][1]["username"], "ends-later");
    assert_eq!(document["results"][1]["notAfter"], "2026-12-11T12:00:00Z");
    assert_eq!(world.atlas.requests().len(), calls);
    let link = document["links"][0]["href"].as_str().unwrap();
    assert_eq!(
        link,
        format!(
            "http://gateway.test{}",
            target("?within=30d&which=last&scope=known&pageNum=1&itemsPerPage=500")
        )
    );
}

#[tokio::test]
async fn a_question_says_which_certificates_and_within_how_many_days() {
    let world = world().await;
    for (query, expected) in [
        ("?within=1d", &[][..]),
        ("?within=3d", &["ends-soon"]),
        ("?within=90d", &["ends-soon", "ends-later", "was-renewed"]),
        (
            "?within=800d",
            &["ends-soon", "ends-later", "was-renewed", "far-away"],
        ),
        (
            "?which=every",
            &["ends-soon", "was-renewed", "ends-later", "ends-later"],
        ),
        ("?within=800d&pageNum=2&itemsPerPage=3", &["far-away"]),
        ("?within=800d&pageNum=3&itemsPerPage=3", &[]),
    ] {
        assert_eq!(names(&ask(&world, query).await), expected, "{query}");
    }
    // What has ended is told for thirty days, as long as nothing newer is known.
    world.advance(DAY * 4);
    let still = token_at_later();
    let reply = world.send("GET", &target("?within=0d"), &still, &[]).await;
    assert_eq!(names(&reply), ["ends-soon"]);
    assert_eq!(reply.json()["results"][0]["secondsLeft"], -86_400);
    assert_eq!(reply.json()["results"][0]["certificates"], 0);
    // Atlas lists it no more, and nothing has taken its place.
    world
        .send("GET", &certs(PROJECT, "ends-soon"), &still, &[])
        .await;
    let reply = world.send("GET", &target("?within=0d"), &still, &[]).await;
    assert_eq!(names(&reply), ["ends-soon"]);
    world.advance(DAY * 30);
    let late = crate::world::token_at(
        world.clock.now().wall.seconds(),
        &json!({"sub": "payments-api"}),
    );
    let reply = world.send("GET", &target("?within=0d"), &late, &[]).await;
    assert_eq!(names(&reply), ["ends-later"]);
}

fn token_at_later() -> String {
    let later = Timestamp::parse(NOW).unwrap().plus(DAY * 4).seconds();
    crate::world::token_at(later, &json!({"sub": "payments-api"}))
}

#[tokio::test]
async fn a_caller_is_told_only_of_users_that_it_may_look_up() {
    let world = world().await;
    // `secret-soon` is denied to payments, and not to the operator.
    assert!(!names(&ask(&world, "?within=800d").await).contains(&"secret-soon".to_owned()));
    let reply = world
        .send("GET", &target("?within=2d"), &operator_token(), &[])
        .await;
    assert_eq!(names(&reply), ["secret-soon"]);
    for (project, subject, status, code) in [
        (FOREIGN_PROJECT, "payments-api", 403, "ACCESS_FORBIDDEN"),
        (PROJECT, "somebody", 403, "ACCESS_FORBIDDEN"),
        (OTHER_PROJECT, "payments-api", 200, ""),
        ("nonsense", "payments-api", 404, "INVALID_GROUP_ID"),
    ] {
        let target = format!("/gateway/v1/groups/{project}/expirations");
        let token = token_of(&json!({"sub": subject}));
        let reply = world.send("GET", &target, &token, &[]).await;
        assert_eq!(reply.status, status, "{project} {subject}");
        if status != 200 {
            assert_eq!(reply.error_code(), code);
        }
    }
    let reply = world.send("GET", &target(""), "", &[]).await;
    assert_eq!(reply.status, 401);
    let reply = world.send("GET", &target(""), "no.such.token", &[]).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_its_name() {
    let world = world().await;
    let calls = world.atlas.requests().len();
    for (query, parameter) in [
        ("?within=30", "within"),
        ("?within=-1d", "within"),
        ("?within=801d", "within"),
        ("?within=1d&within=2d", "within"),
        ("?which=first", "which"),
        ("?scope=every", "scope"),
        ("?format=xml", "format"),
        ("?pageNum=0", "pageNum"),
        ("?itemsPerPage=501", "itemsPerPage"),
        ("?within=%zz", "query"),
    ] {
        let reply = ask(&world, query).await;
        assert_eq!(reply.status, 400, "{query}");
        assert_eq!(reply.error_code(), "INVALID_QUERY_PARAMETER", "{query}");
        assert_eq!(reply.json()["parameters"], json!([parameter]), "{query}");
    }
    for (method, status) in [("POST", 405), ("DELETE", 405), ("HEAD", 200)] {
        let reply = world.send(method, &target(""), &token(), &[]).await;
        assert_eq!(reply.status, status, "{method}");
    }
    for path in [
        "expirations/",
        "expiration",
        "/expirations",
        "x/expirations",
    ] {
        let target = format!("/gateway/v1/groups/{PROJECT}/{path}");
        let reply = world.get(&target, &[]).await;
        assert_eq!(reply.status, 404, "{target}");
    }
    assert_eq!(world.atlas.requests().len(), calls);
}

#[tokio::test]
async fn a_purge_and_a_missing_user_are_told_of_no_more() {
    let world = world().await;
    let purge = json!({"groupId": PROJECT, "username": "ends-soon"}).to_string();
    let soft = json!({"groupId": PROJECT, "username": "ends-soon", "soft": true}).to_string();
    world
        .admin("POST", "/cache/purge", &operator_token(), &soft)
        .await;
    assert_eq!(names(&ask(&world, "").await), ["ends-soon", "ends-later"]);
    world
        .admin("POST", "/cache/purge", &operator_token(), &purge)
        .await;
    assert_eq!(names(&ask(&world, "").await), ["ends-later"]);
    world.ask("ends-soon").await;
    assert_eq!(names(&ask(&world, "").await), ["ends-soon", "ends-later"]);
    let all = json!({"groupId": PROJECT}).to_string();
    world
        .admin("POST", "/cache/purge", &operator_token(), &all)
        .await;
    assert_eq!(names(&ask(&world, "?within=800d").await), [""; 0]);
    world.ask("ends-later").await;
    world
        .atlas
        .world(|atlas| atlas.project(PROJECT).remove_user("ends-later"));
    world.advance(Duration::from_mins(10));
    assert_eq!(world.ask("ends-later").await.status, 404);
    assert_eq!(names(&ask(&world, "?within=800d").await), [""; 0]);
}

#[tokio::test]
async fn an_unchanged_answer_is_a_304_although_its_age_has_changed() {
    let world = world().await;
    let first = ask(&world, "").await;
    let etag = first.header("etag").unwrap();
    assert!(etag.starts_with("W/\""), "{etag}");
    world.advance(Duration::from_secs(7));
    let known = [("If-None-Match", etag)];
    let second = world.get(&target(""), &known).await;
    assert_eq!((second.status, second.body.len()), (304, 0));
    let third = world.get(&target("?within=3d"), &known).await;
    assert_eq!(third.status, 200);
}

#[tokio::test]
async fn the_rules_allowance_of_lookups_counts_what_is_asked_here() {
    let world = World::with(|plan| set_rule(plan, 0, "lookups_per_minute", 2)).await;
    for (status, rest) in [
        (200, r#""lookups";r=1;t=30"#),
        (200, r#""lookups";r=0;t=60"#),
        (429, r#""lookups";r=0;t=60"#),
    ] {
        let reply = ask(&world, "").await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("ratelimit"), Some(rest));
        let policy = reply.header("ratelimit-policy");
        assert_eq!(policy, Some(r#""lookups";q=2;w=60"#));
    }
}

#[tokio::test]
async fn metrics_say_how_many_users_newest_certificates_end_and_no_names() {
    let world = World::with(|plan| {
        for (name, ends) in USERS {
            let mut project = plan.atlas.world.project(PROJECT);
            for days in ends {
                project.user(name).certificate_until(at(*days));
            }
        }
        let named: toml::Table = format!("id = \"{PROJECT}\"\nname = \"payments\"")
            .parse()
            .unwrap();
        crate::world::set(
            &mut plan.config,
            "insight.projects",
            vec![toml::Value::Table(named)],
        );
    })
    .await;
    for (name, _) in USERS {
        world
            .send("GET", &certs(PROJECT, name), &operator_token(), &[])
            .await;
    }
    world
        .send("GET", &certs(OTHER_PROJECT, "app1"), &operator_token(), &[])
        .await;
    for (project, users, within) in [("payments", 4, [0, 1, 1, 2, 3]), ("", 5, [0, 1, 1, 2, 3])] {
        let users_of = format!("certificates_users{{project=\"{project}\"}}");
        assert_eq!(world.metric(&users_of).await, users, "{project}");
        for (days, count) in [1, 7, 14, 28, 90].into_iter().zip(within) {
            let ending =
                format!("certificates_users_ending{{project=\"{project}\",within=\"{days}d\"}}");
            let counted = world.metric(&ending).await;
            assert!(counted >= count, "{project} {days}: {counted}");
        }
    }
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let end = Timestamp::parse(NOW).unwrap().plus(DAY * 3).seconds();
    let next = format!("certificates_next_end_timestamp_seconds{{project=\"payments\"}} {end}.0\n");
    assert!(page.contains(&next), "{page}");
    world.advance(DAY * 4);
    assert_eq!(
        world
            .metric("certificates_users_ended{project=\"payments\"}")
            .await,
        1
    );
    let page = world.admin("GET", "/metrics", "", "").await.text();
    for (name, _) in USERS {
        assert!(!page.contains(name), "{name}");
    }
}
