//! The operating guide leaves out no alert, no error and no metric, and tells of none that is not there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::dependencies;
use crate::packages::monitoring;

const GUIDE: &str = include_str!("../../../docs/operating.md");

#[test]
fn each_alert_has_its_paragraph_and_each_paragraph_its_alert() {
    let told: BTreeSet<&str> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .collect();
    assert_eq!(told, monitoring::alerts().collect());
}

#[test]
fn each_code_of_the_gateway_is_in_the_table_of_errors_and_no_other() {
    let table: BTreeSet<String> = GUIDE
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| line.split(" | ").nth(1))
        .filter_map(|cell| Some(cell.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
        .filter(|word| is_code(word))
        .collect();
    let responses = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/response");
    let mut sources = vec![fs::read_to_string(responses.with_extension("rs")).unwrap()];
    for entry in fs::read_dir(responses).unwrap() {
        sources.push(fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    let codes: BTreeSet<String> = sources
        .iter()
        .flat_map(|source| source.split('"'))
        .filter(|word| is_code(word))
        .map(str::to_owned)
        .collect();
    assert!(codes.contains("SERVICE_UNAVAILABLE"), "{codes:?}");
    assert_eq!(table, codes);
}

#[test]
fn each_metric_is_told_of_and_nothing_else_is() {
    let (_, metrics) = GUIDE.split_once("## Metrics").unwrap();
    let told: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(" | ").next())
        .flat_map(|cell| cell.split(", "))
        .map(|name| name.trim_matches('`').split('{').next().unwrap())
        .collect();
    let page = monitoring::page();
    let present: BTreeSet<&str> = page
        .lines()
        .filter_map(monitoring::family)
        .filter_map(|name| name.strip_prefix("atlas_cert_gateway_"))
        .collect();
    assert_eq!(told, present);
}

#[test]
fn each_test_that_the_first_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("README.md")).unwrap();
    let named = page
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
    let named: Vec<_> = named.collect();
    assert!(!named.is_empty());
    let tests = dependencies::files(&root.join("tests"));
    let tests: Vec<_> = tests
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    for test in named {
        let function = format!("fn {}()", test.rsplit("::").next().unwrap());
        assert!(tests.iter().any(|code| code.contains(&function)), "{test}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    let anchors: BTreeSet<String> = GUIDE
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
        .map(anchor)
        .collect();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for link in GUIDE.split("](").skip(1) {
        let (target, _) = link.split_once(')').unwrap();
        match target.strip_prefix('#') {
            Some(place) => assert!(anchors.contains(place), "#{place}"),
            None => assert!(here.join(target).exists(), "{target}"),
        }
    }
}

fn is_code(word: &str) -> bool {
    word.len() > 5
        && word.contains('_')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

/// How a heading becomes the place of a link.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|sign| match sign {
            ' ' => Some('-'),
            sign if sign.is_alphanumeric() || sign == '-' || sign == '_' => Some(sign),
            _ => None,
        })
        .collect()
}
