//! Behind nginx and HAProxy that end TLS, configured as the operating guide says: what callers see is what they
//! would see of the gateway itself, and each of them is on record as who it is.
//!
//! Where they are not installed, nothing is tried, unless `CI` is set.

mod proxy;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use reqwest::header::HeaderMap;
use reqwest::{Method, Response, Version};
use serde_json::Value;

use crate::authority::Authority;
use crate::world::{PROJECT, World, certs, set, token};

use proxy::{Proxy, SETUPS, Setup};

/// A caller with an address of its own, who has only the proxy to ask.
struct Caller {
    client: reqwest::Client,
    base: String,
    source: Ipv4Addr,
}

impl Caller {
    fn new(setup: Setup, proxy: &Proxy, authority: &Authority, last: u8) -> Self {
        let source = Ipv4Addr::new(127, 0, 0, last);
        let root = fs::read(authority.path("ca.pem")).unwrap();
        let root = reqwest::Certificate::from_pem(&root).unwrap();
        let builder = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([root])
            .local_address(IpAddr::V4(source))
            .resolve("gateway.test", proxy.address);
        let builder = if setup.http2 {
            builder
        } else {
            builder.http1_only()
        };
        Self {
            client: builder.build().unwrap(),
            base: format!("https://gateway.test:{}", proxy.address.port()),
            source,
        }
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        token: &str,
        headers: &[(&str, &str)],
    ) -> Response {
        let mut request = self.client.request(method, url).bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        let url = format!("{}{target}", self.base);
        self.send(Method::GET, &url, &token(), headers).await
    }
}

async fn json(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers
        .get(name)
        .unwrap_or_else(|| panic!("no {name}: {headers:?}"));
    value.to_str().unwrap().to_owned()
}

// The gateway answers while a proxy is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn behind_nginx_and_haproxy_callers_see_what_they_would_see_of_the_gateway() {
    let authority = Authority::new();
    for setup in SETUPS {
        let Some(program) = setup.server.wanted() else {
            continue;
        };
        let world = World::with(|plan| {
            let proxies = vec![toml::Value::from("127.0.0.1/32")];
            set(&mut plan.config, "server.trusted_proxies", proxies);
            set(
                &mut plan.config,
                "server.proxy_protocol",
                setup.proxy_protocol,
            );
            set(&mut plan.config, "audit.refusals_per_minute", 3);
        })
        .await;
        let proxy = setup.start(&program, &authority, world.address()).await;
        let caller = Caller::new(setup, &proxy, &authority, 21);
        lookups(setup, &world, &caller).await;
        pages(setup, &caller).await;
        errors(setup, &world, &caller).await;
        let other = Caller::new(setup, &proxy, &authority, 22);
        limits(setup, &caller, &other).await;
    }
}

/// Lists, their links and validators, and whose lookup is on record.
async fn lookups(setup: Setup, world: &World, caller: &Caller) {
    let path = certs(PROJECT, "app1");
    let lies = [
        ("X-Forwarded-For", "198.51.100.1"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Host", "evil.test"),
        ("Forwarded", "for=198.51.100.1;host=evil.test"),
    ];
    for headers in [&[][..], &lies] {
        let answer = caller.get(&path, headers).await;
        let version = if setup.http2 {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        };
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, version),
            "{setup:?}"
        );
        let etag = text(answer.headers(), "etag");
        let list = json(answer).await;
        assert_eq!(list["totalCount"], 2, "{setup:?}");
        let href = list["links"][0]["href"].as_str().unwrap();
        // Who speaks of nothing but the connection cannot say that it was one of TLS.
        if !setup.proxy_protocol {
            assert_eq!(href, format!("{}{path}", caller.base), "{setup:?}");
        }
        let peer = world.lookups().pop().unwrap()["peer"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            peer.split(':').next().unwrap(),
            caller.source.to_string(),
            "{setup:?}"
        );
        let unchanged = caller.get(&path, &[("If-None-Match", &etag)]).await;
        assert_eq!(unchanged.status().as_u16(), 304, "{setup:?}");
    }
    let url = format!("{}{path}", caller.base);
    let head = caller.send(Method::HEAD, &url, &token(), &[]).await;
    assert_eq!(head.status().as_u16(), 200, "{setup:?}");
    assert!(
        text(head.headers(), "content-length")
            .parse::<u64>()
            .unwrap()
            > 0
    );
    // One percent-encoded segment stays one.
    let slash = caller.get(&certs(PROJECT, "a/b"), &[]).await;
    assert_eq!(
        text(slash.headers(), "x-error-origin"),
        "atlas",
        "{setup:?}"
    );
    assert_eq!(
        world.lookups().pop().unwrap()["username"],
        "a/b",
        "{setup:?}"
    );
}

/// Every page, by the links alone.
async fn pages(setup: Setup, caller: &Caller) {
    if setup.proxy_protocol {
        return;
    }
    let mut url = format!("{}{}?itemsPerPage=500", caller.base, certs(PROJECT, "many"));
    let (mut pages, mut certificates) = (0, 0);
    loop {
        let page = json(caller.send(Method::GET, &url, &token(), &[]).await).await;
        pages += 1;
        certificates += page["results"].as_array().unwrap().len();
        let links = page["links"].as_array().unwrap();
        let Some(next) = links.iter().find(|link| link["rel"] == "next") else {
            break;
        };
        next["href"].as_str().unwrap().clone_into(&mut url);
    }
    assert_eq!((pages, certificates), (3, 1_203), "{setup:?}");
}

async fn errors(setup: Setup, world: &World, caller: &Caller) {
    let path = certs(PROJECT, "app1");
    let url = format!("{}{path}", caller.base);
    let nobody = caller.get(&certs(PROJECT, "nobody"), &[]).await;
    assert_eq!(
        text(nobody.headers(), "x-error-origin"),
        "atlas",
        "{setup:?}"
    );
    let error = json(nobody).await;
    assert_eq!(error["errorCode"], "USERNAME_NOT_FOUND", "{setup:?}");
    let denied = caller.get(&certs(PROJECT, "secret-1"), &[]).await;
    assert_eq!(denied.status().as_u16(), 403, "{setup:?}");
    let client = caller.client.post(&url).bearer_auth(token()).body("{}");
    let post = client.send().await.unwrap();
    assert_eq!(post.status().as_u16(), 405, "{setup:?}");
    assert_eq!(text(post.headers(), "allow"), "GET, HEAD", "{setup:?}");
    // What was refused stays refused for its caller alone.
    assert_eq!(
        caller.get(&path, &[]).await.status().as_u16(),
        200,
        "{setup:?}"
    );
    assert!(
        world
            .atlas
            .requests()
            .iter()
            .all(|seen| seen.username.as_deref() != Some("secret-1"))
    );
}

/// Refusals are those of who asked, not of the proxy.
async fn limits(setup: Setup, caller: &Caller, other: &Caller) {
    let path = certs(PROJECT, "app1");
    let refused = async |caller: &Caller| {
        let url = format!("{}{path}", caller.base);
        caller
            .send(Method::GET, &url, "no-token", &[])
            .await
            .status()
            .as_u16()
    };
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(refused(caller).await);
    }
    assert!(
        statuses.starts_with(&[401]) && statuses.ends_with(&[429]),
        "{setup:?}: {statuses:?}"
    );
    assert_eq!(refused(other).await, 401, "{setup:?}");
    assert_eq!(
        caller.get(&path, &[]).await.status().as_u16(),
        200,
        "{setup:?}"
    );
}
