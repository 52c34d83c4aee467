//! `audit search --follow` shows what is there, and what comes, across audit files and directories.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::client;
use crate::program::{Program, command, request, request_for, signal, token_now, world};

/// A program that follows trails, and what it shows.
struct Follower {
    child: Child,
    shown: mpsc::Receiver<String>,
}

impl Follower {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (show, shown) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|it| show.send(it)));
        Self { child, shown }
    }

    fn next(&self) -> String {
        self.shown.recv().unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(directories: &[&Path], options: &[&str]) -> Command {
    let mut command = command();
    command.args(["audit", "search", "--follow"]);
    command.args(directories).args(options);
    command
}

async fn ask(program: &Program, username: &str) {
    let request = request_for(username, &token_now(), "close");
    client::exchange(program.address, &request).await;
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_comes_first_and_then_what_is_written_across_files_and_directories() {
    let ((_atlas, one), (_other_atlas, other)) = (world().await, world().await);
    let (mut first, second) = (Program::start(one.path()), Program::start(other.path()));
    for number in 0..3 {
        ask(&first, &format!("known-{number}")).await;
    }
    let trails = [one.path().join("audit"), other.path().join("audit")];
    let directories = trails.each_ref().map(std::path::PathBuf::as_path);
    let wanted = ["--kind=lookup", "--limit=2", "--format=json"];
    let mut follower = Follower::start(&mut follow(&directories, &wanted));
    let next = || {
        let record: Value = serde_json::from_str(&follower.next()).unwrap();
        record["username"].as_str().unwrap().to_owned()
    };
    assert_eq!([next(), next()], ["known-1", "known-2"]);
    ask(&first, "new").await;
    assert_eq!(next(), "new");
    first.signal("-HUP");
    first.until_it_says("the configuration was read again");
    ask(&first, "in-the-next-file").await;
    assert_eq!(next(), "in-the-next-file");
    ask(&second, "of-the-other").await;
    assert_eq!(next(), "of-the-other");
    signal(&follower.child, "-INT");
    assert_eq!(follower.child.wait().unwrap().code(), Some(0));
    assert!(follower.shown.recv().is_err(), "nothing is shown twice");
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_well_once_its_output_is_not_read_any_more() {
    let (_atlas, files) = world().await;
    let program = Program::start(files.path());
    client::exchange(program.address, &request("close")).await;
    let directory = files.path().join("audit");
    let mut command = follow(&[&directory], &["--kind=lookup"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("TIME "));
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let gone = follow(&[&files.path().join("nowhere")], &[])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
}
