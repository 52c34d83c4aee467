//! The arrows of the house: a module uses only what stands to its right in `lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_arrow_points_to_the_right() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = rooms(&fs::read_to_string(source.join("lib.rs")).unwrap());
    assert!(
        order.len() > 10,
        "the rooms are read from lib.rs: {order:?}"
    );
    let place = |room: &str| order.iter().position(|known| known == room);
    let mut wrong = Vec::new();
    for file in files(&source) {
        let relative = file.strip_prefix(&source).unwrap().with_extension("");
        let room = relative.iter().next().unwrap().to_str().unwrap().to_owned();
        let Some(here) = place(&room) else { continue };
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            // A link in documentation is no arrow.
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
                        "{}:{}: {room} -> {used}",
                        relative.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows to the left:\n{}",
        wrong.join("\n")
    );
}

/// A walk's lines carry its ids, which [`say`](atlas_cert_gateway::telemetry::say) knows. What is said in
/// the same rooms outside of a walk is said in the same way, so that nobody has to tell them apart.
#[test]
fn where_walks_are_made_every_line_of_the_log_is_said() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms = files(&source.join("upstream"));
    rooms.extend(["upstream.rs", "gateway/walk.rs"].map(|file| source.join(file)));
    let (mut lines, mut unsaid) = (0, Vec::new());
    for file in rooms {
        let code: String = fs::read_to_string(&file)
            .unwrap()
            .split_whitespace()
            .collect();
        for level in ["trace", "debug", "info", "warn", "error", "event"] {
            // What stands before each macro; behind the last one is the rest of the file.
            let mut before: Vec<_> = code.split(&format!("{level}!(")).collect();
            before.pop();
            lines += before.len();
            let is_said = |code: &&str| {
                let code = code.trim_end_matches("tracing::");
                code.trim_end_matches('{').ends_with("say(||")
            };
            if !before.iter().all(is_said) {
                unsaid.push(format!("{}: {level}!", file.display()));
            }
        }
    }
    assert!(lines > 10, "the lines are found: {lines}");
    assert!(
        unsaid.is_empty(),
        "without say(|| …):\n{}",
        unsaid.join("\n")
    );
}

fn rooms(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub mod "))
        .map(|room| room.trim_end_matches(';').to_owned())
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
