//! A certificate leaves every answer at its `notAfter`.

use futures_util::future::join_all;

use super::super::*;
use super::stage::{ADDRESS, START, Stage, Word, down, query};

fn one_that_ends_in(seconds: i64) -> Word {
    Word::List(vec![
        ("{\"_id\":1}".to_owned(), START + seconds),
        ("{\"_id\":2}".to_owned(), START + 100_000),
    ])
}

const HEAD: &str = "{\"links\":[{\"href\":\"https://gateway.example/api/atlas/v2/groups/\
                    32b6e34b3d91647abb20e7b8/databaseUsers/CN%3Dapp/certs\",\"rel\":\"self\"}],\
                    \"results\":[";

#[tokio::test]
async fn g1_a_certificate_leaves_the_answer_at_its_not_after_without_a_fetch() {
    let stage = Stage::new(Config::default());
    stage.atlas.says(one_that_ends_in(60));
    let first = stage.ask("CN=app").await.unwrap();
    let both = format!("{HEAD}{{\"_id\":1}},{{\"_id\":2}}],\"totalCount\":2}}");
    assert_eq!(stage.body("CN=app", &first), both);
    assert_eq!(first.entry.ttl(stage.manual_clock.now()), 60);
    let usual = |found: &Found| {
        let now = stage.manual_clock.now().wall;
        found.entry.usual(&query("CN=app"), ADDRESS, now)
    };
    let before = usual(&first);
    stage
        .manual_clock
        .advance(Duration::from_micros(59_999_999));
    assert_eq!(usual(&stage.ask("CN=app").await.unwrap()).etag, before.etag);

    stage.manual_clock.advance(Duration::from_micros(1));
    let second = stage.ask("CN=app").await.unwrap();
    assert_eq!(second.status, CacheStatus::Hit);
    let one = format!("{HEAD}{{\"_id\":2}}],\"totalCount\":1}}");
    assert_eq!(stage.body("CN=app", &second), one);
    assert_ne!(usual(&second).etag, before.etag);
    assert_eq!(usual(&second).certificates, 1);
    let tag = second.entry.tag(stage.manual_clock.now().wall);
    assert_eq!(usual(&second).etag, tag.header(&[]));
    assert_eq!(stage.atlas.fetches(), 1);
}

#[tokio::test]
async fn a_stale_answer_is_without_what_has_expired_too() {
    let stage = Stage::new(Config::default());
    stage.atlas.says(one_that_ends_in(600));
    stage.ask("CN=app").await.unwrap();
    stage.atlas.says(down());
    stage.pass(601);
    let old = stage.ask("CN=app").await.unwrap();
    assert_eq!(old.status, CacheStatus::Stale(Staleness::Error));
    let one = format!("{HEAD}{{\"_id\":2}}],\"totalCount\":1}}");
    assert_eq!(stage.body("CN=app", &old), one);
}

#[tokio::test]
async fn g34_a_calendar_set_back_does_not_serve_the_shorter_answer() {
    let stage = Stage::new(Config::default());
    stage.atlas.says(one_that_ends_in(60));
    let found = stage.ask("CN=app").await.unwrap();
    stage.pass(60);
    assert!(stage.body("CN=app", &found).ends_with("\"totalCount\":1}"));
    let set_back = crate::atlas::Timestamp::from_seconds(START + 50);
    stage.manual_clock.set_wall(set_back);
    assert!(stage.body("CN=app", &found).ends_with("\"totalCount\":2}"));
    // The same for an answer that was already shortened.
    stage.pass(100_000);
    assert!(stage.body("CN=app", &found).ends_with("\"totalCount\":0}"));
    let set_back = crate::atlas::Timestamp::from_seconds(START + 70);
    stage.manual_clock.set_wall(set_back);
    assert!(stage.body("CN=app", &found).ends_with("\"totalCount\":1}"));
    // The list is as old as it is, whatever the calendar says.
    assert_eq!(
        found.entry.age(stage.manual_clock.now()),
        Duration::from_secs(100_060)
    );
}

#[tokio::test]
async fn the_same_certificates_keep_their_tag_at_every_address() {
    let stage = Stage::new(Config::default());
    stage.atlas.says(one_that_ends_in(100_000));
    let first = stage.ask("CN=app").await.unwrap();
    stage.pass(400);
    let second = stage.ask("CN=app").await.unwrap();
    assert_ne!(first.entry.fill_id(), second.entry.fill_id());
    let now = stage.manual_clock.now().wall;
    assert_eq!(first.entry.tag(now), second.entry.tag(now));

    let elsewhere = Address {
        scheme: "http",
        host: "127.0.0.1:8080",
        root: "/api/atlas/v1.0",
    };
    let query = query("CN=app");
    let here = second.entry.usual(&query, ADDRESS, now);
    for _ in 0..2 {
        let there = second.entry.usual(&query, elsewhere, now);
        let there = String::from_utf8(there.body.to_vec()).unwrap();
        assert_eq!(
            there.replace(
                "http://127.0.0.1:8080/api/atlas/v1.0/",
                "https://gateway.example/api/atlas/v2/"
            ),
            String::from_utf8(here.body.to_vec()).unwrap()
        );
    }
    assert_eq!(second.entry.usual(&query, ADDRESS, now).body, here.body);
}

#[tokio::test]
async fn a_host_with_odd_characters_cannot_break_the_document() {
    let stage = Stage::new(Config::default());
    let found = stage.ask("app").await.unwrap();
    let odd = Address {
        host: "a\",\"x\":\"\\",
        ..ADDRESS
    };
    let now = stage.manual_clock.now().wall;
    let body = found.entry.usual(&query("app"), odd, now).body.to_vec();
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let href = document["links"][0]["href"].as_str().unwrap();
    assert!(href.starts_with("https://a\",\"x\":\"\\/api"));
}

#[tokio::test]
async fn a_large_list_is_compressed_once_for_all_who_want_it_wherever_they_ask() {
    let stage = Stage::new(Config::default());
    let many = (0..2_000).map(|id| (format!("{{\"_id\":{id}}}"), START + 100 + i64::from(id)));
    stage.atlas.says(Word::List(many.collect()));
    let found = stage.ask("app").await.unwrap();
    // Small bodies leave as they are.
    stage.atlas.says(one_that_ends_in(100_000));
    let small = stage.ask("small").await.unwrap();
    let elsewhere = Address {
        host: "other.example",
        ..ADDRESS
    };
    let query = query("app");
    for seconds in [0, 101] {
        // What has expired leaves, and what is left is another list.
        stage.pass(seconds);
        let now = stage.manual_clock.now().wall;
        for encoding in [Encoding::Brotli, Encoding::Gzip, Encoding::Zstd] {
            let form = |address| {
                let (entry, query) = (&found.entry, &query);
                entry.compressed(query, address, now, encoding)
            };
            let lacks = |most| found.entry.lacks(most, now, encoding);
            assert!(!small.entry.lacks(usize::MAX, now, encoding));
            assert_eq!(small.entry.compressed(&query, ADDRESS, now, encoding), None);
            assert!(lacks(2_000) && !lacks(100), "of a page nothing is kept");
            assert_eq!(form(ADDRESS), None);
            let made = join_all((0..3).map(|_| found.entry.compress(now, encoding))).await;
            assert_eq!(made.into_iter().filter(|made| *made).count(), 1);
            assert!(!lacks(2_000));
            let (Some(Text::Spliced(here)), Some(Text::Spliced(there))) =
                (form(ADDRESS), form(elsewhere))
            else {
                panic!("{encoding:?}: it is put together");
            };
            let [_, kept, _] = &*here;
            assert_eq!(kept.as_ptr(), there[1].as_ptr(), "it is made once");
            for (address, compressed) in [(ADDRESS, here), (elsewhere, there)] {
                let usual = found.entry.usual(&query, address, now);
                let plain = usual.body.to_vec();
                let compressed = compressed.concat();
                assert!(compressed.len() < plain.len() / 4);
                assert_eq!(unpacked(encoding, &compressed), plain);
            }
        }
    }
}

fn unpacked(encoding: Encoding, compressed: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Brotli => {
            let mut plain = Vec::new();
            brotli::BrotliDecompress(&mut &*compressed, &mut plain).unwrap();
            plain
        }
        Encoding::Gzip => {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(compressed);
            std::io::Read::read_to_end(&mut decoder, &mut plain).unwrap();
            plain
        }
        Encoding::Zstd => zstd::bulk::decompress(compressed, 1 << 20).unwrap(),
    }
}

#[tokio::test]
async fn no_address_has_a_copy_of_a_large_list() {
    let stage = Stage::new(Config::default());
    let many = (0..2_000).map(|id| (format!("{{\"_id\":{id}}}"), START + 100_000));
    stage.atlas.says(Word::List(many.collect()));
    let found = stage.ask("app").await.unwrap();
    let now = stage.manual_clock.now().wall;
    let list = found.entry.list().joined();
    for host in ["a", "b", "a"] {
        let address = Address { host, ..ADDRESS };
        let Text::Spliced(parts) = found.entry.usual(&query("app"), address, now).body else {
            panic!("a copy");
        };
        assert_eq!(parts[1].as_ptr(), list.as_ptr());
    }
}
