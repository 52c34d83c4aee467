//! Paths and queries that are refused, row by row: the stated answer, no call to Atlas, one record.

use super::{query, request, user};
use crate::client::Connection;
use crate::world::{PROJECT, World};

/// One request and what has to become of it.
struct Row {
    id: &'static str,
    /// The request's target; `{u}` in it is not replaced by anything.
    target: String,
    status: u16,
    code: &'static str,
    closes: bool,
}

fn row(id: &'static str, target: impl Into<String>, status: u16, code: &'static str) -> Row {
    Row {
        id,
        target: target.into(),
        status,
        code,
        closes: false,
    }
}

/// Rows that name nothing that exists, or nothing that may exist.
fn refused_paths() -> Vec<Row> {
    let mut rows = vec![row("P01", user(".."), 404, "RESOURCE_NOT_FOUND")];
    let invalid = [
        ("P02", &["%2e%2e", "%2E%2E", ".%2e", "%2E."][..]),
        ("P03", &[".", "%2e"]),
        ("P04", &["%2F..%2F..%2Forgs", "a%2F..%2Fb"]),
        ("P05", &["a%5C..%5Cb", "..%5c"]),
        ("P07", &["%252e%252e%252f"]),
        ("P09", &["a%00b", "%00"]),
        ("P10", &["a%0d%0aX-Evil:%201"]),
        ("P11", &["%09..", ".%09."]),
        ("P12", &["a%7f", "a%1b[31m", "%c2%85"]),
        ("P13", &["%c0%af", "%e0%80%af", "%c0%ae%c0%ae"]),
        ("P14", &["%ed%a0%80", "%ff", "%f5%80%80%80", "%e2%82"]),
        ("P15", &["%", "%4", "%zz", "%u002f"]),
        ("A01", &["x%22%7d%0a%7b%22outcome%22:%22allow%22"]),
    ];
    for (id, names) in invalid {
        rows.extend(
            names
                .iter()
                .map(|name| row(id, user(name), 400, "INVALID_PATH_PARAMETER")),
        );
    }
    rows.push(row(
        "P31",
        user(&"x".repeat(1_025)),
        400,
        "INVALID_PATH_PARAMETER",
    ));
    let group = |id: &str| format!("/api/atlas/v2/groups/{id}/databaseUsers/app1/certs");
    for (id, groups) in [
        (
            "P32",
            &[
                "32b6e34b3d91647abb20e7b",
                "32b6e34b3d91647abb20e7b8a",
                "zzb6e34b3d91647abb20e7b8",
            ][..],
        ),
        ("P33", &["32B6E34B3D91647ABB20E7B8"]),
        ("P34", &["..", "%2e%2e", "{groupId}", "*"]),
    ] {
        rows.extend(
            groups
                .iter()
                .map(|name| row(id, group(name), 404, "INVALID_GROUP_ID")),
        );
    }
    rows.push(row(
        "P34",
        group("000000000000000000000000"),
        403,
        "ACCESS_FORBIDDEN",
    ));
    let plain = user("app1");
    for (id, targets) in [
        ("P17", vec![user("a?b")]),
        ("P30", vec![user("")]),
        (
            "P35",
            ["/", "/x.css", ".json", "%2Fx.css", ";a.css"]
                .map(|tail| format!("{plain}{tail}"))
                .to_vec(),
        ),
        (
            "P36",
            vec![
                format!("/{plain}"),
                plain.replace("/api/", "/api//"),
                plain.replace("/api/atlas", "/API/Atlas"),
            ],
        ),
        (
            "P37",
            vec![plain.replace("/databaseUsers", &format!("/../{PROJECT}/databaseUsers"))],
        ),
        (
            "P38",
            vec![
                plain.replace("atlas/v2", "public/v1.0"),
                plain.replace("v2", "v3"),
            ],
        ),
    ] {
        rows.extend(
            targets
                .into_iter()
                .map(|target| row(id, target, 404, "RESOURCE_NOT_FOUND")),
        );
    }
    rows.push(row(
        "P39",
        format!("{plain}?{}", "x".repeat(8_193 - plain.len() - 1)),
        414,
        "URI_TOO_LONG",
    ));
    for (id, name) in [("P28", "a\\b"), ("P29", "J\u{fc}rgen")] {
        rows.push(Row {
            closes: true,
            ..row(id, user(name), 400, "BAD_REQUEST")
        });
    }
    rows
}

fn refused_queries() -> Vec<Row> {
    let mut rows = Vec::new();
    for (id, queries) in [
        ("Q01", &["pageNum=1&pageNum=2"][..]),
        (
            "Q02",
            &[
                "pageNum=0",
                "pageNum=-1",
                "pageNum=abc",
                "pageNum=1e9",
                "pageNum=99999999999999999999",
                "pageNum=",
            ],
        ),
        (
            "Q03",
            &[
                "itemsPerPage=0",
                "itemsPerPage=501",
                "itemsPerPage=-5",
                "itemsPerPage=1.5",
            ],
        ),
        (
            "Q05",
            &["includeCount=maybe", "includeCount=TRUE", "includeCount=1"],
        ),
        ("Q09", &["pageNum=1;itemsPerPage=2"]),
        ("Q11", &["x=%ff", "x=%00"]),
    ] {
        rows.extend(
            queries
                .iter()
                .map(|text| row(id, query(text), 400, "INVALID_QUERY_PARAMETER")),
        );
    }
    rows
}

#[tokio::test]
async fn every_bad_path_and_query_is_refused_costs_nothing_and_is_on_record_once() {
    let world = World::new().await;
    let mut expected = 0;
    for case in refused_paths().into_iter().chain(refused_queries()) {
        let mut connection = Connection::open(world.address()).await;
        connection.send(&request(&case.target, "")).await;
        let reply = connection.reply(false).await;
        let (id, target) = (case.id, &case.target);
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (case.status, case.code),
            "{id} {target}"
        );
        assert_eq!(reply.header("x-error-origin"), Some("gateway"), "{id}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{id}");
        assert_eq!(
            reply.header("connection") == Some("close"),
            case.closes,
            "{id} {target}"
        );
        let document = reply.json();
        assert_eq!(document["error"], case.status, "{id}");
        assert!(document["detail"].as_str().unwrap().ends_with('.'), "{id}");
        expected += 1;
        let records = world.lookups();
        assert_eq!(records.len(), expected, "{id} {target}");
        let outcome = if case.status == 403 {
            "denied"
        } else {
            "rejected"
        };
        assert_eq!(records[expected - 1]["outcome"], outcome, "{id} {target}");
        assert_eq!(records[expected - 1]["status"], case.status, "{id}");
        assert_eq!(
            records[expected - 1]["request_id"],
            reply.header("x-request-id").unwrap(),
            "{id}"
        );
        if !case.closes {
            connection
                .send(&request(&user("nobody's"), "X: x\r\n"))
                .await;
            assert_ne!(
                connection.reply(false).await.status,
                0,
                "{id}: the connection stays open"
            );
            expected += 1;
        }
    }
    let asked = world.atlas.requests();
    assert!(asked.iter().all(|seen| {
        seen.username
            .as_deref()
            .is_none_or(|name| name == "nobody's")
    }));
}
