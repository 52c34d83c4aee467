//! `check --online`: whatever keeps a credential from working, it says what happened and what to do next.

use std::path::Path;
use std::process::Command;

use atlas_simulator::Answer;
use atlas_simulator::Asked;
use atlas_simulator::CLIENT_SECRET;
use atlas_simulator::Fault;
use atlas_simulator::Settings;
use atlas_simulator::Simulator;
use http::StatusCode;

use crate::client;
use crate::program::Program;
use crate::program::command;
use crate::program::output;
use crate::program::request;
use crate::program::request_for;
use crate::program::token_now;
use crate::program::world_with;
use crate::upstream::network::Authority;
use crate::world::set;

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
        assert!(text.contains("/nowhere/key.pem"), "{text}");
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
    let settings = Settings {
        tls: Some(authority.tls("localhost", false)),
        ..Settings::default()
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
