//! How the database is reached: by a verified name, at one of several servers, with a password that may change (AU06).

use std::fs;
use std::path::Path;

use atlas_cert_gateway::audit::DatabaseConfig;
use rustix::process::Signal;

use crate::audit::central::shipped::{central_trail, lines_of, record_named, until, until_shipped};
use crate::harness::authority::Authority;
use crate::harness::postgres::Postgres;
use crate::program::{command, output, world_with};
use crate::world::{set, use_api_key, write_private};

/// Of `check --online`, too, which says what to do about it.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn au06_the_database_has_to_show_a_certificate_for_its_name() {
    let Some(mut postgres) = Postgres::start().await else {
        return;
    };
    let authority = Authority::new();
    let port = postgres
        .listen(
            authority.path("server.pem").as_ref(),
            authority.path("server.key").as_ref(),
        )
        .await;
    let own = authority.path("ca.pem");
    let url = |user: &str, name: &str| {
        format!("postgres://{user}@{name}:{port}/audit?hostaddr=127.0.0.1")
    };
    for (url, ca_certificate, expected) in [
        (
            url("gateway_audit", "gateway.test"),
            Some(&own),
            "# audit.database gateway.test: PostgreSQL 1",
        ),
        (
            url("gateway_audit", "other.test"),
            Some(&own),
            "audit.database other.test: its certificate is for another name; write into `url`",
        ),
        (
            url("gateway_audit", "gateway.test"),
            None,
            "its certificate is of no authority that is trusted here; name the authority's with `ca_certificate`",
        ),
        (
            url("auditor", "gateway.test"),
            Some(&own),
            "its user may not add records; have the owner GRANT audit_shipper to it",
        ),
        (
            postgres.url("gateway_audit").replace("/audit", "/postgres"),
            None,
            "run `atlas-cert-gateway audit database prepare`",
        ),
    ] {
        let said = checked_online(&url, ca_certificate).await;
        assert!(said.contains(expected), "{url}: {said}");
    }
    postgres.stop(Signal::QUIT);
    let said = checked_online(&postgres.url("gateway_audit"), None).await;
    for expected in ["cannot be reached", "the journal keeps the records"] {
        assert!(said.contains(expected), "{said}");
    }
}

/// Fetches had lines of their own, which are still good.
#[tokio::test]
async fn tables_of_an_earlier_version_are_brought_to_this_one() {
    let Some(postgres) = Postgres::start_empty().await else {
        return;
    };
    for script in VERSION_3 {
        postgres.execute(script).await;
    }
    let noted = "INSERT INTO audit.version (version) VALUES (1), (2), (3); SELECT audit.prepare_day('2026-08-10')";
    postgres.execute(noted).await;
    postgres.prepare();
    let version = "SELECT max(version)::bigint FROM audit.version";
    assert_eq!(postgres.number(version).await, 4);
    postgres
        .execute("GRANT audit_shipper TO gateway_audit")
        .await;
    let trail = central_trail(&postgres, |_| ());
    for subject in ["one", "two"] {
        record_named(&trail, subject).await;
    }
    until_shipped(&trail, &postgres).await;
    let lines = lines_of(&postgres).await;
    let line = lines.lines().last().unwrap();
    let kept = format!("UPDATE audit.record SET line = '{line}' WHERE subject = 'two'");
    postgres.execute(&kept).await;
    let verified = postgres.command("owner", &["verify", "--database"]);
    assert!(verified.status.success(), "{verified:?}");
    let found = postgres.command(
        "owner",
        &["search", "--database", "--subject=two", "--format=json"],
    );
    assert_eq!(String::from_utf8_lossy(&found.stdout).trim_end(), line);
    postgres
        .execute("UPDATE audit.record SET line = replace(line, 'two', 'six') WHERE subject = 'two'")
        .await;
    let verified = postgres.command("owner", &["verify", "--database"]);
    assert!(!verified.status.success(), "{verified:?}");
}

/// What `check --online` says of everything.
async fn checked_online(url: &str, ca_certificate: Option<&String>) -> String {
    let (_atlas, files) = world_with(|config| {
        use_api_key(config);
        set(config, "audit.database.url", url);
        if let Some(file) = ca_certificate {
            set(config, "audit.database.ca_certificate", file.as_str());
        }
    })
    .await;
    let file = files.path().join("gateway.toml");
    let checked = output(command().args(["check", "--online", "--config"]).arg(file));
    let said = [checked.stdout, checked.stderr].concat();
    String::from_utf8(said).unwrap()
}

/// The first is away at the beginning, then it may not be written, and in the end it is the only one.
#[tokio::test]
async fn au06_of_several_databases_the_one_that_takes_writes_is_shipped_to() {
    let (Some(mut first), Some(mut second)) = (Postgres::start().await, Postgres::start().await)
    else {
        return;
    };
    first.stop(Signal::QUIT);
    let [one, other] = [&first, &second].map(|it| host(&it.url("gateway_audit")));
    let url =
        format!("postgres://gateway_audit@{one},{other}/audit?target_session_attrs=read-write");
    let trail = central_trail(&second, |config| {
        config.database = Some(database(&url, None));
    });
    record_named(&trail, "to the second").await;
    until_shipped(&trail, &second).await;
    first.resume().await;
    let read_only = "ALTER DATABASE audit SET default_transaction_read_only = on";
    first.execute_in("postgres", read_only).await;
    let all =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gateway_audit'";
    second.execute(all).await;
    record_named(&trail, "to the second again").await;
    until_shipped(&trail, &second).await;
    second.stop(Signal::QUIT);
    until(&trail, async || trail.audit.database_fault().is_some()).await;
    record_named(&trail, "to the first").await;
    assert_eq!(first.number("SELECT count(*) FROM audit.chain").await, 0);
    let writable = "ALTER DATABASE audit RESET default_transaction_read_only";
    first.execute_in("postgres", writable).await;
    // What it lacks is still in the journal.
    until_shipped(&trail, &first).await;
    let lookups = "SELECT count(*) FROM audit.record WHERE kind = 'lookup'";
    assert_eq!(first.number(lookups).await, 3);
}

#[tokio::test]
async fn au06_a_changed_password_is_read_without_a_restart() {
    let Some(postgres) = Postgres::start().await else {
        return;
    };
    let places = tempfile::tempdir().unwrap();
    let file = places.path().join("password");
    write_private(&file, "the first\n");
    postgres
        .execute("ALTER ROLE gateway_audit PASSWORD 'the first'")
        .await;
    let rules = postgres.data().join("pg_hba.conf");
    let others = fs::read_to_string(&rules).unwrap();
    fs::write(
        &rules,
        format!("local all gateway_audit scram-sha-256\n{others}"),
    )
    .unwrap();
    postgres.execute("SELECT pg_reload_conf()").await;
    let url = postgres.url("gateway_audit");
    let trail = central_trail(&postgres, |config| {
        config.database = Some(database(&url, Some(&file)));
    });
    record_named(&trail, "with the first").await;
    until_shipped(&trail, &postgres).await;
    postgres
        .execute("ALTER ROLE gateway_audit PASSWORD 'the second'")
        .await;
    let all =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'gateway_audit'";
    postgres.execute(all).await;
    let is_refused = || {
        let fault = trail.audit.database_fault();
        fault.is_some_and(|fault| fault.contains("it does not let us in"))
    };
    until(&trail, async || is_refused()).await;
    record_named(&trail, "with the second").await;
    write_private(&file, "the second\n");
    until_shipped(&trail, &postgres).await;
}

/// `[audit.database]` of these.
fn database(url: &str, password_file: Option<&Path>) -> DatabaseConfig {
    let file = password_file.map(|it| format!("password_file = \"{}\"\n", it.display()));
    let file = file.unwrap_or_default();
    toml::from_str(&format!("url = \"{url}\"\ninterval = \"100ms\"\n{file}")).unwrap()
}

/// What stands behind the user's name.
fn host(url: &str) -> String {
    let (_, behind) = url.split_once('@').unwrap();
    behind.trim_end_matches("/audit").to_owned()
}

const VERSION_3: [&str; 3] = [
    include_str!("../../../../src/audit/database/schema/001-trail.sql"),
    include_str!("../../../../src/audit/database/schema/002-siem.sql"),
    include_str!("../../../../src/audit/database/schema/003-inventory.sql"),
];
