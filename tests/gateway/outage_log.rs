//! What an outage or an unknown caller repeats is a few lines of the log, not one for each time.

use std::time::Duration;

use atlas_cert_gateway::atlas::Timestamp;
use atlas_simulator::{Asked, Fault};
use serde_json::json;

use crate::log::{Log, listen};
use crate::tokens::{AUDIENCE, ISSUER, Issuer};
use crate::world::{NOW, PROJECT, World, certs, set};

fn lines(log: &Log, text: &str) -> usize {
    log.text()
        .lines()
        .filter(|line| line.contains(text))
        .count()
}

#[tokio::test]
async fn an_outage_of_thousands_of_lookups_is_a_few_lines_of_the_log() {
    let world = World::new().await;
    assert_eq!(world.ask("app1").await.status, 200);
    let (log, _listening) = listen();
    let failing = world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::html(503));
    for number in 0..2_000 {
        let username = format!("user-{number}");
        let reply = world.while_time_passes(world.ask(&username)).await;
        assert_ne!(reply.status, 200);
    }
    let minutes = || usize::try_from(world.clock.now().elapsed.as_secs() / 60).unwrap();
    let said = log.text();
    let told = lines(&log, "Atlas could not be asked");
    assert!((1..=1 + minutes()).contains(&told), "{said}");
    assert!(said.lines().count() <= 4 + 2 * minutes(), "{said}");
    // It goes on: a line a minute, with how many there were.
    for number in 0..3 {
        world.advance(Duration::from_mins(1));
        let username = format!("later-{number}");
        world.while_time_passes(world.ask(&username)).await;
    }
    let said = log.text();
    assert_eq!(lines(&log, "Atlas could not be asked"), told + 3, "{said}");
    assert!(said.lines().count() <= 4 + 2 * minutes(), "{said}");
    assert!(!said.contains("answers again"), "{said}");
    failing.withdraw();
    world.advance(Duration::from_secs(30));
    let reply = world.while_time_passes(world.ask("many")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let said = log.text();
    assert_eq!(
        lines(&log, "Atlas answers again, after 2003 failures"),
        1,
        "{said}"
    );
}

#[tokio::test]
async fn callers_of_an_issuer_without_keys_are_one_line() {
    let (log, _listening) = listen();
    let world = World::with(|plan| {
        let issuer = toml::Table::try_from(json!({
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "algorithms": ["RS256"],
            // Nothing listens there.
            "jwks_url": "http://127.0.0.1:1/jwks",
        }));
        set(&mut plan.config, "identity.issuers", vec![issuer.unwrap()]);
    })
    .await;
    let now = Timestamp::parse(NOW).unwrap().seconds();
    let token = Issuer::new(now).token("payments-api");
    let path = certs(PROJECT, "app1");
    for _ in 0..300 {
        let reply = world.while_time_passes(world.send("GET", &path, &token, &[]));
        assert_eq!(reply.await.status, 503);
    }
    let said = log.text();
    assert_eq!(lines(&log, "a lookup was not answered"), 1, "{said}");
    assert!(said.lines().count() <= 4, "{said}");
}
