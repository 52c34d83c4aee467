//! A local Atlas, the gateway in front of it, and `curl` lines that are ready to be pasted.
//!
//! `cargo run --example demo` needs nothing but Rust. Ctrl-C ends it. With `-- --central` there are two gateways, and
//! their trail is in a PostgreSQL that the demo starts as well; with `-- --replicas 3` so many share a Valkey or
//! Redis that it starts.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the person who started it"
)]

mod central;
#[path = "../../tests/harness/engine.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the tests need more of it, and are what it is written for"
)]
mod engine;
mod fleet;
#[path = "../../tests/harness/postgres.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the tests need more of it, and are what it is written for"
)]
mod postgres;
#[path = "../../tests/harness/servers.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests need more of it, and are what it is written for"
)]
mod servers;

use std::error::Error;
use std::io::{Write, stdout};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use atlas_cert_gateway::app::App;
use atlas_cert_gateway::config::Config;
use atlas_cert_gateway::system::Clock;
use atlas_simulator::{CLIENT_ID, CLIENT_SECRET, Settings, Simulator, World};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
const ISSUER: &str = "https://idp.demo.example";
/// Of a gateway's configuration: who may purge, explain and read the trail.
const OPERATOR: &str = r#"
[[access.rules]]
name = "the operator"
subjects = ["operator"]
projects = ["*"]
usernames = ["*"]
admin = true
"#;

/// What a gateway is shown with.
struct Demo {
    clock: Clock,
    directory: TempDir,
    /// Signs callers' tokens.
    secret: String,
    atlas: Simulator,
    /// Ctrl-C and SIGTERM, which are waited for once all is there.
    endings: [Signal; 2],
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let shown = match &*arguments {
        [] => demonstrate().await,
        ["--central"] => central::demonstrate().await,
        ["--replicas", number] => match number.parse() {
            Ok(replicas @ 2..=9) => fleet::demonstrate(replicas).await,
            Ok(_) | Err(_) => Err("--replicas takes a number from 2 to 9".into()),
        },
        _ => Err("it takes nothing, `--central` or `--replicas 3`".into()),
    };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo cannot go on: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let mut demo = Demo::prepare().await?;
    let directory = demo.directory.path();
    let app = demo.start(&demo.configuration(directory)).await?;
    introduce(&demo, &app, &demo.token("payments-api")?);
    let (audit, clock) = (directory.join("audit"), demo.clock.clone());
    tokio::select! {
        () = demo.is_to_end() => {}
        () = follow(&audit, &clock) => {}
    }
    app.stop().await;
    demo.end();
    Ok(())
}

impl Demo {
    async fn prepare() -> Result<Self, Box<dyn Error>> {
        let endings = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ];
        let clock = Clock::system();
        let directory = tempfile::tempdir()?;
        let secret = uuid::Uuid::new_v4().to_string();
        let key = uuid::Uuid::new_v4().to_string();
        let secrets = [("atlas", CLIENT_SECRET), ("hmac", &secret), ("fleet", &key)];
        for (name, secret) in secrets {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(directory.path().join(name))?;
            file.write_all(secret.as_bytes())?;
        }
        let mut world = World::new(clock.now().wall.into());
        let mut project = world.project(PROJECT);
        project.user("payments-api").certificates(2);
        project.user("payments-batch").certificates(1_203);
        project.user("root").certificates(1);
        let atlas = Simulator::start(Settings::with_world(world)).await?;
        Ok(Self {
            clock,
            directory,
            secret,
            atlas,
            endings,
        })
    }

    async fn start(&self, configuration: &str) -> Result<App, Box<dyn Error>> {
        let config = Config::parse(configuration, []);
        let config = config.map_err(|config_errors| format!("{config_errors:?}"))?;
        Ok(App::start(&config, self.clock.clone()).await?)
    }

    /// Between two looks at whether something is there yet.
    async fn pause(&self) {
        self.clock.sleep(Duration::from_millis(50)).await;
    }

    async fn is_to_end(&mut self) {
        let [interrupted, terminated] = &mut self.endings;
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        println!("\nstopping: finishing what is under way");
    }

    fn end(self) {
        let calls = self.atlas.certificate_calls();
        println!("{calls} calls reached Atlas in all");
    }

    /// Of a gateway with its own files in `own`; its last table is `[audit]`.
    fn configuration(&self, own: &Path) -> String {
        let (directory, own) = (self.directory.path().display(), own.display());
        let base_url = self.atlas.base_url();
        format!(
            r#"
[server]
listen = "127.0.0.1:0"
limits = {{ drain_lead = "0s" }}

[admin]
listen = "127.0.0.1:0"

[atlas]
base_url = "{base_url}"
state_directory = "{own}/state"

[[atlas.credentials]]
name = "demo"
projects = ["*"]
service_account = {{ client_id = "{CLIENT_ID}", client_secret_file = "{directory}/atlas" }}

[[identity.issuers]]
issuer = "{ISSUER}"
audiences = ["atlas-cert-gateway"]
algorithms = ["HS256"]
hmac_secret_file = "{directory}/hmac"

[[access.rules]]
name = "payments reads its own users"
subjects = ["payments-*"]
projects = ["{PROJECT}"]
usernames = ["payments-*"]

[audit]
directory = "{own}/audit"
"#
        )
    }

    /// A caller's token.
    fn token(&self, subject: &str) -> Result<String, Box<dyn Error>> {
        let now = self.clock.now().wall.seconds();
        let claims = json!({
            "iss": ISSUER,
            "sub": subject,
            "aud": "atlas-cert-gateway",
            "iat": now,
            "exp": now + 12 * 3_600,
            "jti": "demo",
        });
        let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        let key = jsonwebtoken::EncodingKey::from_secret(self.secret.as_bytes());
        Ok(jsonwebtoken::encode(&header, &claims, &key)?)
    }
}

/// Where the certificates of a user are.
fn certs(app: &App, user: &str) -> String {
    format!("http://{}{}", app.address(), path(user))
}

fn path(user: &str) -> String {
    format!("/api/atlas/v2/groups/{PROJECT}/databaseUsers/{user}/certs")
}

/// Sends a request, with a token and a body if it has them; all of the answer.
async fn send(
    to: SocketAddr,
    what: &str,
    sent: Option<(&str, &str)>,
) -> Result<String, Box<dyn Error>> {
    let (token, body) = sent.unzip();
    let authorization = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let body = body.unwrap_or_default();
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let request = format!(
        "{what} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n{authorization}{length}\r\n{body}"
    );
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn introduce(demo: &Demo, app: &App, token: &str) {
    let certs = |user: &str| certs(app, user);
    println!("A local Atlas          {}", demo.atlas.base_url());
    println!("  project              {PROJECT}");
    println!(
        "  users                payments-api (2 certificates), payments-batch (1,203), root (1)"
    );
    println!("The gateway            http://{}", app.address());
    println!(
        "  for operators        http://{}  (/healthz /readyz /metrics)",
        app.admin_address()
    );
    println!("  its files            {}", demo.directory.path().display());
    println!("\nPaste these into another terminal:\n");
    let lines = [
        ("a first look: asks Atlas once", certs("payments-api"), ""),
        (
            "the same again: a hit, X-Upstream-Calls: 0",
            certs("payments-api"),
            "",
        ),
        (
            "1,203 certificates from three pages in one body",
            certs("payments-batch"),
            " | tail -c 20",
        ),
        (
            "one page of them, cut from memory, with Atlas's links",
            format!(
                "{}?itemsPerPage=1&pageNum=700&pretty=true",
                certs("payments-batch")
            ),
            "",
        ),
        (
            "Atlas's own error, passed on as it is",
            certs("payments-nobody"),
            "",
        ),
        ("what no rule grants is denied", certs("root"), ""),
    ];
    // The first stands alone; the others are short.
    let mut sent = token;
    for (what, url, rest) in lines {
        println!("# {what}\ncurl -si -H \"Authorization: Bearer {sent}\" '{url}'{rest}\n");
        if sent == token {
            println!("export TOKEN={token}\n");
            sent = "$TOKEN";
        }
    }
    println!("Each lookup, as it is put on record (Ctrl-C ends):\n");
}

/// Prints each lookup that is added to the audit trail, for ever.
async fn follow(audit: &Path, clock: &Clock) {
    let mut seen = 0;
    loop {
        clock.sleep(Duration::from_millis(200)).await;
        let lookups = lookups(audit);
        for record in lookups.iter().skip(seen) {
            println!("{}", line(record));
        }
        seen = lookups.len();
        // A terminal that is gone does not end the gateway.
        let _ = stdout().flush();
    }
}

fn lookups(audit: &Path) -> Vec<Value> {
    let Ok(files) = fs::read_dir(audit) else {
        return Vec::new();
    };
    let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "jsonl")
    });
    files.sort();
    let text: String = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|record| record["kind"] == "lookup")
        .collect()
}

fn line(record: &Value) -> String {
    let text = |name: &str| match record.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    format!(
        "{} {:<9} {} {} asked for {}: cache {}, {} certificates, {} calls to Atlas, {} µs",
        text("time"),
        text("outcome"),
        text("status"),
        text("subject"),
        text("username"),
        text("cache"),
        text("certificates"),
        text("upstream_calls"),
        text("duration_us"),
    )
}
