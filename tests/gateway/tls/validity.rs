//! A certificate that has ended, or has not begun: said at the start, at a reload and when it happens.

use std::fs;

use atlas_cert_gateway::app::App;
use atlas_cert_gateway::config::Config;
use atlas_cert_gateway::system::Clock;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{Authority, until_reloaded};
use crate::log::Log;
use crate::program::{command, output, world_with};
use crate::world::{World, set, write_private};

type Day = (i32, u8, u8);

impl Authority {
    /// A certificate for the gateway that is good from one day to another.
    fn issue_for(&self, from: Day, until: Day) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["gateway.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path("server.pem"), certificate.pem()).unwrap();
        write_private(self.path("server.key"), &key.serialize_pem());
    }
}

async fn seconds_left(world: &World) -> i64 {
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let left = page.lines().find_map(|line| {
        line.strip_prefix("atlas_cert_gateway_tls_certificate_expires_in_seconds ")
    });
    left.unwrap().parse().unwrap()
}

/// It is 2026-11-21T12:00:00Z in this world.
#[tokio::test]
async fn an_invalid_certificate_is_warned_of_at_start_reload_and_expiry() {
    let log = Log::default();
    let lines = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    crate::log::be_heard();
    let _listening = tracing::subscriber::set_default(lines);
    let authority = Authority::new();
    authority.issue_for((2026, 1, 1), (2026, 11, 20));
    let world = authority.world(false).await;
    let said = log.text();
    let file = authority.path("server.pem");
    let expired = format!("a certificate in {file} expired on 2026-11-20T00:00:00");
    assert_eq!(said.matches(&expired).count(), 1, "{said}");
    assert_eq!(seconds_left(&world).await, -36 * 3_600);

    authority.issue_for((2026, 12, 1), (2026, 12, 24));
    until_reloaded(&world, "loaded", 1).await;
    let early = "is not valid before 2026-12-01T00:00:00";
    world.until(|_| log.text().contains(early)).await;

    authority.issue_for((2026, 1, 1), (2026, 11, 22));
    until_reloaded(&world, "loaded", 2).await;
    let left = seconds_left(&world).await;
    assert!((1..=12 * 3_600).contains(&left), "{left}");
    assert!(!log.text().contains("expired on 2026-11-22"));
    world.advance(std::time::Duration::from_hours(12));
    world
        .until(|world| {
            world.advance(std::time::Duration::from_secs(1));
            log.text().contains("expired on 2026-11-22")
        })
        .await;
    assert!(seconds_left(&world).await <= 0);
}

#[tokio::test]
async fn without_tls_there_is_nothing_that_ends() {
    let world = World::new().await;
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let sample = "\natlas_cert_gateway_tls_certificate_expires_in_seconds ";
    assert!(!page.contains(sample), "{page}");
}

// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_an_expired_certificate_and_accepts_the_configuration() {
    let authority = Authority::new();
    authority.issue_for((2019, 1, 1), (2020, 1, 1));
    let (_atlas, files) = world_with(|config| {
        set(
            config,
            "server.tls.certificate",
            authority.path("server.pem"),
        );
        set(
            config,
            "server.tls.private_key",
            authority.path("server.key"),
        );
        set(config, "server.tls.client_ca", authority.path("ca.pem"));
    })
    .await;
    let file = files.path().join("gateway.toml");
    let checked = output(command().args(["check", "--config"]).arg(&file));
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let said = String::from_utf8(checked.stderr).unwrap();
    let warning = "warning: server.tls.certificate: a certificate in ";
    assert!(
        said.contains(warning) && said.contains("expired on 2020-01-01"),
        "{said}"
    );
    // The authority that signs callers' certificates is good.
    assert!(!said.contains("client_ca"), "{said}");
    let config = Config::parse(&fs::read_to_string(file).unwrap(), []).unwrap();
    assert_eq!(App::warnings(&config, &Clock::system()).len(), 1);
}
