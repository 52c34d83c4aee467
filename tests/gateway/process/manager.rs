//! What the service manager is told.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::client;
use crate::program::{Program, command, output, request, serve, world, world_with};
use crate::world::set;

/// The manager's end of `NOTIFY_SOCKET`.
pub(super) struct Manager(UnixDatagram);

impl Manager {
    pub(super) fn at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).unwrap())
    }

    /// What it is told next, apart from being told that all is alive.
    pub(super) fn told(&self) -> String {
        loop {
            let told = self.next();
            if told != "WATCHDOG=1" {
                return told;
            }
        }
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4_096];
        let length = self.0.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length])
            .trim_end()
            .to_owned()
    }
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_manager_is_told_of_readiness_reloads_life_and_the_end() {
    let (_atlas, files) = world().await;
    let path = files.path().join("notify");
    let manager = Manager::at(&path);
    let mut command = serve(files.path());
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "20000");
    let program = Program::run(&mut command);
    assert_eq!(manager.told(), "READY=1");
    let reply = client::exchange(program.address, &request("close")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(manager.next(), "WATCHDOG=1");
    assert_eq!(manager.next(), "WATCHDOG=1");
    program.signal("-HUP");
    let reloading = manager.told();
    let (word, moment) = reloading.split_once('\n').unwrap();
    assert_eq!(word, "RELOADING=1");
    let moment = moment.strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(moment.parse::<u64>().unwrap() > 0);
    assert_eq!(
        manager.told(),
        "READY=1\nSTATUS=the configuration was read again"
    );
    std::fs::write(
        files.path().join("gateway.toml"),
        "[cache]\nttl = \"soon\"\n",
    )
    .unwrap();
    program.signal("-HUP");
    assert!(manager.told().starts_with("RELOADING=1\n"));
    let refused = "READY=1\nSTATUS=the configuration was refused and the old one stays";
    assert!(manager.told().starts_with(refused));
    program.signal("-TERM");
    assert_eq!(manager.told(), "STOPPING=1");
    assert_eq!(program.end().0, Some(0));
}

/// What is ill is told to the manager and by `health`, which is well all the same.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn the_manager_and_health_are_told_what_is_degraded() {
    let (_atlas, files) = world_with(|configuration| {
        set(configuration, "audit.second.to", "unix:///nowhere/at/all");
    })
    .await;
    let path = files.path().join("notify");
    let manager = Manager::at(&path);
    let program = Program::run(serve(files.path()).env("NOTIFY_SOCKET", &path));
    assert_eq!(manager.told(), "READY=1");
    let problem = "second_sink: the second audit sink cannot be reached";
    assert_eq!(manager.told(), format!("STATUS=ready; degraded: {problem}"));
    let mut health = command();
    health
        .arg("health")
        .arg("--config")
        .arg(files.path().join("gateway.toml"))
        .env(
            "ATLAS_CERT_GATEWAY__ADMIN__LISTEN",
            program.admin.to_string(),
        );
    let health = output(&mut health);
    assert_eq!(health.status.code(), Some(0), "{health:?}");
    assert_eq!(
        String::from_utf8(health.stdout).unwrap(),
        format!("healthy\ndegraded: {problem}\n")
    );
    program.signal("-HUP");
    assert!(manager.told().starts_with("RELOADING=1"));
    assert_eq!(
        manager.told(),
        format!("READY=1\nSTATUS=the configuration was read again; ready; degraded: {problem}")
    );
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_gone_keeps_nothing_from_working() {
    let (_atlas, files) = world().await;
    let mut command = serve(files.path());
    command.env("NOTIFY_SOCKET", files.path().join("nobody"));
    let program = Program::run(&mut command);
    let reply = client::exchange(program.address, &request("close")).await;
    assert_eq!(reply.status, 200);
    program.signal("-TERM");
    assert_eq!(program.end().0, Some(0));
}
