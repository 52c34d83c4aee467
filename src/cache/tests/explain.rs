//! What an operator is told of a key.

use futures_util::FutureExt;
use http::StatusCode;

use super::super::explain::KeyState;
use super::super::*;
use super::stage::{Stage, Word, down, query};

#[tokio::test]
async fn a_key_is_explained_in_every_state() {
    let stage = Stage::new(Config::default());
    let explain = || stage.cache.explain(&query("app"), stage.manual_clock.now());
    assert_eq!(explain().state, KeyState::Absent);

    stage.atlas.hold();
    let mut caller = Box::pin(stage.ask("app"));
    assert!(caller.as_mut().now_or_never().is_none());
    stage.manual_clock.advance(Duration::from_millis(1_500));
    let fetch = explain().fetch.unwrap();
    assert_eq!(
        (fetch.number, fetch.since_milliseconds, fetch.waiters),
        (1, 1_500, 1)
    );
    stage.atlas.release();
    let found = caller.await.unwrap();

    stage.pass(10);
    let explanation = explain();
    let facts = explanation.list.unwrap();
    assert_eq!(
        (explanation.state, explanation.fetch),
        (KeyState::Fresh, None)
    );
    assert_eq!((facts.certificates, facts.listed), (1, 1));
    assert_eq!((facts.pages, facts.calls), (1, 2));
    assert_eq!(facts.fill_id, found.entry.fill_id().to_string());
    assert_eq!(facts.segments, ["main", "probation"]);
    let now = stage.manual_clock.now();
    assert_eq!(facts.ttl_seconds, found.entry.ttl(now));

    let due = found.entry.lifetime().due();
    stage
        .manual_clock
        .advance(due.saturating_sub(found.entry.age(now)));
    assert_eq!(explain().state, KeyState::Due);
    stage.pass(100);
    stage.atlas.says(down());
    stage.ask("app").await.unwrap();
    stage.pass(3);
    let explanation = explain();
    assert_eq!(explanation.state, KeyState::Stale);
    assert_eq!(explanation.list.unwrap().failed_seconds_ago, Some(3));
    stage.pass(3_600);
    assert_eq!(explain().state, KeyState::Absent);

    let missing = StatusCode::NOT_FOUND;
    stage.atlas.says(Word::Refusal(missing, "USER_NOT_FOUND"));
    stage.ask("app").await.unwrap_err();
    let explanation = explain();
    assert_eq!(explanation.state, KeyState::Negative);
    let absence = explanation.absence.clone().unwrap();
    assert_eq!(absence.error_code.as_deref(), Some("USER_NOT_FOUND"));
    let written = serde_json::to_string(&explanation).unwrap();
    assert!(written.starts_with("{\"state\":\"negative\",\"why\":\"Atlas has said"));
    stage.pass(31);
    assert_eq!(explain().state, KeyState::Absent);
}
