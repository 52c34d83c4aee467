//! Answers that no client should use, and errors that are Atlas's own.

use std::time::Duration;

use atlas_cert_gateway::upstream::FetchFailure;
use atlas_cert_gateway::upstream::Refusal;
use atlas_cert_gateway::upstream::Verdict;
use atlas_simulator::Answer;
use atlas_simulator::Asked;
use atlas_simulator::Ending;
use atlas_simulator::Fault;
use atlas_simulator::X509Type;
use http::StatusCode;
use serde_json::Value;
use serde_json::json;

use crate::upstream::world::OTHER;
use crate::upstream::world::PROJECT;
use crate::upstream::world::World;
use crate::upstream::world::name;
use crate::upstream::world::outcome;

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
        world.hands.advance(Duration::from_mins(10));
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
    ] {
        assert_eq!(after(item("1", bad)).await, "invalid", "{bad}");
    }
    for odd in [
        "\"9999-12-31T23:59:59Z\"",
        "\"2020-01-01T00:00:00Z\"",
        "\"2030-01-01T00:00:00+14:00\"",
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
async fn u01_u03_redirects_are_not_followed() {
    let elsewhere = World::new().await;
    for status in [301, 302, 303, 307, 308] {
        for target in [
            format!("{}/api/atlas/v2/groups", elsewhere.atlas.base_url()),
            "/api/atlas/v2/groups".to_owned(),
            "file:///etc/passwd".to_owned(),
        ] {
            assert_eq!(after(Fault::redirect(status, &target)).await, "invalid");
        }
    }
    assert_eq!(elsewhere.atlas.all_calls(), 0);
}

#[tokio::test]
async fn u23_errors_of_atlas_are_kept_byte_for_byte_with_what_they_mean() {
    for (status, code, verdict) in [
        (400, "USER_NOT_MANAGED_X509", Verdict::Denial),
        (401, "USER_CANNOT_ACCESS_GROUP", Verdict::Denial),
        (402, "ACCOUNT_SUSPENDED", Verdict::Denial),
        (403, "ACCESS_FORBIDDEN", Verdict::Denial),
        (404, "GROUP_NOT_FOUND", Verdict::Missing),
        (404, "USERNAME_NOT_FOUND", Verdict::Missing),
        (404, "RESOURCE_NOT_FOUND", Verdict::Denial),
        (406, "INVALID_VERSION_DATE", Verdict::Denial),
        (410, "VERSION_GONE", Verdict::Denial),
    ] {
        let world = World::new().await;
        let text = format!(r#"{{ "error":{status}, "errorCode":"{code}", "parameters":null }}"#);
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer::new(status, text.clone()).header("content-type", "application/json");
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::answer(answer));
        let error = world.ask().await.unwrap_err();
        assert_eq!(error.verdict(), verdict, "{code}");
        let FetchFailure::Atlas(answer) = error.reason else {
            panic!("{code}");
        };
        assert_eq!(&answer.body[..], text.as_bytes());
        assert_eq!(answer.error_code.as_deref(), Some(code));
        // Asking again would not help, and is not tried.
        assert_eq!(world.atlas.certificate_calls(), 1, "{code}");
        assert_eq!(world.upstream.readiness(), []);
    }
}

#[tokio::test]
async fn what_is_not_there_is_missing() {
    let world = World::with(
        |settings| {
            settings
                .world
                .project(PROJECT)
                .user("scram")
                .x509(X509Type::None);
        },
        |_| (),
    )
    .await;
    for (project, user, expected) in [
        (PROJECT, "nobody", "404 USERNAME_NOT_FOUND"),
        (OTHER, "app1", "404 GROUP_NOT_FOUND"),
        (PROJECT, "scram", "400 USER_NOT_MANAGED_X509"),
    ] {
        let urgency = atlas_cert_gateway::upstream::Urgency::Miss;
        let result = world.ask_for(project, user, urgency).await;
        assert_eq!(outcome(&result), expected);
    }
}

#[tokio::test]
async fn u22_an_address_that_is_not_listed_is_passed_on_and_named_in_readiness() {
    let world = World::new().await;
    world
        .atlas
        .rules(|rules| rules.access_list = Some(Vec::new()));
    assert_eq!(
        outcome(&world.ask().await),
        "403 IP_ADDRESS_NOT_ON_ACCESS_LIST"
    );
    let not_ready = world.upstream.readiness();
    assert_eq!(not_ready[0].why, Refusal::Address);
    assert_eq!(not_ready[0].credential.as_ref(), "platform");
    world.atlas.rules(|rules| rules.access_list = None);
    world.ask().await.unwrap();
    assert_eq!(world.upstream.readiness(), []);
}

#[tokio::test]
async fn u24_errors_of_servers_are_tried_once_more_and_html_is_never_relayed() {
    for (fault, expected, calls) in [
        (Fault::unexpected_error(), "500 UNEXPECTED_ERROR", 2),
        (Fault::html(502), "502 no document", 2),
        (Fault::html(503), "503 no document", 2),
        (Fault::html(504), "504 no document", 2),
        (Fault::html(404), "404 no document", 1),
        (Fault::html(408), "408 no document", 2),
    ] {
        let world = World::new().await;
        world.atlas.on(Asked::certificates()).respond(fault);
        let error = world.ask().await.unwrap_err();
        assert_eq!(name(&error.reason), expected);
        assert_eq!(error.verdict(), Verdict::Outage);
        assert_eq!(error.walk.calls, calls, "{expected}");
    }
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(Fault::unexpected_error());
    assert_eq!(world.ask().await.unwrap().walk.calls, 2);
}

#[tokio::test]
async fn u24_a_503_that_asks_for_seven_seconds_gets_them() {
    let world = World::new().await;
    let busy = Answer::new(StatusCode::SERVICE_UNAVAILABLE, "<html>").header("retry-after", "7");
    world
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(Fault::answer(busy));
    let error = world.ask().await.unwrap_err();
    let FetchFailure::NoDocument { retry_after, .. } = error.reason else {
        panic!();
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    assert_eq!(outcome(&world.ask().await), "rate limited");
    world.hands.advance(Duration::from_secs(7));
    assert_eq!(outcome(&world.ask().await), "2 certificates");
    assert_eq!(world.atlas.certificate_calls(), 2);
}

#[tokio::test]
async fn u10_connections_that_break_are_tried_again_and_then_given_up() {
    for (fault, expected, calls) in [
        (Fault::cut_before_head(Ending::Reset), "unreachable", 3),
        (Fault::cut_before_head(Ending::Fin), "unreachable", 3),
        (Fault::cut_after_head(Ending::Reset), "invalid", 2),
        (Fault::cut_after_head(Ending::Fin), "invalid", 2),
        (Fault::cut_after_body(100, Ending::Fin), "invalid", 2),
    ] {
        let world = World::new().await;
        world.atlas.on(Asked::certificates()).respond(fault.clone());
        let result = world.ask().await;
        assert_eq!(outcome(&result), expected, "{fault:?}");
        assert_eq!(world.atlas.certificate_calls(), calls, "{fault:?}");
        world.atlas.clear_script();
        world.atlas.on(Asked::certificates()).once().respond(fault);
        assert_eq!(outcome(&world.ask().await), "2 certificates");
    }
}

#[tokio::test]
async fn u13_what_does_not_come_in_time_is_not_waited_for() {
    for fault in [
        Fault::silence(),
        Fault::cut_after_head(Ending::Silence),
        Fault::cut_after_body(100, Ending::Silence),
    ] {
        let world = World::new().await;
        world.ask().await.unwrap();
        world.atlas.on(Asked::certificates()).respond(fault.clone());
        let before = world.clock.now().elapsed;
        assert_eq!(outcome(&world.ask().await), "timeout", "{fault:?}");
        let took = world.clock.now().elapsed.saturating_sub(before);
        assert!(took <= Duration::from_millis(10_100), "{took:?}");
        assert!(world.atlas.certificate_calls() <= 3);
    }
}

#[tokio::test]
async fn u41_a_later_page_that_fails_fails_the_whole_list() {
    for (fault, expected) in [
        (Fault::unexpected_error(), "500 UNEXPECTED_ERROR"),
        (Fault::html(502), "502 no document"),
        (
            Fault::api_error(403, "ACCESS_FORBIDDEN", "No."),
            "403 ACCESS_FORBIDDEN",
        ),
        (Fault::truncate(100), "invalid"),
        (Fault::cut_before_head(Ending::Reset), "unreachable"),
        (Fault::silence(), "timeout"),
        (Fault::rate_limited(30), "429 RATE_LIMITED_TOKEN_BUCKET"),
    ] {
        let world = World::of(1_203).await;
        let later = Asked::certificates().page(2);
        world.atlas.on(later.clone()).respond(fault.clone());
        assert_eq!(outcome(&world.ask().await), expected);
        world.atlas.clear_script();
        world.hands.advance(Duration::from_mins(2));
        assert_eq!(outcome(&world.ask().await), "1203 certificates");
        let passes = expected.starts_with("403") || expected.starts_with("429");
        if !passes {
            let world = World::of(1_203).await;
            world.atlas.on(later).once().respond(fault);
            assert_eq!(
                outcome(&world.ask().await),
                "1203 certificates",
                "{expected}"
            );
        }
    }
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
        world.hands.advance(Duration::from_mins(10));
    }
}
