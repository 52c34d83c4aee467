//! The demo, as a new user starts it: one command, a first look, a hit, a clean end.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::client::Reply;
use crate::harness::files::Files;
use crate::harness::servers;
use crate::{client, program};

/// A demo that is up.
struct Demo {
    process: Child,
    /// What it said before it was.
    said: Vec<String>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Demo {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut said: Vec<String> = Vec::new();
        while !said.last().is_some_and(|line| line.contains("Ctrl-C ends")) {
            said.push(lines.next().expect("the demo has ended").unwrap());
        }
        Self {
            process,
            said,
            lines,
        }
    }

    /// The rest of each line that begins with `start`.
    fn behind(&self, start: &str) -> Vec<String> {
        let lines = self.said.iter();
        let rests = lines.filter_map(|line| line.strip_prefix(start));
        rests.map(str::to_owned).collect()
    }

    /// Ends it with a signal; the last line that it says.
    fn end(mut self, signal: &str) -> String {
        program::signal(&self.process, signal);
        let mut rest: Vec<String> = self.lines.map_while(Result::ok).collect();
        assert!(self.process.wait().unwrap().success(), "{rest:?}");
        rest.pop().unwrap()
    }
}

// The demo's own Atlas runs in its process, so nothing here may wait for the runtime.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_its_first_curl_lines_and_ends_cleanly() {
    let demo = Demo::start(&mut demo());
    let token = &demo.behind("export TOKEN=")[0];
    let curl_lines = demo.behind("curl ");
    let alone = format!("-H \"Authorization: Bearer {token}\"");
    assert!(curl_lines[0].contains(&alone), "{}", curl_lines[0]);
    let urls: Vec<&str> = curl_lines
        .iter()
        .map(|line| line.split('\'').nth(1).unwrap())
        .collect();
    let mut replies = Vec::new();
    for url in &urls {
        replies.push(ask(url, token).await);
    }
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 404, 403]);
    let (first, second) = (&replies[0], &replies[1]);
    assert_eq!(first.json()["totalCount"], 2);
    assert_eq!(first.header("x-upstream-calls"), Some("1"));
    assert_eq!(second.header("x-upstream-calls"), Some("0"));
    assert_eq!(second.body, first.body);
    assert_eq!(replies[2].json()["totalCount"], 1_203);
    // One for the list of two, three for three pages, one for the unknown user.
    assert_eq!(demo.end("-INT"), "5 calls reached Atlas in all");
}

#[test]
fn the_demo_leaves_nothing_behind_when_it_is_terminated() {
    let place = Files::new();
    let demo = Demo::start(demo().env("TMPDIR", place.path()));
    assert_eq!(demo.end("-TERM"), "0 calls reached Atlas in all");
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

/// Where there is no PostgreSQL, it says how to get one.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_of_the_central_trail_shows_both_replicas_and_leaves_nothing_behind() {
    let place = Files::new();
    // The server may be of another user.
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut demo = demo();
    demo.args(["--", "--central"]).env("TMPDIR", place.path());
    if servers::POSTGRES.find().is_none() {
        let ended = demo.output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let how = "the demo cannot go on: PostgreSQL is not here; Debian has it: apt-get install postgresql\n";
        assert_eq!((ended.status.code(), said.as_str()), (Some(1), how));
        return;
    }
    let demo = Demo::start(&mut demo);
    let behind = |start| demo.behind(start);
    let (token, operator) = (behind("export TOKEN="), behind("export OPERATOR="));
    let urls = behind("curl ");
    let urls: Vec<&str> = urls
        .iter()
        .map(|it| it.split('\'').nth(1).unwrap())
        .collect();
    for url in &urls[..2] {
        let reply = ask(url, &token[0]).await;
        assert_eq!(reply.header("x-upstream-calls"), Some("0"), "{url}");
    }
    for url in &urls[2..4] {
        let reply = ask(url, &operator[0]).await;
        let page = reply.json();
        let records = page["records"].as_array().unwrap();
        for replica in ["gateway-1", "gateway-2"] {
            assert!(records.iter().any(|it| it["replica"] == replica), "{page}");
        }
    }
    let mut outputs = Vec::new();
    for arguments in behind("cargo run --quiet -- ") {
        let mut command = program::command();
        let output = program::output(command.args(arguments.split(' ')));
        assert!(output.status.success(), "{output:?}");
        outputs.push(String::from_utf8(output.stdout).unwrap());
    }
    let [searched, used, verified] = &outputs[..] else {
        panic!("{outputs:?}");
    };
    assert!(searched.matches("payments-api").count() >= 2, "{searched}");
    assert!(used.contains("payments-batch"), "{used}");
    assert_eq!(verified.matches("as shipped").count(), 2, "{verified}");
    // Each replica: one for the list of two, three for three pages.
    assert_eq!(demo.end("-TERM"), "8 calls reached Atlas in all");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

/// Where there is no Valkey or Redis, it says how to get one.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_of_the_fleet_shows_what_replicas_share_and_leaves_nothing_behind() {
    let place = Files::new();
    let mut demo = demo();
    demo.args(["--", "--replicas", "3"])
        .env("TMPDIR", place.path());
    if servers::ENGINE.find().is_none() {
        let ended = demo.output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        let how = "the demo cannot go on: neither Valkey nor Redis is here; Debian has it: apt-get install redis-server\n";
        assert_eq!((ended.status.code(), said.as_str()), (Some(1), how));
        return;
    }
    let demo = Demo::start(&mut demo);
    let behind = |start| demo.behind(start);
    assert_eq!(behind("  calls to Atlas       "), ["1", "2"]);
    let statuses = behind("  gateway-");
    let adopted = statuses
        .iter()
        .filter(|line| line.ends_with("detail=fleet"));
    assert_eq!((statuses.len(), adopted.count()), (6, 4), "{statuses:?}");
    let purged = "  {\"entries\":1,\"replicas\":3,\"confirmed\":3}";
    assert_eq!(behind(purged), [""], "{:?}", demo.said);
    let (token, operator) = (behind("export TOKEN="), behind("export OPERATOR="));
    let commands = behind("curl ");
    let urls: Vec<&str> = commands
        .iter()
        .map(|it| it.split('\'').nth(1).unwrap())
        .collect();
    for url in &urls[..3] {
        let reply = ask(url, &token[0]).await;
        assert_eq!(reply.header("x-upstream-calls"), Some("0"), "{url}");
    }
    for (url, fetched_by) in urls[3..6]
        .iter()
        .zip([None, Some("gateway-1"), Some("gateway-1")])
    {
        let explained = ask(url, &operator[0]).await.json();
        assert_eq!(explained["fleet"]["connected"], true, "{explained}");
        let by = explained["list"]["fillReplica"].as_str();
        assert_eq!(by, fetched_by, "{explained}");
    }
    assert_eq!(demo.end("-TERM"), "2 calls reached Atlas in all");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_says_what_it_takes() {
    for (arguments, problem) in [
        (
            &["--replicas", "1"][..],
            "--replicas takes a number from 2 to 9",
        ),
        (
            &["--replica"][..],
            "it takes nothing, `--central` or `--replicas 3`",
        ),
    ] {
        let ended = demo().arg("--").args(arguments).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(said, format!("the demo cannot go on: {problem}\n"));
        assert_eq!(ended.status.code(), Some(1));
    }
}

async fn ask(url: &str, token: &str) -> Reply {
    let address = url.strip_prefix("http://").unwrap();
    let (host, path) = address.split_once('/').unwrap();
    let request = format!(
        "GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: \
         close\r\n\r\n"
    );
    client::exchange(host.parse().unwrap(), request.as_bytes()).await
}

fn demo() -> Command {
    let mut demo = Command::new(env!("CARGO"));
    demo.args(["run", "--quiet", "--locked", "--example", "demo"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    demo
}
