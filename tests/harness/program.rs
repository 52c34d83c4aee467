//! The program itself in front of a simulated Atlas, by the real clock: started, signalled, and asked
//! what it has left behind.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::mpsc;
use std::{env, fs};

use atlas_cert_gateway::system::Clock;
use atlas_simulator::{Settings, Simulator};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client;
use super::world::{
    OTHER_PROJECT, PROJECT, certs, configuration, set, token_at, whole_lines, write_secrets,
};

/// A running program.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: mpsc::Receiver<String>,
    /// What it has said so far.
    pub(crate) said: Vec<String>,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(files: &Path) -> Self {
        Self::run(&mut serve(files))
    }

    /// The same for a command that somebody has changed.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = lines(child.stderr.take().unwrap());
        let mut said = Vec::new();
        let started = loop {
            let line = log.recv().unwrap_or_else(|_| panic!("it ended: {said:?}"));
            let addresses = listening(&line);
            said.push(line);
            if let Some(addresses) = addresses {
                break addresses;
            }
        };
        let (address, admin) = started;
        Self {
            child,
            address,
            admin,
            log,
            said,
        }
    }

    /// Sends a signal, such as `-TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// A metric's value, by its name behind the prefix; none if it is not on the page.
    pub(crate) async fn metric(&self, name: &str) -> Option<u64> {
        let page = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let page = client::exchange(self.admin, page).await.text();
        let line = format!("atlas_cert_gateway_{name} ");
        let value = page.lines().find_map(|it| it.strip_prefix(&line));
        value.map(|value| value.parse().unwrap())
    }

    /// Waits until it says something.
    pub(crate) fn until_it_says(&mut self, text: &str) {
        loop {
            let line = self.log.recv();
            let line = line.unwrap_or_else(|_| panic!("it never said {text}: {:?}", self.said));
            let found = line.contains(text);
            self.said.push(line);
            if found {
                return;
            }
        }
    }

    /// Waits for its end; its exit code, and everything that it has said.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<String>) {
        let code = self.child.wait().unwrap().code();
        let mut said = std::mem::take(&mut self.said);
        said.extend(self.log.iter());
        (code, said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where it says that it listens, in either format of its log.
pub(crate) fn listening(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (_, rest) = line.split_once("listening on ")?;
    let (callers, operators) = rest.split_once(", for operators on ")?;
    let end = operators.find(|sign: char| sign == '"' || sign.is_whitespace());
    let operators = operators.get(..end.unwrap_or(operators.len()))?;
    Some((callers.parse().ok()?, operators.parse().ok()?))
}

/// Lines as they come, read on a thread of their own, so that nobody who writes has to wait.
pub(crate) fn lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let lines = BufReader::new(stderr).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            // Whoever no longer listens does not keep it from being read.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Sends a signal, such as `-TERM`.
pub(crate) fn signal(child: &Child, name: &str) {
    let signal = match name {
        "-CONT" => Signal::CONT,
        "-HUP" => Signal::HUP,
        "-INT" => Signal::INT,
        "-KILL" => Signal::KILL,
        "-QUIT" => Signal::QUIT,
        "-STOP" => Signal::STOP,
        "-TERM" => Signal::TERM,
        _ => panic!("{name} is sent by no test yet"),
    };
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Whether this process runs `test` and no other: for a test that measures the whole process. Where it does
/// not, the test is run so, and what this one says is what came of that.
#[expect(clippy::print_stdout, reason = "what it said is what this test says")]
pub(crate) fn is_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let output = output(
        command
            .args(["--exact", test, "--nocapture"])
            .env(ALONE, "yes"),
    );
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success());
    assert!(said.contains("1 passed"));
    false
}

const ALONE: &str = "THIS_TEST_ALONE";

/// The program.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_atlas-cert-gateway"))
}

/// The program, serving by the file in a directory.
pub(crate) fn serve(files: &Path) -> Command {
    let mut command = command();
    command
        .args(["serve", "--config"])
        .arg(files.join("gateway.toml"));
    command
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// An Atlas in which `app1` has two certificates, and the files of a gateway in front of it.
pub(crate) async fn world() -> (Simulator, TempDir) {
    world_with(|_| {}).await
}

/// The same, with changes to the configuration.
pub(crate) async fn world_with(change: impl FnOnce(&mut toml::Table)) -> (Simulator, TempDir) {
    let mut world = atlas_simulator::World::new(Clock::system().now().wall.into());
    world.project(PROJECT).user("app1").certificates(2);
    world.project(OTHER_PROJECT).user("app1").certificates(1);
    let atlas = Simulator::start(Settings::with_world(world)).await.unwrap();
    let files = files_in_front_of(&atlas, change);
    (atlas, files)
}

/// The files of another gateway in front of the same Atlas.
pub(crate) fn files_in_front_of(
    atlas: &Simulator,
    change: impl FnOnce(&mut toml::Table),
) -> TempDir {
    let files = tempfile::tempdir().unwrap();
    write_secrets(&files);
    let mut configuration = configuration(&files);
    set(&mut configuration, "atlas.base_url", atlas.base_url());
    change(&mut configuration);
    let text = configuration.to_string();
    fs::write(files.path().join("gateway.toml"), text).unwrap();
    files
}

/// A lookup of the usual caller, by the real clock.
pub(crate) fn request(connection: &str) -> Vec<u8> {
    request_for("app1", &token_now(), connection)
}

/// A lookup of a user with a token.
pub(crate) fn request_for(username: &str, token: &str, connection: &str) -> Vec<u8> {
    let path = certs(PROJECT, username);
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: \
         {connection}\r\n\r\n"
    )
    .into_bytes()
}

/// The usual caller's token, by the real clock.
pub(crate) fn token_now() -> String {
    let now = Clock::system().now().wall.seconds();
    token_at(now, &json!({ "sub": "payments-api" }))
}

/// The records of one kind that a program has left behind, oldest first; the chain is whole.
pub(crate) fn records(files: &Path, kind: &str) -> Vec<Value> {
    let directory = files.join("audit");
    let verified = output(command().args(["audit", "verify"]).arg(&directory));
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let mut journals: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    journals.sort();
    journals
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let lines = whole_lines(&text).lines();
            let records = lines.map(|line| serde_json::from_str(line).unwrap());
            records.collect::<Vec<Value>>()
        })
        .filter(|record| record["kind"] == kind)
        .collect()
}

/// The records of reloads.
pub(crate) fn reloads(files: &Path) -> Vec<Value> {
    let mut records = records(files, "admin");
    records.retain(|record| record["action"] == "reload");
    records
}
