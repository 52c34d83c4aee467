//! The script: which requests it takes, and each fault that it can produce.

use std::time::Duration;

use atlas_simulator::{Answer, Asked, Ending, Endpoint, Fault};
use http::StatusCode;
use serde_json::json;

use crate::client::{Fixture, G, certificates, error_code, json, raw, raw_get};

async fn statuses(fixture: &Fixture, calls: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..calls {
        statuses.push(fixture.certificates("app1").await.status().as_u16());
    }
    statuses
}

/// The bytes of an answer to a list call on which this fault lies.
async fn answer_under(fault: Fault) -> std::io::Result<String> {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.atlas.on(Asked::certificates()).respond(fault);
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: atlas\r\nAccept: {}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n",
        certificates("app1"),
        crate::client::ACCEPT,
    );
    raw(&fixture.atlas, &head).await
}

#[tokio::test]
async fn a_rule_takes_the_requests_that_it_names_by_number() {
    let fixture = Fixture::start().await;
    let on = || fixture.atlas.on(Asked::certificates());
    for (rule, expected) in [
        (on().always(), [500, 500, 500, 500]),
        (on().nth(2), [200, 500, 200, 200]),
        (on().once(), [500, 200, 200, 200]),
        (on().times(3), [500, 500, 500, 200]),
        (on().after(2), [200, 200, 500, 500]),
    ] {
        let planted = rule.respond(Fault::unexpected_error());
        assert_eq!(statuses(&fixture, 4).await, expected);
        assert_eq!(
            planted.applied(),
            expected.iter().filter(|status| **status == 500).count()
        );
        planted.withdraw();
        fixture.clock.advance(Duration::from_mins(1));
    }
    assert_eq!(statuses(&fixture, 1).await, [200]);
}

#[tokio::test]
async fn a_rule_takes_the_requests_that_match_it() {
    let fixture = Fixture::start().await;
    let broken = Fault::unexpected_error;
    fixture
        .atlas
        .on(Asked::certificates().user("CN=a/b"))
        .respond(broken());
    fixture
        .atlas
        .on(Asked::certificates().page(2))
        .respond(broken());
    fixture
        .atlas
        .on(Asked::anything().project("5f0000000000000000000001"))
        .respond(broken());
    fixture
        .atlas
        .on(Asked::of(Endpoint::Revoke))
        .respond(broken());
    assert_eq!(fixture.certificates("app1").await.status(), 200);
    assert_eq!(fixture.certificates("CN%3Da%2Fb").await.status(), 500);
    let second = format!("{}?itemsPerPage=500&pageNum=2", certificates("crowd"));
    assert_eq!(
        fixture.get(&second).await.send().await.unwrap().status(),
        500
    );
    let elsewhere = certificates("app1").replace(G, "5f0000000000000000000001");
    assert_eq!(
        fixture.get(&elsewhere).await.send().await.unwrap().status(),
        500
    );
    fixture.atlas.clear_script();
    assert_eq!(fixture.certificates("CN%3Da%2Fb").await.status(), 200);
}

#[tokio::test]
async fn about_one_in_twenty_is_the_same_ones_each_time() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let fixture = Fixture::start().await;
        let rule = fixture.atlas.on(Asked::anything()).one_in(20, 7);
        let planted = rule.respond(Fault::status(503));
        for _ in 0..200 {
            fixture.http.get(fixture.url("/")).send().await.unwrap();
        }
        assert!(
            (4..=20).contains(&planted.applied()),
            "{}",
            planted.applied()
        );
        let requests = fixture.atlas.requests();
        runs.push(
            requests
                .iter()
                .map(|request| request.status)
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_gate_holds_requests_until_the_test_lets_them_go_in_order() {
    let fixture = Fixture::start().await;
    let gate = fixture.atlas.on(Asked::certificates()).hold();
    let request = fixture.get(&certificates("app1")).await;
    let ask = || tokio::spawn(request.try_clone().unwrap().send());
    let first = ask();
    gate.arrived(1).await;
    let second = ask();
    gate.arrived(2).await;
    assert_eq!(fixture.atlas.requests().last().unwrap().status, None);
    gate.release_one();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert!(!second.is_finished());
    gate.open();
    assert_eq!(second.await.unwrap().unwrap().status(), 200);
    assert_eq!(
        (
            gate.arrivals(),
            fixture.certificates("app1").await.status().as_u16()
        ),
        (2, 200)
    );
}

#[tokio::test]
async fn an_answer_can_be_replaced_by_anything() {
    let teapot = Answer::new(StatusCode::IM_A_TEAPOT, "short and stout").header("x-pot", "tea");
    let answer = answer_under(Fault::answer(teapot)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    assert!(answer.contains("\r\nx-pot: tea\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nshort and stout"), "{answer}");

    let answer = answer_under(Fault::html(503)).await.unwrap();
    assert!(
        answer.contains("\r\ncontent-type: text/html;charset=utf-8\r\n"),
        "{answer}"
    );

    let answer = answer_under(Fault::redirect(302, "http://127.0.0.1:1/"))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    assert!(
        answer.contains("\r\nlocation: http://127.0.0.1:1/\r\n"),
        "{answer}"
    );

    let fixture = Fixture::start().await;
    fixture
        .atlas
        .on(Asked::token())
        .once()
        .respond(Fault::oauth_error(500, "server_error", "x"));
    assert_eq!(json(fixture.mint().await).await["error"], "server_error");
    fixture
        .atlas
        .on(Asked::certificates())
        .respond(Fault::rate_limited(7));
    let response = fixture.certificates("app1").await;
    assert!(!response.headers().contains_key("retry-after"));
    assert_eq!(json(response).await["parameters"][1], 7);
}

#[tokio::test]
async fn the_true_answer_can_be_changed_in_several_ways_at_once() {
    let fixture = Fixture::start().await;
    let on = || fixture.atlas.on(Asked::certificates());
    on().respond(Fault::json(|list| {
        list["results"][0]["_id"] = json!("text");
    }));
    on().respond(Fault::header("content-type", "text/plain"));
    on().respond(Fault::without_header("ratelimit-remaining"));
    on().respond(Fault::status(203));
    let response = fixture.certificates("app1").await;
    assert_eq!(response.status(), 203);
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert!(!response.headers().contains_key("ratelimit-remaining"));
    assert_eq!(json(response).await["results"][0]["_id"], "text");
    on().respond(Fault::truncate(10));
    let torn = fixture.certificates("app1").await.text().await.unwrap();
    assert_eq!(torn, r#"{"links":["#);
    on().respond(Fault::body(|_| "{".repeat(100_000).into()));
    assert_eq!(
        fixture
            .certificates("app1")
            .await
            .bytes()
            .await
            .unwrap()
            .len(),
        100_000
    );
}

#[tokio::test]
async fn headers_can_be_many_large_and_doubled() {
    let fixture = Fixture::start().await;
    let on = || fixture.atlas.on(Asked::certificates());
    on().respond(Fault::header("retry-after", "1"));
    on().respond(Fault::add_header("retry-after", "2"));
    let response = fixture.certificates("app1").await;
    let values: Vec<_> = response.headers().get_all("retry-after").iter().collect();
    assert_eq!(values, ["1", "2"]);
    let large = answer_under(Fault::header("x-large", &"x".repeat(1 << 20)))
        .await
        .unwrap();
    assert!(large.len() > 1 << 20);
    let many = answer_under(Fault::change(|answer| {
        for number in 0..200 {
            let name: http::HeaderName = format!("x-{number}").parse().unwrap();
            answer.headers.insert(name, number.into());
        }
    }));
    assert!(many.await.unwrap().contains("\r\nx-199: 199\r\n"));
}

#[tokio::test]
async fn the_world_can_change_between_two_pages() {
    let fixture = Fixture::start().await;
    let serials = fixture
        .atlas
        .world(|world| world.project(G).user("crowd").serials());
    let gone = serials[0];
    fixture
        .atlas
        .on(Asked::certificates().page(1))
        .once()
        .respond(Fault::then(move |world| {
            world.project(G).user("crowd").remove_certificate(gone);
        }));
    let page = async |number: u32| {
        let path = format!(
            "{}?itemsPerPage=500&pageNum={number}",
            certificates("crowd")
        );
        json(fixture.get(&path).await.send().await.unwrap()).await
    };
    let (first, second) = (page(1).await, page(2).await);
    assert_eq!(
        (&first["totalCount"], &second["totalCount"]),
        (&json!(1203), &json!(1202))
    );
    // Everything has moved up by one, and one certificate was shown on neither page.
    assert_eq!(first["results"][499]["_id"], json!(serials[499]));
    assert_eq!(second["results"][0]["_id"], json!(serials[501]));
}

#[tokio::test]
async fn a_connection_can_be_cut_before_in_and_after_the_head() {
    assert_eq!(
        answer_under(Fault::cut_before_head(Ending::Fin))
            .await
            .unwrap(),
        ""
    );
    let error = answer_under(Fault::cut_before_head(Ending::Reset))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let whole = answer_under(Fault::status(200)).await.unwrap();
    let length = whole.split_once("\r\n\r\n").unwrap().1.len();
    let declared = format!("\r\ncontent-length: {length}\r\n");
    let head = answer_under(Fault::cut_after_head(Ending::Fin))
        .await
        .unwrap();
    assert!(
        head.contains(&declared) && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let part = answer_under(Fault::cut_after_body(7, Ending::Fin))
        .await
        .unwrap();
    assert!(part.contains(&declared), "{part}");
    assert!(part.ends_with("\r\n\r\n{\"links"), "{part}");
}

#[tokio::test]
async fn a_length_can_be_a_lie_and_bytes_can_be_anything() {
    let lie = answer_under(Fault::declared_length(1_000_000_000_000))
        .await
        .unwrap();
    assert!(
        lie.contains("\r\ncontent-length: 1000000000000\r\n"),
        "{lie}"
    );
    assert!(lie.ends_with(r#""totalCount":2}"#), "{lie}");
    let raw = answer_under(Fault::raw("HTTP/1.1 200 OK\r\nbad header\r\n\r\n"))
        .await
        .unwrap();
    assert_eq!(raw, "HTTP/1.1 200 OK\r\nbad header\r\n\r\n");
    let flood = answer_under(Fault::informational(103, 50)).await.unwrap();
    assert_eq!(flood.matches("HTTP/1.1 103 ").count(), 50);
    assert!(flood.contains("HTTP/1.1 200 OK\r\n"), "{flood}");
    let early = answer_under(Fault::status(100)).await.unwrap();
    assert!(early.starts_with("HTTP/1.1 100 "), "{early}");
}

#[tokio::test]
async fn a_body_can_drip_and_a_body_can_have_no_end() {
    let fixture = Fixture::start().await;
    let whole = fixture.certificates("app1").await.bytes().await.unwrap();
    let pause = Duration::from_millis(5);
    let rule = fixture.atlas.on(Asked::certificates()).once();
    rule.respond(Fault::drip(whole.len().div_ceil(4), pause));
    let start = tokio::time::Instant::now();
    let mut response = fixture.certificates("app1").await;
    let mut pieces = Vec::new();
    while let Some(piece) = response.chunk().await.unwrap() {
        pieces.extend_from_slice(&piece);
    }
    assert!(start.elapsed() >= pause * 4);
    assert_eq!(pieces, whole);
    fixture
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(Fault::endless(" ".repeat(65_536)));
    let mut response = fixture.certificates("app1").await;
    let mut read = 0;
    while read < 10_000_000 {
        read += response.chunk().await.unwrap().unwrap().len();
    }
}

#[tokio::test]
async fn silence_never_ends_by_itself() {
    let fixture = Fixture::start().await;
    fixture
        .atlas
        .on(Asked::certificates())
        .respond(Fault::silence());
    let request = fixture.get(&certificates("app1")).await;
    let asked = tokio::spawn(request.send());
    fixture
        .atlas
        .wait_for_calls(Endpoint::Certificates, 1)
        .await;
    let waited = tokio::time::timeout(Duration::from_millis(20), asked).await;
    assert!(waited.is_err());
}

#[tokio::test]
async fn latency_holds_every_answer_back() {
    let fixture = Fixture::start().await;
    let request = fixture.get(&certificates("app1")).await;
    fixture
        .atlas
        .rules(|rules| rules.latency = Duration::from_millis(20));
    let start = tokio::time::Instant::now();
    request.send().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
}

#[tokio::test]
async fn a_scripted_answer_does_nothing_that_atlas_would_do() {
    let fixture = Fixture::start().await;
    fixture
        .atlas
        .on(Asked::certificates())
        .respond(Fault::api_error(403, "ACCESS_FORBIDDEN", "No."));
    let response = fixture.certificates("app1").await;
    assert_eq!(response.headers()["x-error-code"], "ACCESS_FORBIDDEN");
    assert_eq!(error_code(response).await, "ACCESS_FORBIDDEN");
    assert_eq!(fixture.atlas.bucket_remaining(G), 1200);
    assert!(
        raw_get(&fixture.atlas, &certificates("app1"), "none")
            .await
            .contains(" 403 ")
    );
}
