//! A Valkey, or a Redis, in a directory of its own, on a socket in it; stopped and removed with its value.

use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use redis::{AsyncConnectionConfig, RedisError, Value};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::servers::ENGINE;

/// A running server without persistence.
pub(crate) struct Engine {
    program: PathBuf,
    place: TempDir,
    server: Option<Child>,
    /// Its clock is another than the system's.
    has_own_clock: bool,
}

impl Engine {
    /// Starts one; `None` where there is none to start.
    pub(crate) async fn start() -> Option<Self> {
        let mut engine = Self::new()?;
        engine.resume().await;
        Some(engine)
    }

    /// The same, with a clock that can be [shifted](Self::shift_clock); `None` as well where no C is compiled or no
    /// library preloaded.
    #[expect(clippy::print_stderr, reason = "a test says why it tries nothing")]
    pub(crate) async fn with_own_clock() -> Option<Self> {
        let mut engine = Self::new()?;
        engine.has_own_clock = true;
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/clock_shift.c");
        let mut compile = Command::new("cc");
        compile
            .args(["-shared", "-fPIC", "-o"])
            .arg(engine.preload());
        let compiled = compile.arg(source).status();
        engine.shift_clock(HOUR);
        engine.resume().await;
        let shifted = engine.seconds().await;
        engine.shift_clock(0);
        let is_shifted = shifted > engine.seconds().await + HOUR / 2;
        if compiled.is_ok_and(|status| status.success()) && is_shifted {
            return Some(engine);
        }
        assert!(
            env::var_os("CI").is_none(),
            "the engine's clock is not shifted"
        );
        eprintln!("no engine by another clock: `cc` or LD_PRELOAD does not work here");
        None
    }

    fn new() -> Option<Self> {
        Some(Self {
            program: ENGINE.wanted()?,
            place: tempfile::Builder::new().prefix("vk").tempdir().unwrap(),
            server: None,
            has_own_clock: false,
        })
    }

    /// By so many seconds from the system's.
    pub(crate) fn shift_clock(&self, seconds: i64) {
        let mut file = fs::OpenOptions::new();
        // It is never shorter than the number: the server has it mapped.
        let file = file.write(true).create(true).truncate(false);
        let file = file.open(self.place.path().join("shift")).unwrap();
        file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    /// What its clock says.
    async fn seconds(&self) -> i64 {
        let time: (i64, i64) = redis::from_redis_value(self.command(&["TIME"]).await).unwrap();
        time.0
    }

    fn preload(&self) -> PathBuf {
        self.place.path().join("clock_shift.so")
    }

    /// Starts the server, empty, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        let mut server = Command::new(&self.program);
        server.args(["--port", "0", "--save", "", "--unixsocket"]);
        server
            .arg(self.socket())
            .arg("--dir")
            .arg(self.place.path());
        server.stdout(Stdio::null()).stderr(Stdio::null());
        if self.has_own_clock {
            server.env("LD_PRELOAD", self.preload());
            server.env("CLOCK_SHIFT", self.place.path().join("shift"));
        }
        // Ctrl-C is for who waits for it, who then ends in good order.
        server.process_group(0);
        self.server = Some(server.spawn().unwrap());
        let mut glances = tokio::time::interval(Duration::from_millis(5));
        while self.connect().await.is_none() {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it does not start");
            glances.tick().await;
        }
    }

    /// Ends the server. What it held is lost.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            kill_process(Pid::from_child(&server), Signal::KILL).unwrap();
            server.wait().unwrap();
            fs::remove_file(self.socket()).unwrap();
        }
    }

    /// Stops the server, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        let server = self.server.as_ref().unwrap();
        kill_process(Pid::from_child(server), signal).unwrap();
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.place.path().join("socket")
    }

    /// Its address for `fleet.url`.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Sends a command as its default user.
    pub(crate) async fn command(&self, words: &[&str]) -> Value {
        let mut connection = self.connect().await.unwrap();
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(*word);
        }
        command.query_async(&mut connection).await.unwrap()
    }

    /// Sends a command as another user.
    pub(crate) async fn command_as(
        &self,
        (user, password): (&str, &str),
        words: &[&str],
    ) -> Result<Value, RedisError> {
        let url = self.url().replace("unix://", "redis+unix://");
        let client = redis::Client::open(format!("{url}?user={user}&pass={password}"))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// Sets a key to bytes.
    pub(crate) async fn set(&self, key: &str, value: &[u8]) {
        let mut connection = self.connect().await.unwrap();
        let mut command = redis::cmd("SET");
        command.arg(key).arg(value);
        let () = command.query_async(&mut connection).await.unwrap();
    }

    async fn connect(&self) -> Option<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.url().replace("unix://", "redis+unix://")).unwrap();
        let settings = AsyncConnectionConfig::new();
        let connection = client.get_multiplexed_async_connection_with_config(&settings);
        connection.await.ok()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.kill();
    }
}

const HOUR: i64 = 3_600;
