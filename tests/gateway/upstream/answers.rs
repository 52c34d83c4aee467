//! Answers that no client should use.

use std::time::Duration;

use atlas_cert_gateway::upstream::Verdict;
use atlas_simulator::{Asked, Endpoint, Fault};
use serde_json::{Value, json};

use crate::upstream::world::{OTHER, PROJECT, World, outcome};

const JSON: &str = "application/vnd.atlas.2023-01-01+json;charset=utf-8";

/// Plants a fault for every page and says what becomes of a question, and of the next one without it.
async fn after(fault: Fault) -> String {
    let world = World::new().await;
    let planted = world.atlas.on(Asked::certificates()).respond(fault);
    let result = world.ask().await;
    if let Err(error) = &result {
        assert_eq!(error.verdict(), Verdict::Outage);
    }
    planted.withdraw();
    assert_eq!(outcome(&world.ask().await), "2 certificates");
    outcome(&result)
}

fn body(text: &str) -> Fault {
    let text = text.to_owned();
    Fault::body(move |_| text.clone().into())
}

#[tokio::test]
async fn u30_a_body_cut_at_any_byte_is_never_a_list() {
    let world = World::new().await;
    world.ask().await.unwrap();
    let whole = whole_length(&world).await;
    for at in 0..whole {
        world.atlas.clear_script();
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::truncate(at));
        let result = world.ask().await;
        assert_eq!(outcome(&result), "invalid", "at {at}");
        // The breaker and the budgets are not what is tested here.
        world.tokens_arrived().await;
        world.manual_clock.advance(Duration::from_mins(10));
        world.atlas.clear_script();
        assert_eq!(outcome(&world.ask().await), "2 certificates");
    }
}

async fn whole_length(world: &World) -> usize {
    let length = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&length);
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::change(move |answer| {
            seen.store(answer.body.len(), std::sync::atomic::Ordering::Relaxed);
        }));
    world.ask().await.unwrap();
    length.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn u31_u32_u39_bodies_that_are_no_page_are_refused() {
    for text in [
        "",
        "null",
        "[]",
        "\"x\"",
        "{}",
        r#"{"results":null,"totalCount":0}"#,
        r#"{"results":{},"totalCount":0}"#,
        r#"{"results":[]}"#,
        r#"{"results":[],"results":[],"totalCount":0}"#,
        r#"{"results":[],"totalCount":0,"totalCount":0}"#,
        r#"{"results":[{"_id":1,"_id":1,"notAfter":"2030-01-01T00:00:00Z"}],"totalCount":1}"#,
        r#"{"results":[],"totalCount":0} x"#,
        "\u{feff}{\"results\":[],\"totalCount\":0}",
    ] {
        assert_eq!(after(body(text)).await, "invalid", "{text}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = format!(
        r#"{{"results":[{}{{}}],"totalCount":1}}"#,
        "{},".repeat(1_000_000)
    );
    let long = format!(
        r#"{{"results":["{}"],"totalCount":1}}"#,
        "x".repeat(5 << 20)
    );
    for text in [
        format!(r#"{{"results":{deep},"totalCount":0}}"#),
        format!(r#"{{"x":{deep},"results":[],"totalCount":0}}"#),
        many,
        long,
    ] {
        assert_eq!(after(body(&text)).await, "invalid");
    }
    let surrogate = r#"{"results":[{"_id":1,"notAfter":"2030-01-01T00:00:00Z","subject":"\ud800"}],"totalCount":1}"#;
    assert_eq!(after(body(surrogate)).await, "1 certificates");
    let not_utf8 = Fault::body(|_| {
        b"{\"results\":[],\"totalCount\":0,\"x\":\"\xff\"}"
            .to_vec()
            .into()
    });
    assert_eq!(after(not_utf8).await, "invalid");
}

#[tokio::test]
async fn u33_u38_wrong_types_and_encodings_are_refused() {
    for kind in ["text/html", "application/json; charset=utf-16"] {
        assert_eq!(
            after(Fault::header("content-type", kind)).await,
            "invalid",
            "{kind}"
        );
    }
    assert_eq!(
        after(Fault::without_header("content-type")).await,
        "invalid"
    );
    for encoding in ["gzip", "br", "zstd", "gzip, gzip"] {
        let fault = Fault::header("content-encoding", encoding);
        assert_eq!(after(fault).await, "invalid", "{encoding}");
    }
}

#[tokio::test]
async fn u34_u35_serial_numbers_and_instants_are_read_exactly_or_not_at_all() {
    let item = |id: &str, not_after: &str| {
        body(&format!(
            r#"{{"results":[{{"_id":{id},"notAfter":{not_after}}}],"totalCount":1}}"#
        ))
    };
    let good = "\"2030-01-01T00:00:00Z\"";
    for id in [
        "9007199254740993",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551616",
    ] {
        assert_eq!(after(item(id, good)).await, "1 certificates", "{id}");
    }
    for id in ["1e3", "\"123\"", "1.5", "null"] {
        assert_eq!(after(item(id, good)).await, "invalid", "{id}");
    }
    for bad in [
        "null",
        "1786327595",
        "\"2026-02-30T00:00:00Z\"",
        "\"2026-08-10T02:06:35\"",
        "\"2026-08-10\"",
        "\"\"",
    ] {
        assert_eq!(after(item("1", bad)).await, "invalid", "{bad}");
    }
    let without = body(r#"{"results":[{"_id":1}],"totalCount":1}"#);
    assert_eq!(after(without).await, "1 certificates");
    for odd in [
        "\"9999-12-31T23:59:59Z\"",
        "\"2020-01-01T00:00:00Z\"",
        "\"2030-01-01T00:00:00+14:00\"",
        "\"2030-01-01T00:00:00.0123456789012345678901234567890123456789Z\"",
    ] {
        assert_eq!(after(item("1", odd)).await, "1 certificates", "{odd}");
    }
}

#[tokio::test]
async fn u36_u49_a_certificate_of_another_project_is_refused_without_another_try() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::json(|document| {
            document["results"][1]["groupId"] = json!(OTHER);
        }));
    assert_eq!(outcome(&world.ask().await), "invalid");
    assert_eq!(world.atlas.certificate_calls(), 1);
    assert_eq!(world.metrics.answers_refused.get(), 1);
    let without = Fault::json(|document| {
        let item = document["results"][1].as_object_mut().unwrap();
        item.remove("groupId");
        item["subject"] = json!("anything");
    });
    assert_eq!(after(without).await, "2 certificates");
}

#[tokio::test]
async fn u37_no_more_than_a_page_is_ever_read() {
    let padded = |length: usize| {
        Fault::body(move |body| {
            let mut body = body.to_vec();
            body.resize(length, b' ');
            body.into()
        })
    };
    assert_eq!(after(padded(8 << 20)).await, "2 certificates");
    assert_eq!(after(padded((8 << 20) + 1)).await, "invalid");
    assert_eq!(
        after(Fault::declared_length(1_000_000_000_000)).await,
        "invalid"
    );
    assert_eq!(after(Fault::endless(" ".repeat(65_536))).await, "invalid");
}

#[tokio::test]
async fn u40_heads_that_are_no_http_are_refused() {
    let head = |headers: &str| {
        Fault::raw(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {JSON}\r\n{headers}content-length: 0\r\n\r\n"
        ))
    };
    let many = "x: y\r\n".repeat(200);
    let large = format!("x: {}\r\n", "y".repeat(1 << 20));
    for headers in [many.as_str(), &large, "x: a\0b\r\n", "x y: z\r\n"] {
        assert_eq!(after(head(headers)).await, "invalid");
    }
    assert_eq!(after(Fault::raw("SSH-2.0-OpenSSH\r\n")).await, "invalid");
}

#[tokio::test]
async fn u50_statuses_that_the_api_does_not_have_are_refused_without_another_try() {
    for status in [201, 202, 203, 206, 304] {
        let world = World::new().await;
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::status(status));
        assert_eq!(outcome(&world.ask().await), "invalid", "{status}");
        assert_eq!(world.atlas.certificate_calls(), 1);
    }
    assert_eq!(
        after(Fault::raw("HTTP/1.1 204 No Content\r\n\r\n")).await,
        "invalid"
    );
}

#[tokio::test]
async fn u50_informational_heads_are_no_answer_however_many_there_are() {
    for status in [100, 103] {
        let head = format!("HTTP/1.1 {status} Informational\r\n\r\n");
        // Then nothing more: an answer that never came.
        let flood = Fault::raw(head.repeat(20_000));
        let world = World::new().await;
        world.atlas.on(Asked::certificates()).respond(flood);
        assert_eq!(outcome(&world.ask().await), "unreachable", "{status}");
        assert_eq!(world.atlas.certificate_calls(), 3);
    }
    // 101 would be the end of HTTP.
    let switch = Fault::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n");
    assert_eq!(after(switch).await, "invalid");
}

#[tokio::test]
async fn u01_u02_u03_redirects_are_not_followed_to_another_host_nor_to_the_same() {
    let elsewhere = World::new().await;
    for status in [301, 302, 303, 307, 308] {
        let world = World::new().await;
        let pages = Asked::certificates().page(1);
        for target in [
            format!("{}/api/atlas/v2/groups", elsewhere.atlas.base_url()),
            format!("{}/api/atlas/v2/groups", world.atlas.base_url()),
            "/api/atlas/v2/groups".to_owned(),
            "?pageNum=2".to_owned(),
            "file:///etc/passwd".to_owned(),
        ] {
            world.atlas.clear_script();
            world.atlas.forget_requests();
            let redirect = Fault::redirect(status, &target);
            world.atlas.on(pages.clone()).respond(redirect);
            assert_eq!(outcome(&world.ask().await), "invalid", "{status} {target}");
            // The page that was asked for, and nothing at the target.
            assert_eq!(world.atlas.certificate_calls(), 1, "{status} {target}");
            assert_eq!(world.atlas.calls(Endpoint::Unknown), 0, "{status} {target}");
        }
    }
    assert_eq!(elsewhere.atlas.all_calls(), 0);
}

#[tokio::test]
async fn u46_pages_that_repeat_or_never_end_are_no_list() {
    let world = World::of(1_203).await;
    let first = world.atlas.world(|atlas| atlas.unexpired(PROJECT, "app1"));
    let items: Vec<Value> = first
        .iter()
        .take(500)
        .map(|one| json!({"_id": one.serial, "notAfter": "2030-01-01T00:00:00Z"}))
        .collect();
    for total in [1_500, 10_000, 1_000_000_000] {
        let items = items.clone();
        world.atlas.clear_script();
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::json(move |document| {
                document["results"] = json!(items);
                document["totalCount"] = json!(total);
            }));
        world.atlas.forget_requests();
        let result = world.ask().await;
        assert!(
            matches!(outcome(&result).as_str(), "inconsistent" | "invalid"),
            "{total}"
        );
        assert!(world.atlas.certificate_calls() <= 3 * 21, "{total}");
        world.manual_clock.advance(Duration::from_mins(10));
    }
}
