//! TLS at the public listener: certificates that change under it, callers that show their own, and what is
//! no TLS at all.

mod agreed;
mod pipes;
mod validity;

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use atlas_cert_gateway::config::Config;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::authority::Authority;
use crate::client::Connection;
use crate::world::{PROJECT, World, certs, configuration, set, token};

/// The status of a lookup on an open connection.
async fn ask(stream: &mut TlsStream<TcpStream>) -> io::Result<String> {
    let (path, token) = (certs(PROJECT, "app1"), token());
    let request =
        format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head[9..12].to_vec()).unwrap())
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].clone().into_owned()
}

async fn reloads(world: &World, result: &str) -> u64 {
    world
        .metric(&format!("tls_reloads_total{{result=\"{result}\"}}"))
        .await
}

async fn until_reloaded(world: &World, result: &str, count: u64) {
    world
        .while_time_passes(async {
            while reloads(world, result).await < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
}

#[tokio::test]
async fn a_changed_certificate_serves_new_connections_and_old_ones_go_on() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    let mut before = authority.connect(&world, None, &[]).await.unwrap();
    assert_eq!(ask(&mut before).await.unwrap(), "200");
    authority.issue();
    until_reloaded(&world, "loaded", 1).await;
    let mut after = authority.connect(&world, None, &[]).await.unwrap();
    assert_ne!(shown(&before), shown(&after));
    for stream in [&mut before, &mut after] {
        assert_eq!(ask(stream).await.unwrap(), "200");
    }
}

#[tokio::test]
async fn another_pair_of_files_is_shown_once_the_configuration_names_it() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    let mut before = authority.connect(&world, None, &[]).await.unwrap();
    assert_eq!(ask(&mut before).await.unwrap(), "200");
    let next = Authority::new();
    let mut config = configuration(&world.files);
    set(&mut config, "atlas.base_url", world.atlas.base_url());
    set(
        &mut config,
        "server.tls.certificate",
        next.path("server.pem"),
    );
    set(
        &mut config,
        "server.tls.private_key",
        next.path("server.key"),
    );
    let fresh = Config::parse(&config.to_string(), []).unwrap();
    assert_eq!(world.app.reload(&fresh).await.unwrap(), [""; 0]);
    let mut after = next.connect(&world, None, &[]).await.unwrap();
    assert_ne!(shown(&before), shown(&after));
    for stream in [&mut before, &mut after] {
        assert_eq!(ask(stream).await.unwrap(), "200");
    }
    // A key that does not fit its certificate: nothing of it is taken, and nothing beside it.
    let key = authority.path("server.key");
    set(&mut config, "server.tls.private_key", key);
    let rules = config["access"]["rules"].as_array_mut().unwrap();
    rules[0]
        .as_table_mut()
        .unwrap()
        .insert("deny".to_owned(), true.into());
    let broken = Config::parse(&config.to_string(), []).unwrap();
    let config_errors = world.app.reload(&broken).await.unwrap_err();
    assert_eq!(config_errors[0].place, "server.tls.certificate");
    let mut last = next.connect(&world, None, &[]).await.unwrap();
    assert_eq!(ask(&mut last).await.unwrap(), "200");
}

#[tokio::test]
async fn a_broken_pair_of_files_is_refused_and_the_old_pair_stays() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    let before = authority.connect(&world, None, &[]).await.unwrap();
    let key = fs::read(authority.path("server.key")).unwrap();
    for (refusals, broken) in [
        KeyPair::generate().unwrap().serialize_pem(),
        "no key at all".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(authority.path("server.key"), broken).unwrap();
        until_reloaded(&world, "refused", u64::try_from(refusals + 1).unwrap()).await;
        let after = authority.connect(&world, None, &[]).await.unwrap();
        assert_eq!(shown(&before), shown(&after));
    }
    assert!(Path::new(&authority.path("server.key")).exists());
    fs::write(authority.path("server.key"), key).unwrap();
    world.advance(Duration::from_secs(20));
    let mut after = authority.connect(&world, None, &[]).await.unwrap();
    assert_eq!(ask(&mut after).await.unwrap(), "200");
}

#[tokio::test]
async fn a_callers_certificate_is_demanded_and_its_subject_is_on_record() {
    let authority = Authority::new();
    let world = authority.world(true).await;
    let mut known = authority
        .connect(&world, Some(authority.caller()), &[])
        .await
        .unwrap();
    assert_eq!(ask(&mut known).await.unwrap(), "200");
    let record = &world.lookups()[0];
    assert_eq!(
        record["tls_subject"],
        "CN=payments,O=Example\\, \\\"Inc\\\""
    );
    let stranger = Authority::new().caller();
    for identity in [None, Some(stranger)] {
        // With TLS 1.3 the refusal comes after the client's own half of the handshake.
        let refused = match authority.connect(&world, identity, &[]).await {
            Ok(mut stream) => ask(&mut stream).await.is_err(),
            Err(_) => true,
        };
        assert!(refused);
    }
    assert_eq!(world.lookups().len(), 1);
    assert_eq!(world.refused("tls_handshake").await, 2);
}

#[tokio::test]
async fn the_protocol_is_agreed_in_the_handshake() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let stream = authority.connect(&world, None, offered).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
    }
    assert!(authority.connect(&world, None, &["spdy/3"]).await.is_err());
}

#[tokio::test]
async fn what_is_no_tls_or_does_not_finish_its_handshake_is_closed() {
    let authority = Authority::new();
    let world = authority.world(false).await;
    for (id, bytes) in [
        ("H26", &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]),
        ("H26", b"SSH-2.0-OpenSSH_10.0\r\n"),
        ("H53", b""),
        ("H53", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
    ] {
        let before = world.refused("tls_handshake").await;
        let mut connection = Connection::open(world.address()).await;
        connection.send(bytes).await;
        let end = world.while_time_passes(connection.reply(false)).await;
        assert_eq!(end.status, 0, "{id}");
        assert_eq!(world.refused("tls_handshake").await, before + 1, "{id}");
    }
}
