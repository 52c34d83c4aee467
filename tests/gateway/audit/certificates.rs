//! Which certificates a list had: in the records of those who were shown it, and of the fetches that found
//! it.

use std::pin::pin;
use std::time::Duration;

use atlas_cert_gateway::app::App;
use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::config::Config;
use atlas_cert_gateway::system::Clock;
use atlas_simulator::{Asked, Fault};
use futures_util::poll;
use serde_json::{Value, json};

use crate::client::Reply;
use crate::world::{NOW, PROJECT, Plan, World, certs, operator_token, other_threads, set};

/// Everybody may have a list fetched anew, as often as it likes.
async fn world(change: impl FnOnce(&mut Plan)) -> World {
    World::with(|plan| {
        set(&mut plan.config, "cache.min_refresh_interval", "1ms");
        change(plan);
    })
    .await
}

/// Has a list fetched anew. What its record is to be.
async fn fetch(world: &World, username: &str) -> Value {
    let before = fetches(world).len();
    world.advance(Duration::from_secs(1));
    let target = certs(PROJECT, username);
    let anew = [("Cache-Control", "no-cache")];
    let token = operator_token();
    world.send("GET", &target, &token, &anew).await;
    world.until(|world| fetches(world).len() > before).await;
    fetches(world).pop().unwrap()
}

fn fetches(world: &World) -> Vec<Value> {
    let mut records = world.records();
    records.retain(|record| record["kind"] == "fetch");
    records
}

fn serials(world: &World, username: &str) -> Vec<i64> {
    let certificates = world
        .atlas
        .world(|atlas| atlas.unexpired(PROJECT, username));
    let mut serials: Vec<i64> = certificates.iter().map(|it| it.serial).collect();
    serials.sort_unstable();
    serials
}

/// What a fetch's record says of the fetch before: `before`, `appeared` and `vanished`.
fn changes(record: &Value) -> [Option<&Value>; 3] {
    ["before", "appeared", "vanished"].map(|name| record.get(name))
}

#[tokio::test]
async fn a_record_says_which_list_its_caller_was_shown() {
    let world = world(|_| {}).await;
    let plain = world.ask("many").await;
    let etag = plain.header("etag").unwrap();
    let list = etag.trim_matches('"');
    assert_eq!(fetches(&world)[0]["list"], list);
    let base = certs(PROJECT, "many");
    for (query, headers) in [
        ("", &[][..]),
        ("", &[("If-None-Match", etag)]),
        ("", &[("Accept-Encoding", "gzip")]),
        ("?pageNum=2", &[]),
        ("?pretty=true&envelope=true", &[("Accept-Encoding", "br")]),
    ] {
        world.get(&format!("{base}{query}"), headers).await;
    }
    let lookups = world.lookups();
    assert_eq!(lookups.len(), 6);
    assert!(lookups.iter().all(|it| it["list"] == list), "{lookups:?}");
    assert_eq!(lookups[2]["status"], 304);
    assert_eq!(lookups[4]["certificates"], 100);
    // Once a certificate has expired it is another list, which nobody had to fetch.
    let soon = world.clock.now().wall.plus(Duration::from_secs(10)).into();
    world.atlas.world(|atlas| {
        let mut project = atlas.project(PROJECT);
        project.user("app1").certificate_until(soon);
    });
    let three = world.ask("app1").await;
    world.advance(Duration::from_secs(10));
    let two = world.ask("app1").await;
    let etags =
        [three, two].map(|reply| reply.header("etag").unwrap().trim_matches('"').to_owned());
    assert_ne!(etags[0], etags[1]);
    let recorded: Vec<_> = world.lookups().split_off(6);
    assert_eq!(
        [&recorded[0]["list"], &recorded[1]["list"]],
        [&etags[0], &etags[1]]
    );
    // What says nothing of certificates has no list.
    world.ask("nobody").await;
    world.ask("secret-keeper").await;
    let lookups = world.lookups();
    let without = &lookups[8..];
    assert!(without.len() == 2 && without.iter().all(|it| it.get("list").is_none()));
}

#[tokio::test]
async fn a_fetch_says_what_appeared_and_what_vanished_since_the_one_before() {
    let world = world(|_| {}).await;
    let first = fetch(&world, "app1").await;
    let two = serials(&world, "app1");
    assert_eq!(changes(&first), [None, Some(&json!(two)), None]);
    let second = fetch(&world, "app1").await;
    assert_eq!(changes(&second), [Some(&first["fill_id"]), None, None]);
    assert_eq!(second["list"], first["list"]);
    // One is issued, one is removed.
    let new = world.atlas.world(|atlas| {
        let mut project = atlas.project(PROJECT);
        let mut user = project.user("app1");
        user.remove_certificate(two[0]);
        let until = std::time::SystemTime::from(world.clock.now().wall);
        user.certificate_until(until + Duration::from_mins(1))
    });
    let purged = json!({ "groupId": PROJECT, "username": "app1" }).to_string();
    world
        .admin("POST", "/cache/purge", &operator_token(), &purged)
        .await;
    let third = fetch(&world, "app1").await;
    let expected = [&second["fill_id"], &json!([new]), &json!([two[0]])];
    assert_eq!(changes(&third), expected.map(Some));
    assert_ne!(third["list"], first["list"]);
    // What has expired has not vanished.
    world.advance(Duration::from_mins(1));
    let fourth = fetch(&world, "app1").await;
    assert_eq!(changes(&fourth), [Some(&third["fill_id"]), None, None]);
    assert_eq!(fourth["certificates"], 1);
    assert_eq!(fourth["expired"], json!([new]));
    // While Atlas fails nothing is known, and nothing has vanished.
    let fails = world
        .atlas
        .on(Asked::certificates())
        .always()
        .respond(Fault::status(401));
    let failed = fetch(&world, "app1").await;
    assert_eq!(
        (&failed["outcome"], changes(&failed)),
        (&"failed".into(), [None; 3])
    );
    fails.withdraw();
    // The user goes, and comes back.
    world
        .atlas
        .world(|atlas| atlas.project(PROJECT).remove_user("app1"));
    let gone = fetch(&world, "app1").await;
    assert_eq!(gone["status"], 404);
    assert_eq!(
        changes(&gone),
        [Some(&fourth["fill_id"]), None, Some(&json!([two[1]]))]
    );
    assert!(gone.get("list").is_none());
    world.atlas.world(|atlas| {
        atlas.project(PROJECT).user("app1").certificates(1);
    });
    let back = fetch(&world, "app1").await;
    let appeared = json!(serials(&world, "app1"));
    assert_eq!(
        changes(&back),
        [Some(&gone["fill_id"]), Some(&appeared), None]
    );
    assert!(fetch(&world, "nobody").await.get("appeared").is_none());
    // Not the first, with nothing to compare it with, nor those that found the same.
    let found = changed(&world, "").await;
    assert_eq!(found["records"], json!([third, gone, back]));
    assert_eq!(changed(&world, "&kind=lookup").await["records"], json!([]));
    for (change, certificates) in [("appeared", 3), ("vanished", 2)] {
        let metric = format!("certificates_changed_total{{change=\"{change}\"}}");
        assert_eq!(world.metric(&metric).await, certificates, "{change}");
    }
    let target = "/audit/lookups?changed=no";
    let refused = world.admin("GET", target, &operator_token(), "").await;
    assert!(refused.text().contains("`changed`"), "{}", refused.text());
}

/// What is found of fetches that changed something.
async fn changed(world: &World, more: &str) -> Value {
    let target = format!("/audit/lookups?changed=true&first=oldest{more}");
    world
        .admin("GET", &target, &operator_token(), "")
        .await
        .json()
}

#[tokio::test]
async fn who_was_shown_a_certificate_is_found_by_its_serial_number() {
    let world = world(|_| {}).await;
    let first = world.ask("app1").await;
    let serial = serials(&world, "app1")[0];
    world.ask("app2").await;
    let hit = world.ask("app1").await;
    fetch(&world, "app1").await;
    world.atlas.world(|atlas| {
        let mut project = atlas.project(PROJECT);
        project.user("app1").remove_certificate(serial);
    });
    let purged = json!({ "groupId": PROJECT, "username": "app1" }).to_string();
    world
        .admin("POST", "/cache/purge", &operator_token(), &purged)
        .await;
    fetch(&world, "app1").await;
    world.ask("app1").await;
    let found = |query: String| {
        let target = format!("/audit/lookups?first=oldest&certificate={serial}{query}");
        let token = operator_token();
        let world = &world;
        async move { world.admin("GET", &target, &token, "").await.json()["records"].clone() }
    };
    let answers = found(String::new()).await;
    let ids: Vec<_> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["request_id"])
        .collect();
    let id = |reply: &Reply| json!(reply.header("x-request-id").unwrap());
    assert_eq!(ids[..2], [&id(&first), &id(&hit)]);
    // And the answer to the forced fetch that found it still there.
    assert_eq!(ids.len(), 3);
    let fetched = found("&kind=fetch".to_owned()).await;
    let fetched = fetched.as_array().unwrap();
    assert_eq!(fetched.len(), 3);
    assert_eq!(fetched[2]["vanished"], json!([serial]));
}

#[tokio::test]
async fn of_many_serials_the_first_are_named_and_the_others_counted() {
    let world = world(|_| {}).await;
    let first = fetch(&world, "many").await;
    let all = serials(&world, "many");
    assert_eq!(first["appeared"], json!(all[..64]));
    assert_eq!(first["appeared_more"], 1_203 - 64);
    world.atlas.world(|atlas| {
        let mut project = atlas.project(PROJECT);
        project.user("many").remove_all_certificates();
    });
    let second = fetch(&world, "many").await;
    assert_eq!(second["vanished"], json!(all[..64]));
    assert_eq!(second["vanished_more"], 1_203 - 64);
    assert!(second.get("appeared").is_none() && second["certificates"] == 0);
}

#[tokio::test]
async fn after_a_restart_nothing_is_known_of_the_fetch_before() {
    let mut config = toml::Table::new();
    let mut world = world(|plan| config = plan.config.clone()).await;
    let first = fetch(&world, "app1").await;
    set(&mut config, "atlas.base_url", world.atlas.base_url());
    let config = Config::parse(&config.to_string(), []).unwrap();
    let mut stopped = pin!(world.app.stop());
    while poll!(&mut stopped).is_pending() {
        world.clock.advance(Duration::from_millis(1));
        // The disk has its own time.
        other_threads().await;
    }
    let (clock, manual_clock) = Clock::manual(Timestamp::parse(NOW).unwrap());
    (world.app, world.clock) = (App::start(&config, clock).await.unwrap(), manual_clock);
    world.ask("app1").await;
    let records = fetches(&world);
    let [_, second] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(changes(second), changes(&first));
    assert_eq!(second["list"], first["list"]);
}
