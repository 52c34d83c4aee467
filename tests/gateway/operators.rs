//! The admin listener: health, readiness, metrics, purge and explain.

mod browser;
mod budgets;
mod requests;
mod sessions;
mod status_page;

use serde_json::json;

use crate::client::Connection;
use crate::world::{PROJECT, World, certs, operator_token, token};

#[tokio::test]
async fn health_readiness_and_metrics_need_no_token() {
    let world = World::new().await;
    world.ask("app1").await;
    world.ask("app1").await;
    assert_eq!(world.admin("GET", "/healthz", "", "").await.status, 200);
    let ready = world.admin("GET", "/readyz", "", "").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
    let metrics = world.admin("GET", "/metrics", "", "").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let page = metrics.text();
    for line in [
        "atlas_cert_gateway_lookups_total{outcome=\"answered\",cache=\"miss\"} 1",
        "atlas_cert_gateway_lookups_total{outcome=\"answered\",cache=\"hit\"} 1",
        "atlas_cert_gateway_lookup_duration_seconds_count{cache=\"hit\"} 1",
        "atlas_cert_gateway_upstream_calls_saved_total 1",
        "atlas_cert_gateway_cache_entries 1",
        "atlas_cert_gateway_not_ready{part=\"audit\"} 0",
        "atlas_cert_gateway_degraded{part=\"audit\"} 0",
        "# TYPE atlas_cert_gateway_lookups_total counter",
    ] {
        assert!(page.lines().any(|known| known == line), "{line} in\n{page}");
    }
    for name in [
        "upstream_calls_total",
        "upstream_duration_seconds_bucket",
        "upstream_rate_limit_remaining",
        "upstream_bucket_reserve_in_seconds{credential=\"platform\"} +Inf",
        "upstream_others_calls_total{credential=\"platform\"} 0",
        "upstream_gate_closed",
        "token_mints_total",
        "token_expires_in_seconds",
        "jwks_fetches_total",
        "cache_bytes",
        "audit_records_total",
        "audit_write_seconds_bucket",
        "connections",
        "inflight_requests",
        "build_info",
    ] {
        assert!(
            page.contains(&format!("\natlas_cert_gateway_{name}")),
            "{name} in\n{page}"
        );
    }
    assert!(page.contains("\nprocess_resident_memory_bytes "));
    assert!(!page.contains("app1") && !page.contains(PROJECT) && !page.contains("payments-"));
}

#[tokio::test]
async fn the_public_door_has_none_of_it() {
    let world = World::new().await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/cache/purge",
        "/cache/explain",
    ] {
        assert_eq!(
            world.get(path, &[]).await.error_code(),
            "RESOURCE_NOT_FOUND",
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_operator_purges_and_the_next_answer_is_asked_of_atlas() {
    let world = World::new().await;
    for body in [
        json!({ "groupId": PROJECT, "username": "app1" }),
        json!({ "groupId": PROJECT }),
        json!({ "all": true }),
    ] {
        world.ask("app1").await;
        let calls = world.atlas.certificate_calls();
        let purged = world
            .admin("POST", "/cache/purge", &operator_token(), &body.to_string())
            .await;
        assert_eq!(
            (purged.status, purged.json()),
            (200, json!({ "entries": 1 })),
            "{}",
            purged.text()
        );
        assert_eq!(
            world.ask("app1").await.header("x-upstream-calls"),
            Some("1")
        );
        assert_eq!(world.atlas.certificate_calls(), calls + 1);
    }
    let purges: Vec<_> = world
        .records()
        .into_iter()
        .filter(|record| record["action"] == "purge")
        .collect();
    assert_eq!(purges.len(), 3);
    assert_eq!(
        (&purges[0]["kind"], &purges[0]["subject"]),
        (&"admin".into(), &"operator".into())
    );
    assert_eq!(
        (&purges[0]["username"], &purges[1]["username"]),
        (&"app1".into(), &json!(null))
    );
}

#[tokio::test]
async fn a_caller_that_is_no_operator_is_refused_and_on_record() {
    let world = World::new().await;
    world.ask("app1").await;
    let body = json!({ "all": true }).to_string();
    for (token, status, outcome) in [
        (token(), 403, "denied"),
        (String::new(), 401, "unauthenticated"),
        ("x.y.z".to_owned(), 401, "unauthenticated"),
    ] {
        let reply = world.admin("POST", "/cache/purge", &token, &body).await;
        assert_eq!(reply.status, status);
        let record = world.records().pop().unwrap();
        assert_eq!(
            (&record["kind"], &record["outcome"]),
            (&"admin".into(), &outcome.into())
        );
        let challenge = match (status, token.is_empty()) {
            (401, true) => Some("Bearer"),
            (401, false) => Some("Bearer error=\"invalid_token\""),
            _ => None,
        };
        assert_eq!(reply.header("www-authenticate"), challenge);
    }
    // No other caller is told what is wrong with a request.
    let nonsense = world.admin("POST", "/cache/purge", &token(), "x").await;
    assert_eq!(nonsense.status, 403);
    assert_eq!(
        world.ask("app1").await.header("x-upstream-calls"),
        Some("0")
    );
    for (method, target, status, allow) in [
        ("GET", "/cache/purge", 405, Some("POST")),
        ("POST", "/cache/explain", 405, Some("GET")),
        ("DELETE", "/audit/lookups", 405, Some("GET")),
        ("POST", "/healthz", 405, Some("GET, HEAD")),
        ("DELETE", "/metrics", 405, Some("GET, HEAD")),
        ("OPTIONS", "*", 405, Some("GET, HEAD, POST")),
        ("GET", "/nothing", 404, None),
        ("GET", "/cache/explain?groupId=x", 400, None),
    ] {
        let reply = world.admin(method, target, &operator_token(), "").await;
        let got = (reply.status, reply.header("allow"));
        assert_eq!(got, (status, allow), "{method} {target}");
    }
    for body in [
        "",
        "{}",
        "{\"all\":true,\"groupId\":\"x\"}",
        "{\"groupId\":\"x\"}",
        "{\"al\":true}",
        "{\"groupId\":\"32b6e34b3d91647abb20e7b8\",\"username\":null}",
    ] {
        let reply = world
            .admin("POST", "/cache/purge", &operator_token(), body)
            .await;
        assert_eq!(reply.status, 400, "{body}");
        let record = world.records().pop().unwrap();
        assert_eq!(
            (&record["outcome"], &record["status"], &record["subject"]),
            (&"rejected".into(), &400.into(), &"operator".into())
        );
    }
    let giant = " ".repeat(16 << 10) + "{}";
    let reply = world
        .admin("POST", "/cache/purge", &operator_token(), &giant)
        .await;
    assert_eq!(
        (reply.status, &*reply.error_code()),
        (413, "PAYLOAD_TOO_LARGE")
    );
}

#[tokio::test]
async fn an_operator_that_hangs_up_on_a_purge_has_purged_and_is_on_record() {
    let world = World::new().await;
    world.ask("app1").await;
    let body = json!({ "all": true }).to_string();
    let mut connection = Connection::open(world.app.admin_address()).await;
    let request = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: \
         {}\r\n\r\n{body}",
        operator_token(),
        body.len(),
    );
    connection.send(request.as_bytes()).await;
    drop(connection);
    let purged = |world: &World| {
        let mut records = world.records().into_iter();
        records.any(|record| record["action"] == "purge" && record["entries"] == 1)
    };
    world.until(purged).await;
    assert_eq!(
        world.ask("app1").await.header("x-upstream-calls"),
        Some("1")
    );
}

#[tokio::test]
async fn the_admin_listener_takes_no_request_without_its_host_or_to_another() {
    let world = World::new().await;
    for (id, line, hosts, status) in [
        ("H11", "GET /healthz HTTP/1.1", "", 400),
        (
            "H11",
            "GET /healthz HTTP/1.1",
            "Host: a\r\nHost: a\r\n",
            400,
        ),
        ("H11", "GET /healthz HTTP/1.1", "Host: a, b\r\n", 400),
        ("H11", "GET /healthz HTTP/1.1", "Host: a/b\r\n", 400),
        ("H11", "GET /healthz HTTP/1.1", "Host: \r\n", 400),
        (
            "H11",
            "GET http://a/healthz HTTP/1.1",
            "Host: localhost\r\n",
            400,
        ),
        ("H13", "GET * HTTP/1.1", "Host: a\r\n", 400),
        ("H14", "CONNECT a:443 HTTP/1.1", "Host: a:443\r\n", 405),
        ("P28", "GET /healthz\\ HTTP/1.1", "Host: a\r\n", 400),
        ("P29", "GET /healthz\u{e9} HTTP/1.1", "Host: a\r\n", 400),
    ] {
        let mut connection = Connection::open(world.app.admin_address()).await;
        let request = format!("{line}\r\n{hosts}\r\n");
        let usual = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        connection
            .send(format!("{request}{usual}").as_bytes())
            .await;
        let reply = connection.reply(false).await;
        assert_eq!(reply.status, status, "{id} {request}");
        assert!(connection.is_closed().await, "{id} {request}");
    }
    // HTTP/1.0 need not say whom it asks.
    let mut connection = Connection::open(world.app.admin_address()).await;
    connection.send(b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(connection.reply(false).await.status, 200);
}

#[tokio::test]
async fn explain_tells_what_is_known_of_a_key() {
    let world = World::new().await;
    let target = format!("/cache/explain?groupId={PROJECT}&username=app1");
    let absent = world.admin("GET", &target, &operator_token(), "").await;
    assert_eq!(
        (absent.status, &absent.json()["state"]),
        (200, &"absent".into()),
        "{}",
        absent.text()
    );
    world.get(&certs(PROJECT, "app1"), &[]).await;
    let present = world
        .admin("GET", &target, &operator_token(), "")
        .await
        .json();
    assert_eq!(present["state"], "fresh", "{present}");
    assert!(
        present["budget"]["remaining"].as_u64().is_some(),
        "{present}"
    );
}

#[tokio::test]
async fn c12_a_caller_whose_rule_allows_it_may_force_a_refresh() {
    let world = World::new().await;
    let no_cache = [("Cache-Control", "no-cache")];
    world.ask("app1").await;
    for ignored in ["no-cache", "max-age=0", "only-if-cached", "no-store"] {
        let headers = [("Cache-Control", ignored)];
        let reply = world.get(&certs(PROJECT, "app1"), &headers).await;
        let calls = reply.header("x-upstream-calls");
        assert_eq!((reply.status, calls), (200, Some("0")), "{ignored}");
    }
    let forced = world
        .send("GET", &certs(PROJECT, "app1"), &operator_token(), &no_cache)
        .await;
    assert_eq!(forced.header("x-upstream-calls"), Some("1"));
    let status = forced.header("cache-status");
    assert_eq!(status, Some("atlas-cert-gateway; fwd=request"));
    let again = world
        .send("GET", &certs(PROJECT, "app1"), &operator_token(), &no_cache)
        .await;
    assert_eq!(
        again.header("x-upstream-calls"),
        Some("0"),
        "at most once per interval"
    );
}

#[tokio::test]
async fn an_operator_reads_the_audit_trail_page_by_page() {
    let world = World::new().await;
    for name in ["app1", "nobody", "app1", "app1"] {
        world.ask(name).await;
    }
    let read = |query: String| {
        let world = &world;
        async move {
            let target = format!("/audit/lookups?{query}");
            world.admin("GET", &target, &operator_token(), "").await
        }
    };
    let first = read("username=app1&limit=2".to_owned()).await;
    assert_eq!(first.status, 200, "{}", first.text());
    let page = first.json();
    let records = page["records"].as_array().unwrap();
    assert_eq!(records.len(), 2);
    assert!(records[0]["seq"].as_u64() > records[1]["seq"].as_u64());
    assert_eq!(records[0]["cache"], "hit");
    let before = page["next"].as_u64().unwrap();
    let last = read(format!("username=app1&limit=2&before={before}"))
        .await
        .json();
    assert_eq!(last["records"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&last["records"][0]["cache"], &last["next"]),
        (&"miss".into(), &json!(null))
    );
    let oldest = read(format!("group={PROJECT}&first=oldest")).await.json();
    assert_eq!(oldest["records"][1]["username"], "nobody");
    let missing = read("peer=127.0.0.1&status=404&limit=5".to_owned()).await;
    assert_eq!(missing.json()["records"][0]["username"], "nobody");
    for (wrong, told) in [
        ("limit=0", "`limit` 1 to 1000"),
        ("limit=1001", "`limit` 1 to 1000"),
        ("limit=1&limit=2", "`limit` once"),
        ("since=yesterday", "`since` a time"),
        ("outcome=answerd", "`outcome` answered, denied"),
        ("group=XYZ", "`group` 24 lower-case"),
        ("kind=", "`kind` lookup, fetch"),
        ("subject=a&subject=a", "`subject` once"),
        ("colour=blue", "there are subject, issuer"),
        ("first", "there are subject, issuer"),
        ("first=last", "`first` newest or oldest"),
        ("peer=localhost", "`peer` an IP address"),
        ("status=0200", "`status` an HTTP status"),
        ("rule=a&rule=b", "`rule` once"),
    ] {
        let refused = read(wrong.to_owned()).await;
        assert_eq!(refused.status, 400, "{wrong}");
        let text = refused.text();
        assert!(text.contains(told), "{wrong}: {text}");
    }
    let refused = world.admin("GET", "/audit/lookups", &token(), "").await;
    assert_eq!(refused.status, 403);
    let searches = world
        .records()
        .into_iter()
        .filter(|record| record["action"] == "search");
    let searches: Vec<_> = searches.collect();
    let told = |number: usize| (&searches[number]["filters"], &searches[number]["entries"]);
    assert_eq!(told(0), (&json!("username=app1&limit=2"), &json!(2)));
    assert_eq!(told(3).1, &json!(1));
    assert_eq!(told(4), (&json!("limit=0"), &json!(null)));
    let searches = searches.iter();
    let outcomes: Vec<_> = searches.map(|record| record["outcome"].clone()).collect();
    let (told, rejected) = outcomes.split_at(4);
    assert!(told.iter().all(|outcome| outcome == "answered"), "{told:?}");
    assert_eq!(
        rejected.len(),
        14 + 1,
        "who reads the trail is in the trail"
    );
    assert_eq!(rejected.last().unwrap(), "denied");
}
