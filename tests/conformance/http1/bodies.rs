//! Bodies, of which no request here has one: whatever frames them, the head is refused, and not one byte
//! of them is ever a request.

use super::{Asked, USUAL, assert_refusal};
use crate::client::Connection;
use crate::world::{World, set};

/// A row's id, what frames the body, and the body.
type Framed = (&'static str, String, Vec<u8>);

fn framed() -> Vec<Framed> {
    let second = USUAL.bytes();
    let chunks = |size: &str| [size.as_bytes(), b"\r\nhello\r\n0\r\n\r\n"].concat();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let long_extension = format!("5;{}", "x".repeat(64 << 10));
    let mut rows = vec![
        // A space behind the number is no part of it.
        ("H03", "Content-Length: 3 \r\n".to_owned(), b"abc".to_vec()),
        (
            "H08",
            format!("Content-Length: {}\r\n", second.len()),
            second,
        ),
        ("H06", chunked.to_owned(), b"5\nhello\n0\n\n".to_vec()),
        ("H06", chunked.to_owned(), b"5\r\nhello\r\n".to_vec()),
        ("H06", chunked.to_owned(), chunks(&long_extension)),
        (
            "H23",
            format!("{chunked}Trailer: Authorization\r\n"),
            b"0\r\nAuthorization: Bearer x\r\n\r\n".to_vec(),
        ),
    ];
    for size in [
        "5",
        "-1",
        "+5",
        "0x5",
        "5 ;a",
        "00000000000000005",
        "fffffffffffffffff",
    ] {
        rows.push(("H06", chunked.to_owned(), chunks(size)));
    }
    rows
}

#[tokio::test]
async fn a_body_is_refused_with_its_head_and_is_never_read_as_a_request() {
    let world = World::new().await;
    for (id, headers, body) in framed() {
        let before = world.lookups().len();
        let head = Asked {
            headers: &headers,
            ..USUAL
        };
        let mut connection = Connection::open(world.address()).await;
        connection
            .send(&[head.bytes(), body.clone(), USUAL.bytes()].concat())
            .await;
        let reply = connection.reply(false).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_refusal(
            &reply,
            400,
            "BAD_REQUEST",
            &format!("{id} {headers} {shown}"),
        );
        assert!(connection.is_closed().await, "{id} {headers} {shown}");
        assert_eq!(world.lookups().len(), before + 1, "{id} {headers} {shown}");
    }
    assert_eq!(world.atlas.certificate_calls(), 0);
}

#[tokio::test]
async fn what_follows_a_refused_upgrade_is_a_request_with_its_own_token() {
    let world = World::new().await;
    for protocol in ["h2c", "websocket", "TLS/1.2"] {
        let headers = format!(
            "Connection: upgrade, http2-settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABk\r\n"
        );
        let upgrade = Asked {
            headers: &headers,
            ..USUAL
        };
        let bare = b"GET /api/atlas/v2/groups/0/databaseUsers/0/certs HTTP/1.1\r\nHost: a\r\n\r\n";
        let without_token = USUAL.bytes();
        let without_token = String::from_utf8(without_token).unwrap();
        let without_token = without_token.replace("Authorization", "X-Authorization");
        let mut connection = Connection::open(world.address()).await;
        connection
            .send(&[&upgrade.bytes(), without_token.as_bytes(), &bare[..]].concat())
            .await;
        for status in [200, 401, 404] {
            let reply = connection.reply(false).await;
            assert_eq!(reply.status, status, "H15 {protocol}");
            assert_eq!(reply.header("upgrade"), None, "H15 {protocol}");
        }
        // What the other protocol would send is no request.
        connection
            .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await;
        assert_eq!(connection.reply(false).await.status, 400, "H15 {protocol}");
        assert!(connection.is_closed().await, "H15 {protocol}");
    }
}

#[tokio::test]
async fn a_request_to_another_host_is_misdirected_where_hosts_are_configured() {
    let world = World::with(|plan| {
        let names = ["gateway.test", "10.0.0.1"].map(toml::Value::from);
        set(&mut plan.config, "server.hosts", names.to_vec());
    })
    .await;
    for (host, status) in [
        ("gateway.test", 200),
        ("GATEWAY.test:8080", 200),
        ("10.0.0.1:80", 200),
        ("evil.test", 421),
        ("gateway.test.evil.test", 421),
        ("localhost", 421),
    ] {
        let request = String::from_utf8(USUAL.bytes()).unwrap();
        let request = request.replace("Host: gateway.test", &format!("Host: {host}"));
        let mut connection = Connection::open(world.address()).await;
        connection.send(request.as_bytes()).await;
        let reply = connection.reply(false).await;
        assert_eq!(reply.status, status, "H12 {host}");
        let record = world.lookups().pop().unwrap();
        assert_eq!(record["status"], status, "H12 {host}");
        if status == 421 {
            assert_eq!(reply.error_code(), "MISDIRECTED_REQUEST", "H12 {host}");
            assert_eq!(record["outcome"], "rejected", "H12 {host}");
        }
    }
    // HTTP/1.0 need not say whom it asks.
    let unnamed = String::from_utf8(USUAL.bytes()).unwrap();
    let unnamed = unnamed.replace("HTTP/1.1\r\nHost: gateway.test", "HTTP/1.0");
    assert_eq!(world.raw(unnamed.as_bytes()).await.status, 421, "H12");
}

#[tokio::test]
async fn a_method_that_is_not_taken_is_refused_as_such_with_a_body_and_without() {
    let world = World::new().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (headers, body, status, code) in [
        ("Content-Length: 5\r\n", "hello", 405, "METHOD_NOT_ALLOWED"),
        (
            chunked,
            "5\r\nhello\r\n0\r\n\r\n",
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            chunked,
            "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
            405,
            "METHOD_NOT_ALLOWED",
        ),
        // H06: what another server would have read as something else.
        (chunked, "0x5\r\nhello\r\n0\r\n\r\n", 400, "BAD_REQUEST"),
        (chunked, "5\nhello\n0\n\n", 400, "BAD_REQUEST"),
    ] {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let line = format!("{method} {{path}} HTTP/1.1");
            let head = Asked {
                line: &line,
                headers,
            };
            let sent = [&head.bytes(), body.as_bytes(), &USUAL.bytes()].concat();
            let mut connection = Connection::open(world.address()).await;
            connection.send(&sent).await;
            let reply = connection.reply(false).await;
            assert_refusal(&reply, status, code, &format!("{method} {headers} {body}"));
            let allowed = (status == 405).then_some("GET, HEAD");
            assert_eq!(reply.header("allow"), allowed, "H30 {method} {headers}");
            assert!(connection.is_closed().await, "{method} {headers} {body}");
        }
    }
    assert_eq!(world.refused("chunk").await, 8);
    assert_eq!(world.atlas.certificate_calls(), 0);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_no_longer_than_a_head() {
    let world = World::new().await;
    for (headers, body) in [
        ("Content-Length: 10\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
    ] {
        let line = "POST {path} HTTP/1.1";
        let head = Asked { line, headers };
        let mut connection = Connection::open(world.address()).await;
        connection
            .send(&[&head.bytes(), body.as_bytes()].concat())
            .await;
        let reply = world.while_time_passes(connection.reply(false)).await;
        assert_refusal(&reply, 405, "METHOD_NOT_ALLOWED", headers);
        assert!(connection.is_closed().await, "{headers}");
    }
}

#[tokio::test]
async fn a_url_as_target_is_answered_if_it_is_this_gateways() {
    let world = World::new().await;
    let named = World::with(|plan| {
        let names = vec![toml::Value::from("gateway.test")];
        set(&mut plan.config, "server.hosts", names);
    })
    .await;
    for (world, host, status) in [
        (&world, "127.0.0.1", 200),
        (&world, "127.0.0.1:8080", 200),
        (&world, "localhost", 200),
        (&world, "evil.test", 421),
        (&world, "10.0.0.1", 421),
        // Nobody has said that this is its name.
        (&world, "gateway.test", 421),
        (&named, "gateway.test", 200),
        (&named, "GATEWAY.test:443", 200),
        (&named, "evil.test", 421),
    ] {
        for scheme in ["http", "https"] {
            let request = String::from_utf8(USUAL.bytes()).unwrap();
            let request = request.replace("GET /", &format!("GET {scheme}://{host}/"));
            let request = request.replace("Host: gateway.test", &format!("Host: {host}"));
            let reply = world
                .raw(
                    request
                        .replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
                        .as_bytes(),
                )
                .await;
            assert_eq!(reply.status, status, "H6 {request}");
            if status == 421 {
                assert_eq!(reply.error_code(), "MISDIRECTED_REQUEST", "H6 {host}");
            } else {
                let href = reply.json()["links"][0]["href"]
                    .as_str()
                    .unwrap()
                    .to_owned();
                assert!(href.starts_with(&format!("http://{host}/api/")), "{href}");
            }
        }
    }
}
