//! Whoever is not let in does not decide how fast the disk fills: refusals beyond a number are counted, and
//! put on record once a minute.

mod disk;
mod strangers;

use std::time::Duration;

use atlas_cert_gateway::audit::verify::verify;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{Connection, Reply};
use crate::program::{command, output, records};
use crate::world::{PROJECT, World, certs, operator_token, set, set_rule, token, token_of};

/// As short as a request can be, without a token.
const SHORTEST: &[u8] = b"GET / HTTP/1.1\r\nHost:a\r\n\r\n";
const A_MINUTE: Duration = Duration::from_mins(1);

/// A world in which so many refusals have records of their own.
async fn world(refusals_per_minute: u32) -> World {
    World::with(|plan| number(&mut plan.config, refusals_per_minute)).await
}

fn number(config: &mut toml::Table, refusals_per_minute: u32) {
    let number = i64::from(refusals_per_minute);
    set(config, "audit.refusals_per_minute", number);
}

/// The records of folded refusals, oldest first.
fn folds(world: &World) -> Vec<Value> {
    let mut records = world.records();
    records.retain(|record| record["kind"] == "refusals");
    records
}

/// The same, once the minute is over and there are so many of them.
async fn folds_after_a_minute(world: &World, count: usize) -> Vec<Value> {
    world.advance(A_MINUTE);
    world.until(|world| folds(world).len() >= count).await;
    let folds = folds(world);
    assert_eq!(folds.len(), count, "{folds:?}");
    folds
}

/// How many requests ended so, by their own records and by folded ones.
fn recorded(world: &World) -> u64 {
    let own = world.records();
    let own = own.iter().filter(|record| record["outcome"] != "answered");
    let own = own.filter(|record| record.get("outcome").is_some()).count();
    let folded = folds(world);
    let folded = folded.iter().map(|fold| fold["count"].as_u64().unwrap());
    u64::try_from(own).unwrap() + folded.sum::<u64>()
}

/// Sends as many requests in one go as are answered on one connection.
async fn pipeline(world: &World, count: usize) -> Vec<Reply> {
    let mut connection = Connection::open(world.address()).await;
    connection.send(&SHORTEST.repeat(count)).await;
    let mut replies = Vec::new();
    while replies.len() < count {
        let reply = connection.reply(false).await;
        if reply.status == 0 {
            break;
        }
        replies.push(reply);
    }
    replies
}

fn is_whole(world: &World) -> bool {
    let directory = world.files.path().join("audit");
    verify(&directory, 1, &[]).unwrap().fault.is_none()
}

/// Row S1.
#[tokio::test]
async fn s1_thousands_of_refusals_of_one_source_have_few_records() {
    let world = World::with(|plan| {
        plan.config["audit"]
            .as_table_mut()
            .unwrap()
            .remove("refusals_per_minute");
    })
    .await;
    world.ask("app1").await;
    let mut sent = 0;
    for _ in 0..300 {
        let replies = pipeline(&world, 200).await;
        sent += replies.len();
        let (last, others) = replies.split_last().unwrap();
        assert!(others.iter().all(|reply| reply.status == 404));
        assert_eq!((last.status, &*last.error_code()), (429, "RATE_LIMITED"));
        assert_eq!(last.header("connection"), Some("close"));
        assert_eq!(last.header("retry-after"), Some("60"));
        assert_eq!(last.header("x-error-origin"), Some("gateway"));
        // Whoever is let in does not notice.
        assert_eq!(world.ask("app1").await.status, 200);
    }
    let bad = world
        .send("GET", &certs(PROJECT, "app1"), "a.b.c", &[])
        .await;
    assert_eq!(bad.status, 429);
    assert_eq!(sent, 120 + 300);
    assert_eq!(world.lookups().len(), 120 + 301);
    let folds = folds_after_a_minute(&world, 1).await;
    let fold = &folds[0];
    assert_eq!(fold["count"], 301);
    assert_eq!(
        fold["codes"],
        json!({ "RESOURCE_NOT_FOUND": 300, "USER_UNAUTHORIZED": 1 })
    );
    assert_eq!(
        (&fold["scope"], &fold["peer"]),
        (&json!("source"), &json!("127.0.0.1"))
    );
    assert_eq!(fold["first"], "2026-11-21T12:00:00.000000Z");
    assert_eq!(fold["last"], "2026-11-21T12:00:00.000000Z");
    assert_eq!(fold["time"], "2026-11-21T12:01:00.000000Z");
    assert_eq!(world.metric("audit_refusals_folded_total").await, 301);
    // The next minute begins anew, and one without refusals says nothing.
    assert_eq!(pipeline(&world, 1).await[0].status, 404);
    world.advance(A_MINUTE);
    world.ask("app1").await;
    assert_eq!(self::folds(&world).len(), 1);
    assert!(is_whole(&world));
}

#[tokio::test]
async fn the_folded_answer_says_whose_limit_it_is_and_until_when() {
    let world = world(1).await;
    world.advance(Duration::from_millis(20_500));
    pipeline(&world, 1).await;
    let target = format!("{}?envelope=true", certs(PROJECT, "app1"));
    let reply = world.get(&target, &[("Host", "again")]).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (429, Some("40"))
    );
    let (document, content) = (reply.json(), &reply.json()["content"]);
    assert_eq!(document["status"], 429);
    assert_eq!(
        (
            &content["error"],
            &content["errorCode"],
            &content["reason"],
            &content["parameters"]
        ),
        (
            &json!(429),
            &json!("RATE_LIMITED"),
            &json!("Too Many Requests"),
            &json!([40])
        )
    );
    let detail = content["detail"].as_str().unwrap();
    assert!(
        detail.contains("This address") && detail.contains("the 1 refusals a minute"),
        "{detail}"
    );
}

#[tokio::test]
async fn every_kind_of_refusal_counts_and_none_is_lost() {
    let world = world(7).await;
    let path = certs(PROJECT, "app1");
    let query = format!("{path}?pageNum=0");
    let mut sent = 0;
    for _ in 0..5 {
        for (method, target, token, headers) in [
            ("GET", &*path, "", &[][..]),
            ("GET", &path, "a.b.c", &[]),
            ("GET", &query, "", &[]),
            ("POST", &path, "", &[]),
            ("GET", "/", "", &[]),
            ("GET", &certs(PROJECT, ".."), "", &[]),
            ("GET", &path, "", &[("Accept", "image/png")]),
            ("GET", &path, "", &[("Host", "again")]),
        ] {
            let reply = world.send(method, target, token, headers).await;
            sent += 1;
            assert_eq!(reply.status == 429, sent > 7, "{} {target}", reply.status);
        }
        // The admin listener has the same number, and its tokens are refused in the same way.
        for token in ["", "a.b.c"] {
            let reply = world.admin("POST", "/cache/purge", token, "{}").await;
            sent += 1;
            assert_eq!(reply.status, 429);
            assert_eq!(reply.header("connection"), Some("close"));
            assert!(reply.header("retry-after").is_some());
        }
    }
    assert_eq!(recorded(&world), 7);
    folds_after_a_minute(&world, 1).await;
    assert_eq!(recorded(&world), sent);
    assert!(is_whole(&world));
}

#[tokio::test]
async fn the_operators_door_folds_refused_tokens_too() {
    let world = world(2).await;
    for at in 0..10 {
        let reply = world.admin("GET", "/audit/lookups", "a.b.c", "").await;
        assert_eq!(reply.status, if at < 2 { 401 } else { 429 });
        let denied = world.admin("GET", "/audit/lookups", &token(), "").await;
        assert_eq!(
            (denied.status, denied.header("connection")),
            (403, Some("close"))
        );
    }
    let operator = operator_token();
    assert_eq!(
        world
            .admin("GET", "/audit/lookups", &operator, "")
            .await
            .status,
        200
    );
    let mut folds = folds_after_a_minute(&world, 2).await;
    folds.sort_by_key(|fold| fold["scope"].to_string());
    assert_eq!(
        (&folds[0]["subject"], &folds[0]["count"]),
        (&json!("payments-api"), &json!(8))
    );
    assert_eq!(
        (&folds[1]["peer"], &folds[1]["count"]),
        (&json!("127.0.0.1"), &json!(8))
    );
    assert_eq!(recorded(&world), 20);
}

#[tokio::test]
async fn a_source_is_an_ipv4_address_or_a_64_of_ipv6_and_none_pays_for_another() {
    let world = World::with(|plan| {
        number(&mut plan.config, 1);
        set(&mut plan.config, "server.proxy_protocol", true);
        let proxies = toml::Value::Array(vec!["127.0.0.0/8".into()]);
        set(&mut plan.config, "server.trusted_proxies", proxies);
    })
    .await;
    for (family, address, status) in [
        ("TCP4", "192.0.2.7", 404),
        ("TCP4", "192.0.2.8", 404),
        ("TCP4", "192.0.2.7", 429),
        ("TCP6", "2001:db8::1", 404),
        ("TCP6", "2001:db8::2", 429),
        ("TCP6", "2001:db8:0:1::1", 404),
        ("TCP6", "::ffff:192.0.2.8", 429),
    ] {
        let header = format!("PROXY {family} {address} {address} 8080 443\r\n");
        let reply = world.raw(&[header.as_bytes(), SHORTEST].concat()).await;
        assert_eq!(reply.status, status, "{address}");
    }
    let folds = folds_after_a_minute(&world, 3).await;
    let mut peers: Vec<_> = folds
        .iter()
        .map(|fold| fold["peer"].as_str().unwrap())
        .collect();
    peers.sort_unstable();
    assert_eq!(peers, ["192.0.2.7", "192.0.2.8", "2001:db8::/64"]);
}

/// Neither `lookups_per_minute` nor a denial keeps a caller from writing, so this does.
#[tokio::test]
async fn a_callers_own_403s_and_429s_are_folded_and_stay_what_they_are() {
    let world = World::with(|plan| {
        number(&mut plan.config, 3);
        set_rule(plan, 0, "lookups_per_minute", 2);
    })
    .await;
    let other = token_of(&json!({ "sub": "payments-batch" }));
    for _ in 0..2 {
        assert_eq!(world.ask("app1").await.status, 200);
    }
    for _ in 0..20 {
        let limited = world.ask("app1").await;
        assert_eq!(
            (limited.status, &*limited.error_code()),
            (429, "RATE_LIMITED")
        );
        assert!(
            limited
                .text()
                .contains("This caller may look up 2 times a minute"),
            "{}",
            limited.text()
        );
        let denied = world.ask("secret-keeper").await;
        assert_eq!(
            (denied.status, &*denied.error_code()),
            (403, "ACCESS_FORBIDDEN")
        );
    }
    let denied = world
        .send("GET", &certs(PROJECT, "secret-1"), &other, &[])
        .await;
    assert_eq!(denied.status, 403);
    // The source has its number, whatever its callers have done.
    assert_eq!(pipeline(&world, 1).await[0].status, 404);
    assert_eq!(world.lookups().len(), 2 + 3 + 1 + 1);
    let folds = folds_after_a_minute(&world, 1).await;
    let fold = &folds[0];
    assert_eq!(
        (&fold["scope"], &fold["count"]),
        (&json!("caller"), &json!(37))
    );
    assert_eq!(
        fold["codes"],
        json!({ "ACCESS_FORBIDDEN": 19, "RATE_LIMITED": 18 })
    );
    assert_eq!(fold["subject"], "payments-api");
    assert_eq!(fold["issuer"], "https://idp.internal.example");
    assert!(fold.get("peer").is_none());
    assert!(is_whole(&world));
}

#[tokio::test]
async fn whatever_is_said_of_certificates_has_a_record_of_its_own() {
    let world = world(0).await;
    let target = certs(PROJECT, "app1");
    let etag = world.ask("app1").await.header("etag").unwrap().to_owned();
    for _ in 0..5 {
        assert_eq!(
            world.get(&target, &[("If-None-Match", &etag)]).await.status,
            304
        );
        assert_eq!(world.ask("nobody").await.status, 404);
        assert_eq!(world.ask("app1").await.status, 200);
        assert_eq!(pipeline(&world, 1).await[0].status, 429);
    }
    assert_eq!(world.lookups().len(), 16);
}

#[tokio::test]
async fn what_is_folded_when_the_process_stops_is_on_record() {
    let world = world(2).await;
    for _ in 0..10 {
        pipeline(&world, 1).await;
    }
    assert_eq!(folds(&world).len(), 0);
    let World { app, files, .. } = world;
    app.stop().await;
    let records = records(files.path(), "refusals");
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["count"], 8);
    let directory = files.path().join("audit");
    let mut search = command();
    let search = search.args(["audit", "search", "--kind", "refusals"]);
    let found = output(search.arg(&directory));
    let found = String::from_utf8(found.stdout).unwrap();
    let row = found.lines().nth(1).unwrap();
    assert!(row.contains("refusals  8 "), "{found}");
}

/// Over HTTP/2 there is no `Connection: close`.
#[tokio::test]
async fn over_http_2_a_folded_answer_ends_its_connection_in_good_order() {
    let world = world(1).await;
    let stream = TokioIo::new(TcpStream::connect(world.address()).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream)
        .await
        .unwrap();
    let ended = tokio::spawn(connection);
    let request = || {
        let request = Request::get("http://gateway.test/").body(Empty::<Bytes>::new());
        request.unwrap()
    };
    let own = sender.send_request(request()).await.unwrap();
    assert_eq!(own.status(), 404);
    let folded = sender.send_request(request()).await.unwrap();
    assert_eq!(folded.status(), 429);
    assert!(folded.headers().get("connection").is_none());
    assert!(folded.headers().get("retry-after").is_some());
    drop(folded);
    ended.await.unwrap().unwrap();
}
