//! Bodies, of which no request here has one: whatever frames them, the head is refused, and not one byte
//! of them is ever a request.

use super::Asked;
use super::USUAL;
use super::assert_refusal;
use crate::client::Connection;
use crate::world::World;
use crate::world::set;

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
async fn a_body_is_refused_with_its_head_however_it_is_framed_and_is_never_a_request() {
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
async fn what_follows_a_refused_change_of_protocol_is_a_request_that_needs_its_own_token() {
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
async fn a_request_to_another_host_is_misdirected_where_the_names_of_this_one_are_known() {
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
