//! What the clients of `docs/clients.md` send, byte for byte, with each one's paging: the whole list comes back.
//!
//! The bytes of curl, Java, Node and Python were taken from the programs themselves; those of Go and .NET from
//! their sources.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::{Connection, Reply};
use crate::world::{PROJECT, World, certs, token};

/// A client, and the head of what it sends; `{target}`, `{host}` and `{token}` stand for what they name.
struct Client {
    /// As its heading in the document.
    name: &'static str,
    head: &'static str,
    paging: Paging,
    /// The content type of the answer.
    kind: &'static str,
}

/// How a client comes by the whole list.
#[derive(Clone, Copy)]
enum Paging {
    /// It asks once.
    None,
    /// It asks for pages of 100, until one has no `next` link.
    Pages,
}

const JSON: &str = "application/json";
const VERSIONED: &str = "application/vnd.atlas.2023-01-01+json;charset=utf-8";

const CLIENTS: &[Client] = &[
    Client {
        name: "curl",
        head: "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\nAccept-Encoding: \
               deflate, gzip, br, zstd\r\nAuthorization: Bearer {token}\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: "Go SDK",
        head: "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1 atlas-sdk/v20250312001.0.0 \
               (linux;amd64)\r\nAccept: application/vnd.atlas.2023-01-01+json\r\nAuthorization: Bearer \
               {token}\r\nAccept-Encoding: gzip\r\n\r\n",
        paging: Paging::Pages,
        kind: VERSIONED,
    },
    Client {
        name: "Atlas CLI",
        head: "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: atlascli/1.50.0 (linux;amd64;default)\r\nAccept: \
               application/vnd.atlas.2023-01-01+json\r\nAuthorization: Bearer {token}\r\nAccept-Encoding: gzip\r\n\r\n",
        paging: Paging::Pages,
        kind: VERSIONED,
    },
    // Up to 8, up to 18, and since.
    Client {
        name: "Java HttpURLConnection",
        head: "GET {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nUser-Agent: Java/1.8.0_402\r\nHost: \
               {host}\r\nAccept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2\r\nConnection: keep-alive\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: "Java HttpURLConnection",
        head: "GET {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nUser-Agent: Java/17.0.15\r\nHost: \
               {host}\r\nAccept: text/html, image/gif, image/jpeg, */*; q=0.2\r\nConnection: keep-alive\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: "Java HttpURLConnection",
        head: "GET {target} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nUser-Agent: Java/25.0.3\r\nHost: \
               {host}\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    // In clear text each of them offers HTTP/2.
    Client {
        name: "Java HttpClient",
        head: "GET {target} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 0\r\nHost: \
               {host}\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\n\
               User-Agent: Java-http-client/17.0.15\r\nAuthorization: Bearer {token}\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: "Java HttpClient",
        head: "GET {target} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nHost: {host}\r\nHTTP2-Settings: \
               AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA\r\nUpgrade: h2c\r\nUser-Agent: \
               Java-http-client/25.0.3\r\nAuthorization: Bearer {token}\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: ".NET HttpClient",
        head: "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\ntraceparent: \
               00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: "Node fetch",
        head: "GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\nauthorization: Bearer \
               {token}\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: \
               node\r\naccept-encoding: gzip, deflate\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: "Python urllib",
        head: "GET {target} HTTP/1.1\r\nAccept-Encoding: identity\r\nHost: {host}\r\nUser-Agent: \
               Python-urllib/3.11\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
    Client {
        name: "Python requests",
        head: "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: python-requests/2.34.2\r\nAccept-Encoding: gzip, \
               deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nAuthorization: Bearer {token}\r\n\r\n",
        paging: Paging::None,
        kind: JSON,
    },
];

const DOCUMENT: &str = include_str!("../../docs/clients.md");

impl Client {
    async fn ask(&self, world: &World, target: &str) -> Reply {
        let request = self.head.replace("{target}", target);
        let request = request.replace("{host}", &world.address().to_string());
        let request = request.replace("{token}", &token());
        let mut connection = Connection::open(world.address()).await;
        connection.send(request.as_bytes()).await;
        let reply = connection.reply(false).await;
        let name = self.name;
        assert_eq!(reply.status, 200, "{name} {target}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some(self.kind), "{name}");
        reply
    }

    /// The ids of the whole list of a user, as this client comes by them.
    async fn list(&self, world: &World, username: &str) -> Vec<Value> {
        let target = certs(PROJECT, username);
        let mut target = match self.paging {
            Paging::None => target,
            Paging::Pages => format!("{target}?includeCount=true&itemsPerPage=100&pageNum=1"),
        };
        let mut ids = Vec::new();
        loop {
            let page = content(&self.ask(world, &target).await);
            let results = page["results"].as_array().unwrap();
            ids.extend(results.iter().map(|result| result["_id"].clone()));
            let links = page["links"].as_array().unwrap();
            let Some(next) = links.iter().find(|link| link["rel"] == "next") else {
                return ids;
            };
            let next = next["href"].as_str().unwrap();
            let base = format!("http://{}", world.address());
            next.strip_prefix(&base).unwrap().clone_into(&mut target);
        }
    }
}

/// The JSON of an answer, unpacked as its client would.
fn content(reply: &Reply) -> Value {
    match reply.header("content-encoding") {
        None => reply.json(),
        Some("gzip") => {
            let mut unpacked = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&reply.body[..]);
            std::io::Read::read_to_end(&mut decoder, &mut unpacked).unwrap();
            serde_json::from_slice(&unpacked).unwrap()
        }
        Some("zstd") => {
            serde_json::from_slice(&zstd::decode_all(&reply.body[..]).unwrap()).unwrap()
        }
        Some(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_bytes_of_every_client_get_the_whole_list() {
    let world = World::new().await;
    for client in CLIENTS {
        for (username, count) in [("app1", 2), ("many", 1_203)] {
            let ids = client.list(&world, username).await;
            let different: BTreeSet<String> = ids.iter().map(Value::to_string).collect();
            let name = client.name;
            assert_eq!((ids.len(), different.len()), (count, count), "{name}");
            // Whole numbers, and Atlas's own.
            assert!(ids.iter().all(Value::is_i64), "{name}");
        }
    }
    // 1 and 3 pages, however often it was asked.
    assert_eq!(world.atlas.certificate_calls(), 4);
}

#[test]
fn each_client_of_the_document_is_tried_and_no_other() {
    let (recipes, _) = DOCUMENT.split_once("## What does not work").unwrap();
    let told: BTreeSet<&str> = recipes
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let tried: BTreeSet<&str> = CLIENTS.iter().map(|client| client.name).collect();
    assert_eq!(told, tried);
}

#[tokio::test]
async fn what_the_document_says_cannot_work_is_refused_as_it_says() {
    let world = World::new().await;
    let security = format!("/api/atlas/v2/groups/{PROJECT}/userSecurity");
    let certificates = certs(PROJECT, "app1");
    let body = "grant_type=client_credentials";
    let form = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    for (method, target, rest, status) in [
        ("GET", &*security, "\r\n", 404),
        ("POST", &*certificates, &*form, 405),
        ("POST", "/api/oauth/token", &*form, 404),
    ] {
        let token = token();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n{rest}"
        );
        let reply = world.raw(request.as_bytes()).await;
        assert_eq!(reply.status, status, "{method} {target}: {}", reply.text());
    }
    let digest = world.send(
        "GET",
        &certificates,
        "",
        &[("Authorization", "Digest username=\"abcdefgh\"")],
    );
    assert_eq!(digest.await.status, 401);
}
