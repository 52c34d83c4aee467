//! Of callers whom nobody has verified: those who hang up, those whose issuer's keys cannot be had, and what
//! the log says of them.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::net::TcpListener;

use super::{folds_after_a_minute, number, recorded};
use crate::client;
use crate::client::Connection;
use crate::frames::{ACK, PING, SETTINGS, frame};
use crate::program::{Program, records, request_for, world_with};
use crate::world::{PROJECT, World, certs, set, token};

/// A gateway whose issuer's keys are at `address`, and a token that needs them.
async fn world_of_keys_at(address: SocketAddr) -> (World, String) {
    let world = World::with(|plan| {
        number(&mut plan.config, 2);
        let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
        let issuer = issuers[0].as_table_mut().unwrap();
        issuer.remove("hmac_secret_file");
        set(issuer, "jwks_url", format!("http://{address}/jwks"));
        set(issuer, "algorithms", vec!["RS256"]);
    })
    .await;
    let usual = token();
    let claims = usual.split('.').nth(1).unwrap();
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"1"}"#);
    (world, format!("{header}.{claims}.{}", "A".repeat(342)))
}

#[tokio::test]
async fn a_stranger_who_hangs_up_counts_as_refused() {
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (world, token) = world_of_keys_at(silent.local_addr().unwrap()).await;
    for gone in 1..=5 {
        let mut connection = Connection::open(world.address()).await;
        connection
            .send(&request_for("app1", &token, "keep-alive"))
            .await;
        while world.metric("inflight_requests").await < 1 {}
        connection.reset();
        while world.metric("inflight_requests").await > 0 {}
        let folded = world.metric("audit_refusals_folded_total").await;
        assert_eq!(folded, u64::saturating_sub(gone, 2));
    }
    world.until(|world| world.lookups().len() == 2).await;
    let folds = folds_after_a_minute(&world, 1).await;
    assert_eq!(folds[0]["codes"], json!({ "ABANDONED": 3 }));
}

/// Nobody is verified then, so a stranger could have a record for each; but what is wrong with us is said
/// all the same.
#[tokio::test]
async fn without_keys_an_answer_stays_503_and_only_its_record_is_folded() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let (world, token) = world_of_keys_at(address).await;
    let target = certs(PROJECT, "app1");
    for _ in 0..6 {
        let reply = world.send("GET", &target, &token, &[]).await;
        assert_eq!(
            (reply.status, &*reply.error_code()),
            (503, "SERVICE_UNAVAILABLE")
        );
        let purge = world.admin("POST", "/cache/purge", &token, "{}").await;
        assert_eq!(purge.status, 503);
    }
    assert_eq!(recorded(&world), 2);
    let folds = folds_after_a_minute(&world, 1).await;
    assert_eq!(folds[0]["codes"], json!({ "SERVICE_UNAVAILABLE": 10 }));
}

/// Row S1 and row N3 in the program itself: by the kernel's word of the disk, and with its log.
// The simulated Atlas answers while a test waits for the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_has_a_line_of_the_log_only_while_it_has_a_record() {
    let (_atlas, files) = world_with(|config| number(config, 5)).await;
    let program = Program::start(files.path());
    for _ in 0..100 {
        let request = request_for("app1", "a.b.c", "close");
        client::exchange(program.address, &request).await;
    }
    program.signal("-TERM");
    let (code, said) = program.end();
    assert_eq!(code, Some(0));
    let lines = |text: &str| said.iter().filter(|line| line.contains(text)).count();
    // The hundred may lie in two minutes of the clock.
    let (own, folded) = (
        lines("a token was refused"),
        lines("refused requests are folded"),
    );
    assert!((5..=10).contains(&own), "{said:?}");
    assert!((1..=2).contains(&folded), "{said:?}");
    let folds = records(files.path(), "refusals");
    let counts = folds.iter().map(|fold| fold["count"].as_u64().unwrap());
    assert_eq!(counts.sum::<u64>(), 100 - u64::try_from(own).unwrap());
}

/// Row N3: what everybody can cause at the price of a few bytes has no line of the log.
// The program is waited for by a thread.
#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_send_below_http_has_no_line_of_the_log() {
    let (_atlas, files) = world_with(|config| set(config, "telemetry.log", "h2=warn,info")).await;
    let program = Program::start(files.path());
    let mut connection = Connection::open(program.address).await;
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    connection.send(&frame(SETTINGS, 0, 0, &[])).await;
    // Answers to pings that nobody has sent.
    connection
        .send(&frame(PING, ACK, 0, &[7; 8]).repeat(1_000))
        .await;
    connection.send(&frame(PING, 0, 0, &[8; 8])).await;
    connection.finish().await;
    while connection.read_some(1_000).await.is_some() {}
    for bytes in [
        &b"\x16\x03\x01 no TLS\r\n\r\n"[..],
        b"PROXY TCP4 a b c d\r\n",
        b"GET\r\n\r\n",
    ] {
        for _ in 0..20 {
            client::exchange(program.address, bytes).await;
            client::exchange(program.admin, bytes).await;
        }
    }
    program.signal("-TERM");
    let (code, said) = program.end();
    assert_eq!(code, Some(0));
    assert!(said.len() < 10, "{said:?}");
}
