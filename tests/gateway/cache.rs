//! The cache seen from outside: fresh, shared, honest and bounded, over real sockets.

mod failures;
mod held_back;
mod outages;
mod purges;

use std::time::Duration;

use atlas_simulator::{Asked, Fault};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::client::{Connection, Reply};
use crate::world::{PROJECT, World, certs, operator_token, set, token, token_of};

/// Past every share of five minutes.
const PAST_TTL: Duration = Duration::from_secs(331);
/// Atlas's word that there is nothing is forgotten.
const PAST_NEGATIVE_TTL: Duration = Duration::from_secs(31);

#[tokio::test]
async fn c02_who_may_not_is_denied_at_once_while_others_wait_for_one_fetch() {
    let world = quiet_world().await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let stranger = token_of(&json!({ "sub": "stranger" }));
    let allowed = join_all((0..50).map(|_| world.ask("app1")));
    let (allowed, denied) = tokio::join!(allowed, async {
        gate.arrived(1).await;
        let target = certs(PROJECT, "app1");
        let denied = (0..50).map(|_| world.send("GET", &target, &stranger, &[]));
        // They are answered although the fetch has not ended.
        let denied = join_all(denied).await;
        gate.open();
        denied
    });
    assert!(allowed.iter().all(|reply| reply.status == 200));
    assert!(denied.iter().all(|reply| reply.status == 403));
    assert_eq!(world.atlas.certificate_calls(), 1);
    let words = words(&world, "cache");
    let count = |word: &str| words.iter().filter(|known| *known == word).count();
    assert_eq!(
        (count("miss"), count("collapsed"), count("none")),
        (1, 49, 50)
    );
}

#[tokio::test]
async fn c01_c17_who_is_denied_cannot_tell_whether_a_key_is_remembered() {
    let world = quiet_world().await;
    let stranger = token_of(&json!({ "sub": "stranger" }));
    let target = certs(PROJECT, "app1");
    let before = world.send("GET", &target, &stranger, &[]).await;
    let etag = world.ask("app1").await.header("etag").unwrap().to_owned();
    for headers in [
        &[][..],
        &[("If-None-Match", etag.as_str())],
        &[("Cache-Control", "no-cache")],
    ] {
        let after = world.send("GET", &target, &stranger, headers).await;
        assert_eq!(after.status, 403);
        assert_eq!(after.body, before.body);
        assert_eq!(names(&after), names(&before));
        assert!(after.header("cache-status").is_none() && after.header("age").is_none());
    }
    let head = world.send("HEAD", &target, &stranger, &[]).await;
    assert_eq!((head.status, head.header("etag")), (403, None));
}

#[tokio::test]
async fn c09_c10_c11_ranges_addresses_cookies_and_the_like_change_nothing() {
    let world = quiet_world().await;
    let plain = world.ask("app1").await;
    for headers in [
        &[("Range", "bytes=0-10")][..],
        &[("Range", "bytes=0-10"), ("If-Range", "\"x\"")],
        &[("Cookie", "a=b"), ("Vary", "*")],
        &[("X-Original-URL", "/other"), ("X-Rewrite-URL", "/other")],
        &[("Forwarded", "host=evil.example;proto=https")],
        &[("X-Forwarded-Host", "evil.example")],
        &[("X-Forwarded-Proto", "https"), ("X-Forwarded-Prefix", "/x")],
        &[("Cache-Control", "no-cache"), ("Pragma", "no-cache")],
        &[("Cache-Control", "max-age=0")],
    ] {
        let reply = world.get(&certs(PROJECT, "app1"), headers).await;
        assert_eq!(
            (reply.status, &reply.body),
            (200, &plain.body),
            "{headers:?}"
        );
        assert_eq!(reply.header("x-upstream-calls"), Some("0"), "{headers:?}");
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
}

#[tokio::test]
async fn c15_an_answer_has_the_gateway_s_headers_and_none_of_atlas_s() {
    let world = quiet_world().await;
    for reply in [world.ask("app1").await, world.ask("app1").await] {
        let mut names = names(&reply);
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "age",
                "cache-control",
                "cache-status",
                "connection",
                "content-length",
                "content-type",
                "date",
                "etag",
                "vary",
                "x-request-id",
                "x-upstream-calls",
            ]
        );
        let value = |name| reply.header(name).unwrap();
        assert_eq!(value("cache-control"), "private, no-cache");
        assert_eq!(value("vary"), "Accept, Accept-Encoding");
    }
}

#[tokio::test]
async fn c16_t17_the_age_is_that_of_the_oldest_page() {
    let world = quiet_world().await;
    let gate = world.atlas.on(Asked::certificates().page(3)).hold();
    let (reply, ()) = tokio::join!(world.ask("many"), async {
        gate.arrived(1).await;
        world.advance(Duration::from_secs(2));
        gate.open();
    });
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("age"), Some("2"));
}

#[tokio::test]
async fn the_same_certificates_fetched_again_are_still_a_304() {
    let world = quiet_world().await;
    let first = world.ask("app1").await;
    let etag = first.header("etag").unwrap();
    advance_on_record(&world, PAST_TTL).await;
    let condition = [("If-None-Match", etag)];
    let again = world.get(&certs(PROJECT, "app1"), &condition).await;
    assert_eq!(again.status, 304);
    assert_eq!(again.header("x-upstream-calls"), Some("1"));
    let status = again.header("cache-status").unwrap();
    assert_eq!(status, "atlas-cert-gateway; fwd=stale; stored");
    world.atlas.world(|atlas| {
        atlas.project(PROJECT).user("app1").certificates(1);
    });
    advance_on_record(&world, PAST_TTL).await;
    let changed = world.get(&certs(PROJECT, "app1"), &condition).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["totalCount"], 3);
}

#[tokio::test]
async fn g1_a_stale_list_its_pages_and_its_304_are_without_what_has_expired() {
    let world = quiet_world().await;
    let end = std::time::SystemTime::from(world.clock.now().wall) + PAST_TTL;
    world.atlas.world(|atlas| {
        atlas.project(PROJECT).user("app1").certificate_until(end);
    });
    let first = world.ask("app1").await;
    assert_eq!(first.json()["totalCount"], 3);
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::unexpected_error());
    advance_on_record(&world, PAST_TTL).await;
    let stale = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(
        (stale.status, &stale.json()["totalCount"]),
        (200, &2.into())
    );
    let condition = [("If-None-Match", first.header("etag").unwrap())];
    let target = certs(PROJECT, "app1");
    let asked = world
        .while_time_passes(world.get(&target, &condition))
        .await;
    assert_eq!(
        asked.status, 200,
        "the list has changed with its certificates"
    );
    for (query, length) in [("itemsPerPage=2", 2), ("itemsPerPage=2&pageNum=2", 0)] {
        let target = format!("{target}?{query}");
        let page = world.while_time_passes(world.get(&target, &[])).await;
        let page = page.json();
        assert_eq!(page["results"].as_array().unwrap().len(), length);
        assert_eq!(page["totalCount"], 2);
    }
}

#[tokio::test]
async fn t4_a_denial_of_atlas_is_passed_on_and_ends_the_list() {
    let world = quiet_world().await;
    world.ask("app1").await;
    let forbidden = world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::api_error(403, "USER_CANNOT_ACCESS_GROUP", "No."));
    advance_on_record(&world, PAST_TTL).await;
    let denied = world.ask("app1").await;
    assert_eq!(
        (denied.status, denied.header("x-error-origin")),
        (403, Some("atlas"))
    );
    forbidden.withdraw();
    world.atlas.stop_accepting().await.unwrap();
    let reply = world.while_time_passes(world.ask("app1")).await;
    assert_ne!(reply.status, 200, "an outage does not bring it back");
}

#[tokio::test]
async fn l04_a_missing_user_costs_one_call_per_negative_ttl_until_it_exists() {
    let world = quiet_world().await;
    let first = world.ask("nobody").await;
    assert_eq!(
        (first.status, first.header("x-error-origin")),
        (404, Some("atlas"))
    );
    for _ in 0..100 {
        let again = world.ask("nobody").await;
        assert_eq!((again.status, &again.body), (404, &first.body));
        assert_eq!(again.header("x-upstream-calls"), Some("0"));
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
    assert_eq!(words(&world, "cache")[1..], vec!["negative"; 100]);
    world.atlas.world(|atlas| {
        atlas.project(PROJECT).user("nobody").certificates(1);
    });
    advance_on_record(&world, PAST_NEGATIVE_TTL).await;
    assert_eq!(world.ask("nobody").await.status, 200);
}

#[tokio::test]
async fn a_list_in_use_is_renewed_ahead_of_its_time_and_its_readers_do_not_wait() {
    let world = quiet_world().await;
    world.ask("app1").await;
    world.ask("app1").await;
    let due = explain(&world).await["list"]["refreshInSeconds"]
        .as_u64()
        .unwrap();
    advance_on_record(&world, Duration::from_secs(due + 1)).await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    for _ in 0..5 {
        let hit = world.ask("app1").await;
        assert_eq!(hit.header("x-upstream-calls"), Some("0"));
    }
    gate.arrived(1).await;
    assert_eq!(explain(&world).await["fetch"]["waiters"], 0);
    gate.open();
    let renewed = loop {
        let hit = world.ask("app1").await;
        if hit.header("age") == Some("0") {
            break hit;
        }
    };
    let status = renewed.header("cache-status").unwrap();
    assert!(status.contains("hit; ttl="), "{status}");
    assert!(status.ends_with("; detail=refreshed-ahead"), "{status}");
    assert_eq!(world.atlas.certificate_calls(), 2);
}

#[tokio::test]
async fn f07_g21_a_fetch_goes_on_when_every_caller_hangs_up() {
    let world = quiet_world().await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\r\n",
        certs(PROJECT, "app1"),
        token()
    );
    let mut callers = Vec::new();
    for _ in 0..20 {
        let mut connection = Connection::open(world.address()).await;
        connection.send(request.as_bytes()).await;
        callers.push(connection);
    }
    gate.arrived(1).await;
    while explain(&world).await["fetch"]["waiters"] != 20 {}
    callers.into_iter().for_each(Connection::reset);
    let hung_up = |world: &World| words(world, "outcome").len() == 20;
    world.until(hung_up).await;
    assert_eq!(words(&world, "outcome"), vec!["abandoned"; 20]);
    gate.open();
    world
        .until(|world| {
            world
                .records()
                .iter()
                .any(|record| record["kind"] == "fetch")
        })
        .await;
    let found = world.ask("app1").await;
    assert_eq!((found.status, world.atlas.certificate_calls()), (200, 1));
}

/// The usual world, whose audit trail leaves it to the system when its disk is written: the clock jumps
/// far in these tests, and a write under way would seem to take as long.
async fn quiet_world() -> World {
    World::with(|plan| set(&mut plan.config, "audit.sync", "never")).await
}

/// Moves the clock on, once every fetch so far is on record: a record that is still being written
/// while the clock jumps would be one that took too long.
async fn advance_on_record(world: &World, span: Duration) {
    world
        .until(|world| {
            let records = world.records();
            let of_kind = |kind: &'static str| {
                let records = records.iter().filter(move |record| record["kind"] == kind);
                records.map(|record| &record["fill_id"])
            };
            of_kind("lookup")
                .filter(|fill_id| fill_id.is_string())
                .all(|fill_id| of_kind("fetch").any(|fetch| fetch == fill_id))
        })
        .await;
    world.advance(span);
}

/// What the records of lookups say under a name.
fn words(world: &World, name: &str) -> Vec<String> {
    let records = world.lookups();
    let text = |record: &Value| record[name].as_str().unwrap_or("none").to_owned();
    records.iter().map(text).collect()
}

fn names(reply: &Reply) -> Vec<&str> {
    reply
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect()
}

async fn explain(world: &World) -> Value {
    let target = format!("/cache/explain?groupId={PROJECT}&username=app1");
    world
        .admin("GET", &target, &operator_token(), "")
        .await
        .json()
}
