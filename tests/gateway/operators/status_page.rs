//! `GET /`: the status page, for people, without a name unless an operator's token is shown.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::client::Reply;
use crate::world::{
    FOREIGN_PROJECT, PROJECT, World, certs, operator_token, set_rule, token, token_of,
};

async fn page(world: &World, token: &str) -> Reply {
    let reply = world.admin("GET", "/", token, "").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply
}

#[tokio::test]
async fn the_page_is_for_people_and_runs_and_loads_nothing() {
    let world = World::new().await;
    let reply = page(&world, "").await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("referrer-policy"), Some("same-origin"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let text = reply.text();
    let (_, rest) = text.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    assert_eq!(reply.header("content-security-policy"), Some(&*policy));
    for nothing in [
        "<script",
        "http-equiv",
        "onload=",
        "src=",
        "url(",
        "@import",
    ] {
        assert!(!text.contains(nothing), "{nothing}");
    }
    assert!(
        text.contains("● ready") && text.contains("All parts are well."),
        "{text}"
    );
    let head = world.admin("HEAD", "/", "", "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        world.admin("POST", "/", &operator_token(), "").await.status,
        405
    );
    // What it says is said by /metrics and /readyz, and so it is not on record.
    assert!(
        world
            .records()
            .iter()
            .all(|it| it["action"] != "status" || it["outcome"] == "rejected")
    );
}

#[tokio::test]
async fn it_says_what_was_saved_what_is_left_and_what_expires() {
    let world = World::new().await;
    for _ in 0..9 {
        world.ask("app1").await;
    }
    world.get(&certs(PROJECT, "many"), &[]).await;
    let text = page(&world, "").await.text();
    // One call for nine answers of one, and three for one of three.
    assert!(text.contains("<strong>66 %</strong>"), "{text}");
    assert!(text.contains("12 asked for, 4 made."), "{text}");
    assert!(
        text.contains("project 1") && text.contains("for good"),
        "{text}"
    );
    assert!(text.contains("Of 2 known users 0 have"), "{text}");
    for part in [
        "made 4 to 4, spared 8 to 8</title>",
        "var(--good)\" stroke-width=\"2\" stroke-dasharray=\"4 2\" points=\"0,2 300,2\"",
        "var(--bar)\" stroke-width=\"2\" points=\"0,30 300,30\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // After an hour nobody has asked.
    let mut minutes = 0;
    while !page(&world, "")
        .await
        .text()
        .contains("Nobody has asked in the last hour.")
    {
        world.advance(Duration::from_mins(1));
        minutes += 1;
    }
    assert!(minutes >= 60, "{minutes}");
}

#[tokio::test]
async fn names_are_shown_to_operators_alone_and_that_is_on_record() {
    let hostile = "<script>alert(1)</script>\"onload=x \u{202e}";
    let world = World::with(|plan| {
        set_rule(plan, 0, "projects", vec![PROJECT]);
        let mut project = plan.atlas.world.project(PROJECT);
        project.user(hostile).certificates(1);
    })
    .await;
    world.ask("app1").await;
    let caller = token_of(&json!({"sub": "<img src=x onerror=alert(2)>"}));
    for name in [hostile, "app1"] {
        world
            .send("GET", &certs(FOREIGN_PROJECT, name), &caller, &[])
            .await;
    }
    let without = page(&world, "").await.text();
    for name in [
        PROJECT,
        FOREIGN_PROJECT,
        "app1",
        "payments",
        "alert(",
        "operator\"",
    ] {
        assert!(!without.contains(name), "{name}: {without}");
    }
    let with = page(&world, &operator_token()).await.text();
    assert!(
        with.contains(PROJECT) && with.contains(FOREIGN_PROJECT),
        "{with}"
    );
    assert!(
        with.contains("&#60;script&#62;") && with.contains("&#60;img src"),
        "{with}"
    );
    assert!(
        !with.contains("<script") && !with.contains("<img"),
        "{with}"
    );
    for (token, status) in [(token(), 403), ("no.such.token".to_owned(), 401)] {
        assert_eq!(world.admin("GET", "/", &token, "").await.status, status);
    }
    let records = world.records();
    let seen: Vec<_> = records
        .iter()
        .filter(|it| it["action"] == "status")
        .collect();
    assert_eq!(seen[0]["outcome"], "answered");
    assert_eq!(seen[0]["subject"], "operator");
    assert_eq!(seen[0]["rule"], "operators");
}

#[tokio::test]
async fn it_says_what_is_ill_and_answers_to_no_foreign_host() {
    let world = World::new().await;
    world.ask("app1").await;
    world
        .atlas
        .on(atlas_simulator::Asked::certificates())
        .always()
        .respond(atlas_simulator::Fault::unexpected_error());
    for number in 0..12 {
        let asked = async { world.ask(&format!("nobody{number}")).await };
        world.while_time_passes(asked).await;
    }
    let text = page(&world, "").await.text();
    assert!(text.contains("<span class=\"warn\">atlas</span>"), "{text}");
    let request = b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let reply = crate::client::exchange(world.app.admin_address(), request).await;
    assert_eq!(reply.status, 421);
}
