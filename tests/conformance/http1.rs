//! HTTP/1 read strictly, row by row, over a raw socket: what RFC 9112 does not allow is refused with
//! words of ours, ends the connection, and nothing behind it is ever a request.
//!
//! H41, what nginx and HAProxy make of the same bytes, is the bench `framing`.

mod bodies;
mod cases;
mod patience;
mod probe;
mod refused;

use crate::client::{Connection, Reply};
use crate::world::{PROJECT, World, certs, set, token};

/// The usual request with other words in some of its places.
struct Asked<'a> {
    line: &'a str,
    headers: &'a str,
}

const USUAL: Asked<'_> = Asked {
    line: "GET {path} HTTP/1.1",
    headers: "",
};

impl Asked<'_> {
    /// Latin-1, so that a row can hold bytes that are no UTF-8.
    fn bytes(&self) -> Vec<u8> {
        let line = self.line.replace("{path}", &certs(PROJECT, "app1"));
        let (headers, token) = (self.headers, token());
        format!("{line}\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n{headers}\r\n")
            .chars()
            .map(|letter| u8::try_from(letter).unwrap())
            .collect()
    }
}

#[tokio::test]
async fn what_is_only_odd_is_answered() {
    let world = World::new().await;
    for (id, line, headers, status) in [
        ("H05", "GET {path} HTTP/1.0", "", 200),
        ("H13", "OPTIONS * HTTP/1.1", "", 405),
        (
            "H15",
            "GET {path} HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: h2c\r\n",
            200,
        ),
        (
            "H15",
            "GET {path} HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            200,
        ),
        ("H18", "GET {path} HTTP/1.1", &"X: x\r\n".repeat(62), 200),
        ("H20", "GET {path} HTTP/1.1", "X: \u{ff}\r\n", 200),
        ("H30", "PUT {path} HTTP/1.1", "", 405),
        ("H30", "PATCH {path} HTTP/1.1", "", 405),
        ("H30", "DELETE {path} HTTP/1.1", "", 405),
        ("H30", "POST {path} HTTP/1.1", "Content-Length: 0\r\n", 405),
        ("H21", "GET {path} HTTP/1.1", "Expect: 200-maybe\r\n", 200),
        (
            "H24",
            "GET {path} HTTP/1.1",
            "Connection: Authorization\r\n",
            200,
        ),
        (
            "H25",
            "GET {path} HTTP/1.1",
            "Transfer_Encoding: chunked\r\nContent_Length: 3\r\n",
            200,
        ),
        (
            "H31",
            "GET {path}?_method=POST HTTP/1.1",
            "X-HTTP-Method-Override: POST\r\n",
            200,
        ),
        ("H32", "TRACE {path} HTTP/1.1", "", 405),
        ("H33", "get {path} HTTP/1.1", "", 405),
        ("H34", "BREW {path} HTTP/1.1", "", 405),
        ("-", "GET {path} HTTP/1.1", "Content-Length: 0\r\n", 200),
    ] {
        let mut connection = Connection::open(world.address()).await;
        let bytes = Asked { line, headers }.bytes();
        connection.send(&[&b"\r\n"[..], &bytes].concat()).await;
        let reply = connection.reply(false).await;
        assert_eq!(reply.status, status, "{id} {line} {headers}");
        let allowed = (status == 405).then_some("GET, HEAD");
        assert_eq!(reply.header("allow"), allowed, "{id} {line} {headers}");
        // H32: nothing of the request comes back.
        assert!(status == 200 || !reply.text().contains(&token()), "{id}");
    }
    assert_eq!(world.atlas.certificate_calls(), 1, "H30");
}

#[tokio::test]
async fn a_token_of_bytes_beyond_ascii_is_no_token() {
    let world = World::new().await;
    for value in ["Bearer \u{ff}", "\u{ff}", "Bearer a\u{e9}b"] {
        let line = String::from_utf8(USUAL.bytes()).unwrap();
        let request = line.replace(&format!("Bearer {}", token()), value);
        let bytes: Vec<u8> = request
            .chars()
            .map(|letter| u8::try_from(letter).unwrap())
            .collect();
        assert_eq!(world.raw(&bytes).await.status, 401, "H20 {value:?}");
    }
}

#[tokio::test]
async fn http_1_0_gets_one_answer_a_connection_whatever_it_asks_for() {
    let world = World::new().await;
    for headers in ["", "Connection: keep-alive\r\nKeep-Alive: timeout=600\r\n"] {
        let line = "GET {path} HTTP/1.0";
        let asked = Asked { line, headers };
        let mut connection = Connection::open(world.address()).await;
        connection.send(&asked.bytes().repeat(2)).await;
        assert_eq!(connection.reply(false).await.status, 200, "H05");
        assert!(connection.is_closed().await, "H05 {headers}");
    }
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order_however_its_bytes_arrive() {
    let world = World::new().await;
    let good = USUAL.bytes();
    let bad = Asked {
        headers: "X: a\n",
        ..USUAL
    }
    .bytes();
    // H10.
    let mut connection = Connection::open(world.address()).await;
    connection.send(&[&good[..], &bad, &good].concat()).await;
    assert_eq!(connection.reply(false).await.status, 200);
    assert_eq!(connection.reply(false).await.status, 400);
    assert!(connection.is_closed().await);
    assert_eq!(world.lookups().len(), 1);
    // H09, larger than hyper's first buffer.
    let mut connection = Connection::open(world.address()).await;
    connection.send(&good.repeat(100)).await;
    for _ in 0..100 {
        assert_eq!(connection.reply(false).await.status, 200);
    }
    assert_eq!(world.lookups().len(), 101);
    // A head in two pieces, cut everywhere, and behind it the beginning of the next.
    let mut connection = Connection::open(world.address()).await;
    let two = good.repeat(2);
    for cut in (1..good.len()).step_by(7) {
        connection.send(&two[..cut]).await;
        tokio::task::yield_now().await;
        connection.send(&two[cut..]).await;
        for _ in 0..2 {
            assert_eq!(connection.reply(false).await.status, 200, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn pipelined_requests_take_turns_with_other_connections() {
    // Where nothing has to be waited for, not even a record.
    let world = World::with(|plan| set(&mut plan.config, "audit.refusals_per_minute", 0)).await;
    let denied = Asked {
        line: &format!("GET {} HTTP/1.1", certs(PROJECT, "secret-1")),
        ..USUAL
    };
    let mut other = Connection::open(world.address()).await;
    other.send(&denied.bytes()).await;
    assert_eq!(other.reply(false).await.status, 403);
    let mut callers = Vec::new();
    for _ in 0..8 {
        let mut caller = Connection::open(world.address()).await;
        caller.send(&denied.bytes()).await;
        assert_eq!(caller.reply(false).await.status, 403);
        callers.push(caller);
    }
    for caller in &mut callers {
        caller.send(&denied.bytes().repeat(20)).await;
    }
    other.send(&denied.bytes()).await;
    assert_eq!(other.reply(false).await.status, 403);
    // Of 160, and not sixteen of each.
    let before: usize = callers.iter_mut().map(Connection::answers_here).sum();
    assert!(before < 60, "{before} were answered before");
    for caller in &mut callers {
        for _ in 0..20 {
            assert_eq!(caller.reply(false).await.status, 403);
        }
    }
}

fn assert_refusal(reply: &Reply, status: u16, code: &str, row: &str) {
    assert_eq!(
        (reply.status, reply.error_code().as_str()),
        (status, code),
        "{row}"
    );
    assert_eq!(reply.header("connection"), Some("close"), "{row}");
    assert_eq!(reply.header("x-error-origin"), Some("gateway"), "{row}");
    assert_eq!(
        reply.header("content-type"),
        Some("application/json"),
        "{row}"
    );
    let document = reply.json();
    assert_eq!(document["error"], status, "{row}");
    assert!(document["detail"].as_str().unwrap().ends_with('.'), "{row}");
}
