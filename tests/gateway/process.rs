//! The program itself: its commands, its exit codes, its signals, and what is left when it is killed.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use atlas_cert_gateway::clock::Clock;
use atlas_simulator::CLIENT_SECRET;
use atlas_simulator::Settings;
use atlas_simulator::Simulator;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::client;
use crate::world::PROJECT;
use crate::world::certs;
use crate::world::configuration;
use crate::world::set;
use crate::world::token_at;
use crate::world::write_secrets;

mod faults;
mod killed;
mod standard_output;

/// The program in front of a simulated Atlas, by the real clock.
pub(crate) struct Program {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(files: &Path) -> Self {
        Self::run(&mut serve(files))
    }

    /// The same for a command that somebody has changed.
    fn run(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let started = loop {
            let line = log.next().expect("the program ended at once").unwrap();
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["listen"].is_string() {
                break event;
            }
        };
        // Its log has to go somewhere for as long as it runs.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        let address = |key: &str| started[key].as_str().unwrap().parse().unwrap();
        let (address, admin) = (address("listen"), address("admin"));
        Self {
            child,
            address,
            admin,
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

fn signal(process: &Child, name: &str) {
    let id = process.id().to_string();
    assert!(
        Command::new("kill")
            .args([name, &id])
            .status()
            .unwrap()
            .success()
    );
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn world() -> (Simulator, TempDir) {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut toml::Table)) -> (Simulator, TempDir) {
    let mut world = atlas_simulator::World::new(Clock::system().now().wall.into());
    world.project(PROJECT).user("app1").certificates(2);
    let atlas = Simulator::start(Settings::with_world(world)).await.unwrap();
    let files = tempfile::tempdir().unwrap();
    write_secrets(&files);
    let mut configuration = configuration(&files);
    set(&mut configuration, "atlas.base_url", atlas.base_url());
    change(&mut configuration);
    let text = configuration.to_string();
    fs::write(files.path().join("gateway.toml"), text).unwrap();
    (atlas, files)
}

pub(crate) fn request(connection: &str) -> Vec<u8> {
    let now = Clock::system().now().wall.seconds();
    request_for(
        "app1",
        &token_at(now, &json!({ "sub": "payments-api" })),
        connection,
    )
}

fn request_for(username: &str, token: &str, connection: &str) -> Vec<u8> {
    let path = certs(PROJECT, username);
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\nConnection: \
         {connection}\r\n\r\n"
    )
    .into_bytes()
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn it_serves_reloads_and_ends_well_when_it_is_told_to() {
    let (atlas, files) = world().await;
    let mut program = Program::start(files.path());
    let reply = client::exchange(program.address, &request("close")).await;
    assert_eq!(
        (reply.status, &reply.json()["totalCount"]),
        (200, &2.into())
    );
    let health = output(command().args([
        "health",
        "--url",
        &format!("http://{}/healthz", program.admin),
    ]));
    assert_eq!(health.status.code(), Some(0));
    program.signal("-HUP");
    let reply = client::exchange(program.address, &request("close")).await;
    assert_eq!(reply.status, 200);
    program.signal("-TERM");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    assert_eq!(atlas.live_tokens(), 0, "our token was given back");
    let directory = files.path().join("audit");
    let verified = output(command().args(["audit", "verify"]).arg(&directory));
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    let found = output(command().args(["audit", "search"]).arg(&directory).args([
        "--username",
        "app1",
        "--format",
        "json",
    ]));
    let text = String::from_utf8(found.stdout).unwrap();
    let lookups = text
        .lines()
        .filter(|line| line.contains("\"kind\":\"lookup\""))
        .count();
    assert_eq!(lookups, 2, "{text}");
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_a_refused_configuration_from_a_failure_and_from_a_wrong_call() {
    let (_atlas, files) = world().await;
    let good = files.path().join("gateway.toml");
    let bad = files.path().join("bad.toml");
    fs::write(&bad, "[cache]\nttl = \"soon\"\ncolour = 1\n").unwrap();
    let absent = files.path().join("absent.toml");
    for (arguments, file, code) in [
        (&["check", "--config"][..], Some(&good), 0),
        (&["check", "--online", "--config"], Some(&good), 0),
        (&["check", "--config"], Some(&bad), 78),
        (&["serve", "--config"], Some(&bad), 78),
        (&["check", "--config"], Some(&absent), 78),
        (&["audit", "verify", "/nowhere"], None, 1),
        (&["--help"], None, 0),
        (&["--version"], None, 0),
        (&["--nonsense"], None, 2),
        (&["serve"], None, 2),
        (&[], None, 2),
    ] {
        let ended = output(command().args(arguments).args(file));
        assert_eq!(ended.status.code(), Some(code), "{arguments:?} {ended:?}");
    }
    let refused = output(command().args(["check", "--config"]).arg(&bad));
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(
        complaint.contains("cache.ttl (line 2)") && complaint.contains("cache.colour (line 3)"),
        "{complaint}"
    );
    let checked = output(command().args(["check", "--config"]).arg(&good));
    let settings = String::from_utf8(checked.stdout).unwrap();
    assert!(
        settings.contains("ttl = \"5m\"") && !settings.contains(CLIENT_SECRET),
        "{settings}"
    );
}

fn serve(files: &Path) -> Command {
    let mut command = command();
    command
        .args(["serve", "--config"])
        .arg(files.join("gateway.toml"));
    command
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_atlas-cert-gateway"))
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}
