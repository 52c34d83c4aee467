//! The status page as people have it: in Chromium, light and dark, wide and narrow, with pictures of each.

use std::time::Duration;

use atlas_simulator::{Asked, Fault};
use serde_json::json;

use crate::harness::browser::Browser;
use crate::world::{FOREIGN_PROJECT, PROJECT, World, certs, operator_token, set_rule, token_of};

/// Looks at a page in every way that it is looked at, and keeps pictures.
async fn judge(browser: &Browser, name: &str) {
    for (width, dark) in [(1_280, false), (1_280, true), (390, false), (390, true)] {
        browser.look(width, dark).await;
        let scheme = if dark { "dark" } else { "light" };
        let name = format!("{name}-{width}-{scheme}");
        let seen = browser
            .run(
                "const page = document.scrollingElement;
                return [page.scrollWidth, innerWidth, getComputedStyle(document.body).backgroundColor];",
            )
            .await;
        let color = if dark {
            "rgb(13, 17, 23)"
        } else {
            "rgb(255, 255, 255)"
        };
        assert_eq!(seen, json!([width, width, color]), "{name}");
        browser.keep_picture(&name).await;
        if let Some((broken, kept)) = browser.accessibility().await {
            assert!(
                broken.is_empty() && kept > 15,
                "{name}: {kept}: {broken:#?}"
            );
        }
    }
    browser.look(1_280, false).await;
}

fn page(world: &World) -> String {
    format!("http://{}/", world.app.admin_address())
}

#[tokio::test]
async fn the_page_can_be_read_at_rest_under_load_and_in_an_outage() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let world = World::with(|plan| {
        for number in 0..40 {
            let mut project = plan.atlas.world.project(PROJECT);
            let mut user = project.user(&format!("load{number}"));
            user.certificates(1 + number % 3);
        }
    })
    .await;
    browser.open(&page(&world)).await;
    let text = browser.text().await;
    assert!(
        text.contains("● ready") && text.contains("Nobody has asked"),
        "{text}"
    );
    judge(&browser, "at-rest").await;

    for minute in 0..30_u32 {
        for number in 0..(minute * 7 % 40) {
            world.ask(&format!("load{number}")).await;
            world.ask("app1").await;
        }
        world.advance(Duration::from_mins(1));
    }
    browser.follow("header a").await;
    let text = browser.text().await;
    assert!(
        text.contains("project 1") && text.contains("asked for"),
        "{text}"
    );
    judge(&browser, "under-load").await;

    world
        .atlas
        .on(Asked::certificates())
        .always()
        .respond(Fault::unexpected_error());
    for number in 0..12 {
        let asked = async { world.ask(&format!("nobody{number}")).await };
        world.while_time_passes(asked).await;
    }
    browser.follow("header a").await;
    let text = browser.text().await;
    assert!(text.contains("atlas: "), "{text}");
    judge(&browser, "in-an-outage").await;
}

#[tokio::test]
async fn a_token_is_pasted_and_hostile_names_are_shown_and_not_run() {
    let Some(browser) = Browser::start().await else {
        return;
    };
    let names = [
        "<script>alert(1)</script>".to_owned(),
        "\"onload=alert(2) x=\"".to_owned(),
        "\u{202e}live\u{2066}".to_owned(),
        "a".repeat(1_024),
    ];
    let shown = |name: &str| {
        name.replace('\u{202e}', "\\u{202e}")
            .replace('\u{2066}', "\\u{2066}")
    };
    let world = World::with(|plan| {
        set_rule(plan, 0, "subjects", vec!["*"]);
        set_rule(plan, 0, "projects", vec![PROJECT]);
        for name in &names {
            let mut project = plan.atlas.world.project(PROJECT);
            project.user(name).certificates(1);
        }
    })
    .await;
    for name in &names {
        // No subject is as long as a username may be.
        let subject = if name.len() > 255 { "caller" } else { name };
        let caller = token_of(&json!({ "sub": subject }));
        for project in [PROJECT, FOREIGN_PROJECT] {
            world.send("GET", &certs(project, name), &caller, &[]).await;
        }
    }
    browser.open(&page(&world)).await;
    browser.type_into("#token", "no.such.token").await;
    browser.follow("main button").await;
    assert!(browser.text().await.contains("This token was not accepted"));
    judge(&browser, "refused").await;

    browser.type_into("#token", &operator_token()).await;
    browser.follow("main button").await;
    assert!(browser.text().await.contains("Names are shown to operator"));
    for name in &names {
        browser.type_into("#group", PROJECT).await;
        browser.type_into("#user", name).await;
        browser.follow("main form button").await;
        let text = browser.text().await;
        // Which user somebody was denied, and which one is explained; and who spends, and was denied.
        let times = if name.len() > 255 { 2 } else { 4 };
        assert_eq!(text.matches(&shown(name)).count(), times, "{text}");
        assert!(text.contains("list.certificates"), "{text}");
    }
    let run = browser
        .run(
            "const all = [...document.querySelectorAll('*')];
            const attributes = all.flatMap((element) => [...element.attributes]);
            const handlers = attributes.filter((attribute) => attribute.name.startsWith('on'));
            return [document.scripts.length, handlers.length, document.cookie];",
        )
        .await;
    assert_eq!(run, json!([0, 0, ""]));
    judge(&browser, "with-names").await;

    browser.open(&page(&world)).await;
    assert!(browser.text().await.contains(PROJECT));
    browser.follow("header button").await;
    let text = browser.text().await;
    assert!(
        !text.contains(PROJECT) && text.contains("Show names"),
        "{text}"
    );
    browser.open(&page(&world)).await;
    assert!(!browser.text().await.contains(PROJECT));
}
