//! A local Atlas, the gateway in front of it, and `curl` lines that are ready to be pasted.
//!
//! `cargo run --example demo` needs nothing but Rust. Ctrl-C ends it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the person who started it"
)]

use std::error::Error;
use std::fs;
use std::io::{Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use atlas_cert_gateway::app::App;
use atlas_cert_gateway::config::Config;
use atlas_cert_gateway::system::Clock;
use atlas_simulator::{CLIENT_ID, CLIENT_SECRET, Settings, Simulator, World};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
const ISSUER: &str = "https://idp.demo.example";

#[tokio::main]
async fn main() -> ExitCode {
    match demonstrate().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo cannot go on: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let clock = Clock::system();
    let directory = tempfile::tempdir()?;
    let secret = uuid::Uuid::new_v4().to_string();
    let secrets = [("atlas", CLIENT_SECRET), ("hmac", secret.as_str())];
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
    let configuration = configuration(directory.path(), &atlas.base_url());
    let config =
        Config::parse(&configuration, []).map_err(|config_errors| format!("{config_errors:?}"))?;
    let app = App::start(&config, clock.clone()).await?;
    introduce(
        &atlas,
        &app,
        &token(&secret, clock.now().wall.seconds())?,
        directory.path(),
    );
    let audit = directory.path().join("audit");
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
        () = follow(&audit, &clock) => {}
    }
    println!("\nstopping: finishing what is under way");
    app.stop().await;
    println!("{} calls reached Atlas in all", atlas.certificate_calls());
    Ok(())
}

fn configuration(directory: &Path, base_url: &str) -> String {
    let directory = directory.display();
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
limits = {{ drain_lead = "0s" }}

[admin]
listen = "127.0.0.1:0"

[atlas]
base_url = "{base_url}"
state_directory = "{directory}/state"

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
directory = "{directory}/audit"
"#
    )
}

fn token(secret: &str, now: i64) -> Result<String, Box<dyn Error>> {
    let claims = json!({
        "iss": ISSUER,
        "sub": "payments-api",
        "aud": "atlas-cert-gateway",
        "iat": now,
        "exp": now + 12 * 3_600,
        "jti": "demo",
    });
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(&header, &claims, &key)?)
}

fn introduce(atlas: &Simulator, app: &App, token: &str, directory: &Path) {
    let certs = |user: &str| {
        format!(
            "http://{}/api/atlas/v2/groups/{PROJECT}/databaseUsers/{user}/certs",
            app.address()
        )
    };
    println!("A local Atlas          {}", atlas.base_url());
    println!("  project              {PROJECT}");
    println!(
        "  users                payments-api (2 certificates), payments-batch (1,203), root (1)"
    );
    println!("The gateway            http://{}", app.address());
    println!(
        "  for operators        http://{}  (/healthz /readyz /metrics)",
        app.admin_address()
    );
    println!("  its files            {}", directory.display());
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
