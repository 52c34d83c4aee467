//! How operators' requests may come: in chunks, and to which names.

use crate::client::{Connection, exchange};
use crate::world::{World, operator_token, set};

#[tokio::test]
async fn a_purge_in_chunks_is_done_and_its_connection_goes_on() {
    let world = World::new().await;
    let token = operator_token();
    let chunked = |chunks: &str| {
        format!(
            "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{chunks}"
        )
    };
    let mut connection = Connection::open(world.app.admin_address()).await;
    for chunks in [
        "d\r\n{\"all\": true}\r\n0\r\n\r\n",
        "6\r\n{\"all\"\r\n7\r\n: true}\r\n0\r\n\r\n",
        "D;a=b\r\n{\"all\": true}\r\n0\r\nX: y\r\n\r\n",
    ] {
        world.ask("app1").await;
        connection.send(chunked(chunks).as_bytes()).await;
        let reply = connection.reply(false).await;
        assert_eq!(
            (reply.status, &reply.json()["entries"]),
            (200, &1.into()),
            "H2 {chunks}"
        );
    }
    // Piece by piece, and what is behind the last one is the next request.
    let two = [
        chunked("d\r\n{\"all\": true}\r\n0\r\n\r\n"),
        chunked("2\r\n{}\r\n0\r\n\r\n"),
    ]
    .concat();
    for piece in two.as_bytes().chunks(7) {
        connection.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(connection.reply(false).await.status, 200);
    assert_eq!(connection.reply(false).await.status, 400);
    // Too much, however it is cut; a chunk that is none; one that never comes.
    let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
    connection.send(chunked(&chunk.repeat(2)).as_bytes()).await;
    assert_eq!(connection.reply(false).await.status, 413, "H2");
    assert!(connection.is_closed().await);
    for (chunks, status) in [("d\n{\"all\": true}\n0\n\n", 400), ("d\r\n{\"all\"", 408)] {
        world.ask("app1").await;
        let mut connection = Connection::open(world.app.admin_address()).await;
        connection.send(chunked(chunks).as_bytes()).await;
        let reply = world.while_time_passes(connection.reply(false)).await;
        assert_eq!(reply.status, status, "H2 {chunks}");
        assert!(connection.is_closed().await, "{chunks}");
        assert_eq!(
            world.ask("app1").await.header("x-upstream-calls"),
            Some("0")
        );
    }
    assert_eq!(world.refused("chunk").await, 1);
}

#[tokio::test]
async fn the_admin_listener_answers_to_addresses_localhost_and_its_own_names() {
    let world = World::with(|plan| {
        let names = vec![toml::Value::from("ops.internal")];
        set(&mut plan.config, "admin.hosts", names);
    })
    .await;
    for (host, status) in [
        ("127.0.0.1:9090", 200),
        ("10.0.0.1", 200),
        ("[::1]:9090", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("ops.internal:9090", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
    ] {
        for path in ["/healthz", "/metrics", "/cache/explain"] {
            let address = world.app.admin_address();
            for line in [format!("GET {path}"), format!("GET http://{host}{path}")] {
                let request =
                    format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                let reply = exchange(address, request.as_bytes()).await;
                let expected = if status == 200 && path == "/cache/explain" {
                    401
                } else {
                    status
                };
                assert_eq!(reply.status, expected, "H8 {request}");
                if status == 421 {
                    assert_eq!(reply.error_code(), "MISDIRECTED_REQUEST");
                    assert!(reply.text().contains("admin.hosts"), "{}", reply.text());
                }
            }
        }
    }
}
