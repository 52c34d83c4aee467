//! Copies, halves of packed files and files of others beside the journal: what is whole is read once, what
//! is not is named.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use atlas_cert_gateway::audit::search::{Filter, Incomplete, Order, Search};
use atlas_cert_gateway::audit::verify::{FaultKind, VerifyReport};
use atlas_cert_gateway::audit::{Sync, search};
use atlas_cert_gateway::settings::Size;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::audit::trail::Trail;

#[tokio::test]
async fn a_copy_or_a_part_of_one_is_named_and_no_record_is_found_twice() {
    let copies: [Leftover; 9] = [
        ("gz", gzip),
        ("zst", zstd),
        ("1", <[u8]>::to_vec),
        ("gz", |text| half(&gzip(text))),
        ("zst", |text| half(&zstd(text))),
        ("1", half),
        ("zst", |_| Vec::new()),
        // Room that a copier reserved before it was killed.
        ("1", |text| [half(text), vec![0; text.len() / 2]].concat()),
        ("bak", half),
    ];
    for (ending, copy) in copies {
        let trail = trail_of_three_files().await;
        let file = &trail.files()[1];
        let beside = with(file, ending);
        fs::write(&beside, copy(&fs::read(file).unwrap())).unwrap();
        let report = trail.verify();
        assert_eq!((report.fault.as_ref(), report.records), (None, RECORDS));
        assert_eq!(named(&report), std::slice::from_ref(&beside), "{ending}");
        assert_eq!(search_all(&trail.config.directory), (all(), Vec::new()));
    }
}

/// Somebody unpacks a file by hand, or a packer removed the source before it was done elsewhere.
#[tokio::test]
async fn the_whole_copy_is_read_whichever_it_is() {
    let halves: [Leftover; 3] = [
        ("gz", |text| half(&gzip(text))),
        ("zst", |text| half(&zstd(text))),
        ("", half),
    ];
    for (ending, part) in halves {
        let trail = trail_of_three_files().await;
        let file = &trail.files()[1];
        let text = fs::read(file).unwrap();
        fs::remove_file(file).unwrap();
        fs::write(with(file, "2.zst"), zstd(&text)).unwrap();
        fs::write(with(file, ending), part(&text)).unwrap();
        let report = trail.verify();
        assert_eq!((report.fault, report.records), (None, RECORDS));
        assert_eq!(search_all(&trail.config.directory), (all(), Vec::new()));
    }
}

/// As a rotation does it once more with what it has packed.
#[tokio::test]
async fn a_packed_file_that_is_renamed_while_others_are_read_is_found_again() {
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let trail = trail_of_three_files().await;
        for file in &trail.files()[..2] {
            fs::write(with(file, "1.zst"), zstd(&fs::read(file).unwrap())).unwrap();
            fs::remove_file(file).unwrap();
        }
        let packed = trail.files()[usize::from(order == Order::OldestFirst)].clone();
        let renamed = packed.with_extension("").with_extension("2.zst");
        let mut found = Vec::new();
        let search = Search {
            directories: std::slice::from_ref(&trail.config.directory),
            filter: &Filter::default(),
            order,
        };
        let incomplete = search::search(&search, &|_| (), |record| {
            if found.is_empty() {
                fs::rename(&packed, &renamed).unwrap();
            }
            found.push(record.seq);
            ControlFlow::Continue(())
        });
        found.sort_unstable();
        assert_eq!((incomplete.unwrap(), found), (Vec::new(), all()));
    }
}

#[tokio::test]
async fn half_of_a_file_without_a_whole_one_is_named_and_the_rest_is_searched() {
    let halves: [Leftover; 4] = [
        ("gz", |text| half(&gzip(text))),
        ("zst", |text| half(&zstd(text))),
        ("gz", |_| Vec::new()),
        // Cut off between two frames.
        ("zst", |text| zstd(&half_of_lines(text))),
    ];
    for (ending, part) in halves {
        let trail = trail_of_three_files().await;
        let files = trail.files();
        let text = fs::read(&files[1]).unwrap();
        fs::remove_file(&files[1]).unwrap();
        let left = with(&files[1], ending);
        fs::write(&left, part(&text)).unwrap();
        let (found, incomplete) = search_all(&trail.config.directory);
        let (first, last) = (numbers(&files[0]), numbers(&files[2]));
        assert!(found.starts_with(&first), "{ending}: {found:?}");
        assert!(found.ends_with(&last), "{ending}: {found:?} {last:?}");
        assert!(found.is_sorted() && found.len() < all().len());
        let paths: Vec<_> = incomplete.iter().map(|it| &it.path).collect();
        assert_eq!(paths, [&left], "{incomplete:?}");
        let fault = trail.verify().fault.unwrap();
        let kinds = [FaultKind::Packing, FaultKind::Missing];
        assert!(kinds.contains(&fault.kind), "{fault:?}");
    }
}

#[tokio::test]
async fn a_copy_that_says_something_else_is_a_fault_and_names_the_record() {
    let trail = trail_of_three_files().await;
    let file = &trail.files()[1];
    let text = fs::read_to_string(file).unwrap();
    let changed = text.replacen("\"subject\":\"ci\"", "\"subject\":\"ca\"", 2);
    fs::write(with(file, "zst"), zstd(changed.as_bytes())).unwrap();
    let fault = trail.verify().fault.unwrap();
    assert_eq!(fault.kind, FaultKind::CopyDiffers);
    assert_eq!(fault.seq, numbers(file)[0]);
    assert_eq!(fault.file, with(file, "zst"));
}

#[tokio::test]
async fn files_of_others_are_left_alone_and_named_where_they_may_hold_records() {
    let trail = trail_of_three_files().await;
    let directory = &trail.config.directory;
    fs::write(directory.join("notes.txt"), "to do").unwrap();
    let copy = directory.join("lookups-20260810T020635Z-1 (copy).jsonl");
    fs::copy(&trail.files()[1], &copy).unwrap();
    let report = trail.verify();
    assert_eq!(
        (report.fault.as_ref(), named(&report)),
        (None, vec![copy.clone()])
    );
    let (found, incomplete) = search_all(directory);
    assert_eq!(found, all());
    assert_eq!(incomplete[0].path, copy);
}

#[tokio::test]
async fn several_directories_are_searched_as_one_by_time() {
    // The clock below runs faster than any disk.
    let trail = || Trail::with(|config| config.sync = Sync::Never);
    let (one, other) = (trail(), trail());
    let mut expected = Vec::new();
    for turn in 0..40 {
        let trail = if turn % 3 == 0 { &one } else { &other };
        let subject = format!("subject-{turn}");
        trail.record(&subject).await.unwrap();
        expected.push(subject);
        for trail in [&one, &other] {
            trail
                .manual_clock
                .advance(std::time::Duration::from_millis(300));
        }
    }
    let directories = [&one, &other].map(|trail| trail.config.directory.clone());
    let filter = Filter {
        kind: Some("lookup".to_owned()),
        ..Filter::default()
    };
    for order in [Order::OldestFirst, Order::NewestFirst] {
        let mut found = Vec::new();
        let search = Search {
            directories: &directories,
            filter: &filter,
            order,
        };
        search::search(&search, &|_| (), |record| {
            found.push(record.members()["subject"].as_str().unwrap().to_owned());
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(found, expected);
        expected.reverse();
    }
}

/// An ending, and what a file of that name holds of the text of a file.
type Leftover = (&'static str, fn(&[u8]) -> Vec<u8>);

async fn trail_of_three_files() -> Trail {
    let trail = Trail::with(|config| config.rotate_size = Size::kibibytes(64));
    while trail.files().len() < 3 {
        trail.record("ci").await.unwrap();
    }
    while trail.lines().len() < usize::try_from(RECORDS).unwrap() {
        trail.record("ci").await.unwrap();
    }
    trail
}

/// The numbers of all records that a search finds, and what it says of files.
fn search_all(directory: &Path) -> (Vec<u64>, Vec<Incomplete>) {
    let mut both = [Order::OldestFirst, Order::NewestFirst].map(|order| {
        let mut found = Vec::new();
        let search = Search {
            directories: &[directory.to_owned()],
            filter: &Filter::default(),
            order,
        };
        let incomplete = search::search(&search, &|_| (), |record| {
            found.push(record.seq);
            ControlFlow::Continue(())
        });
        (found, incomplete.unwrap())
    });
    both[1].0.reverse();
    let [oldest, newest] = both;
    assert_eq!(oldest, newest);
    oldest
}

fn named(report: &VerifyReport) -> Vec<PathBuf> {
    let passed_over = report.passed_over.iter().map(|it| it.path.clone());
    report.copies.iter().cloned().chain(passed_over).collect()
}

fn numbers(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap();
    let numbers = text.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["seq"].as_u64().unwrap()
    });
    numbers.collect()
}

fn all() -> Vec<u64> {
    (1..=RECORDS).collect()
}

fn with(file: &Path, ending: &str) -> PathBuf {
    let name = file.to_str().unwrap();
    PathBuf::from(if ending.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{ending}")
    })
}

pub(super) fn half(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.len() / 2].to_vec()
}

fn half_of_lines(text: &[u8]) -> Vec<u8> {
    let half = half(text);
    let end = memchr::memrchr(b'\n', &half).unwrap();
    half[..=end].to_vec()
}

pub(super) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

pub(super) fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 1).unwrap()
}

/// In three files, with the record of the start.
const RECORDS: u64 = 280;
