//! The files that outlive the process are believed as far as they can be true, and one process uses them
//! (R9).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atlas_cert_gateway::app::App;
use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::config::Config;
use atlas_cert_gateway::system::Clock;
use atlas_cert_gateway::telemetry::Chain;
use atlas_simulator::CLIENT_ID;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::client;
use crate::program::{Program, command, output, request, serve, world_with};
use crate::world::{NOW, Plan, World, set, use_api_key};

/// Where a file of the usual account lies.
fn kept(plan: &Plan, ending: &str) -> PathBuf {
    let directory = plan.config["atlas"]["state_directory"].as_str().unwrap();
    fs::create_dir_all(directory).unwrap();
    Path::new(directory).join(format!("{CLIENT_ID}.{ending}"))
}

fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn ledger(seconds: impl IntoIterator<Item = i64>) -> String {
    let now = Timestamp::parse(NOW).unwrap().seconds();
    let lines = seconds
        .into_iter()
        .map(|it| format!("asked {}\n", now + it));
    lines.collect()
}

async fn status(world: &World) -> u16 {
    world.while_time_passes(world.ask("app1")).await.status
}

/// What can lie where a file of ours should.
const DAMAGES: [&str; 7] = [
    "huge",
    "garbage",
    "link",
    "dangling",
    "pipe",
    "directory",
    "open",
];

fn damage(path: &Path, how: &str) {
    match how {
        "huge" => put(path, &vec![b'x'; 2 << 20]),
        "garbage" => put(path, b"\x00\xff nonsense\nasked never\n"),
        "link" => {
            let target = path.with_extension("target");
            put(&target, b"kept");
            symlink(target, path).unwrap();
        }
        "dangling" => symlink("nowhere", path).unwrap(),
        "pipe" => mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        "directory" => fs::create_dir(path).unwrap(),
        "open" => {
            put(path, ledger([0; 80]).as_bytes());
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn r9_a_ledger_from_the_future_locks_us_out_for_a_minute_and_no_longer() {
    for dates in [[59 * 60; 5], [3_599; 5], [86_400; 5], [60, 61, 62, 63, 64]] {
        let world = World::with(|plan| put(&kept(plan, "ledger"), ledger(dates).as_bytes())).await;
        world.advance(Duration::from_secs(1));
        let early = world.ask("app1").await;
        assert_eq!(early.status, 503, "{dates:?} {}", early.text());
        let wait: u64 = early.header("retry-after").unwrap().parse().unwrap();
        assert!(wait <= 66, "{dates:?}: {wait}");
        world.advance(Duration::from_secs(66));
        assert_eq!(status(&world).await, 200, "{dates:?}");
    }
    // A clock that was set back by an hour, and tokens that were minted over the hour before.
    let over_an_hour = [300, 900, 1_500, 2_100, 3_000];
    let world = World::with(|plan| put(&kept(plan, "ledger"), ledger(over_an_hour).as_bytes()));
    assert_eq!(status(&world.await).await, 200);
}

#[tokio::test]
async fn r9_whatever_lies_in_a_files_place_is_set_aside_and_callers_are_served() {
    for ending in ["ledger", "token"] {
        for how in DAMAGES {
            let mut path = PathBuf::new();
            let world = World::with(|plan| {
                path = kept(plan, ending);
                damage(&path, how);
            })
            .await;
            assert_eq!(status(&world).await, 200, "{ending}: {how}");
            let found = fs::symlink_metadata(&path).unwrap();
            assert!(found.is_file(), "{ending}: {how}");
            assert_eq!(found.permissions().mode() & 0o777, 0o600, "{ending}: {how}");
            if how == "link" {
                let target = fs::read(path.with_extension("target")).unwrap();
                assert_eq!(target, b"kept", "{ending}");
            }
            // A sealed token that cannot be opened is another secret's, and no damage.
            if ending == "ledger" || how != "garbage" {
                let mut aside = path.into_os_string();
                aside.push(".damaged");
                assert!(fs::symlink_metadata(&aside).is_ok(), "{ending}: {how}");
            }
        }
    }
}

#[tokio::test]
async fn r9_a_state_directory_is_one_processs_until_that_has_ended() {
    let mut config = toml::Table::new();
    let world = World::with(|plan| config = plan.config.clone()).await;
    let files = world.files.path().display();
    set(
        &mut config,
        "audit.directory",
        format!("{files}/other-audit"),
    );
    set(&mut config, "atlas.base_url", world.atlas.base_url());
    let clock = || Clock::manual(Timestamp::parse(NOW).unwrap()).0;
    let second = Config::parse(&config.to_string(), []).unwrap();
    let Err(refused) = App::start(&second, clock()).await else {
        panic!("it was started");
    };
    let words = Chain(&refused).to_string();
    assert!(
        words.contains("/state is used by another process"),
        "{words}"
    );
    // Who mints no tokens keeps nothing there.
    use_api_key(&mut config);
    let third = Config::parse(&config.to_string(), []).unwrap();
    let third = App::start(&third, clock()).await.unwrap();
    // An account that is added later does.
    let refused = third.reload(&second).await.unwrap_err();
    assert_eq!(refused[0].place, "atlas.state_directory");
    drop(third);
    let stopped = world.app.stop();
    let mut stopped = std::pin::pin!(stopped);
    loop {
        tokio::select! {
            biased;
            () = stopped.as_mut() => break,
            () = tokio::task::yield_now() => world.clock.advance(Duration::from_millis(10)),
        }
    }
    set(
        &mut config,
        "audit.directory",
        format!("{files}/third-audit"),
    );
    let second = Config {
        audit: Config::parse(&config.to_string(), []).unwrap().audit,
        ..second
    };
    App::start(&second, clock()).await.unwrap();
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn r9_a_second_process_says_who_has_its_state_and_exits_with_1() {
    let (_atlas, files) = world_with(|_| {}).await;
    let first = Program::start(files.path());
    let reply = client::exchange(first.address, &request("close")).await;
    assert_eq!(reply.status, 200);
    let path = files.path().join("gateway.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("/audit\"", "/another-audit\"")).unwrap();
    let second = output(&mut serve(files.path()));
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("/state is used by another process"), "{said}");
    first.signal("-KILL");
    drop(first);
    let third = Program::start(files.path());
    let reply = client::exchange(third.address, &request("close")).await;
    assert_eq!(reply.status, 200);
}

/// A file, its content and its mode.
type Seen = (PathBuf, Vec<u8>, u32);

/// Everything below a directory, and what is in it.
fn everything(directory: &Path) -> Vec<Seen> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        if found.is_dir() {
            all.extend(everything(&path));
        }
        let content = fs::read(&path).unwrap_or_default();
        all.push((path, content, found.permissions().mode()));
    }
    all.sort();
    all
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn check_writes_nothing_into_the_state_directory_fresh_or_in_use() {
    let (atlas, files) = world_with(|_| {}).await;
    let state = files.path().join("state");
    let check = |arguments: &[&str]| {
        let mut check = command();
        check.arg("check").args(arguments).arg("--config");
        let ended = output(check.arg(files.path().join("gateway.toml")));
        assert_eq!(ended.status.code(), Some(0), "{arguments:?} {ended:?}");
    };
    check(&[]);
    check(&["--online"]);
    assert!(!state.exists(), "a check made it");
    assert_eq!((atlas.mints(), atlas.live_tokens()), (1, 0));
    let program = Program::start(files.path());
    let reply = client::exchange(program.address, &request("close")).await;
    assert_eq!(reply.status, 200);
    // What a running gateway has begun to write is there when its caller is answered.
    let before = everything(&state);
    assert_eq!(before.len(), 3, "{before:?}");
    check(&[]);
    check(&["--online"]);
    assert_eq!(everything(&state), before);
    assert_eq!((atlas.mints(), atlas.live_tokens()), (3, 1));
}

#[tokio::test]
async fn a_file_in_place_of_the_state_directory_is_a_refused_configuration() {
    let (_atlas, files) = world_with(|_| {}).await;
    let state = files.path().join("state");
    fs::write(&state, "").unwrap();
    for subcommand in ["check", "serve"] {
        let mut program = command();
        program.args([subcommand, "--config"]);
        let ended = output(program.arg(files.path().join("gateway.toml")));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(78), "{subcommand}: {said}");
        assert!(said.contains("atlas.state_directory"), "{said}");
    }
}
