//! A PostgreSQL server in a directory of its own, on a socket in it; stopped and removed with its value.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::servers::POSTGRES;

/// A running server.
pub(crate) struct Postgres {
    programs: PathBuf,
    place: TempDir,
    settings: &'static [&'static str],
    server: Option<Child>,
    /// On a loopback address too, with TLS.
    tcp_port: Option<u16>,
}

impl Postgres {
    /// Starts one with an empty database `audit`; `None` where there is none to start. It waits for no disk.
    pub(crate) async fn start_empty() -> Option<Self> {
        Self::start_with(&["fsync=off", "shared_buffers=16MB"]).await
    }

    /// The same with these settings.
    pub(crate) async fn start_with(settings: &'static [&'static str]) -> Option<Self> {
        let server = POSTGRES.wanted()?;
        // Beside the others, not where a link to it may be.
        let server = server.canonicalize().unwrap();
        let programs = server.parent().unwrap().to_owned();
        let place = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        if let Some((user, group)) = server_user() {
            std::os::unix::fs::chown(place.path(), Some(user), Some(group)).unwrap();
        }
        let mut postgres = Self {
            programs,
            place,
            settings,
            server: None,
            tcp_port: None,
        };
        let mut initdb = postgres.program("initdb");
        initdb.args([
            "--auth=trust",
            "--username=owner",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        initdb.args(["--no-sync", "--pgdata"]).arg(postgres.data());
        // Ctrl-C is for who waits for it, who then ends in good order.
        initdb.process_group(0);
        let made = initdb.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        postgres.resume().await;
        postgres
            .execute_in("postgres", "CREATE DATABASE audit")
            .await;
        postgres.execute("CREATE ROLE gateway_audit LOGIN").await;
        postgres.execute("CREATE ROLE auditor LOGIN").await;
        Some(postgres)
    }

    /// Where a file of this server's may lie.
    pub(crate) fn directory(&self) -> &Path {
        self.place.path()
    }

    /// The URL of the database for a user.
    pub(crate) fn url(&self, user: &str) -> String {
        let socket = self.place.path().display().to_string();
        let socket = socket.replace('/', "%2F");
        let port = self.port();
        format!("postgres://{user}@{socket}:{port}/audit")
    }

    /// Where `psql` and the like are.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    pub(crate) async fn client(&self, user: &str) -> Client {
        self.client_of(user, "audit").await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.execute_in("audit", sql).await;
    }

    /// One number.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let row = self.client("owner").await.query_one(sql, &[]).await;
        row.unwrap().get(0)
    }

    /// One smaller number.
    pub(crate) async fn integer(&self, sql: &str) -> i32 {
        let row = self.client("owner").await.query_one(sql, &[]).await;
        row.unwrap().get(0)
    }

    pub(crate) async fn execute_in(&self, database: &str, sql: &str) {
        let client = self.client_of("owner", database).await.unwrap();
        client.batch_execute(sql).await.unwrap();
    }

    async fn client_of(&self, user: &str, database: &str) -> Option<Client> {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.place.path())
            .port(self.port())
            .user(user)
            .dbname(database);
        let (client, driver) = config.connect(NoTls).await.ok()?;
        tokio::spawn(driver);
        Some(client)
    }

    /// Starts the server, and waits until it answers.
    pub(crate) async fn resume(&mut self) {
        assert!(self.has_started().await, "{}", self.log());
    }

    /// Begins it anew, on a loopback address too, with these files of TLS; on which port.
    pub(crate) async fn listen(&mut self, certificate: &Path, key: &Path) -> u16 {
        for (name, file) in TLS_FILES.iter().zip([certificate, key]) {
            let copy = self.place.path().join(name);
            fs::copy(file, &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = server_user() {
                std::os::unix::fs::chown(&copy, Some(user), Some(group)).unwrap();
            }
        }
        self.stop(Signal::INT);
        loop {
            // It cannot choose one itself, and another process may take this one meanwhile.
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            self.tcp_port = Some(port);
            if self.has_started().await {
                return port;
            }
            let log = self.log();
            assert!(log.contains("Address already in use"), "{log}");
        }
    }

    /// Whether it answers; it may have ended instead.
    async fn has_started(&mut self) -> bool {
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data());
        server.arg("-k").arg(self.place.path());
        let settings = SETTINGS.iter().chain(self.settings);
        let mut settings: Vec<_> = settings.map(|it| (*it).to_owned()).collect();
        if let Some(port) = self.tcp_port {
            settings.push(format!("port={port}"));
            settings.push("listen_addresses=127.0.0.1".to_owned());
            let [certificate, key] = TLS_FILES.map(|name| self.place.path().join(name));
            settings.push("ssl=on".to_owned());
            settings.push(format!("ssl_cert_file={}", certificate.display()));
            settings.push(format!("ssl_key_file={}", key.display()));
        }
        for setting in settings {
            server.args(["-c", &setting]);
        }
        let log = fs::File::create(self.place.path().join("log")).unwrap();
        server.stderr(log).stdout(Stdio::null()).process_group(0);
        self.server = Some(server.spawn().unwrap());
        let mut glances = tokio::time::interval(Duration::from_millis(5));
        while self.client_of("owner", "postgres").await.is_none() {
            if self.server.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.server = None;
                return false;
            }
            glances.tick().await;
        }
        true
    }

    /// Has it wait for all others on this machine, as one on a machine of its own takes nothing from them.
    #[allow(dead_code, reason = "benches measure callers beside it")]
    pub(crate) fn give_way(&self) {
        let server = self.server.as_ref().map(Pid::from_child);
        rustix::process::setpriority_process(server, 19).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap()
    }

    fn port(&self) -> u16 {
        self.tcp_port.unwrap_or(5432)
    }

    /// Ends the server: `INT` breaks connections, `QUIT` is a crash, after which it recovers.
    pub(crate) fn stop(&mut self, signal: Signal) {
        if let Some(mut server) = self.server.take() {
            kill_process(Pid::from_child(&server), signal).unwrap();
            server.wait().unwrap();
        }
    }

    /// Stops or continues the server with those of its processes that serve connections, each of which has a group
    /// of its own.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let Some(server) = &self.server else { return };
        let pid = server.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children = children
            .split_ascii_whitespace()
            .map(|pid| pid.parse().unwrap());
        for child in children.filter_map(Pid::from_raw) {
            // One that has just ended.
            let _ = kill_process(child, signal);
        }
        kill_process(Pid::from_child(server), signal).unwrap();
    }

    /// A program of this version, as the user that the server is of.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.place.path());
        if let Some((user, group)) = server_user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Where its data and its own configuration are.
    pub(crate) fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal_all(Signal::CONT);
        self.stop(Signal::QUIT);
    }
}

/// Who runs the server where the tests run as root, as which it refuses to run.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let user = users.lines().find(|line| line.starts_with("postgres:"));
    let user = user.expect("Debian's package makes the user postgres");
    let mut numbers = user.split(':').skip(2).map(|it| it.parse().unwrap());
    Some((numbers.next().unwrap(), numbers.next().unwrap()))
}

/// A certificate and its key.
const TLS_FILES: [&str; 2] = ["server.pem", "server.key"];
/// No address but the socket.
const SETTINGS: [&str; 2] = ["listen_addresses=", "max_connections=30"];
