//! The demo, as a new user starts it: one command, a first look, a hit, a clean end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::harness::files::Files;
use crate::{client, program};

// The demo's own Atlas runs in its process, so nothing here may wait for the runtime.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_its_first_curl_lines_and_ends_cleanly() {
    let mut demo = demo().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    while !said
        .last()
        .is_some_and(|line: &String| line.contains("Ctrl-C ends"))
    {
        said.push(lines.next().expect("the demo has ended").unwrap());
    }
    let token = said
        .iter()
        .find_map(|line| line.strip_prefix("export TOKEN="))
        .unwrap();
    let curl_lines: Vec<&String> = said
        .iter()
        .filter(|line| line.starts_with("curl "))
        .collect();
    let alone = format!("-H \"Authorization: Bearer {token}\"");
    assert!(curl_lines[0].contains(&alone), "{}", curl_lines[0]);
    let urls: Vec<&str> = curl_lines
        .iter()
        .map(|line| line.split('\'').nth(1).unwrap())
        .collect();
    let mut replies = Vec::new();
    for url in &urls {
        let (host, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: \
             close\r\n\r\n"
        );
        replies.push(client::exchange(host.parse().unwrap(), request.as_bytes()).await);
    }
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 404, 403]);
    let (first, second) = (&replies[0], &replies[1]);
    assert_eq!(first.json()["totalCount"], 2);
    assert_eq!(first.header("x-upstream-calls"), Some("1"));
    assert_eq!(second.header("x-upstream-calls"), Some("0"));
    assert_eq!(second.body, first.body);
    assert_eq!(replies[2].json()["totalCount"], 1_203);
    program::signal(&demo, "-INT");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(demo.wait().unwrap().success(), "{rest:?}");
    // One for the list of two, three for three pages, one for the unknown user.
    assert_eq!(rest.last().unwrap(), "5 calls reached Atlas in all");
}

#[test]
fn the_demo_leaves_nothing_behind_when_it_is_terminated() {
    let place = Files::new();
    let mut demo = demo()
        .env("TMPDIR", place.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let is_up = lines.any(|line| line.unwrap().contains("Ctrl-C ends"));
    assert!(is_up, "the demo has ended");
    program::signal(&demo, "-TERM");
    assert_eq!(
        lines.map_while(Result::ok).last().unwrap(),
        "0 calls reached Atlas in all"
    );
    assert!(demo.wait().unwrap().success());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_says_in_words_that_it_has_no_place_for_its_files() {
    let place = Files::new();
    let ended = demo()
        .env("TMPDIR", place.path().join("none"))
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("the demo cannot go on: No such file or directory"),
        "{said}"
    );
}

fn demo() -> Command {
    let mut demo = Command::new(env!("CARGO"));
    demo.args(["run", "--quiet", "--locked", "--example", "demo"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    demo
}
