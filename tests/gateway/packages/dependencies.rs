//! What comes into the build is what `.deny.toml` allows. `cargo deny` reads more out of the same file, and
//! is not on every machine; this runs wherever the tests run.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const RULES: &str = include_str!("../../../.deny.toml");

#[test]
fn every_dependency_has_a_licence_that_is_allowed_a_source_that_is_known_and_no_name_that_is_banned()
 {
    let rules: toml::Table = RULES.parse().unwrap();
    let allowed: Vec<&str> = texts(&rules["licenses"]["allow"], None);
    let banned: Vec<&str> = texts(&rules["bans"]["deny"], Some("name"));
    assert!(allowed.contains(&"MIT") && banned.contains(&"openssl"));
    let packages = packages();
    assert!(packages.len() > 200, "{}", packages.len());
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or_default();
        if !Licence(licence).is_granted_by(&allowed) {
            wrong.push(format!("{name}: licence {licence}"));
        }
        if banned.contains(&name) {
            wrong.push(format!("{name} is banned"));
        }
        // Of the workspace, or of the registry.
        let source = package["source"].as_str().unwrap_or("registry+");
        if !source.starts_with("registry+") {
            wrong.push(format!("{name} comes from {source}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for skipped in texts(&rules["bans"]["skip"], Some("crate")) {
        let (name, version) = skipped.split_once('@').unwrap();
        let mut present = packages.iter();
        let is_there = present.any(|it| it["name"] == name && it["version"] == version);
        assert!(is_there, "{skipped} is excused and not there");
    }
}

#[test]
fn a_licence_is_read_as_spdx_has_it() {
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/GPL-3.0", true),
        ("GPL-3.0 OR ISC", true),
        ("GPL-3.0 AND ISC", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("(MIT OR GPL-3.0) AND GPL-3.0", false),
        ("ISC AND (GPL-3.0 OR MIT) AND MIT", true),
        ("MIT WITH LLVM-exception", false),
        ("", false),
    ] {
        let granted = Licence(expression).is_granted_by(&["MIT", "ISC"]);
        assert_eq!(granted, expected, "{expression}");
    }
}

/// An expression of SPDX, or the older form with a slash.
struct Licence<'e>(&'e str);

impl Licence<'_> {
    fn is_granted_by(&self, allowed: &[&str]) -> bool {
        let text = self.0.replace('/', " OR ");
        let text = text.replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = text.split_whitespace().collect();
        either(&mut words.as_slice(), allowed)
    }
}

/// Terms with `OR` between them, the weaker of the two.
fn either(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut granted = both(words, allowed);
    while let Some(rest) = words.strip_prefix(&["OR"]) {
        *words = rest;
        granted |= both(words, allowed);
    }
    granted
}

fn both(words: &mut &[&str], allowed: &[&str]) -> bool {
    let mut granted = term(words, allowed);
    while let Some(rest) = words.strip_prefix(&["AND"]) {
        *words = rest;
        granted &= term(words, allowed);
    }
    granted
}

fn term(words: &mut &[&str], allowed: &[&str]) -> bool {
    let Some((word, rest)) = words.split_first() else {
        return false;
    };
    *words = rest;
    if *word == "(" {
        let granted = either(words, allowed);
        *words = words.strip_prefix(&[")"]).unwrap_or(words);
        return granted;
    }
    if let ["WITH", _, rest @ ..] = *words {
        // A licence with an exception is another one; none is on the list.
        *words = rest;
        return false;
    }
    allowed.contains(word)
}

/// Everything that is built for the platform that the packages are for.
fn packages() -> Vec<Value> {
    let listed = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args(["metadata", "--offline", "--locked", "--all-features"])
        .args(["--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let metadata: Value = serde_json::from_slice(&listed.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The texts of a list, or what its tables have under a key.
fn texts<'v>(list: &'v toml::Value, key: Option<&str>) -> Vec<&'v str> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| key.map_or(item, |key| &item[key]).as_str().unwrap())
        .collect()
}
