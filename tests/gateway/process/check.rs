//! `check --online`: whatever keeps a credential from working, it says what happened and what to do next.

mod never;

use std::fs;
use std::path::Path;
use std::process::Command;

use atlas_cert_gateway::system::Clock;
use atlas_simulator::{Answer, Asked, CLIENT_SECRET, Fault, Settings, Simulator};
use http::StatusCode;

use crate::client;
use crate::program::{Program, command, output, request, request_for, token_now, world_with};
use crate::upstream::network::Authority;
use crate::world::{OTHER_PROJECT, PROJECT, set};

fn check(files: &Path) -> Command {
    let mut check = command();
    check.args(["check", "--online", "--config"]);
    check.arg(files.join("gateway.toml"));
    check
}

fn assert_says(check: &mut Command, words: &[&str]) {
    let ended = output(check);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let text = String::from_utf8(ended.stderr).unwrap();
    for word in words {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(!text.contains(CLIENT_SECRET), "{text}");
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_the_token_endpoint_has_against_a_credential_and_what_to_do() {
    let too_many = Answer::new(StatusCode::TOO_MANY_REQUESTS, "{}");
    for (fault, words) in [
        (
            Fault::oauth_error(401, "invalid_client", "No."),
            &["401 Unauthorized", "Check service_account.client_id"][..],
        ),
        (
            Fault::answer(too_many),
            &["429 Too Many Requests", "who else mints"],
        ),
        (
            Fault::html(503),
            &["503 Service Unavailable", "Atlas's status page"],
        ),
        (
            Fault::redirect(302, "http://127.0.0.1:1/"),
            &["302 Found", "is Atlas"],
        ),
        (Fault::html(200), &["its answer is no token", "is Atlas"]),
        (Fault::silence(), &["it did not come in time", "firewall"]),
    ] {
        let short = |config: &mut toml::Table| set(config, "atlas.limits.first_byte", "300ms");
        let (atlas, files) = world_with(short).await;
        atlas.on(Asked::token()).respond(fault);
        assert_says(&mut check(files.path()), words);
    }
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_atlas_has_against_us_and_what_to_do() {
    let (atlas, files) = world_with(|_| {}).await;
    atlas.rules(|rules| rules.access_list = Some(Vec::new()));
    assert_says(
        &mut check(files.path()),
        &["403 Forbidden", "on its access list"],
    );
}

#[tokio::test]
async fn a_key_that_cannot_sign_the_trail_is_a_refused_configuration_to_check_and_to_serve() {
    let no_key = |config: &mut toml::Table| set(config, "audit.head_key_file", "/nowhere/key.pem");
    let (_atlas, files) = world_with(no_key).await;
    for subcommand in ["check", "serve"] {
        let mut program = command();
        program.args([subcommand, "--config"]);
        program.arg(files.path().join("gateway.toml"));
        let ended = output(&mut program);
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(78), "{subcommand}: {text}");
        assert!(text.contains("audit.head_key_file"), "{text}");
    }
}

#[tokio::test]
async fn check_names_the_host_that_cannot_be_reached() {
    // Nobody listens there.
    let nobody = |config: &mut toml::Table| set(config, "atlas.base_url", "http://127.0.0.1:1");
    let (_atlas, files) = world_with(nobody).await;
    assert_says(
        &mut check(files.path()),
        &[
            "no connection can be made",
            "connect to http://127.0.0.1:1:",
        ],
    );
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn check_names_the_roots_of_which_no_certificate_is() {
    let (authority, strangers) = (Authority::new(), [Authority::new(), Authority::new()]);
    let mut world = atlas_simulator::World::new(Clock::system().now().wall.into());
    for project in [PROJECT, OTHER_PROJECT] {
        world.project(project).user("app1").certificates(1);
    }
    let settings = Settings {
        tls: Some(authority.tls("localhost", false)),
        ..Settings::with_world(world)
    };
    let atlas = Simulator::start(settings).await.unwrap();
    let [first, second] = strangers
        .each_ref()
        .map(|stranger| stranger.roots().display().to_string());
    let (_other, files) = world_with(|config| {
        set(config, "atlas.base_url", atlas.base_url());
        set(config, "atlas.ca_certificate", second.as_str());
    })
    .await;
    let mut check = check(files.path());
    check
        .env("SSL_CERT_FILE", &first)
        .env_remove("SSL_CERT_DIR");
    let words = [
        "a certificate that is not trusted",
        &atlas.base_url(),
        &format!("{first} (SSL_CERT_FILE) and {second}"),
    ];
    assert_says(&mut check, &words);
    check.env("SSL_CERT_FILE", authority.roots());
    assert_eq!(output(&mut check).status.code(), Some(0));
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn check_mints_a_token_of_its_own_and_leaves_that_of_a_running_gateway_alone() {
    let (atlas, files) = world_with(|_| {}).await;
    let program = Program::start(files.path());
    assert_eq!(
        client::exchange(program.address, &request("close"))
            .await
            .status,
        200
    );
    assert_eq!(output(&mut check(files.path())).status.code(), Some(0));
    let minted_given_back_alive = (atlas.mints(), atlas.revokes(), atlas.live_tokens());
    assert_eq!(minted_given_back_alive, (2, 1, 1));
    // The successor of the gateway takes its token up.
    drop(program);
    let program = Program::start(files.path());
    assert_eq!(
        client::exchange(
            program.address,
            &request_for("nobody", &token_now(), "close")
        )
        .await
        .status,
        404
    );
    assert_eq!(atlas.mints(), 2);
}

/// Runs `check` without `--online`; its exit code and what it said.
fn checked(files: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut check = command();
    check.args(["check", "--config"]);
    check.arg(files.join("gateway.toml")).args(arguments);
    let ended = output(&mut check);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code(), text(ended.stdout), text(ended.stderr))
}

#[tokio::test]
async fn a_secret_in_the_place_of_its_files_path_is_not_shown() {
    let text = r#"
        [server]
        tls = { certificate = "canary", private_key = "canary", client_ca = "canary" }
        [atlas]
        ca_certificate = "canary"
        proxy = "http://user@127.0.0.1:3128"
        proxy_password_file = "canary"
        [[atlas.credentials]]
        name = "account"
        projects = ["*"]
        service_account = { client_id = "mdb_sa_id_x", client_secret_file = "canary" }
        [[atlas.credentials]]
        name = "key"
        projects = ["*"]
        api_key = { public_key = "abcdefgh", private_key_file = "canary" }
        [[identity.issuers]]
        issuer = "https://one.test"
        audiences = ["a"]
        algorithms = ["HS256"]
        hmac_secret_files = ["canary", "canary-too"]
        [[identity.issuers]]
        issuer = "https://two.test"
        audiences = ["a"]
        algorithms = ["RS256"]
        jwks_url = "https://two.test/keys"
        bearer_file = "canary"
        ca_certificate = "canary"
        proxy = "http://user@127.0.0.1:3128"
        proxy_password_file = "canary"
        [[identity.issuers]]
        issuer = "https://three.test"
        audiences = ["a"]
        algorithms = ["RS256"]
        jwks_file = "canary"
        [access]
        deny_file = "canary"
        [[access.rules]]
        name = "rule"
        subjects = ["a"]
        projects = ["*"]
        usernames = ["a"]
        [audit]
        head_key_file = "canary"
    "#;
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("gateway.toml"), text).unwrap();
    let (code, said, complaints) = checked(directory.path(), &[]);
    assert_eq!((code, said.as_str()), (Some(78), ""));
    assert!(!complaints.contains("canary"), "{complaints}");
    for place in [
        "server.tls.certificate: cannot be used: No such file",
        "atlas.credentials[0].service_account.client_secret_file: cannot read the file",
        "atlas.credentials[1].api_key.private_key_file: cannot read the file",
        "identity.issuers[0].hmac_secret_files",
        "identity.issuers[2].jwks_file",
        "access.deny_file: cannot be read",
        "audit.head_key_file: ",
    ] {
        assert!(complaints.contains(place), "{place} in {complaints}");
    }
}

#[tokio::test]
async fn without_an_option_a_variable_names_the_configuration() {
    let (_atlas, files) = world_with(|_| {}).await;
    let mut by_variable = command();
    by_variable.arg("check");
    by_variable.env(
        "ATLAS_CERT_GATEWAY_CONFIG",
        files.path().join("gateway.toml"),
    );
    assert_eq!(output(&mut by_variable).status.code(), Some(0));
    by_variable.env(
        "ATLAS_CERT_GATEWAY_CONFIG",
        files.path().join("nowhere.toml"),
    );
    let refused = output(&mut by_variable);
    assert_eq!(refused.status.code(), Some(78));
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("nowhere.toml is refused")
    );
}

#[tokio::test]
async fn check_writes_nothing_and_says_what_it_could_not_write() {
    let (_atlas, files) = world_with(|_| {}).await;
    let names = || {
        let entries = fs::read_dir(files.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let (code, effective, said) = checked(files.path(), &[]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(effective.contains("[[access.rules]]"), "{effective}");
    assert_eq!(names(), before);
    // Nobody reads what it says.
    let mut check = command();
    check
        .args(["check", "--config"])
        .arg(files.path().join("gateway.toml"));
    check.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    assert_eq!(output(&mut check).status.code(), Some(1));
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn check_asks_about_the_projects_that_rules_name_and_says_what_it_could_not_ask() {
    let unknown = "5f0e1d2c3b4a59687f6e5dff";
    let (atlas, files) = world_with(|_| {}).await;
    let file = files.path().join("gateway.toml");
    let config = fs::read_to_string(&file).unwrap();
    let online = |format: &str| {
        let (code, said, complaints) = checked(files.path(), &["--online", "--format", format]);
        (code, said + &complaints)
    };
    let known = format!("\"{PROJECT}\"");
    assert!(config.contains(&known), "{config}");
    fs::write(
        &file,
        config
            .replace(&known, "\"*\"")
            .replace(OTHER_PROJECT, PROJECT),
    )
    .unwrap();
    let (code, said) = online("text");
    assert_eq!(code, Some(0), "{said}");
    for expected in [
        &format!("# credential platform: Atlas accepts it for project {PROJECT}\n"),
        "# clock: it agrees with Atlas's\n",
        "# issuer https://idp.internal.example: it shares a secret with this gateway\n",
        "# server.listen 127.0.0.1:0: it is free\n",
    ] {
        assert!(said.contains(expected), "{expected} in {said}");
    }
    fs::write(
        &file,
        config.replace(&known, "\"*\"").replace(OTHER_PROJECT, "*"),
    )
    .unwrap();
    let (code, said) = online("text");
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("that it may read a project is not known"),
        "{said}"
    );
    fs::write(&file, config.replace(OTHER_PROJECT, unknown)).unwrap();
    let (code, said) = online("json");
    assert_eq!(code, Some(1), "{said}");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&said).unwrap();
    let ill: Vec<_> = findings.iter().filter(|it| it["well"] == false).collect();
    assert_eq!(ill.len(), 1, "{said}");
    let found = ill[0]["found"].as_str().unwrap();
    assert!(
        found.contains(&format!("Atlas knows no project {unknown}")),
        "{found}"
    );
    assert!(
        ill[0]["advice"].as_str().unwrap().contains("access.rules"),
        "{said}"
    );
    drop(atlas);
}
