//! A purge wins, also over a fetch that had begun before it.

use futures_util::FutureExt;

use super::super::*;
use super::stage::{Stage, Word, down, list, query};

#[tokio::test]
async fn g7_what_was_purged_is_not_seen_again_and_each_purge_is_counted() {
    let other_project = "000000000000000000000001".parse().unwrap();
    for (what, concerned, left) in [
        (Purge::Key(query("a")), 1, ["b", "c"].as_slice()),
        (Purge::Key(query("missing")), 0, &["a", "b", "c"]),
        (Purge::Project(query("a").project), 4, &[]),
        (Purge::Project(other_project), 0, &["a", "b", "c"]),
        (Purge::All, 4, &[]),
    ] {
        let stage = Stage::new(Config::default());
        for name in ["a", "b", "c"] {
            stage.ask(name).await.unwrap();
        }
        let missing = http::StatusCode::NOT_FOUND;
        stage.atlas.says(Word::Refusal(missing, "USER_NOT_FOUND"));
        stage.ask("absent").await.unwrap_err();
        assert_eq!(stage.cache.purge(&what, false), concerned, "{what:?}");
        stage.atlas.says(down());
        let mut found = Vec::new();
        for name in ["a", "b", "c"] {
            if stage.ask(name).await.is_ok() {
                found.push(name);
            }
        }
        assert_eq!(found, left, "{what:?}");
    }
}

#[tokio::test]
async fn f09_a_fetch_that_began_before_the_purge_brings_nothing_back() {
    let stage = Stage::new(Config::default());
    stage.atlas.hold();
    let mut early = Box::pin(stage.ask("app"));
    assert!(early.as_mut().now_or_never().is_none());
    stage.breathe().await;
    stage.cache.purge(&Purge::Key(query("app")), false);
    stage.atlas.says(list(&["two"]));
    let mut late = Box::pin(stage.ask("app"));
    assert!(late.as_mut().now_or_never().is_none());
    stage.atlas.release();
    // Both get what was read after the purge, from one further fetch.
    for caller in [early.await.unwrap(), late.await.unwrap()] {
        assert!(stage.body("app", &caller).contains("two"));
    }
    assert_eq!((stage.atlas.fetches(), stage.atlas.most_at_once()), (2, 1));
}

#[tokio::test]
async fn an_invalidated_fetch_is_not_repeated_when_no_caller_waits() {
    let stage = Stage::new(Config::default());
    stage.atlas.hold();
    let mut caller = Box::pin(stage.ask("app"));
    assert!(caller.as_mut().now_or_never().is_none());
    stage.breathe().await;
    stage.cache.purge(&Purge::All, false);
    drop(caller);
    stage.atlas.release();
    stage.settle().await;
    assert_eq!(stage.atlas.fetches(), 1);
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Miss);
}

#[tokio::test]
async fn a_soft_purge_asks_anew_but_keeps_what_is_known_for_an_outage() {
    let stage = Stage::new(Config::default());
    stage.ask("app").await.unwrap();
    assert_eq!(stage.cache.purge(&Purge::All, true), 1);
    stage.atlas.says(down());
    let old = stage.ask("app").await.unwrap();
    assert_eq!(old.status, CacheStatus::Stale(Staleness::Error));
    assert!(old.entry.ttl(stage.manual_clock.now()) < 0);
    stage.pass(5);
    stage.atlas.says(list(&["two"]));
    let found = stage.ask("app").await.unwrap();
    assert_eq!(found.status, CacheStatus::Renewed);
    assert!(stage.body("app", &found).contains("two"));
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Hit);
}

#[tokio::test]
async fn a_fetch_that_began_before_a_soft_purge_brings_a_stale_list() {
    let stage = Stage::new(Config::default());
    stage.atlas.hold();
    let mut caller = Box::pin(stage.ask("app"));
    assert!(caller.as_mut().now_or_never().is_none());
    stage.breathe().await;
    stage.cache.purge(&Purge::All, true);
    stage.atlas.release();
    caller.await.unwrap();
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Renewed);
}
