//! Bad requests, row by row, over a raw socket: the stated answer, no call to Atlas, one record.

mod refused;

use crate::client::Connection;
use crate::world::{PROJECT, World, token};

fn user(name: &str) -> String {
    format!("/api/atlas/v2/groups/{PROJECT}/databaseUsers/{name}/certs")
}

fn query(query: &str) -> String {
    format!("{}?{query}", user("app1"))
}

#[tokio::test]
async fn a_target_beyond_what_http_can_carry_is_refused_without_a_word_on_record() {
    let world = World::new().await;
    let reply = world.raw(&request(&user(&"x".repeat(70_000)), "")).await;
    assert!(matches!(reply.status, 414 | 431), "P39: {}", reply.status);
    assert_eq!(world.lookups().len(), 0);
}

#[tokio::test]
async fn legal_names_are_asked_of_atlas_byte_for_byte() {
    for (id, segment, name, upstream) in [
        ("P06", "a%2Fb", "a/b", "a%2Fb"),
        ("P08", "100%25", "100%", "100%25"),
        ("P16", "a%3Fb", "a?b", "a%3Fb"),
        ("P16", "a%23b", "a#b", "a%23b"),
        ("P19", "a;..;", "a;..;", "a%3B..%3B"),
        (
            "P19",
            "app1;jsessionid=1",
            "app1;jsessionid=1",
            "app1%3Bjsessionid%3D1",
        ),
        ("P19", "..;", "..;", "..%3B"),
        ("P20", "a+b", "a+b", "a%2Bb"),
        ("P21", "a%20b", "a b", "a%20b"),
        ("P21", "%20a%20", " a ", "%20a%20"),
        (
            "P24",
            "CN=J%C3%BCrgen",
            "CN=J\u{fc}rgen",
            "CN%3DJ%C3%BCrgen",
        ),
        (
            "P24",
            "CN=Ju%CC%88rgen",
            "CN=Ju\u{308}rgen",
            "CN%3DJu%CC%88rgen",
        ),
        (
            "P25",
            "%EF%BC%8E%EF%BC%8E",
            "\u{ff0e}\u{ff0e}",
            "%EF%BC%8E%EF%BC%8E",
        ),
        ("P25", "%EF%BC%8F", "\u{ff0f}", "%EF%BC%8F"),
        ("P26", "%E2%80%AEtxt", "\u{202e}txt", "%E2%80%AEtxt"),
        ("P26", "%E2%80%8B", "\u{200b}", "%E2%80%8B"),
        (
            "P27",
            "CN%3DDoe%5C%2C%20John%2COU%3DOps",
            "CN=Doe\\, John,OU=Ops",
            "CN%3DDoe%5C%2C%20John%2COU%3DOps",
        ),
        ("P40", "certs", "certs", "certs"),
        ("P40", "databaseUsers", "databaseUsers", "databaseUsers"),
    ] {
        let world = World::new().await;
        world.atlas.world(|atlas| {
            atlas.project(PROJECT).user(name).certificates(1);
        });
        let reply = world
            .raw(&request(&user(segment), "Connection: close\r\n"))
            .await;
        assert_eq!(
            (reply.status, &reply.json()["totalCount"]),
            (200, &1.into()),
            "{id} {segment}"
        );
        let seen = world.atlas.requests().pop().unwrap();
        let path = format!("/api/atlas/v2/groups/{PROJECT}/databaseUsers/{upstream}/certs?");
        assert!(seen.target.starts_with(&path), "{id} {}", seen.target);
        let records = world.lookups();
        assert_eq!(
            (records.len(), &records[0]["username"]),
            (1, &name.into()),
            "{id}"
        );
    }
}

#[tokio::test]
async fn names_that_look_alike_are_two_users_and_spellings_of_one_are_one() {
    let world = World::new().await;
    for (id, one, two, calls) in [
        ("P22", "CN%3Dapp1", "CN=app1", 1),
        ("P23", "cn=app2", "CN=app2", 2),
        ("P24", "J%C3%BCrgen", "Ju%CC%88rgen", 2),
        ("C13", "a%2Fb", "a%2Fb%2F", 2),
    ] {
        let before = world.atlas.certificate_calls();
        world.get(&user(one), &[]).await;
        world.get(&user(two), &[]).await;
        assert_eq!(world.atlas.certificate_calls() - before, calls, "{id}");
    }
    let longest = "y".repeat(1_024);
    world.atlas.world(|atlas| {
        atlas.project(PROJECT).user(&longest).certificates(1);
    });
    assert_eq!(world.get(&user(&longest), &[]).await.status, 200, "P31");
    let encoded = PROJECT.replacen('3', "%33", 1);
    let reply = world
        .get(&user("app1").replace(PROJECT, &encoded), &[])
        .await;
    assert_eq!(reply.status, 200, "P32: encoded digits are the same id");
}

#[tokio::test]
async fn what_is_no_parameter_of_atlas_is_ignored_and_never_forwarded() {
    let world = World::new().await;
    let many = (0..1_000)
        .map(|at| format!("x{at}=1"))
        .collect::<Vec<_>>()
        .join("&");
    for (id, text) in [
        ("Q02", "pageNum=%31"),
        ("Q08", "x=1"),
        ("Q08", many.as_str()),
        ("Q09", "="),
        ("Q09", "&&&"),
        ("Q09", "a[]=1"),
        ("Q10", "username=other&groupId=other"),
    ] {
        let reply = world.get(&query(text), &[]).await;
        assert_eq!(
            (reply.status, &reply.json()["totalCount"]),
            (200, &2.into()),
            "{id}"
        );
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
    assert!(!world.atlas.saw_anywhere("x=1") && !world.atlas.saw_anywhere("other"));
}

#[tokio::test]
async fn an_accept_that_admits_no_form_of_ours_is_406_and_any_other_is_answered() {
    let world = World::new().await;
    let many = vec!["text/x"; 200].join(", ");
    for (accept, status) in [
        ("application/vnd.atlas.2099-01-01+json", 200),
        ("*/*", 200),
        (&*format!("{many}, application/json"), 200),
        ("text/html", 406),
        (&*many, 406),
    ] {
        let reply = world.get(&user("app1"), &[("Accept", accept)]).await;
        assert_eq!(reply.status, status, "Q13 {accept}");
        if status == 406 {
            assert_eq!(reply.error_code(), "INVALID_VERSION_DATE");
        }
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
    let reply = world
        .get(&user("app1"), &[("Accept-Encoding", "gzip, br;q=bad")])
        .await;
    assert_eq!(
        (reply.status, reply.header("content-encoding")),
        (200, None),
        "Q14"
    );
}

#[tokio::test]
async fn a_token_in_the_query_is_no_credential_and_never_repeated() {
    let world = World::new().await;
    let target = query(&format!("access_token={}", token()));
    let reply = world.send("GET", &target, "", &[]).await;
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (401, "USER_UNAUTHORIZED"),
        "Q12"
    );
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let both = world.get(&target, &[]).await;
    assert_eq!(
        (both.status, both.error_code().as_str()),
        (400, "BAD_REQUEST"),
        "J05"
    );
    let written = serde_json::to_string(&world.records()).unwrap();
    assert!(!written.contains(&token()), "Q12");
}

#[tokio::test]
async fn other_methods_are_refused_and_never_reach_atlas() {
    let world = World::new().await;
    for method in [
        "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "BREW",
    ] {
        let reply = world.send(method, &user("app1"), &token(), &[]).await;
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (405, "METHOD_NOT_ALLOWED"),
            "{method}"
        );
        assert_eq!(reply.header("allow"), Some("GET, HEAD"), "{method}");
    }
    assert_eq!(world.atlas.certificate_calls(), 0);
    assert_eq!(world.lookups().len(), 8);
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let world = World::new().await;
    let (path, token) = (user("app1"), token());
    let authorization = format!("Authorization: Bearer {token}\r\n");
    for (id, request) in [
        ("H11", format!("GET {path} HTTP/1.1\r\n{authorization}\r\n")),
        (
            "H11",
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n{authorization}\r\n"),
        ),
        (
            "H11",
            format!("GET {path} HTTP/1.1\r\nHost: a b/c\r\n{authorization}\r\n"),
        ),
        (
            "H11",
            format!("GET {path} HTTP/1.1\r\nHost: a, b\r\n{authorization}\r\n"),
        ),
        (
            "H07",
            format!(
                "GET {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{authorization}\r\nhello"
            ),
        ),
    ] {
        let mut connection = Connection::open(world.address()).await;
        connection.send(request.as_bytes()).await;
        let reply = connection.reply(false).await;
        assert_eq!(
            (reply.status, reply.error_code().as_str()),
            (400, "BAD_REQUEST"),
            "{id} {request}"
        );
        assert!(connection.is_closed().await, "{id}");
    }
    assert_eq!(world.atlas.certificate_calls(), 0);
}

fn request(target: &str, headers: &str) -> Vec<u8> {
    // Latin-1, so that a row can hold bytes that are no UTF-8.
    format!(
        "GET {target} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n{headers}\r\n",
        token()
    )
    .into_bytes()
}
