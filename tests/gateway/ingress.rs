//! Behind nginx and HAProxy that end TLS, configured as the operating guide says: what callers see is what they
//! would see of the gateway itself, and each of them is on record as who it is.
//!
//! Where they are not installed, nothing is tried, unless `CI` is set.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response, Version};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::authority::Authority;
use crate::harness::servers::{HAPROXY, NGINX, Server};
use crate::world::{PROJECT, World, certs, every, set, token};

const GUIDE: &str = include_str!("../../docs/operating.md");

/// Which proxy, and what it speaks besides HTTP/1.1.
#[derive(Clone, Copy, Debug)]
struct Setup {
    server: Server,
    /// HTTP/2 with callers.
    http2: bool,
    /// What is added to the gateway's address.
    to_gateway: &'static str,
    /// Each connection to the gateway begins with a PROXY header.
    proxy_protocol: bool,
}

const SETUPS: [Setup; 6] = [
    setup(NGINX, false),
    setup(NGINX, true),
    setup(HAPROXY, false),
    setup(HAPROXY, true),
    Setup {
        to_gateway: " proto h2",
        ..setup(HAPROXY, true)
    },
    Setup {
        to_gateway: " send-proxy-v2",
        proxy_protocol: true,
        ..setup(HAPROXY, true)
    },
];

const fn setup(server: Server, http2: bool) -> Setup {
    Setup {
        server,
        http2,
        to_gateway: "",
        proxy_protocol: false,
    }
}

/// A running proxy. It ends when it is dropped.
struct Proxy {
    address: SocketAddr,
    child: Child,
    _files: TempDir,
}

impl Setup {
    /// The block of the guide, with the addresses and files of this test.
    fn configuration(
        self,
        authority: &Authority,
        files: &Path,
        listen: SocketAddr,
        gateway: SocketAddr,
    ) -> String {
        let (_, block) = GUIDE
            .split_once(&format!("```{}\n", self.server.program))
            .unwrap();
        let (block, _) = block.split_once("```").unwrap();
        let (certificate, key) = (authority.path("server.pem"), authority.path("server.key"));
        let both = files.join("both.pem");
        let pem = [&certificate, &key].map(|path| fs::read_to_string(path).unwrap());
        fs::write(&both, pem.concat()).unwrap();
        let replaced = |text: &str, by: &[(&str, &str)]| {
            by.iter().fold(text.to_owned(), |text, (word, by)| {
                assert!(text.contains(word), "the guide no longer says {word}");
                text.replace(word, by)
            })
        };
        let (listen, gateway) = (listen.to_string(), format!("{gateway}{}", self.to_gateway));
        let directory = files.display();
        if self.server.program == "nginx" {
            let http2 = if self.http2 { " ssl http2" } else { " ssl" };
            let block = replaced(
                block,
                &[
                    ("127.0.0.1:8080", &gateway),
                    ("443 ssl http2", &format!("{listen}{http2}")),
                    ("/etc/nginx/certs.internal.pem", &certificate),
                    ("/etc/nginx/certs.internal.key", &key),
                ],
            );
            format!(
                "daemon off; master_process off; pid {directory}/pid; events {{ }}
                    http {{
                        access_log off;
                        client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                        fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
                        scgi_temp_path {directory}/scgi;
                        {block}
                    }}"
            )
        } else {
            let alpn = if self.http2 {
                "alpn h2,http/1.1"
            } else {
                "alpn http/1.1"
            };
            let block = replaced(
                block,
                &[
                    ("127.0.0.1:8080", &gateway),
                    ("bind :443", &format!("bind {listen}")),
                    (
                        "/etc/haproxy/certs.internal.pem",
                        &both.display().to_string(),
                    ),
                    ("alpn h2,http/1.1", alpn),
                ],
            );
            format!(
                "global\n    maxconn 100\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client \
                     60s\n    timeout server 60s\n{block}"
            )
        }
    }

    async fn start(self, program: &Path, authority: &Authority, gateway: SocketAddr) -> Proxy {
        let files = tempfile::tempdir().unwrap();
        // Nobody has it; whoever listens there next is the proxy.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let text = self.configuration(authority, files.path(), address, gateway);
        let (config, said) = (files.path().join("config"), files.path().join("said"));
        fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        match self.server.program {
            "nginx" => command
                .arg("-e")
                .arg(&said)
                .arg("-p")
                .arg(files.path())
                .arg("-c"),
            _ => command.args(["-db", "-f"]),
        };
        let output = fs::File::options()
            .create(true)
            .append(true)
            .open(&said)
            .unwrap();
        let child = command
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut proxy = Proxy {
            address,
            child,
            _files: files,
        };
        let mut glances = every(Duration::from_millis(10));
        while TcpStream::connect(address).await.is_err() {
            if let Ok(Some(status)) = proxy.child.try_wait() {
                let said = fs::read_to_string(&said).unwrap_or_default();
                panic!("{self:?} ended with {status}: {said}");
            }
            glances.tick().await;
        }
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

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
