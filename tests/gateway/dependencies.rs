//! Dependencies have one direction: a module uses only modules below it in `lib.rs`, and no two files use each
//! other, a file and its own submodules apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn a_module_uses_only_modules_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = modules(&fs::read_to_string(source.join("lib.rs")).unwrap());
    assert!(
        order.len() > 10,
        "the modules are read from lib.rs: {order:?}"
    );
    let place = |module: &str| order.iter().position(|known| known == module);
    let mut wrong = Vec::new();
    for file in files(&source) {
        let relative = file.strip_prefix(&source).unwrap().with_extension("");
        let module = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        let Some(here) = place(&module) else { continue };
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            // A link in documentation is no dependency.
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in line.split("crate::").skip(1) {
                let used: String = used
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if place(&used).is_some_and(|there| there < here) {
                    wrong.push(format!(
                        "{}:{}: {module} -> {used}",
                        relative.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "dependencies upwards:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let texts: BTreeMap<String, String> = files(&source)
        .into_iter()
        .map(|file| {
            let name = file.strip_prefix(&source).unwrap().with_extension("");
            (
                name.to_str().unwrap().to_owned(),
                fs::read_to_string(file).unwrap(),
            )
        })
        .filter(|(name, _)| !name.ends_with("tests") && !name.contains("/tests/"))
        .collect();
    let names: BTreeSet<String> = texts.keys().cloned().collect();
    let mut left: BTreeMap<String, BTreeSet<String>> = texts
        .iter()
        .map(|(name, text)| (name.clone(), uses(name, text, &names)))
        .collect();
    // What uses nothing that is left is in no circle, nor is what nothing uses.
    loop {
        let used: BTreeSet<String> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|name, uses| !uses.is_empty() && used.contains(name));
        let kept: BTreeSet<String> = left.keys().cloned().collect();
        for uses in left.values_mut() {
            uses.retain(|name| kept.contains(name));
        }
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "files in a circle: {left:#?}");
}

/// The files that `file` uses by its `use` lines, but for those that it is a part of, or that are its parts.
fn uses(file: &str, text: &str, files: &BTreeSet<String>) -> BTreeSet<String> {
    let here: Vec<&str> = file.split('/').collect();
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = product.split_inclusive(';').map(|item| {
        let item = item
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        item.collect::<Vec<&str>>().join("").trim().to_owned()
    });
    let lines = lines.filter_map(|item| {
        let item = item.replacen("pub(crate) ", "pub ", 1);
        let item = item.strip_prefix("pub ").unwrap_or(&item).to_owned();
        Some(item.strip_prefix("use ")?.trim_end_matches(';').to_owned())
    });
    let mut used = BTreeSet::new();
    for line in lines {
        let (path, names) = line.split_once('{').unwrap_or((&line, ""));
        let mut segments: Vec<&str> = path.split("::").filter(|it| !it.is_empty()).collect();
        let mut base = here.clone();
        match segments.first() {
            Some(&"crate") => base.clear(),
            Some(&"self") => {}
            Some(&"super") => base.truncate(base.len() - 1),
            _ => continue,
        }
        segments.remove(0);
        while segments.first() == Some(&"super") {
            segments.remove(0);
            base.pop();
        }
        let names = names.trim_end_matches('}').split(',').map(str::trim);
        for name in names {
            let whole: Vec<&str> = base
                .iter()
                .chain(&segments)
                .copied()
                .chain([name])
                .collect();
            let file_of = (1..=whole.len()).rev().map(|end| whole[..end].join("/"));
            let Some(found) = file_of.into_iter().find(|path| files.contains(path)) else {
                continue;
            };
            let is_part = |part: &str, whole: &str| part.starts_with(&format!("{whole}/"));
            if found != file && !is_part(file, &found) && !is_part(&found, file) {
                used.insert(found);
            }
        }
    }
    used
}

fn modules(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|line| line.split_once("mod "))
        .filter(|(visibility, _)| ["pub ", "pub(crate) "].contains(visibility))
        .map(|(_, module)| module)
        .map(|module| module.trim_end_matches(';').to_owned())
        .collect()
}

/// The Rust files under a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}
