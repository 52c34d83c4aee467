//! What the program says: one line an event, by request, and nothing secret at any level.

use atlas_simulator::{Asked, CLIENT_SECRET, Fault, PRIVATE_KEY};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::client;
use crate::process::manager::Manager;
use crate::program::{Program, records, request_for, serve, token_now, world, world_with};
use crate::world::{HMAC_SECRET, set, use_api_key};

/// Everything that a caller's token, a credential and an issuer could leave in a log: G20.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_said_at_the_finest_level() {
    for format in ["json", "text"] {
        for by_key in [false, true] {
            let (atlas, files) = world_with(|config| {
                set(
                    config,
                    "telemetry.log",
                    "trace,h2=trace,hyper=trace,reqwest=trace",
                );
                set(config, "telemetry.log_format", format);
                if by_key {
                    use_api_key(config);
                }
            })
            .await;
            let mut program = Program::start(files.path());
            let good = token_now();
            let (head, _) = good.rsplit_once('.').unwrap();
            let forged = format!("{head}.{}", "A".repeat(43));
            let failing = atlas.on(Asked::certificates()).respond(Fault::html(503));
            for token in [&good, &forged] {
                client::exchange(program.address, &request_for("app1", token, "close")).await;
            }
            failing.withdraw();
            // Of another list: the failure of the first one is remembered.
            client::exchange(program.address, &request_for("many", &good, "close")).await;
            program.signal("-HUP");
            program.until_it_says("the configuration was read again");
            program.signal("-TERM");
            let (code, said) = program.end();
            assert_eq!(code, Some(0));
            let said = said.join("\n");
            assert!(said.contains("a token was refused"), "{said}");
            let mut secrets = vec![good.clone(), forged];
            secrets.extend([CLIENT_SECRET, PRIVATE_KEY, HMAC_SECRET].map(str::to_owned));
            let sent = atlas.requests();
            let credentials = sent
                .iter()
                .filter_map(|seen| seen.headers.get("authorization"));
            for credential in credentials {
                let credential = credential.to_str().unwrap();
                // `Basic` and `Bearer` are one word; of `Digest` the answer is what nobody may see.
                let secret = match credential.split_once("response=\"") {
                    Some((_, response)) => response.split('"').next(),
                    None => credential.split(' ').nth(1),
                };
                secrets.push(secret.unwrap().to_owned());
            }
            assert!(secrets.len() > 5, "nothing was sent to Atlas");
            for secret in secrets {
                let signature = secret.rsplit('.').next().unwrap();
                for coat in [&secret, &STANDARD.encode(&secret), signature] {
                    assert!(!said.contains(coat), "{format}: {coat}");
                }
            }
        }
    }
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn the_level_changes_while_it_runs_and_not_with_a_file_that_is_refused() {
    let (_atlas, files) = world().await;
    let file = files.path().join("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let change = |level: &str, ttl: &str| {
        let mut config: toml::Table = text.parse().unwrap();
        set(&mut config, "telemetry.log", level);
        set(&mut config, "cache.ttl", ttl);
        std::fs::write(&file, config.to_string()).unwrap();
    };
    let path = files.path().join("notify");
    let manager = Manager::at(&path);
    let mut program = Program::run(serve(files.path()).env("NOTIFY_SOCKET", &path));
    assert_eq!(manager.told(), "READY=1");
    let ask = async |program: &Program| {
        let request = request_for("app1", "a.b.c", "close");
        assert_eq!(
            client::exchange(program.address, &request).await.status,
            401
        );
    };
    for (level, ttl) in [("error", "1m"), ("debug", "soon")] {
        change(level, ttl);
        program.signal("-HUP");
        assert!(manager.told().starts_with("RELOADING=1"));
        assert!(manager.told().starts_with("READY=1"));
        ask(&program).await;
    }
    change("debug", "1m");
    program.signal("-HUP");
    program.until_it_says("the old configuration stays");
    assert!(manager.told().starts_with("RELOADING=1"));
    assert!(manager.told().starts_with("READY=1"));
    let before = program.said.len();
    ask(&program).await;
    program.until_it_says("a token was refused");
    let (silent, _) = program.said.split_at(before);
    let spoke = |line: &String| line.contains("a token was refused");
    assert!(!silent.iter().any(spoke), "{silent:?}");
}

// The program is waited for by a thread.
#[tokio::test(flavor = "multi_thread")]
async fn it_says_why_an_issuer_and_atlas_cannot_be_reached() {
    let (_atlas, files) = world_with(|config| {
        let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
        let issuer = issuers[0].as_table_mut().unwrap();
        issuer.remove("hmac_secret_file");
        // Nobody listens there.
        set(issuer, "jwks_url", "http://127.0.0.1:1/jwks");
        set(issuer, "algorithms", vec!["RS256"]);
        set(config, "atlas.base_url", "http://127.0.0.1:1");
    })
    .await;
    let mut program = Program::start(files.path());
    for (what, why) in [
        ("could not bring the keys of", "Connection refused"),
        (
            "no answer of Atlas's /api/oauth/token",
            "no connection can be made",
        ),
    ] {
        program.until_it_says(what);
        let line = program.said.last().unwrap();
        assert!(line.contains(why), "{line}");
    }
}

/// The id that a caller is told is found in the log.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_one_event_and_names_its_request() {
    let (atlas, files) = world_with(|config| set(config, "telemetry.log", "debug")).await;
    let program = Program::start(files.path());
    atlas.on(Asked::certificates()).respond(Fault::html(503));
    let mut ids = Vec::new();
    // A user name with the end of a line and of a text in it, and a token that is none.
    for (username, token) in [
        ("app1", &*token_now()),
        ("a\u{2028}b\"c", &token_now()),
        ("app1", "a.b.c"),
    ] {
        let request = request_for(username, token, "close");
        let reply = client::exchange(program.address, &request).await;
        assert_ne!(reply.status, 200);
        ids.push(reply.header("x-request-id").unwrap().to_owned());
    }
    program.signal("-TERM");
    let (_, said) = program.end();
    let events: Vec<Value> = said
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    for event in &events {
        assert!(
            event["timestamp"].is_string() && event["level"].is_string(),
            "{event}"
        );
    }
    for id in ids {
        let named = events.iter().any(|event| event.to_string().contains(&id));
        assert!(named, "{id}: {said:#?}");
    }
}

/// A line that a fetch writes leads to the record of its fetch, and to who needed it.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_fetch_names_its_lookup_and_its_record() {
    let (atlas, files) = world().await;
    let program = Program::start(files.path());
    atlas.on(Asked::certificates()).respond(Fault::html(503));
    let request = request_for("app1", &token_now(), "close");
    let reply = client::exchange(program.address, &request).await;
    program.signal("-TERM");
    let (_, said) = program.end();
    let said = said
        .iter()
        .find(|line| line.contains("Atlas could not be asked"));
    let line: Value = serde_json::from_str(said.unwrap()).unwrap();
    let fetch = records(files.path(), "fetch").remove(0);
    let span = &line["span"];
    assert_eq!(span["name"], "fetch");
    assert_eq!(span["urgency"], "Miss");
    assert_eq!(span["fill_id"], fetch["fill_id"]);
    assert_eq!(span["request_id"], reply.header("x-request-id").unwrap());
}
