//! The main job: a caller asks, and gets every certificate of a user, from the cache where that is
//! right.

use std::collections::BTreeSet;
use std::time::Duration;

use atlas_simulator::{Asked, Fault};
use serde_json::Value;

use crate::client::Connection;
use crate::world::{
    FOREIGN_PROJECT, OTHER_PROJECT, PROJECT, World, certs, token, token_of, use_api_key,
};

#[tokio::test]
async fn the_first_answer_asks_atlas_and_the_second_is_a_hit() {
    let world = World::new().await;
    let first = world.ask("app1").await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(first.json()["totalCount"], 2);
    assert_eq!(
        first.header("cache-status"),
        Some("atlas-cert-gateway; fwd=miss; stored")
    );
    assert_eq!(first.header("x-upstream-calls"), Some("1"));
    assert_eq!(first.header("age"), Some("0"));
    assert_eq!(first.header("cache-control"), Some("private, no-cache"));
    assert_eq!(first.header("vary"), Some("Accept, Accept-Encoding"));

    world.advance(Duration::from_secs(7));
    let second = world.ask("app1").await;
    assert_eq!(second.status, 200);
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("etag"), first.header("etag"));
    assert_eq!(second.header("x-upstream-calls"), Some("0"));
    assert_eq!(second.header("age"), Some("7"));
    let status = second.header("cache-status").unwrap();
    assert!(
        status.starts_with("atlas-cert-gateway; hit; ttl="),
        "{status}"
    );
    assert_eq!(world.atlas.certificate_calls(), 1);
}

#[tokio::test]
async fn three_pages_become_one_body_and_no_id_changes() {
    let world = World::new().await;
    let reply = world.ask("many").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let list = reply.json();
    assert_eq!(list["totalCount"], 1_203);
    let expected: BTreeSet<i64> = world.atlas.world(|atlas| {
        atlas
            .project(PROJECT)
            .user("many")
            .serials()
            .into_iter()
            .collect()
    });
    assert_eq!(ids(&list), expected);
    assert!(
        expected.iter().any(|id| *id > 1 << 53),
        "ids above 2^53 are what this is about"
    );
}

#[tokio::test]
async fn paging_through_a_user_gives_the_same_certificates_and_costs_no_call() {
    let world = World::new().await;
    let whole = ids(&world.ask("many").await.json());
    let calls = world.atlas.certificate_calls();
    let mut collected = BTreeSet::new();
    let mut target = format!("{}?itemsPerPage=100", certs(PROJECT, "many"));
    let mut pages = 0;
    loop {
        let reply = world.get(&target, &[]).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        assert_eq!(reply.header("x-upstream-calls"), Some("0"));
        let page = reply.json();
        assert_eq!(page["totalCount"], 1_203);
        collected.extend(ids(&page));
        pages += 1;
        let links = page["links"].as_array().unwrap();
        assert_eq!(links[0]["rel"], "self");
        assert_eq!(
            links.iter().any(|link| link["rel"] == "previous"),
            pages > 1
        );
        let Some(next) = links.iter().find(|link| link["rel"] == "next") else {
            break;
        };
        let href = next["href"].as_str().unwrap();
        target = href.strip_prefix("http://gateway.test").unwrap().to_owned();
    }
    assert_eq!(pages, 13);
    assert_eq!(collected, whole);
    assert_eq!(world.atlas.certificate_calls(), calls);
}

#[tokio::test]
async fn a_page_past_the_end_is_empty_and_keeps_the_count() {
    let world = World::new().await;
    let page = world
        .get(&format!("{}?pageNum=999999", certs(PROJECT, "app1")), &[])
        .await;
    assert_eq!(
        (
            page.status,
            &page.json()["results"],
            &page.json()["totalCount"]
        ),
        (200, &Value::Array(vec![]), &2.into())
    );
}

#[tokio::test]
async fn f06_fifty_first_callers_share_one_fetch() {
    let world = World::new().await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let callers: Vec<_> = (0..50).map(|_| world.ask("app1")).collect();
    let callers = futures_util::future::join_all(callers);
    let (replies, ()) = tokio::join!(callers, async {
        gate.arrived(1).await;
        gate.open();
    });
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(world.atlas.certificate_calls(), 1);
    let cost: u32 = replies
        .iter()
        .map(|reply| {
            reply
                .header("x-upstream-calls")
                .unwrap()
                .parse::<u32>()
                .unwrap()
        })
        .sum();
    assert_eq!(cost, 1, "one call is charged once");
}

#[tokio::test]
async fn f07_the_fetch_goes_on_when_the_first_forty_nine_hang_up() {
    let world = World::new().await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\r\n",
        certs(PROJECT, "app1"),
        token()
    );
    let mut callers = Vec::new();
    for _ in 0..50 {
        let mut connection = Connection::open(world.address()).await;
        connection.send(request.as_bytes()).await;
        callers.push(connection);
    }
    gate.arrived(1).await;
    let mut last = callers.pop().unwrap();
    callers.into_iter().for_each(Connection::reset);
    world.until(|world| abandoned(world) == 49).await;
    gate.open();
    assert_eq!(last.reply(false).await.status, 200);
    assert_eq!(world.atlas.certificate_calls(), 1);
    assert_eq!(
        world.ask("app1").await.header("x-upstream-calls"),
        Some("0")
    );
}

#[tokio::test]
async fn a_certificate_leaves_the_answer_when_it_expires_and_atlas_is_not_asked() {
    let world = World::new().await;
    let soon = std::time::SystemTime::from(world.clock.now().wall) + Duration::from_secs(30);
    let expiring = world
        .atlas
        .world(|atlas| atlas.project(PROJECT).user("app1").certificate_until(soon));
    let before = world.ask("app1").await;
    assert_eq!(before.json()["totalCount"], 3);
    world.advance(Duration::from_secs(29));
    assert_eq!(world.ask("app1").await.body, before.body);
    world.advance(Duration::from_secs(1));
    let after = world.ask("app1").await;
    assert_eq!(after.json()["totalCount"], 2);
    assert!(!ids(&after.json()).contains(&expiring));
    assert_ne!(after.header("etag"), before.header("etag"));
    assert_eq!(world.atlas.certificate_calls(), 1);
}

#[tokio::test]
async fn both_versions_and_every_spelling_of_a_name_are_one_entry() {
    let world = World::new().await;
    world.atlas.world(|atlas| {
        atlas.project(PROJECT).user("CN=app").certificates(1);
    });
    let list = |prefix: &str, name: &str| {
        format!("/api/atlas/{prefix}/groups/{PROJECT}/databaseUsers/{name}/certs")
    };
    for target in [
        list("v2", "CN=app"),
        list("v2", "CN%3Dapp"),
        list("v1.0", "CN%3dapp"),
    ] {
        assert_eq!(
            world.get(&target, &[]).await.json()["totalCount"],
            1,
            "{target}"
        );
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
    assert_eq!(
        world.get(&list("v2", "cn=app"), &[]).await.status,
        404,
        "names are not folded"
    );
}

#[tokio::test]
async fn c13_projects_do_not_share_entries() {
    let world = World::new().await;
    assert_eq!(
        world.get(&certs(PROJECT, "app1"), &[]).await.json()["totalCount"],
        2
    );
    assert_eq!(
        world.get(&certs(OTHER_PROJECT, "app1"), &[]).await.json()["totalCount"],
        1
    );
}

#[tokio::test]
async fn what_no_rule_grants_is_denied_before_the_cache_is_looked_at() {
    let world = World::new().await;
    let denials = [
        certs(FOREIGN_PROJECT, "app1"),
        certs(PROJECT, "secret-keeper"),
    ];
    for target in &denials {
        let reply = world.get(target, &[]).await;
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (403, "ACCESS_FORBIDDEN")
        );
        assert_eq!(reply.header("x-error-origin"), Some("gateway"));
    }
    assert_eq!(world.atlas.certificate_calls(), 0);
    let stranger = token_of(&serde_json::json!({ "sub": "stranger" }));
    world.ask("app1").await;
    let reply = world
        .send(
            "GET",
            &certs(PROJECT, "app1"),
            &stranger,
            &[("If-None-Match", "*")],
        )
        .await;
    assert_eq!(reply.status, 403, "and a condition changes nothing");
    let outcomes: Vec<Value> = world
        .lookups()
        .iter()
        .map(|record| record["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["denied", "denied", "answered", "denied"]);
    let rules: Vec<Value> = world
        .lookups()
        .iter()
        .map(|record| record["rule"].clone())
        .collect();
    let (denying, granting) = ("nobody reads secrets", "payments reads its projects");
    assert_eq!(
        rules,
        [Value::Null, denying.into(), granting.into(), Value::Null]
    );
}

#[tokio::test]
async fn every_lookup_is_on_record_with_who_what_and_whence() {
    let world = World::new().await;
    let first = world.ask("app1").await;
    let second = world.ask("app1").await;
    let records = world.lookups();
    assert_eq!(records.len(), 2);
    let (miss, hit) = (&records[0], &records[1]);
    assert_eq!(miss["request_id"], first.header("x-request-id").unwrap());
    assert_eq!(hit["request_id"], second.header("x-request-id").unwrap());
    for record in &records {
        assert_eq!(record["subject"], "payments-api");
        assert_eq!(record["token_id"], "token-1");
        assert_eq!(record["rule"], "payments reads its projects");
        assert_eq!(record["group_id"], PROJECT);
        assert_eq!(record["username"], "app1");
        assert_eq!(record["status"], 200);
        assert_eq!(record["certificates"], 2);
    }
    assert_eq!(
        (&miss["cache"], &hit["cache"]),
        (&"miss".into(), &"hit".into())
    );
    assert_eq!(
        (&miss["upstream_calls"], &hit["upstream_calls"]),
        (&1.into(), &0.into())
    );
    assert_eq!(miss["fill_id"], hit["fill_id"]);
    let fetches: Vec<Value> = world
        .records()
        .into_iter()
        .filter(|record| record["kind"] == "fetch")
        .collect();
    assert_eq!(fetches.len(), 1);
    assert_eq!(fetches[0]["fill_id"], hit["fill_id"]);
    assert_eq!(fetches[0]["credential"], "platform");
}

#[tokio::test]
async fn the_same_works_with_a_legacy_api_key() {
    let world = World::with(|plan| use_api_key(&mut plan.config)).await;
    assert_eq!(world.ask("app1").await.json()["totalCount"], 2);
    assert_eq!(world.ask("many").await.json()["totalCount"], 1_203);
    assert_eq!(world.atlas.mints(), 0);
    assert_eq!(world.atlas.digest_repeats(), 0);
}

#[tokio::test]
async fn c20_an_old_list_is_served_while_atlas_fails_and_says_so() {
    let world = World::new().await;
    world.ask("app1").await;
    let outage = world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::unexpected_error());
    world.advance(Duration::from_mins(6));
    let reply = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let status = reply.header("cache-status").unwrap();
    let told = status
        .strip_prefix("atlas-cert-gateway; hit; ttl=-")
        .unwrap();
    let (late, detail) = told.split_once("; ").unwrap();
    assert!((1..=90).contains(&late.parse::<u32>().unwrap()), "{status}");
    assert_eq!(detail, "detail=stale-if-error");
    assert_eq!(reply.header("warning"), None);
    assert!(outage.applied() > 0);
    let record = world.lookups().pop().unwrap();
    assert_eq!(
        (&record["cache"], &record["stale"]),
        (&"stale".into(), &true.into())
    );
}

#[tokio::test]
async fn the_gateway_starts_and_is_alive_without_atlas() {
    let world = World::new().await;
    world.atlas.stop_accepting().await.unwrap();
    let reply = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (502, "UPSTREAM_UNREACHABLE")
    );
    assert_eq!(world.admin("GET", "/healthz", "", "").await.status, 200);
    world.atlas.resume().await.unwrap();
    world.advance(Duration::from_secs(30));
    let reply = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test]
async fn a_silent_atlas_is_a_504_within_its_deadline() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::silence());
    let reply = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (504, "UPSTREAM_TIMEOUT")
    );
}

fn abandoned(world: &World) -> usize {
    world
        .lookups()
        .iter()
        .filter(|record| record["outcome"] == "abandoned")
        .count()
}

fn ids(list: &Value) -> BTreeSet<i64> {
    list["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["_id"].as_i64().unwrap())
        .collect()
}
