//! One list, many forms: pretty, enveloped, uncounted, paged, conditional, compressed, HEAD.

use crate::world::{PROJECT, World, certs, token};

#[tokio::test]
async fn c04_c08_forms_differ_in_writing_only_and_leave_the_entry_alone() {
    let world = World::new().await;
    let path = certs(PROJECT, "app1");
    for (query, accept) in [
        ("", "text/html;q=0.9, application/json;q=0.001"),
        ("envelope=true", "*/*;q=0.1"),
        ("pretty=true", "*/*"),
        ("pageNum=2", "*/*"),
        ("itemsPerPage=1", "*/*"),
        ("includeCount=false", "*/*"),
    ] {
        let world = World::new().await;
        let form = world
            .get(&format!("{path}?{query}"), &[("Accept", accept)])
            .await;
        assert_eq!(form.status, 200, "{query}");
        let plain = world.ask("app1").await;
        assert_eq!(plain.header("x-upstream-calls"), Some("0"));
        let clean = World::new().await.ask("app1").await;
        assert_eq!(plain.body, clean.body, "{query}");
        let seen = world.atlas.requests();
        assert!(
            seen.iter()
                .all(|request| !request.target.contains("envelope")),
            "{query}"
        );
    }
    let plain = world.ask("app1").await.json();
    let form = |query: &'static str| {
        let (world, path) = (&world, &path);
        async move { world.get(&format!("{path}?{query}"), &[]).await }
    };
    let pretty = form("pretty=true").await;
    assert_eq!(pretty.json()["results"], plain["results"]);
    assert!(
        pretty.text().contains("\n  \"results\" : [\n"),
        "{}",
        pretty.text()
    );
    let enveloped = form("envelope=true").await.json();
    assert_eq!(
        (&enveloped["status"], &enveloped["results"]),
        (&200.into(), &plain["results"])
    );
    // Whatever is wrong with a request, its error comes as it was asked for.
    let refused = form("envelope=true&itemsPerPage=0").await;
    let document = refused.json();
    assert_eq!(
        (
            refused.status,
            &document["status"],
            &document["content"]["errorCode"]
        ),
        (400, &400.into(), &"INVALID_QUERY_PARAMETER".into())
    );
    let uncounted = form("includeCount=false").await.json();
    assert!(uncounted.get("totalCount").is_none() && uncounted["results"] == plain["results"]);
}

#[tokio::test]
async fn links_point_at_this_gateway_and_never_at_atlas() {
    let world = World::new().await;
    for query in ["", "?pageNum=1", "?pretty=true"] {
        let forged = [
            ("X-Forwarded-Host", "evil.example"),
            ("X-Forwarded-Proto", "https"),
        ];
        let reply = world
            .get(&format!("{}{query}", certs(PROJECT, "app1")), &forged)
            .await;
        let list = reply.json();
        let href = list["links"][0]["href"].as_str().unwrap();
        assert!(
            href.starts_with("http://gateway.test/api/atlas/v2/groups/"),
            "{href}"
        );
        assert!(!reply.text().contains("mongodb.com") && !reply.text().contains("evil"));
    }
}

#[tokio::test]
async fn an_unchanged_list_is_a_304_and_still_on_record() {
    let world = World::new().await;
    let first = world.ask("app1").await;
    let etag = first.header("etag").unwrap().to_owned();
    for condition in [etag.clone(), format!("\"x\", W/{etag}"), "*".to_owned()] {
        let reply = world
            .get(&certs(PROJECT, "app1"), &[("If-None-Match", &condition)])
            .await;
        assert_eq!((reply.status, reply.body.len()), (304, 0), "{condition}");
        assert_eq!(reply.header("etag"), Some(etag.as_str()));
        assert!(reply.header("age").is_some() && reply.header("cache-status").is_some());
        assert_eq!(reply.header("content-type"), None);
    }
    let other = world
        .get(&certs(PROJECT, "app1"), &[("If-None-Match", "\"other\"")])
        .await;
    assert_eq!(other.status, 200);
    let pretty = format!("{}?pretty=true", certs(PROJECT, "app1"));
    assert_eq!(
        world.get(&pretty, &[("If-None-Match", &etag)]).await.status,
        200,
        "another form"
    );
    let statuses: Vec<u64> = world
        .lookups()
        .iter()
        .map(|record| record["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [200, 304, 304, 304, 200, 200]);
}

#[tokio::test]
async fn c18_head_is_get_without_the_body() {
    let world = World::new().await;
    let get = world.ask("app1").await;
    let head = world
        .send("HEAD", &certs(PROJECT, "app1"), &token(), &[])
        .await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in [
        "content-length",
        "content-type",
        "etag",
        "cache-control",
        "vary",
        "age",
    ] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    let denied = certs(PROJECT, "secret-keeper");
    let denied = world.send("HEAD", &denied, &token(), &[]).await;
    assert_eq!((denied.status, denied.body.len()), (403, 0));
    let lookups = world.lookups();
    assert_eq!(lookups.len(), 3);
    for member in ["outcome", "rule", "username", "fill_id", "certificates"] {
        assert_eq!(lookups[0][member], lookups[1][member], "{member}");
    }
}

#[tokio::test]
async fn the_media_type_is_the_one_that_was_asked_for() {
    let world = World::new().await;
    let versioned = "application/vnd.atlas.2023-01-01+json";
    let v1 = certs(PROJECT, "app1").replace("/v2/", "/v1.0/");
    for (target, accept, expected) in [
        (
            certs(PROJECT, "app1"),
            versioned,
            "application/vnd.atlas.2023-01-01+json;charset=utf-8",
        ),
        (
            certs(PROJECT, "app1"),
            "application/vnd.atlas.2099-01-01+json",
            "application/vnd.atlas.2023-01-01+json;charset=utf-8",
        ),
        (
            certs(PROJECT, "app1"),
            "application/json",
            "application/json",
        ),
        (v1, versioned, "application/json"),
    ] {
        let reply = world.get(&target, &[("Accept", accept)]).await;
        assert_eq!(
            reply.header("content-type"),
            Some(expected),
            "{target} {accept}"
        );
    }
    assert_eq!(world.atlas.certificate_calls(), 1);
}

#[tokio::test]
async fn large_answers_are_compressed_for_callers_that_accept_it() {
    let world = World::new().await;
    let plain = world.ask("many").await;
    let ask = |encoding: &'static str| {
        let world = &world;
        async move {
            world
                .get(&certs(PROJECT, "many"), &[("Accept-Encoding", encoding)])
                .await
        }
    };
    for (wanted, got) in [("gzip", "gzip"), ("zstd, gzip;q=0.5", "zstd"), ("br", "br")] {
        let reply = ask(wanted).await;
        assert_eq!(reply.header("content-encoding"), Some(got));
        assert!(reply.body.len() < plain.body.len() / 2);
        assert_ne!(reply.header("etag"), plain.header("etag"));
        assert_eq!(decoded(got, &reply.body), plain.body);
    }
    // Forms that are not kept are compressed each time.
    for form in ["itemsPerPage=500", "pretty=true", "envelope=true"] {
        let target = format!("{}?{form}", certs(PROJECT, "many"));
        let plain = world.get(&target, &[]).await;
        for encoding in ["gzip", "zstd", "br"] {
            let reply = world.get(&target, &[("Accept-Encoding", encoding)]).await;
            assert_eq!(reply.header("content-encoding"), Some(encoding), "{form}");
            assert_eq!(decoded(encoding, &reply.body), plain.body);
            let etag = reply.header("etag").unwrap();
            assert_ne!(Some(etag), plain.header("etag"));
            let again = [("Accept-Encoding", encoding), ("If-None-Match", etag)];
            assert_eq!(world.get(&target, &again).await.status, 304, "{form}");
        }
    }
    assert_eq!(
        ask("gzip;q=0, deflate").await.header("content-encoding"),
        None
    );
    let small = world
        .get(&certs(PROJECT, "app1"), &[("Accept-Encoding", "gzip")])
        .await;
    assert_eq!(small.header("content-encoding"), None);
}

fn decoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    use std::io::Read;
    match encoding {
        "gzip" => {
            let mut out = Vec::new();
            flate2::read::GzDecoder::new(body)
                .read_to_end(&mut out)
                .unwrap();
            out
        }
        "br" => {
            let mut out = Vec::new();
            brotli::BrotliDecompress(&mut &*body, &mut out).unwrap();
            out
        }
        _ => zstd::decode_all(body).unwrap(),
    }
}
