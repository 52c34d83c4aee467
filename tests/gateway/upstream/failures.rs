//! Errors of Atlas, and answers that are late, broken or missing.

use std::time::Duration;

use atlas_cert_gateway::upstream::{CredentialUnavailable, FetchErrorKind, Verdict};
use atlas_simulator::{Answer, Asked, Ending, Fault, X509Type};
use http::StatusCode;

use crate::upstream::world::{OTHER, PROJECT, World, name, outcome};
use crate::world::every;

#[tokio::test]
async fn u23_errors_of_atlas_are_kept_byte_for_byte_with_what_they_mean() {
    for (status, code, verdict) in [
        (400, "USER_NOT_MANAGED_X509", Verdict::Denial),
        (401, "USER_CANNOT_ACCESS_GROUP", Verdict::Denial),
        (402, "ACCOUNT_SUSPENDED", Verdict::Outage),
        (403, "ACCESS_FORBIDDEN", Verdict::Outage),
        (404, "GROUP_NOT_FOUND", Verdict::Missing),
        (404, "USERNAME_NOT_FOUND", Verdict::Missing),
        (404, "RESOURCE_NOT_FOUND", Verdict::Outage),
        (406, "INVALID_VERSION_DATE", Verdict::Outage),
        (410, "VERSION_GONE", Verdict::Outage),
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
        let FetchErrorKind::Atlas(answer) = error.reason else {
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
    assert_eq!(not_ready[0].why, CredentialUnavailable::Address);
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
        assert_eq!(error.stats.calls, calls, "{expected}");
    }
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(Fault::unexpected_error());
    assert_eq!(world.ask().await.unwrap().stats.calls, 2);
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
    let FetchErrorKind::NoDocument { retry_after, .. } = error.reason else {
        panic!();
    };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    assert_eq!(outcome(&world.ask().await), "unavailable");
    world.manual_clock.advance(Duration::from_secs(7));
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
        Fault::drip(1, Duration::from_secs(1)),
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
async fn u13_a_call_that_is_given_up_leaves_no_connection_behind() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::silence());
    let asked = (0..4).map(|_| world.ask());
    for result in futures_util::future::join_all(asked).await {
        assert_eq!(outcome(&result), "timeout");
    }
    assert!(world.atlas.connections_accepted() >= 4);
    // The one that the token came on may stay open, since it is good.
    let mut glances = every(Duration::from_millis(2));
    while world.atlas.connections_open() > 1 {
        glances.tick().await;
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
        world.manual_clock.advance(Duration::from_mins(2));
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
