//! A whole world: the gateway in front of a simulated Atlas, both on free ports, by one clock that the
//! test moves.

mod shown;
mod waiting;

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atlas_cert_gateway::app::App;
use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::config::Config;
use atlas_cert_gateway::system::{Clock, ManualClock};
use atlas_simulator::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY, Settings, Simulator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Interval, MissedTickBehavior};

use super::client;
use super::client::Reply;
use super::files::Files;

/// The project that the usual caller may read.
pub(crate) const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
/// A second one that it may read.
pub(crate) const OTHER_PROJECT: &str = "5f0e1d2c3b4a59687f6e5d4c";
/// One that exists and that it may not read.
pub(crate) const FOREIGN_PROJECT: &str = "000000000000000000000001";
/// When it is in these worlds.
pub(crate) const NOW: &str = "2026-11-21T12:00:00Z";

/// What a world is made of, to be changed before it begins.
pub(crate) struct Plan {
    /// The gateway's configuration.
    pub(crate) config: toml::Table,
    /// Who lives in Atlas, and its rules.
    pub(crate) atlas: Settings,
    /// Where the gateway is told how much memory it takes, in the form of `/proc/self/statm`.
    pub(crate) statm: Option<PathBuf>,
    /// Where the gateway is told how many bytes of the audit trail's disk are free.
    pub(crate) disk_free: Option<PathBuf>,
}

/// A gateway and an Atlas.
pub(crate) struct World {
    /// Moves the time of both.
    pub(crate) clock: ManualClock,
    /// Atlas.
    pub(crate) atlas: Arc<Simulator>,
    /// The gateway.
    pub(crate) app: App,
    /// Its files.
    pub(crate) files: Files,
    pub(crate) time: Clock,
    /// Its settings.
    pub(crate) config: Box<Config>,
}

impl World {
    /// The usual world: `app1` with two certificates, `many` with 1,203, and nobody else.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The usual world, with changes.
    pub(crate) async fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let (time, clock) = Clock::manual(Timestamp::parse(NOW).unwrap());
        let (files, mut plan) = usual(&clock);
        change(&mut plan);
        let settings = std::mem::replace(&mut plan.atlas, atlas(&clock));
        let atlas = Arc::new(Simulator::start(settings).await.unwrap());
        Self::begin(plan, files, atlas, (time, clock)).await
    }

    /// Another gateway in front of the same Atlas, by the same clock.
    pub(crate) async fn beside(&self, change: impl FnOnce(&mut Plan)) -> Self {
        let (files, mut plan) = usual(&self.clock);
        change(&mut plan);
        let times = (self.time.clone(), self.clock.clone());
        Self::begin(plan, files, Arc::clone(&self.atlas), times).await
    }

    /// The same, by a clock of its own that is ahead by so many seconds, or behind.
    pub(crate) async fn beside_ahead(&self, seconds: i64, change: impl FnOnce(&mut Plan)) -> Self {
        let now = self.clock.now().wall.micros() + seconds * 1_000_000;
        let times = Clock::manual(Timestamp::from_micros(now));
        let (files, mut plan) = usual(&times.1);
        change(&mut plan);
        Self::begin(plan, files, Arc::clone(&self.atlas), times).await
    }

    async fn begin(
        mut plan: Plan,
        files: Files,
        atlas: Arc<Simulator>,
        (time, clock): (Clock, ManualClock),
    ) -> Self {
        set(&mut plan.config, "atlas.base_url", atlas.base_url());
        let mut config = Box::new(Config::parse(&plan.config.to_string(), []).unwrap());
        if let Some(statm) = plan.statm {
            config.memory.statm = statm;
        }
        config.audit.disk_free = plan.disk_free;
        let app = Box::pin(App::start(&config, time.clone())).await.unwrap();
        Self {
            clock,
            atlas,
            app,
            files,
            time,
            config,
        }
    }

    /// Stops the gateway in good order, does something `meanwhile` and starts the next one, with the same files and
    /// in front of the same Atlas.
    pub(crate) async fn restart(self, meanwhile: impl FnOnce(&Path, &ManualClock)) -> Self {
        Box::pin(self.app.stop()).await;
        meanwhile(self.files.path(), &self.clock);
        let app = App::start(&self.config, self.time.clone());
        let app = Box::pin(app).await.unwrap();
        Self { app, ..self }
    }

    /// Asks for a user's certificates as the usual caller.
    pub(crate) async fn ask(&self, username: &str) -> Reply {
        self.get(&certs(PROJECT, username), &[]).await
    }

    /// Sends a `GET` as the usual caller.
    pub(crate) async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        self.send("GET", target, &token(), headers).await
    }

    /// Sends a request with a token.
    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        token: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n");
        if !token.is_empty() {
            write!(request, "Authorization: Bearer {token}\r\n").unwrap();
        }
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        request.push_str("Connection: close\r\n\r\n");
        self.raw(request.as_bytes()).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn raw(&self, request: &[u8]) -> Reply {
        client::exchange(self.app.address(), request).await
    }

    /// Sends a request to the admin listener.
    pub(crate) async fn admin(&self, method: &str, target: &str, token: &str, body: &str) -> Reply {
        let authorization = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Length: \
             {length}\r\nConnection: close\r\n\r\n{body}"
        );
        client::exchange(self.app.admin_address(), request.as_bytes()).await
    }

    /// Where callers connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.app.address()
    }

    /// Lets time pass for both.
    pub(crate) fn advance(&self, span: Duration) {
        self.clock.advance(span);
    }
}

fn usual(clock: &ManualClock) -> (Files, Plan) {
    let files = Files::new();
    write_secrets(&files);
    let plan = Plan {
        config: configuration(&files),
        atlas: atlas(clock),
        statm: None,
        disk_free: None,
    };
    (files, plan)
}

/// The lines that have an end. One without is still being written.
pub(crate) fn whole_lines(text: &str) -> &str {
    text.rsplit_once('\n').map_or("", |(whole, _)| whole)
}

/// Ticks at this pace at most: after a tick that was late the next is as far away as ever, so that a test
/// on a busy machine does not make up for it and leave no time for what it waits for.
pub(crate) fn every(span: Duration) -> Interval {
    let mut ticks = tokio::time::interval(span);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Gives threads that read files, look up names or call the disk their turn: on a busy machine they come to
/// theirs as late as the one that is waited for here, and every socket is seen to meanwhile.
pub(crate) async fn other_threads() {
    let turn = tokio::task::spawn_blocking(std::thread::yield_now);
    turn.await.unwrap();
}

/// Sets a key of a configuration, such as `cache.ttl`; tables on the way are made.
pub(crate) fn set(config: &mut toml::Table, key: &str, value: impl Into<toml::Value>) {
    let (parents, last) = key.rsplit_once('.').unwrap_or(("", key));
    let table =
        parents
            .split('.')
            .filter(|parent| !parent.is_empty())
            .fold(config, |table, parent| {
                table
                    .entry(parent)
                    .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                    .as_table_mut()
                    .unwrap()
            });
    table.insert(last.to_owned(), value.into());
}

/// Sets a key of one of the rules, counted from 0: the usual caller's is the first.
pub(crate) fn set_rule(plan: &mut Plan, rule: usize, key: &str, value: impl Into<toml::Value>) {
    let rules = plan.config["access"]["rules"].as_array_mut().unwrap();
    rules[rule]
        .as_table_mut()
        .unwrap()
        .insert(key.to_owned(), value.into());
}

/// The path of a user's certificates, the name encoded.
pub(crate) fn certs(project: &str, username: &str) -> String {
    let username =
        percent_encoding::utf8_percent_encode(username, percent_encoding::NON_ALPHANUMERIC);
    format!("/api/atlas/v2/groups/{project}/databaseUsers/{username}/certs")
}

/// The usual caller's token.
pub(crate) fn token() -> String {
    token_of(&json!({ "sub": "payments-api" }))
}

/// An operator's token.
pub(crate) fn operator_token() -> String {
    token_of(&json!({ "sub": "operator" }))
}

/// A token with claims of one's own over the usual ones.
pub(crate) fn token_of(claims: &Value) -> String {
    token_at(Timestamp::parse(NOW).unwrap().seconds(), claims)
}

/// The same, made at another time.
pub(crate) fn token_at(now: i64, claims: &Value) -> String {
    let mut all = json!({
        "iss": ISSUER,
        "aud": "atlas-cert-gateway",
        "iat": now,
        "exp": now + 3 * 3_600,
        "jti": "token-1",
    });
    all.as_object_mut()
        .unwrap()
        .extend(claims.as_object().unwrap().clone());
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let key = jsonwebtoken::EncodingKey::from_secret(HMAC_SECRET.as_bytes());
    jsonwebtoken::encode(&header, &all, &key).unwrap()
}

/// Puts the secrets where [`configuration`] says that they are.
pub(crate) fn write_secrets(files: &TempDir) {
    for (name, secret) in [
        ("atlas", CLIENT_SECRET),
        ("atlas-key", PRIVATE_KEY),
        ("hmac", HMAC_SECRET),
    ] {
        write_private(files.path().join(name), secret);
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: impl AsRef<Path>, content: &str) {
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// The usual configuration, whose `atlas.base_url` is nobody's yet.
pub(crate) fn configuration(files: &TempDir) -> toml::Table {
    let directory = files.path().display();
    // The whole suite passes without the fast path, too: `FAST_PATH=off`.
    let fast_path = std::env::var_os("FAST_PATH").is_none_or(|wanted| wanted != "off");
    format!(
        r#"
        [server]
        listen = "127.0.0.1:0"
        fast_path = {fast_path}
        limits = {{ drain_lead = "0s" }}
        [admin]
        listen = "127.0.0.1:0"
        [atlas]
        base_url = "http://127.0.0.1:1"
        state_directory = "{directory}/state"
        [[atlas.credentials]]
        name = "platform"
        projects = ["*"]
        service_account = {{ client_id = "{CLIENT_ID}", client_secret_file = "{directory}/atlas" }}
        [[identity.issuers]]
        issuer = "{ISSUER}"
        audiences = ["atlas-cert-gateway"]
        algorithms = ["HS256"]
        hmac_secret_file = "{directory}/hmac"
        [[access.rules]]
        name = "payments reads its projects"
        subjects = ["payments-*"]
        projects = ["{PROJECT}", "{OTHER_PROJECT}"]
        usernames = ["*"]
        [[access.rules]]
        name = "nobody reads secrets"
        subjects = ["*"]
        projects = ["*"]
        usernames = ["secret-*"]
        deny = true
        [[access.rules]]
        name = "operators"
        subjects = ["operator"]
        projects = ["*"]
        usernames = ["*"]
        admin = true
        force_refresh = true
        # A clock that jumps while the disk is busy would make records late.
        [audit]
        directory = "{directory}/audit"
        sync = "never"
        # Each test has one address, and a minute that does not pass.
        refusals_per_minute = 1000000
        "#
    )
    .parse()
    .unwrap()
}

/// The same, with Atlas asked by a legacy API key.
pub(crate) fn use_api_key(config: &mut toml::Table) {
    let credentials = config["atlas"]["credentials"].as_array_mut().unwrap();
    let credential = credentials[0].as_table_mut().unwrap();
    let account = credential.remove("service_account").unwrap();
    let secret_file = account["client_secret_file"].as_str().unwrap();
    let key = format!("public_key = \"{PUBLIC_KEY}\"\nprivate_key_file = \"{secret_file}-key\"");
    let key: toml::Table = key.parse().unwrap();
    credential.insert("api_key".to_owned(), toml::Value::Table(key));
}

fn atlas(manual_clock: &ManualClock) -> Settings {
    let manual_clock = manual_clock.clone();
    let now = move || SystemTime::from(manual_clock.now().wall);
    let mut world = atlas_simulator::World::new(now());
    let mut project = world.project(PROJECT);
    project.user("app1").certificates(2);
    project.user("many").certificates(1_203);
    project.user("secret-keeper").certificates(1);
    world.project(OTHER_PROJECT).user("app1").certificates(1);
    world.project(FOREIGN_PROJECT).user("app1").certificates(1);
    Settings {
        now: Arc::new(now),
        ..Settings::with_world(world)
    }
}

const ISSUER: &str = "https://idp.internal.example";
pub(crate) const HMAC_SECRET: &str = "the-hmac-secret-of-the-tests-0123456789";
