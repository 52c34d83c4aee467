//! An issuer changes its keys while callers keep coming, two hundred a second.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Scene;
use crate::tokens::{Issuer, TestKey, jwks};
use crate::world::World;

/// Callers that come one after another at a steady pace, however long each is kept.
struct Callers<'s> {
    scene: &'s Scene,
    /// Tokens made so far, so that each is another.
    made: AtomicUsize,
    /// Those with a key that the issuer still has.
    answered: AtomicUsize,
    /// Whether one with a removed key was refused already.
    forgotten: AtomicBool,
}

impl Callers<'_> {
    /// Tokens that were not shown yet.
    fn tokens(&self, issuer: &Issuer, count: usize) -> Vec<String> {
        let token = |_| {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            issuer.token(&format!("payments-{number}"))
        };
        (0..count).map(token).collect()
    }

    /// Each of `tokens` gets its answer.
    async fn come(&self, tokens: &[String]) {
        self.pace(tokens, async |token| {
            let reply = self.scene.ask(token).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            self.answered.fetch_add(1, Ordering::Relaxed);
        })
        .await;
    }

    /// Each of `tokens`, signed with a key that is no more, is refused, once one of them was.
    async fn come_too_late(&self, tokens: &[String]) {
        self.pace(tokens, async |token| {
            let forgotten = self.forgotten.load(Ordering::Relaxed);
            match self.scene.ask(token).await.status {
                200 => assert!(!forgotten, "a removed key is believed again"),
                401 => self.forgotten.store(true, Ordering::Relaxed),
                other => panic!("{other}"),
            }
        })
        .await;
    }

    async fn pace(&self, tokens: &[String], ask: impl AsyncFn(&str)) {
        let mut pace = tokio::time::interval(PACE);
        let mut under_way = FuturesUnordered::new();
        for token in tokens {
            loop {
                tokio::select! {
                    _ = pace.tick() => break,
                    Some(()) = under_way.next() => {}
                }
            }
            under_way.push(ask(token));
        }
        while under_way.next().await.is_some() {}
    }
}

#[tokio::test]
async fn keys_change_under_load_and_no_good_token_is_refused() {
    let scene = Scene::new(&jwks(&[&TestKey::rsa()])).await;
    let old = &scene.issuer;
    let new = &scene.issuer.signing_with(TestKey::next_rsa());
    let callers = Callers {
        scene: &scene,
        made: AtomicUsize::new(0),
        answered: AtomicUsize::new(0),
        forgotten: AtomicBool::new(false),
    };
    let used = callers.tokens(old, 50);
    callers.come(&used).await;

    // The issuer begins to sign with a new key, and its answer takes its time. A caller with a token of
    // the known key does not wait for that answer; the others get theirs with it.
    scene
        .publisher
        .publish(&jwks(&[&TestKey::rsa(), &TestKey::next_rsa()]));
    scene.publisher.hold(true);
    let before = callers.answered.load(Ordering::Relaxed);
    let during = |_: &World| callers.answered.load(Ordering::Relaxed) >= before + 50;
    let (with_new, with_old) = (callers.tokens(new, 100), callers.tokens(old, 100));
    tokio::join!(callers.come(&with_new), callers.come(&with_old), async {
        scene.world.until(during).await;
        scene.publisher.hold(false);
    },);
    assert_eq!(scene.publisher.requests(), 2);

    // It takes the old key back. While everybody comes on, the next refresh brings the news. The clock jumps
    // before they come: a record that is being written then is late.
    scene.publisher.publish(&jwks(&[&TestKey::next_rsa()]));
    scene.publisher.hold(true);
    scene.world.advance(Duration::from_mins(5));
    let asked = |_: &World| scene.publisher.requests() >= 3;
    scene.world.until(asked).await;
    let unused = callers.tokens(old, 100);
    let late: Vec<String> = unused.iter().chain(&used).cloned().collect();
    let with_new = callers.tokens(new, 150);
    let before = callers.answered.load(Ordering::Relaxed);
    let during = |_: &World| callers.answered.load(Ordering::Relaxed) >= before + 50;
    tokio::join!(
        callers.come(&with_new),
        callers.come_too_late(&late),
        async {
            scene.world.until(during).await;
            scene.publisher.hold(false);
        },
    );
    // From then on nothing signed with it passes, shown before or not; what the new one signs does.
    let forgotten = |_: &World| callers.forgotten.load(Ordering::Relaxed);
    while !forgotten(&scene.world) {
        callers.come_too_late(&used[..1]).await;
    }
    callers.come_too_late(&used).await;
    callers.come_too_late(&callers.tokens(old, 50)).await;
    callers.come(&callers.tokens(new, 50)).await;
    let refused = scene.world.lookups();
    let refused = refused.iter().filter(|record| record["status"] == 401);
    let reasons: Vec<&str> = refused
        .filter_map(|record| record["reason"].as_str())
        .collect();
    assert!(reasons.len() >= 100, "{}", reasons.len());
    assert!(
        reasons.iter().all(|reason| *reason == "unknown key"),
        "{reasons:?}"
    );
    // Its name is an unknown one now, and worth one question.
    assert_eq!(scene.publisher.requests(), 4);
}

/// Two hundred a second, from one or two of these at a time.
const PACE: Duration = Duration::from_millis(5);
