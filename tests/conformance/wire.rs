//! What stands on the wire beside the content: each header once, and true, in every version of HTTP (H7).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::client::{Connection, Reply};
use crate::world::{PROJECT, World, certs, operator_token, token};

/// A case: what is asked, and the status.
struct Case {
    line: String,
    headers: String,
    status: u16,
}

fn case(line: impl Into<String>, headers: impl Into<String>, status: u16) -> Case {
    Case {
        line: line.into(),
        headers: headers.into(),
        status,
    }
}

fn authorized(token: &str, more: &str) -> String {
    format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n{more}")
}

fn for_callers(etag: &str) -> Vec<Case> {
    let path = certs(PROJECT, "app1");
    let many = certs(PROJECT, "many");
    let known = authorized(&token(), "");
    vec![
        case(format!("GET {path}"), known.clone(), 200),
        case(format!("HEAD {path}"), known.clone(), 200),
        case(format!("GET {path}?pretty=true"), known.clone(), 200),
        case(format!("GET {path}?itemsPerPage=1"), known.clone(), 200),
        case(
            format!("GET {many}"),
            authorized(&token(), "Accept-Encoding: gzip\r\n"),
            200,
        ),
        case(
            format!("GET {path}"),
            authorized(&token(), &format!("If-None-Match: {etag}\r\n")),
            304,
        ),
        case(
            format!("GET {}", certs(PROJECT, "nobody")),
            known.clone(),
            404,
        ),
        case(format!("GET {path}"), "Host: localhost\r\n", 401),
        case(
            format!("GET {}", certs(PROJECT, "secret-1")),
            known.clone(),
            403,
        ),
        case(format!("POST {path}"), known.clone(), 405),
        case(
            format!("POST {path}"),
            authorized(&token(), "Content-Length: 0\r\n"),
            405,
        ),
        case("GET /nowhere", known, 404),
        case(
            format!("GET {path}?pageNum=0"),
            authorized(&token(), ""),
            400,
        ),
    ]
}

fn for_operators() -> Vec<Case> {
    let operator = authorized(&operator_token(), "");
    let explain = format!("GET /cache/explain?groupId={PROJECT}&username=app1");
    vec![
        case("GET /healthz", "Host: localhost\r\n", 200),
        case("HEAD /readyz", "Host: localhost\r\n", 200),
        case("GET /metrics", "Host: localhost\r\n", 200),
        case("POST /healthz", "Host: localhost\r\n", 405),
        case("GET /nowhere", "Host: localhost\r\n", 404),
        case("GET /healthz", "Host: evil.test\r\n", 421),
        case(explain, operator.clone(), 200),
        case("GET /cache/purge", operator, 405),
    ]
}

/// Every case, and where it is asked.
async fn cases(world: &World) -> Vec<(Case, SocketAddr)> {
    let etag = world.ask("app1").await.header("etag").unwrap().to_owned();
    world.ask("many").await;
    let (callers, operators) = (world.address(), world.app.admin_address());
    let callers = for_callers(&etag).into_iter().map(|case| (case, callers));
    let operators = for_operators().into_iter().map(|case| (case, operators));
    callers.chain(operators).collect()
}

/// Every header has one line, but for the two that are lists and that nobody repeats here either.
fn check(reply: &Reply, is_head: bool, what: &str) {
    let mut count = BTreeMap::new();
    for (name, _) in &reply.headers {
        *count.entry(name.as_str()).or_insert(0) += 1;
    }
    for (name, count) in &count {
        assert_eq!(*count, 1, "{what}: {name} in {:?}", reply.headers);
    }
    assert!(count.contains_key("date"), "{what}: {:?}", reply.headers);
    assert!(!count.contains_key("transfer-encoding"), "{what}");
    match reply.header("content-length") {
        Some(length) if !is_head => {
            assert_eq!(length, reply.body.len().to_string(), "{what}");
        }
        Some(length) => assert_ne!(length, "0", "{what}"),
        // RFC 9110, section 8.6: none, or the list's own.
        None => assert_eq!(reply.status, 304, "{what}: {:?}", reply.headers),
    }
    let allow = (reply.status == 405).then_some(());
    assert_eq!(reply.header("allow").map(|_| ()), allow, "{what}");
}

#[tokio::test]
async fn http_1_1_says_each_header_once_and_does_what_connection_says() {
    let world = World::new().await;
    for (case, address) in cases(&world).await {
        for (wish, closes) in [
            ("", false),
            ("Connection: keep-alive\r\n", false),
            ("Connection: close\r\n", true),
        ] {
            let what = format!("{} {}{wish}", case.line, case.headers);
            let is_head = case.line.starts_with("HEAD ");
            let request = format!("{} HTTP/1.1\r\n{}{wish}\r\n", case.line, case.headers);
            let mut connection = Connection::open(address).await;
            connection.send(request.as_bytes()).await;
            let reply = connection.reply(is_head).await;
            assert_eq!(reply.status, case.status, "{what}");
            check(&reply, is_head, &what);
            let says_so = reply.header("connection") == Some("close");
            assert_eq!(says_so, closes, "{what}: {:?}", reply.headers);
            assert!(closes || reply.header("connection").is_none(), "{what}");
            connection.send(request.as_bytes()).await;
            let next = connection.reply(is_head).await.status;
            let expected = if closes { 0 } else { case.status };
            assert_eq!(next, expected, "{what}: what it says is what happens");
        }
    }
}

#[tokio::test]
async fn http_1_0_is_told_that_the_connection_ends_and_it_does() {
    let world = World::new().await;
    for (case, address) in cases(&world).await {
        for wish in [
            "",
            "Connection: keep-alive\r\nKeep-Alive: timeout=600\r\n",
            "Connection: close\r\n",
        ] {
            let what = format!("{} {}{wish}", case.line, case.headers);
            let is_head = case.line.starts_with("HEAD ");
            let request = format!("{} HTTP/1.0\r\n{}{wish}\r\n", case.line, case.headers);
            let mut connection = Connection::open(address).await;
            connection.send(request.as_bytes()).await;
            let reply = connection.reply(is_head).await;
            assert_eq!(reply.status, case.status, "{what}");
            check(&reply, is_head, &what);
            assert_eq!(reply.header("connection"), Some("close"), "{what}");
            assert!(connection.is_closed().await, "{what}");
        }
    }
}

#[tokio::test]
async fn http_2_says_each_header_once_and_nothing_of_the_connection() {
    let world = World::new().await;
    let mut cases = cases(&world).await;
    cases.retain(|(case, _)| case.status != 421);
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge();
    let client = client.build().unwrap();
    for (case, address) in cases {
        let (method, target) = case.line.split_once(' ').unwrap();
        let url = format!("http://{address}{target}");
        let mut request = client.request(method.parse().unwrap(), url);
        for line in case
            .headers
            .lines()
            .filter(|line| !line.starts_with("Host"))
        {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        let headers = answer.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
        let reply = Reply {
            status: answer.status().as_u16(),
            headers: headers.collect(),
            body: answer.bytes().await.unwrap().to_vec(),
        };
        let what = format!("{} {}", case.line, case.headers);
        assert_eq!(reply.status, case.status, "{what}");
        check(&reply, method == "HEAD", &what);
        for hop in ["connection", "keep-alive", "upgrade"] {
            assert_eq!(reply.header(hop), None, "{what}");
        }
    }
}
