//! A pipe in the place of a file keeps its reader waiting for ever: nobody else waits with it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{Authority, ask, until_reloaded};
use crate::program::{Program, command, output, world_with};
use crate::world::set;

/// Puts a pipe that nobody writes to in the place of a file.
fn make_pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test]
async fn pipes_in_the_place_of_certificates_keys_and_secrets_block_nothing() {
    let authority = Authority::new();
    let world = authority.world(true).await;
    let mut caller = authority
        .connect(&world, Some(authority.caller()), &[])
        .await
        .unwrap();
    assert_eq!(ask(&mut caller).await.unwrap(), "200");
    for name in ["server.pem", "server.key", "ca.pem"] {
        make_pipe(Path::new(&authority.path(name)));
    }
    for name in ["atlas", "hmac"] {
        make_pipe(&world.files.path().join(name));
    }
    until_reloaded(&world, "refused", 1).await;
    for _ in 0..10 {
        world.advance(Duration::from_secs(5));
        let identity = Some(authority.caller());
        let mut caller = authority.connect(&world, identity, &[]).await.unwrap();
        assert_eq!(ask(&mut caller).await.unwrap(), "200");
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(world.admin("GET", path, "", "").await.status, 200);
        }
    }
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_became_a_pipe_is_refused_and_the_end_is_orderly() {
    let (_atlas, files) = world_with(|_| {}).await;
    let mut program = Program::start(files.path());
    let path = files.path().join("gateway.toml");
    make_pipe(&path);
    for name in ["atlas", "hmac"] {
        make_pipe(&files.path().join(name));
    }
    program.signal("-HUP");
    program.until_it_says("no regular file");
    program.signal("-TERM");
    assert_eq!(program.end().0, Some(0));
}

// The program is waited for by a thread.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_secret_is_refused_in_words() {
    let (_atlas, files) = world_with(|config| {
        set(config, "audit.sync", "never");
    })
    .await;
    make_pipe(&files.path().join("hmac"));
    let file = files.path().join("gateway.toml");
    let checked = output(command().args(["check", "--config"]).arg(&file));
    assert_eq!(checked.status.code(), Some(78), "{checked:?}");
    let said = String::from_utf8(checked.stderr).unwrap();
    assert!(
        said.contains("hmac_secret_file") && said.contains("no regular file"),
        "{said}"
    );
}
