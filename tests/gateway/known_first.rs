//! Callers who are known are never behind those who are not, however many of them there are.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::client::{Connection, Reply};
use crate::forgeries;
use crate::identity::Scene;
use crate::tokens::{Issuer, TestKey, jwks};
use crate::world::{PROJECT, World, certs, set};

/// Where the callers are who know no key.
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];
/// How many of one source may wait for keys, and how many in all.
const PLACES: (usize, usize) = (128, 512);

/// A world in which few may be under way at once.
async fn scene(in_flight: i64) -> Scene {
    Scene::with(&jwks(&[&TestKey::rsa()]), |plan| {
        set(&mut plan.config, "server.limits.in_flight", in_flight);
    })
    .await
}

/// Tokens of the right form with keys that no issuer has; their signatures were never made.
fn strangers(issuer: &Issuer, count: usize) -> Vec<String> {
    let token = |number| {
        let part = |bytes: &[u8]| crate::tokens::base64url(bytes);
        let mut header = issuer.header();
        header["kid"] = json!(format!("kid-{number}"));
        let claims = issuer.claims("payments-stranger").to_string();
        let (header, claims) = (part(header.to_string().as_bytes()), part(claims.as_bytes()));
        format!("{header}.{claims}.{}", part(&[0; 256]))
    };
    (0..count).map(token).collect()
}

/// Asks with each token from one address; the connections on which to wait for what comes.
async fn come(world: &World, source: [u8; 4], tokens: &[String]) -> Vec<Connection> {
    let path = certs(PROJECT, "app1");
    let connections = tokens.iter().map(|token| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        async move {
            let mut connection = Connection::open_from(source, world.address()).await;
            connection.send(request.as_bytes()).await;
            connection
        }
    });
    join_all(connections).await
}

/// Waits until so many requests of unknown callers are under way, and no others.
async fn until_waiting(world: &World, count: usize) {
    let count = u64::try_from(count).unwrap();
    let unverified = || world.metric("inflight_unverified_requests");
    for _ in 0..PATIENCE {
        if unverified().await == count && world.metric("inflight_requests").await == count {
            return;
        }
    }
    panic!("not {count} requests are waiting");
}

fn assert_turned_away(reply: &Reply) {
    assert_eq!(
        (
            reply.status,
            reply.error_code().as_str(),
            reply.header("retry-after")
        ),
        (503, "SERVICE_UNAVAILABLE", Some("1"))
    );
}

#[tokio::test]
async fn unknown_callers_that_wait_for_keys_take_no_place_of_known_ones() {
    // Fewer than wait of one source, so that they would take all there is.
    let scene = scene(50).await;
    let (world, issuer) = (&scene.world, &scene.issuer);
    let known = issuer.token("payments-known");
    assert_eq!(scene.ask(&known).await.status, 200);
    let mut fetches = scene.publisher.requests();
    for round in 0..2 {
        scene.publisher.hold(true);
        let more = 300;
        let shed = world.metric("lookups_shed_total").await;
        let mut waiting = come(world, ELSEWHERE, &strangers(issuer, PLACES.0 + more)).await;
        until_waiting(world, PLACES.0).await;
        // All have come: who came later than those who wait are let go would wait anew.
        while world.metric("lookups_shed_total").await < shed + 300 {}
        assert_eq!(scene.publisher.requests(), fetches + 1);
        // Whom memory knows, whose key is known, and what memory has no list of.
        assert_eq!(scene.ask(&known).await.status, 200);
        let new = issuer.token(&format!("payments-new-{round}"));
        assert_eq!(scene.ask(&new).await.status, 200);
        let path = certs(PROJECT, &format!("nobody-{round}"));
        let miss = world.send("GET", &path, &known, &[]).await;
        assert_eq!(
            (miss.status, miss.header("x-upstream-calls")),
            (404, Some("1"))
        );
        until_waiting(world, PLACES.0).await;
        // Nothing will come, and all who wait are let go.
        world.advance(Duration::from_secs(5));
        let replies = join_all(waiting.iter_mut().map(|stranger| stranger.reply(false))).await;
        let unknown = replies.iter().filter(|reply| reply.status == 401);
        assert_eq!(unknown.count(), PLACES.0);
        let turned_away: Vec<&Reply> = replies.iter().filter(|reply| reply.status != 401).collect();
        assert_eq!(turned_away.len(), more);
        turned_away.into_iter().for_each(assert_turned_away);
        until_waiting(world, 0).await;
        // Before the clock moves: then the background task may ask by itself, and unknown callers wait for that.
        fetches = scene.publisher.requests();
        world.advance(Duration::from_secs(31));
    }
}

#[tokio::test]
async fn a_new_key_is_waited_for_while_one_source_floods_with_unknown_keys() {
    let scene = scene(10_000).await;
    let (world, issuer) = (&scene.world, &scene.issuer);
    assert_eq!(scene.ask(&issuer.token("payments-known")).await.status, 200);
    let both = jwks(&[&TestKey::rsa(), &TestKey::next_rsa()]);
    scene.publisher.publish(&both);
    scene.publisher.hold(true);
    let strangers = strangers(issuer, PLACES.0 + 20);
    let mut waiting = come(world, ELSEWHERE, &strangers).await;
    until_waiting(world, PLACES.0).await;
    let new = issuer
        .signing_with(TestKey::next_rsa())
        .token("payments-new");
    let (reply, ()) = tokio::join!(scene.ask(&new), async {
        until_waiting(world, PLACES.0 + 1).await;
        scene.publisher.hold(false);
    });
    assert_eq!(reply.status, 200, "{}", reply.text());
    for stranger in &mut waiting {
        let status = stranger.reply(false).await.status;
        assert!([401, 503].contains(&status), "{status}");
    }
}

#[tokio::test]
async fn an_operator_with_a_new_key_is_not_behind_callers_who_wait() {
    let scene = scene(10_000).await;
    let (world, issuer) = (&scene.world, &scene.issuer);
    assert_eq!(scene.ask(&issuer.token("payments-known")).await.status, 200);
    let both = jwks(&[&TestKey::rsa(), &TestKey::next_rsa()]);
    scene.publisher.publish(&both);
    scene.publisher.hold(true);
    let strangers = strangers(issuer, PLACES.0);
    let mut waiting = Vec::new();
    for source in 2..=5 {
        waiting.push(come(world, [127, 0, 0, source], &strangers).await);
    }
    until_waiting(world, PLACES.1).await;
    let one_more = come(world, [127, 0, 0, 6], &strangers[..1]).await;
    for mut stranger in one_more {
        assert_turned_away(&stranger.reply(false).await);
    }
    // Even now an operator whose key is known is served, and one whose key is new waits for it.
    let known = issuer.token("operator");
    let search = world.admin("GET", "/audit/lookups", &known, "").await;
    assert_eq!(search.status, 200, "{}", search.text());
    let new = issuer.signing_with(TestKey::next_rsa()).token("operator");
    let fetched = async {
        // It is on its way to its place; one that is turned away would be answered before others are.
        for _ in 0..50 {
            world.admin("GET", "/healthz", "", "").await;
        }
        scene.publisher.hold(false);
    };
    let (search, ()) = tokio::join!(world.admin("GET", "/audit/lookups", &new, ""), fetched);
    assert_eq!(search.status, 200, "{}", search.text());
    drop(waiting);
}

#[tokio::test]
async fn forged_signatures_are_refused_while_hits_are_answered() {
    let scene = Scene::new(&forgeries::published()).await;
    let (world, issuer) = (&scene.world, &scene.issuer);
    let known = issuer.token("payments-known");
    assert_eq!(scene.ask(&known).await.status, 200);
    let forged: Vec<String> = (0..300)
        .map(|number| {
            let token = issuer.token(&format!("payments-{number}"));
            let (signed, _) = token.rsplit_once('.').unwrap();
            format!("{signed}.{}", crate::tokens::base64url([1; 256]))
        })
        .collect();
    let mut forgers = come(world, ELSEWHERE, &forged).await;
    for number in 0..20 {
        assert_eq!(scene.ask(&known).await.status, 200);
        let new = issuer.token(&format!("payments-new-{number}"));
        assert_eq!(scene.ask(&new).await.status, 200);
    }
    for forger in &mut forgers {
        assert_eq!(forger.reply(false).await.status, 401);
    }
    until_waiting(world, 0).await;
}

/// How many looks at the metrics a change may take, which comes within the first few: so many that a busy
/// machine has the time, and that a change which never comes is still an end.
const PATIENCE: u32 = 100_000;
