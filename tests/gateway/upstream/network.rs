//! The network: hosts that are gone, slow, or not who they say, over TLS and both versions of HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atlas_simulator::{Asked, Fault, Http2Rules, Settings, Simulator, Tls};
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};

use crate::upstream::world::{World, api_key, outcome};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), &pem).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            directory,
        }
    }

    /// The file with its root.
    pub(crate) fn roots(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    pub(crate) fn tls(&self, name: &str, expired: bool) -> Tls {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Tls {
            certificate_chain: format!("{}{}", certificate.pem(), self.pem),
            private_key: key.serialize_pem(),
        }
    }
}

async fn over_tls(authority: &Authority, tls: Tls, trusted: bool) -> World {
    let roots = authority.roots();
    World::with(
        |settings| settings.tls = Some(tls),
        |config| config.ca_certificate = trusted.then_some(roots),
    )
    .await
}

#[tokio::test]
async fn over_tls_http_2_is_spoken_and_an_own_root_is_trusted() {
    let authority = Authority::new();
    let world = over_tls(&authority, authority.tls("localhost", false), true).await;
    assert_eq!(outcome(&world.ask().await), "2 certificates");
    let versions: Vec<Version> = world
        .atlas
        .requests()
        .iter()
        .map(|seen| seen.version)
        .collect();
    assert_eq!(versions, [Version::HTTP_2, Version::HTTP_2]);
    assert_eq!(world.atlas.connections_accepted(), 1);
}

#[tokio::test]
async fn u11_a_certificate_that_proves_nothing_is_refused_without_another_try() {
    let authority = Authority::new();
    for (name, expired, trusted) in [
        ("localhost", true, true),
        ("elsewhere.example", false, true),
        ("localhost", false, false),
    ] {
        let world = over_tls(&authority, authority.tls(name, expired), trusted).await;
        // Already the token cannot be had.
        assert_eq!(outcome(&world.ask().await), "credential Unavailable");
        assert_eq!(world.atlas.connections_accepted(), 1);
        assert_eq!(world.atlas.all_calls(), 0);
    }
}

#[tokio::test]
async fn u11_a_page_asked_of_someone_else_is_a_failure_of_tls_and_not_tried_again() {
    let authority = Authority::new();
    let tls = authority.tls("elsewhere.example", false);
    let roots = authority.roots();
    let world = World::with(
        |settings| settings.tls = Some(tls),
        |config| {
            config.credentials = vec![api_key()];
            config.ca_certificate = Some(roots);
        },
    )
    .await;
    assert_eq!(outcome(&world.ask().await), "tls");
    assert_eq!(world.atlas.connections_accepted(), 1);
}

#[tokio::test]
async fn u14_streams_that_are_refused_or_reset_are_tried_again() {
    let authority = Authority::new();
    for code in [7, 2, 8] {
        let world = over_tls(&authority, authority.tls("localhost", false), true).await;
        world.ask().await.unwrap();
        world
            .atlas
            .on(Asked::certificates())
            .once()
            .respond(Fault::reset_stream(code));
        assert_eq!(outcome(&world.ask().await), "2 certificates", "{code}");
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::reset_stream(code));
        assert_eq!(outcome(&world.ask().await), "unreachable", "{code}");
        assert_eq!(world.atlas.certificate_calls(), 6);
    }
    let world = over_tls(&authority, authority.tls("localhost", false), true).await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::go_away());
    for _ in 0..3 {
        assert_eq!(outcome(&world.ask().await), "2 certificates");
    }
}

#[tokio::test]
async fn u14_a_connection_on_which_nothing_may_be_asked_is_left_for_a_new_one() {
    let authority = Authority::new();
    let no_streams = Http2Rules {
        streams: Some(0),
        ..Http2Rules::default()
    };
    let roots = authority.roots();
    let world = World::with(
        |settings| {
            settings.tls = Some(authority.tls("localhost", false));
            settings.rules.http2 = no_streams;
        },
        |config| {
            config.ca_certificate = Some(roots);
            config.credentials = vec![api_key()];
        },
    )
    .await;
    in_time(&world, "timeout").await;
    // The connection still stands, and will never be good for anything.
    world
        .atlas
        .rules(|rules| rules.http2 = Http2Rules::default());
    in_time(&world, "2 certificates").await;
}

#[tokio::test]
async fn u14_a_connection_on_which_no_form_may_be_sent_is_left_for_a_new_one() {
    let authority = Authority::new();
    let world = over_tls(&authority, authority.tls("localhost", false), true).await;
    world.atlas.rules(|rules| rules.http2.window = Some(0));
    // The first form is on its way before we hear that we may send none.
    in_time(&world, "2 certificates").await;
    world.atlas.revoke_all_tokens();
    in_time(&world, "credential Unavailable").await;
    world.manual_clock.advance(Duration::from_secs(5));
    in_time(&world, "2 certificates").await;
    assert_eq!(world.atlas.connections_accepted(), 2);
}

/// Asks, and sees that what comes of it comes within the time of a fetch.
async fn in_time(world: &World, expected: &str) {
    let before = world.clock.now().elapsed;
    assert_eq!(outcome(&world.ask().await), expected);
    let took = world.clock.now().elapsed.saturating_sub(before);
    assert!(took <= Duration::from_millis(10_100), "{took:?}");
}

#[tokio::test]
async fn u10_connections_that_are_never_accepted_are_given_up_in_time() {
    // Who listens and never accepts has room for one; further calls are not even refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let deaf = socket.listen(1).unwrap();
    let address = deaf.local_addr().unwrap();
    let mut taken = Vec::new();
    for _ in 0..4 {
        let connecting = TcpStream::connect(address);
        if let Ok(stream) = tokio::time::timeout(Duration::from_millis(20), connecting).await {
            taken.push(stream);
        }
    }
    let world = World::with(
        |_| (),
        |config| {
            config.base_url = format!("http://{address}");
            config.credentials = vec![api_key()];
        },
    )
    .await;
    in_time(&world, "timeout").await;
}

/// What is said of a name: one after the other, the last for ever.
struct Names {
    said: Vec<Said>,
    asked: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Said {
    Address([u8; 4]),
    Nothing,
    Unknown,
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let said = self.said[asked.min(self.said.len() - 1)];
        Box::pin(async move {
            match said {
                Said::Address(address) => {
                    let address = SocketAddr::from((address, 0));
                    let addresses: Addrs = Box::new(std::iter::once(address));
                    Ok(addresses)
                }
                Said::Nothing => std::future::pending().await,
                Said::Unknown => Err("no such name".into()),
            }
        })
    }
}

#[tokio::test]
async fn u05_wherever_a_name_leads_nobody_is_asked_who_cannot_prove_to_be_atlas() {
    const HERE: Said = Said::Address([127, 0, 0, 1]);
    const ELSEWHERE: Said = Said::Address([127, 0, 0, 2]);
    let authority = Authority::new();
    for (said, expected) in [
        (&[HERE][..], &["2 certificates"][..]),
        (&[ELSEWHERE], &["tls", "tls"]),
        (&[ELSEWHERE, HERE], &["tls", "2 certificates"]),
        (&[HERE, ELSEWHERE], &["2 certificates", "2 certificates"]),
        (&[Said::Unknown, HERE], &["2 certificates"]),
        (&[Said::Unknown], &["unreachable"]),
        (&[Said::Nothing], &["timeout"]),
    ] {
        let names = Names {
            said: said.to_vec(),
            asked: AtomicUsize::new(0),
        };
        let roots = authority.roots();
        let world = World::where_names_lead(
            Some(Arc::new(names)),
            |settings| settings.tls = Some(authority.tls("atlas.example", false)),
            |config| {
                config.base_url = config.base_url.replace("localhost", "atlas.example");
                config.credentials = vec![api_key()];
                config.ca_certificate = Some(roots);
            },
        )
        .await;
        // Who else has that address has another name, or none that our roots vouch for.
        let port = world.atlas.local_addr().port();
        let impostor = Simulator::start(Settings {
            listen: SocketAddr::from(([127, 0, 0, 2], port)),
            tls: Some(authority.tls("metadata.internal", false)),
            ..Settings::default()
        });
        let impostor = impostor.await.unwrap();
        for expected in expected {
            in_time(&world, expected).await;
        }
        assert_eq!(impostor.all_calls(), 0);
    }
}

#[tokio::test]
async fn u10_g22_a_host_that_is_gone_is_asked_rarely_for_all_projects_and_found_when_it_is_back() {
    let world = World::new().await;
    world.ask().await.unwrap();
    world.atlas.stop_accepting().await.unwrap();
    assert_eq!(outcome(&world.ask().await), "unreachable");
    let result = world.ask().await;
    assert!(matches!(
        outcome(&result).as_str(),
        "unreachable" | "breaker"
    ));
    assert_eq!(outcome(&world.ask_at_once().await), "breaker");
    let other = crate::upstream::world::query(crate::upstream::world::OTHER, "app1");
    let urgency = atlas_cert_gateway::upstream::Urgency::Miss;
    let refused = world
        .upstream
        .fetch(&other, urgency.into())
        .await
        .unwrap_err();
    assert_eq!(crate::upstream::world::name(&refused.reason), "breaker");
    assert_eq!(refused.stats.calls, 0);
    world.atlas.resume().await.unwrap();
    world.manual_clock.advance(Duration::from_secs(5));
    assert_eq!(outcome(&world.ask_at_once().await), "2 certificates");
    assert_eq!(outcome(&world.ask_at_once().await), "2 certificates");
}
