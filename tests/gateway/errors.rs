//! What Atlas refuses arrives as Atlas said it; what is no answer of Atlas arrives in Atlas's form.

use atlas_simulator::{Answer, Asked, Ending, Fault};

use crate::world::{PROJECT, World, certs};

#[tokio::test]
async fn documents_of_atlas_arrive_byte_for_byte() {
    for (status, document) in [
        (
            400,
            r#"{"detail":"The user does not have managed mode X.509 enabled.","error":400,"errorCode":"USER_NOT_MANAGED_X509","parameters":["app1"],"reason":"Bad Request"}"#,
        ),
        (
            401,
            r#"{"detail":"User cannot access this group.","error":401,"errorCode":"USER_CANNOT_ACCESS_GROUP","parameters":[],"reason":"Unauthorized"}"#,
        ),
        (
            403,
            r#"{"detail":"IP address 203.0.113.9 is not allowed to access this resource.","error":403,"errorCode":"IP_ADDRESS_NOT_ON_ACCESS_LIST","parameters":["203.0.113.9"],"reason":"Forbidden"}"#,
        ),
        (
            404,
            r#"{ "detail" : "No user with username app1 exists.", "error" : 404, "errorCode" : "USERNAME_NOT_FOUND", "parameters" : null }"#,
        ),
        (
            401,
            r#"{"detail":"You are not authorized for this resource.","error":401,"errorCode":"UNAUTHORIZED","parameters":[],"reason":"Unauthorized"}"#,
        ),
        (
            405,
            r#"{"detail":"x","error":405,"errorCode":"METHOD_NOT_ALLOWED","parameters":[],"reason":"Method Not Allowed"}"#,
        ),
        (
            409,
            r#"{"detail":"x","error":409,"errorCode":"SOMETHING_ELSE","parameters":[],"reason":"Conflict"}"#,
        ),
        (
            429,
            r#"{"detail":"Rate limit exceeded.","error":429,"errorCode":"RATE_LIMITED_TOKEN_BUCKET","parameters":["x",55,1200,500,60],"reason":"Too Many Requests"}"#,
        ),
        (
            403,
            r#"{"detail":"No code at all.","error":403,"reason":"Forbidden"}"#,
        ),
        (
            503,
            r#"{"detail":"Later.","error":503,"errorCode":"SERVICE_UNAVAILABLE","parameters":{},"reason":"Service Unavailable"}"#,
        ),
        (
            500,
            r#"{"detail":"Unexpected error.","error":500,"errorCode":"UNEXPECTED_ERROR","parameters":[],"reason":"Internal Server Error"}"#,
        ),
    ] {
        let world = World::new().await;
        let answer = Answer::new(status.try_into().unwrap(), document)
            .header("content-type", "application/json")
            .header("www-authenticate", "Digest realm=\"MMS Public API\"");
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::answer(answer));
        let reply = world.while_time_passes(world.ask("app1")).await;
        assert_eq!((reply.status, reply.text().as_str()), (status, document));
        assert_eq!(reply.header("x-error-origin"), Some("atlas"));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(
            reply.header("www-authenticate"),
            (status == 401).then_some("Bearer"),
            "Atlas's speaks of our credential, and the caller's token is not at fault"
        );
        assert_eq!(
            reply.header("allow"),
            (status == 405).then_some("GET, HEAD")
        );
        let wait = reply
            .header("retry-after")
            .map(|seconds| seconds.parse::<u64>().unwrap());
        // Up to a tenth more than Atlas asks for, so that not everybody comes back at once.
        assert!(
            match status {
                429 => matches!(wait, Some(55..=61)),
                503 => wait == Some(5),
                _ => wait.is_none(),
            },
            "{wait:?}"
        );
        let record = world.lookups().pop().unwrap();
        assert_eq!(record["status"], status);
        assert!(document.contains(record["error_code"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn what_is_no_document_arrives_in_the_form_of_one() {
    for (fault, status, code) in [
        (Fault::html(503), 502, "UPSTREAM_INVALID_RESPONSE"),
        (
            Fault::cut_before_head(Ending::Fin),
            502,
            "UPSTREAM_UNREACHABLE",
        ),
        (
            Fault::cut_after_body(40, Ending::Reset),
            502,
            "UPSTREAM_INVALID_RESPONSE",
        ),
        (Fault::truncate(40), 502, "UPSTREAM_INVALID_RESPONSE"),
        (
            Fault::redirect(302, "https://evil.example/"),
            502,
            "UPSTREAM_INVALID_RESPONSE",
        ),
        (Fault::status(204), 502, "UPSTREAM_INVALID_RESPONSE"),
    ] {
        let world = World::new().await;
        world.atlas.on(Asked::certificates()).respond(fault);
        let reply = world.while_time_passes(world.ask("app1")).await;
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (status, code),
            "{}",
            reply.text()
        );
        assert_eq!(reply.header("x-error-origin"), Some("gateway"));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let document = reply.json();
        for member in ["detail", "error", "errorCode", "parameters", "reason"] {
            assert!(!document[member].is_null(), "{member}");
        }
    }
}

#[tokio::test]
async fn an_unknown_user_is_remembered_for_a_while() {
    let world = World::new().await;
    for _ in 0..3 {
        let reply = world.ask("nobody").await;
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (404, "USERNAME_NOT_FOUND")
        );
        assert_eq!(reply.header("x-error-origin"), Some("atlas"));
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
    world.advance(std::time::Duration::from_secs(31));
    world.ask("nobody").await;
    assert_eq!(world.atlas.certificate_calls(), 2);
}

#[tokio::test]
async fn an_enveloped_error_holds_the_document_unchanged() {
    let world = World::new().await;
    let plain = world.ask("nobody").await;
    let enveloped = world
        .get(&format!("{}?envelope=true", certs(PROJECT, "nobody")), &[])
        .await;
    assert_eq!(enveloped.status, 404);
    assert_eq!(
        enveloped.text(),
        format!("{{\"status\":404,\"content\":{}}}", plain.text())
    );
}
