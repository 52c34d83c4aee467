//! Search gives back what a naive reader of the same files would pick.

mod filters;

use std::borrow::Cow;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use atlas_cert_gateway::audit::search::{Filter, Found, Incomplete, Order, Search};
use atlas_cert_gateway::audit::{Arrival, Closing, Origin, Outcome, Sync, search};
use atlas_cert_gateway::settings::Size;
use serde_json::Value;

use crate::audit::trail::{Trail, caller, query};

use filters::{filters, passes};

#[tokio::test]
async fn every_filter_picks_what_a_naive_reader_picks_in_either_order_packed_or_not() {
    let trail = trail_of(900).await;
    check(&trail);
    let files = trail.files();
    assert!(files.len() >= 4);
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&fs::read(&files[0]).unwrap()).unwrap();
    fs::write(
        files[0].with_extension("jsonl.gz"),
        packer.finish().unwrap(),
    )
    .unwrap();
    fs::remove_file(&files[0]).unwrap();
    let smaller = zstd::encode_all(&*fs::read(&files[1]).unwrap(), 1).unwrap();
    fs::write(files[1].with_extension("jsonl.zst"), smaller).unwrap();
    fs::remove_file(&files[1]).unwrap();
    check(&trail);
}

#[tokio::test]
async fn pages_follow_one_another_without_gap_or_overlap() {
    let trail = trail_of(100).await;
    let mut seen = Vec::new();
    loop {
        let filter = Filter {
            kind: Some("lookup".to_owned()),
            before: seen.last().copied(),
            ..Filter::default()
        };
        let mut page = Vec::new();
        search(&trail, &filter, Order::NewestFirst, |found| {
            page.push(found.seq);
            if page.len() == 7 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, (2..=101).rev().collect::<Vec<u64>>());
}

/// More than is kept of a packed file at a time.
#[tokio::test]
async fn a_large_packed_file_is_read_newest_first_without_gap_or_overlap() {
    let trail = Trail::new();
    trail.record("subject").await.unwrap();
    let files = trail.files();
    let line = fs::read_to_string(&files[0]).unwrap();
    let line = line.lines().last().unwrap();
    assert!(line.contains("\"seq\":2,"), "{line}");
    let lines = 2..20_002_u64;
    let text: String = lines
        .clone()
        .map(|seq| line.replace("\"seq\":2,", &format!("\"seq\":{seq},")) + "\n")
        .collect();
    assert!(text.len() > 9 << 20, "{}", text.len());
    fs::remove_file(&files[0]).unwrap();
    let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
    fs::write(files[0].with_extension("jsonl.zst"), packed).unwrap();
    let mut seen = Vec::new();
    let wanted = Search {
        directories: std::slice::from_ref(&trail.config.directory),
        filter: &Filter::default(),
        order: Order::NewestFirst,
    };
    // As in the gateway, where less of it is kept than by a command.
    search::search_until(&wanted, &|| false, |found| {
        seen.push(found.seq);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(seen.into_iter().eq(lines.rev()));
}

/// A record holds the beginning only; a search for the whole finds it.
#[tokio::test]
async fn a_subject_that_was_cut_is_found_by_all_of_it_and_by_no_other() {
    let trail = Trail::new();
    let long = "subject/".repeat(200);
    trail.record(&long).await.unwrap();
    trail.record("subject/").await.unwrap();
    let found = |subject: &str| {
        let filter = Filter {
            subject: Some(subject.to_owned()),
            ..Filter::default()
        };
        let mut found = Vec::new();
        search(&trail, &filter, Order::OldestFirst, |it| {
            found.push((it.seq, it.members()["status"].as_u64()));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    };
    assert_eq!(found(&long), [(2, Some(200))]);
    assert_eq!(found("subject/"), [(3, Some(200))]);
    assert_eq!(found(&long.replace("su", "uu")), []);
}

/// Searches the trail's directory.
fn search(
    trail: &Trail,
    filter: &Filter,
    order: Order,
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let search = Search {
        directories: &[trail.audit.directory().to_owned()],
        filter,
        order,
    };
    search::search(&search, &|_| (), see)
}

/// Lines of every length, over several files, with subjects that need escaping.
async fn trail_of(records: usize) -> Trail {
    let trail = Trail::with(|config| {
        config.rotate_size = Size::kibibytes(128);
        // The clock below runs faster than any disk.
        config.sync = Sync::Never;
    });
    for turn in 0..records {
        let padding = "x".repeat(turn * 7 % 900);
        let username = USERNAMES[turn % USERNAMES.len()];
        let query = query(&format!("{username}{padding}"));
        let peer = PEERS[turn % 7 % PEERS.len()].parse().unwrap();
        let mut entry = trail.audit.entry(Arrival {
            origin: Cow::Owned(Origin::new(peer, None)),
            ..trail.arrival()
        });
        let mut caller = caller(SUBJECTS[turn % SUBJECTS.len()]);
        if turn % 3 == 0 {
            Arc::get_mut(&mut caller).unwrap().client_id = Some(Box::from("client \"two\""));
        }
        entry.set_caller(&caller);
        entry.set_query(&query);
        let rule = Arc::from("reads \\ writes");
        entry.set_rule((turn % 11 == 0).then_some(&rule));
        let denied = turn % 5 == 0;
        let closing = Closing {
            outcome: if denied {
                Outcome::Denied
            } else {
                Outcome::Answered
            },
            status: if denied { 403 } else { 200 },
            ..trail.closing()
        };
        entry.close(closing).await.unwrap();
        trail.manual_clock.advance(Duration::from_millis(250));
    }
    trail
}

fn check(trail: &Trail) {
    let naive = read_naively(trail);
    for filter in filters(&naive) {
        let expected: Vec<&str> = naive
            .iter()
            .filter(|(_, record)| passes(&filter, record))
            .map(|(line, _)| &**line)
            .collect();
        for order in [Order::OldestFirst, Order::NewestFirst] {
            let mut found = Vec::new();
            search(trail, &filter, order, |it| {
                found.push(it.line.to_owned());
                ControlFlow::Continue(())
            })
            .unwrap();
            if order == Order::NewestFirst {
                found.reverse();
            }
            assert_eq!(found, expected, "{filter:?}");
        }
    }
}

/// Every line of the trail, unpacked.
fn read_naively(trail: &Trail) -> Vec<(String, Value)> {
    trail
        .files()
        .iter()
        .flat_map(|path| {
            let raw = fs::read(path).unwrap();
            let text = match path.extension().unwrap().to_str().unwrap() {
                "gz" => {
                    let mut text = Vec::new();
                    flate2::read::GzDecoder::new(&*raw)
                        .read_to_end(&mut text)
                        .unwrap();
                    text
                }
                "zst" => zstd::decode_all(&*raw).unwrap(),
                _ => raw,
            };
            String::from_utf8(text)
                .unwrap()
                .lines()
                .map(|line| (line.to_owned(), serde_json::from_str(line).unwrap()))
                .collect::<Vec<_>>()
        })
        .collect()
}

const PEERS: [&str; 4] = [
    "192.0.2.7:50123",
    "192.0.2.8:50123",
    "192.0.2.70:50123",
    "[2001:db8::1]:443",
];
const SUBJECTS: [&str; 4] = [
    "payments",
    "ünï\"côdé",
    "ci\u{1b}",
    // Whoever looks at bytes must not take a text for members.
    "x\",\"outcome\":\"failed\",\"kind\":\"fetch\",\"y\":\"",
];
const USERNAMES: [&str; 3] = ["app\\one", "CN=app", "zoë"];
