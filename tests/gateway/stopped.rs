//! U12, G22, G27: Atlas stands still. Its process is stopped as by a debugger: connections stand, and
//! nothing comes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use atlas_cert_gateway::system::Clock;
use atlas_simulator::{Settings, Simulator};
use serde_json::json;

use crate::client;
use crate::client::Reply;
use crate::program;
use crate::program::Program;
use crate::world::{PROJECT, certs, configuration, every, set, token_at, write_secrets};

/// An Atlas in a process of its own: this test, once more.
struct AtlasProcess {
    child: Child,
    url: String,
}

impl AtlasProcess {
    fn start(test: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(BE_ATLAS, "yes")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("Atlas ended at once").unwrap();
            if let Some((_, url)) = line.split_once(GREETING) {
                break url.to_owned();
            }
        };
        Self { child, url }
    }

    /// Says where it listens, and answers until it is killed.
    async fn be() {
        let mut world = atlas_simulator::World::new(Clock::system().now().wall.into());
        for user in USERS {
            world.project(PROJECT).user(user).certificates(2);
        }
        let atlas = Simulator::start(Settings::with_world(world)).await.unwrap();
        // Printed by hand: what a test prints is an error to the lints.
        let line = format!("{GREETING}{}\n", atlas.base_url());
        std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
        std::future::pending::<()>().await;
    }

    fn signal(&self, name: &str) {
        program::signal(&self.child, name);
    }
}

impl AtlasProcess {
    /// Stops every thread of it. The signal is sent before the last of them stands still.
    async fn stop(&self) {
        self.signal("-STOP");
        let threads = format!("/proc/{}/task", self.child.id());
        let stands_still = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap();
            // proc(5): the state comes behind the name, which stands in parentheses.
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        };
        let mut glances = every(Duration::from_millis(2));
        while !fs::read_dir(&threads)
            .unwrap()
            .all(|thread| stands_still(thread.unwrap()))
        {
            glances.tick().await;
        }
    }
}

impl Drop for AtlasProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ask(program: &Program, user: &str) -> Reply {
    let now = Clock::system().now().wall.seconds();
    let token = token_at(now, &json!({ "sub": "payments-api" }));
    let path = certs(PROJECT, user);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\nConnection: \
         close\r\n\r\n"
    );
    client::exchange(program.address, request.as_bytes()).await
}

// The first runtime's thread would be busy with the program's answers while it waits for lines.
#[tokio::test(flavor = "multi_thread")]
async fn u12_while_atlas_hangs_hits_are_answered_and_misses_refused() {
    const NAME: &str = "stopped::u12_while_atlas_hangs_hits_are_answered_and_misses_refused";
    if env::var_os(BE_ATLAS).is_some() {
        return AtlasProcess::be().await;
    }
    let atlas = AtlasProcess::start(NAME);
    let files = tempfile::tempdir().unwrap();
    write_secrets(&files);
    let mut configuration = configuration(&files);
    set(&mut configuration, "atlas.base_url", atlas.url.as_str());
    // The usual three seconds and more, times as many misses as it takes, are for the bench.
    set(&mut configuration, "atlas.limits.first_byte", "300ms");
    set(&mut configuration, "atlas.limits.page", "500ms");
    set(&mut configuration, "atlas.limits.fetch", "1s");
    let file = files.path().join("gateway.toml");
    fs::write(file, configuration.to_string()).unwrap();
    let program = Program::start(files.path());
    assert_eq!(ask(&program, "known").await.status, 200);

    atlas.stop().await;
    let mut seen = Vec::new();
    for user in &USERS[1..] {
        let missed = ask(&program, user).await;
        let document = missed.json();
        seen.push((
            missed.status,
            document["errorCode"].as_str().unwrap().to_owned(),
        ));
        let hit = ask(&program, "known").await;
        assert_eq!(
            (hit.status, hit.header("x-upstream-calls")),
            (200, Some("0"))
        );
    }
    // Five that came to nothing; from then on no caller is kept waiting for a sixth.
    let waited = (504, "UPSTREAM_TIMEOUT".to_owned());
    assert_eq!(seen[..5], vec![waited; 5]);
    let last = seen.last().unwrap();
    assert_eq!(last, &(503, "SERVICE_UNAVAILABLE".to_owned()), "{seen:?}");

    atlas.signal("-CONT");
    let mut glances = every(Duration::from_millis(20));
    while ask(&program, "late").await.status != 200 {
        glances.tick().await;
    }
    // Within five seconds of its own failure each list is asked for again.
    for user in USERS {
        while ask(&program, user).await.status != 200 {
            glances.tick().await;
        }
    }
}

const BE_ATLAS: &str = "GATEWAY_TEST_BE_ATLAS";
const GREETING: &str = "Atlas listens on ";
/// The first is asked about in time, the others while Atlas stands still.
const USERS: [&str; 9] = ["known", "late", "later", "a", "b", "c", "d", "e", "f"];
