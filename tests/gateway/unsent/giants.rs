//! The largest lists: whole in every form, and compressed once for all who ask.

use serde_json::Value;

use super::{Caller, window, with_a_giant};
use crate::client::Connection;
use crate::world::{PROJECT, World, certs, token};

#[tokio::test]
async fn every_form_of_a_giant_is_whole_and_says_how_long_it_is() {
    let world = World::with(with_a_giant).await;
    let plain = world.ask("giant").await.json();
    let results = plain["results"].as_array().unwrap();
    for (query, shown) in [
        ("pretty=true", 0..10_000),
        ("envelope=true", 0..10_000),
        ("pretty=true&envelope=true&includeCount=false", 0..10_000),
        ("pageNum=20&itemsPerPage=500", 9_500..10_000),
        ("pageNum=3&itemsPerPage=300&pretty=true", 600..900),
        ("pageNum=21&itemsPerPage=500&pretty=true", 0..0),
    ] {
        let target = format!("{}?{query}", certs(PROJECT, "giant"));
        let reply = world.get(&target, &[]).await;
        let length = reply.body.len().to_string();
        assert_eq!(
            reply.header("content-length"),
            Some(length.as_str()),
            "{query}"
        );
        assert_eq!(reply.header("transfer-encoding"), None, "{query}");
        let document = reply.json();
        let shown = Value::from(&results[shown]);
        assert!(document["results"] == shown, "{query}");
        let head = world.send("HEAD", &target, &token(), &[]).await;
        for name in ["content-length", "etag", "content-type"] {
            assert_eq!(head.header(name), reply.header(name), "{query} {name}");
        }
        let mut caller = Caller::without_window(&world).await;
        caller.ask(1, &target).await;
        caller.send(&window(1, 0x7fff_ffff)).await;
        let seen = caller.until(|seen| seen.ended.contains_key(&1)).await;
        assert!(seen.data[&1] == reply.body, "{query}");
    }
    assert_eq!(world.metric("unsent_bytes").await, 0);
}

#[tokio::test]
async fn a_list_is_compressed_once_whatever_the_names_by_which_it_is_asked_for() {
    let world = World::with(with_a_giant).await;
    let forms = [
        "",
        "?includeCount=true&itemsPerPage=100&pageNum=1",
        "?itemsPerPage=500",
        "?envelope=true",
        "?includeCount=false",
    ];
    let mut connection = Connection::open(world.address()).await;
    let mut ask = async |host: &str, target: &str, encoding: &str| {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nAccept-Encoding: \
             {encoding}\r\n\r\n",
            token()
        );
        connection.send(request.as_bytes()).await;
        connection.reply(false).await
    };
    let mut answers = 0;
    for round in 0..17 {
        for host in ["one.example", "two.example:8080"] {
            for version in ["v2", "v1.0"] {
                for form in forms {
                    let path = certs(PROJECT, "hundred").replace("v2", version);
                    let target = format!("{path}{form}");
                    let plain = ask(host, &target, "identity").await;
                    for encoding in ["gzip", "br", "zstd"] {
                        let reply = ask(host, &target, encoding).await;
                        assert_eq!(reply.header("content-encoding"), Some(encoding));
                        let length = reply.body.len().to_string();
                        assert_eq!(reply.header("content-length"), Some(length.as_str()));
                        if round == 0 {
                            let unpacked = unpacked(encoding, &reply.body);
                            assert!(unpacked == plain.body, "{target} {encoding}");
                        }
                        answers += 1;
                    }
                }
            }
        }
    }
    assert!(answers > 1_000);
    for encoding in ["gzip", "br", "zstd"] {
        let name = format!("compressions_total{{encoding=\"{encoding}\"}}");
        assert_eq!(world.metric(&name).await, 1, "{encoding}");
    }
}

#[tokio::test]
async fn pages_that_are_asked_for_again_are_not_compressed_again() {
    let world = World::with(with_a_giant).await;
    let accept = [("accept-encoding", "gzip")];
    for _ in 0..10 {
        for page in 1..=4 {
            let path = certs(PROJECT, "giant");
            let target = format!("{path}?itemsPerPage=100&pageNum={page}");
            let plain = world.send("GET", &target, &token(), &[]).await;
            let reply = world.send("GET", &target, &token(), &accept).await;
            assert_eq!(reply.header("content-encoding"), Some("gzip"));
            assert!(unpacked("gzip", &reply.body) == plain.body, "{target}");
        }
    }
    let compressions = "compressions_total{encoding=\"gzip\"}";
    assert_eq!(world.metric(compressions).await, 4);
}

/// Read by decoders that take one gzip member and one zstd frame, and nothing behind them.
fn unpacked(encoding: &str, mut body: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut out = Vec::new();
    match encoding {
        "gzip" => {
            let mut decoder = flate2::bufread::GzDecoder::new(&mut body);
            decoder.read_to_end(&mut out).unwrap();
        }
        "br" => {
            let mut decoder = brotli::Decompressor::new(&mut body, 1);
            decoder.read_to_end(&mut out).unwrap();
        }
        _ => {
            let decoder = zstd::Decoder::with_buffer(&mut body).unwrap();
            decoder.single_frame().read_to_end(&mut out).unwrap();
        }
    }
    assert!(body.is_empty(), "{encoding}");
    out
}
