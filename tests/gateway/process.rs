//! The program itself: its commands, its exit codes, its signals, and what is left when it is killed.

mod audit_files;
mod check;
mod core_dumps;
mod descriptors;
mod faults;
mod follow;
mod killed;
mod killed_packing;
mod log_pipe;
mod logs;
mod manager;
mod memory;
mod packaged;
mod people;
mod restarts;
mod signals;
mod sockets;
mod spans;
mod standard_output;
mod traces;

use std::fs;

use atlas_simulator::CLIENT_SECRET;

use crate::client;
use crate::program::{Program, command, output, request, world};

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
        (&["audit", "usage", "/nowhere"], None, 1),
        (&["audit", "search", "/nowhere", "--status=2xx"], None, 2),
        (
            &["audit", "search", "/nowhere", "--peer=localhost"],
            None,
            2,
        ),
        (&["audit", "usage", "/nowhere", "--by=colour"], None, 2),
        (&["--help"], None, 0),
        (&["--version"], None, 0),
        (&["--nonsense"], None, 2),
        (&["serve", "--nonsense"], None, 2),
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
