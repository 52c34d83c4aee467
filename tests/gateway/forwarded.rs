//! Behind proxies: where links point and whose request is on record, as trusted proxies say it and nobody
//! else (H3).

use serde_json::Value;

use crate::client::{Connection, Reply};
use crate::world::{PROJECT, World, certs, set, token};

/// A gateway behind a proxy with the address 127.0.0.1, and others in 10.0.0.0/8.
async fn world(settings: &[(&str, toml::Value)]) -> World {
    World::with(|plan| {
        let proxies = ["127.0.0.1/32", "10.0.0.0/8"].map(toml::Value::from);
        set(&mut plan.config, "server.trusted_proxies", proxies.to_vec());
        for (key, value) in settings {
            set(&mut plan.config, key, value.clone());
        }
    })
    .await
}

fn request(target: &str, token: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let lines = headers.iter();
    let lines = lines.map(|(name, value)| format!("{name}: {value}\r\n"));
    let lines: String = lines.collect();
    format!(
        "GET {target} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n{lines}\r\n"
    )
    .into_bytes()
}

async fn ask_from(world: &World, source: [u8; 4], request: &[u8]) -> Reply {
    let mut connection = Connection::open_from(source, world.address()).await;
    connection.send(request).await;
    connection.reply(false).await
}

/// What the first link of an answer begins with.
fn base(reply: &Reply) -> String {
    let list = reply.json();
    let href = list["links"][0]["href"].as_str().unwrap();
    let (base, _) = href.split_once("/api/").unwrap();
    base.to_owned()
}

/// Names and values.
type Headers = &'static [(&'static str, &'static str)];

const PROXY: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 2];

/// What a proxy that ends TLS says, in both forms.
const CLAIMS: [Headers; 2] = [
    &[("Forwarded", "for=192.0.2.7;proto=https;host=certs.internal")],
    &[
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "certs.internal"),
    ],
];

#[tokio::test]
async fn a_trusted_proxy_says_where_links_point_and_who_asked() {
    let world = world(&[]).await;
    let path = certs(PROJECT, "app1");
    for claim in CLAIMS {
        let asked = request(&path, &token(), claim);
        // A miss, or a hit.
        let reply = ask_from(&world, PROXY, &asked).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(base(&reply), "https://certs.internal", "{claim:?}");
        let record = world.lookups().pop().unwrap();
        assert_eq!(record["peer"], "192.0.2.7", "{claim:?}");
    }
    // Pages, too, and a caller that comes past the proxy is answered as ever.
    let page = format!("{}?itemsPerPage=500&pageNum=2", certs(PROJECT, "many"));
    let reply = ask_from(&world, PROXY, &request(&page, &token(), CLAIMS[0])).await;
    let links = reply.json()["links"].clone();
    for link in links.as_array().unwrap() {
        let href = link["href"].as_str().unwrap();
        assert!(href.starts_with("https://certs.internal/api/"), "{href}");
    }
    assert_eq!(links.as_array().unwrap().len(), 3);
    let reply = ask_from(&world, PROXY, &request(&path, &token(), &[])).await;
    assert_eq!(base(&reply), "http://gateway.test");
}

#[tokio::test]
async fn what_others_say_has_no_effect() {
    let world = world(&[]).await;
    let path = certs(PROJECT, "app1");
    let plain = ask_from(&world, STRANGER, &request(&path, &token(), &[])).await;
    let tricks: &[(&str, &str)] = &[
        ("Forwarded", "for=\"; proto=gopher"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Original-URL", "/evil"),
        ("X-Rewrite-URL", "/evil"),
        ("X-Real-IP", "198.51.100.1"),
    ];
    for claim in CLAIMS.into_iter().chain([tricks]) {
        let reply = ask_from(&world, STRANGER, &request(&path, &token(), claim)).await;
        // C10, A07.
        assert_eq!((reply.status, &reply.body), (200, &plain.body), "{claim:?}");
        let peer = world.lookups().pop().unwrap()["peer"].clone();
        assert!(peer.as_str().unwrap().starts_with("127.0.0.2:"), "{peer}");
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
}

#[tokio::test]
async fn of_several_proxies_the_last_address_that_is_not_trusted_is_the_source() {
    let world = world(&[]).await;
    let path = certs(PROJECT, "app1");
    for (chain, peer) in [
        ("198.51.100.1, 192.0.2.7, 10.1.2.3", "192.0.2.7"),
        ("192.0.2.7:4711, 10.1.2.3", "192.0.2.7:4711"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]:4711", "[2001:db8::7]:4711"),
        ("unknown, 10.1.2.3", "10.1.2.3"),
    ] {
        let asked = request(&path, &token(), &[("X-Forwarded-For", chain)]);
        assert_eq!(ask_from(&world, PROXY, &asked).await.status, 200, "{chain}");
        assert_eq!(world.lookups().pop().unwrap()["peer"], peer, "{chain}");
    }
}

#[tokio::test]
async fn headers_that_contradict_each_other_are_refused_with_what_to_do() {
    let world = world(&[]).await;
    let path = certs(PROJECT, "app1");
    for claim in [
        &[
            ("X-Forwarded-For", "192.0.2.7"),
            ("Forwarded", "for=198.51.100.1"),
        ][..],
        &[("Forwarded", "for=\"192.0.2.7")],
        &[("X-Forwarded-Proto", "gopher")],
        &[("X-Forwarded-Host", "a/b")],
    ] {
        let reply = ask_from(&world, PROXY, &request(&path, &token(), claim)).await;
        assert_eq!((reply.status, &*reply.error_code()), (400, "BAD_REQUEST"));
        let detail = reply.json()["detail"].to_string();
        assert!(detail.contains("X-Forwarded-For"), "{detail}");
        let record = world.lookups().pop().unwrap();
        assert_eq!(record["outcome"], "rejected", "{claim:?}");
        assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
}

#[tokio::test]
async fn a_public_url_is_where_all_links_point() {
    let url = "https://ingress.internal/certificates/";
    let world = world(&[("server.public_url", url.into())]).await;
    let path = certs(PROJECT, "app1");
    for (source, claim) in [(PROXY, CLAIMS[0]), (PROXY, &[]), (STRANGER, &[])] {
        let reply = ask_from(&world, source, &request(&path, &token(), claim)).await;
        assert_eq!(base(&reply), "https://ingress.internal/certificates");
    }
    let v1 = path.replace("/v2/", "/v1.0/") + "?itemsPerPage=1";
    let reply = ask_from(&world, STRANGER, &request(&v1, &token(), &[])).await;
    for link in reply.json()["links"].as_array().unwrap() {
        let href = link["href"].as_str().unwrap();
        let root = "https://ingress.internal/certificates/api/atlas/v1.0/groups/";
        assert!(href.starts_with(root), "{href}");
    }
}

#[tokio::test]
async fn the_hosts_of_this_gateway_are_those_that_callers_address() {
    let names = vec![toml::Value::from("certs.internal")];
    let url = toml::Value::from("https://ingress.internal:8443");
    let world = world(&[("server.hosts", names.into()), ("server.public_url", url)]).await;
    let path = certs(PROJECT, "app1");
    for (host, status) in [
        ("certs.internal", 200),
        ("ingress.internal", 200),
        ("evil.test", 421),
    ] {
        let claim = [("X-Forwarded-Host", host)];
        let reply = ask_from(&world, PROXY, &request(&path, &token(), &claim)).await;
        assert_eq!(reply.status, status, "{host}");
        // Of others only `Host` counts.
        let reply = ask_from(&world, STRANGER, &request(&path, &token(), &claim)).await;
        assert_eq!(reply.status, 421, "{host}");
    }
}

#[tokio::test]
async fn refusals_are_limited_and_folded_by_the_real_source() {
    let world = world(&[("audit.refusals_per_minute", 2.into())]).await;
    let path = certs(PROJECT, "app1");
    let refused = async |source: &str| {
        let asked = request(&path, "no-token", &[("X-Forwarded-For", source)]);
        ask_from(&world, PROXY, &asked).await.status
    };
    for (source, status) in [
        ("192.0.2.7", 401),
        ("192.0.2.7:1", 401),
        ("192.0.2.7:2", 429),
        ("198.51.100.1, 192.0.2.7", 429),
        ("192.0.2.8", 401),
        ("2001:db8::1", 401),
        ("2001:db8::2", 401),
        ("2001:db8::3", 429),
    ] {
        assert_eq!(refused(source).await, status, "{source}");
    }
    // The proxy itself has none of them.
    let own = ask_from(&world, PROXY, &request(&path, "no-token", &[])).await;
    assert_eq!(own.status, 401);
    world.advance(std::time::Duration::from_secs(61));
    let folds = |world: &World| {
        let records = world.records().into_iter();
        records
            .filter(|it| it["kind"] == "refusals")
            .collect::<Vec<Value>>()
    };
    world.until(|world| folds(world).len() == 2).await;
    let mut peers: Vec<_> = folds(&world)
        .iter()
        .map(|fold| (fold["peer"].to_string(), fold["count"].to_string()))
        .collect();
    peers.sort();
    let expected = [("\"192.0.2.7\"", "2"), ("\"2001:db8::/64\"", "1")];
    assert_eq!(
        peers,
        expected.map(|(peer, count)| (peer.to_owned(), count.to_owned()))
    );
}

#[tokio::test]
async fn a_proxys_connections_are_not_those_of_one_source() {
    let world = world(&[("server.limits.connections_per_source", 2.into())]).await;
    let asked = request(&certs(PROJECT, "app1"), &token(), &[]);
    for (source, most) in [(PROXY, 4), (STRANGER, 2)] {
        let mut connections = Vec::new();
        for count in 1..=4 {
            let mut connection = Connection::open_from(source, world.address()).await;
            connection.send(&asked).await;
            let status = connection.reply(false).await.status;
            let expected = if count <= most { 200 } else { 0 };
            assert_eq!(status, expected, "{source:?} {count}");
            connections.push(connection);
        }
    }
}

#[tokio::test]
async fn a_proxy_header_is_demanded_of_trusted_proxies_where_it_is_configured() {
    let world = world(&[("server.proxy_protocol", true.into())]).await;
    let path = certs(PROJECT, "app1");
    let brought = async |header: &str, claim: &[(&str, &str)]| {
        let bytes = [header.as_bytes(), &request(&path, &token(), claim)].concat();
        ask_from(&world, PROXY, &bytes).await
    };
    // Who speaks HTTP is then whom the header names: the headers of a stranger have no effect.
    let reply = brought("PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n", CLAIMS[0]).await;
    assert_eq!(base(&reply), "http://gateway.test");
    assert_eq!(world.lookups().pop().unwrap()["peer"], "192.0.2.7:4711");
    // A second proxy behind the first.
    let reply = brought("PROXY TCP4 10.1.2.3 127.0.0.1 4711 80\r\n", CLAIMS[1]).await;
    assert_eq!(base(&reply), "https://certs.internal");
    assert_eq!(world.lookups().pop().unwrap()["peer"], "192.0.2.7");
    assert_eq!(brought("", &[]).await.status, 0);
    assert_eq!(world.refused("proxy_protocol").await, 1);
    let stranger = ask_from(&world, STRANGER, &request(&path, &token(), &[])).await;
    assert_eq!(stranger.status, 200);
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused_with_an_example() {
    for (setting, place, example) in [
        (
            "public_url = \"certs.internal\"",
            "server.public_url",
            "https://certs.internal",
        ),
        (
            "public_url = \"ftp://certs.internal\"",
            "server.public_url",
            "https://certs.internal",
        ),
        (
            "public_url = 3",
            "server.public_url",
            "https://certs.internal",
        ),
        (
            "trusted_proxies = [\"10.0.0.5\"]",
            "server.trusted_proxies[0]",
            "10.0.0.5/32",
        ),
        (
            "trusted_proxies = [\"0.0.0.0/0\"]",
            "server.trusted_proxies[0]",
            "10.0.0.5/32",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/8\", \"::/0\"]",
            "server.trusted_proxies[1]",
            "10.0.0.5/32",
        ),
        (
            "[admin]\nhosts = [\"http://ops\"]",
            "admin.hosts[0]",
            "certs.internal.example",
        ),
    ] {
        let text = format!("[server]\n{setting}\n");
        let config_errors = atlas_cert_gateway::config::Config::parse(&text, []).unwrap_err();
        let texts: Vec<String> = config_errors.iter().map(ToString::to_string).collect();
        let is_told = |text: &String| text.starts_with(place) && text.contains(example);
        assert!(texts.iter().any(is_told), "{setting}: {texts:#?}");
    }
}
