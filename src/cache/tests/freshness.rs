//! How long an answer is good for, and what happens afterwards.

use http::StatusCode;

use super::super::*;
use super::stage::{Stage, Word, down, list};
use crate::upstream::FetchErrorKind;

/// Past every share of five minutes, with a tenth of jitter.
const PAST_TTL: u64 = 331;

#[tokio::test]
async fn the_first_lookup_costs_a_fetch_and_the_second_nothing() {
    let stage = Stage::new(Config::default());
    let first = stage.ask("app").await.unwrap();
    assert_eq!((first.status, first.upstream_calls), (CacheStatus::Miss, 2));
    assert_eq!(first.header().to_string(), "fwd=miss; stored");
    stage.pass(100);
    let second = stage.ask("app").await.unwrap();
    assert_eq!(
        (second.status, second.upstream_calls),
        (CacheStatus::Hit, 0)
    );
    assert_eq!(second.age(), Duration::from_secs(100));
    assert_eq!(second.entry.fill_id(), first.entry.fill_id());
    assert_eq!(stage.atlas.fetches(), 1);
}

#[tokio::test]
async fn a_list_past_its_time_is_asked_for_anew() {
    let stage = Stage::new(Config::default());
    stage.ask("app").await.unwrap();
    stage.pass(PAST_TTL);
    stage.atlas.says(list(&["two"]));
    let renewed = stage.ask("app").await.unwrap();
    assert_eq!(renewed.status, CacheStatus::Renewed);
    assert!(stage.body("app", &renewed).contains("two"));
    assert_eq!(
        *stage.atlas.urgencies.lock().unwrap(),
        [Urgency::Miss, Urgency::Revalidate]
    );
}

#[tokio::test]
async fn g5_a_stale_list_is_served_only_in_an_outage_and_within_its_bound() {
    for failure in [
        down(),
        Word::Failure(FetchErrorKind::Timeout),
        Word::Failure(FetchErrorKind::BreakerOpen {
            retry_after: Duration::from_secs(1),
        }),
        Word::Refusal(StatusCode::INTERNAL_SERVER_ERROR, "UNEXPECTED_ERROR"),
        Word::Refusal(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED_TOKEN_BUCKET"),
    ] {
        let stage = Stage::new(Config::default());
        let first = stage.ask("app").await.unwrap();
        stage.atlas.says(failure);
        // Asking again and again does not lengthen the life.
        for _ in 0..11 {
            stage.pass(PAST_TTL);
            let old = stage.ask("app").await.unwrap();
            assert_eq!(old.status, CacheStatus::Stale(Staleness::Error));
            assert_eq!(old.entry.fill_id(), first.entry.fill_id());
            assert!(old.entry.ttl(stage.manual_clock.now()) < 0);
        }
        stage.pass(PAST_TTL);
        stage.pass(PAST_TTL);
        let NotFound::Fetch { status, .. } = stage.ask("app").await.unwrap_err() else {
            panic!("no fetch was made");
        };
        assert_eq!(status, CacheStatus::Miss);
        assert_eq!(stage.metrics.stale_answers("error"), 11);
    }
}

#[tokio::test]
async fn a_denial_is_an_answer_and_ends_what_was_remembered() {
    for (status, code) in [
        (StatusCode::UNAUTHORIZED, "USER_UNAUTHORIZED"),
        (StatusCode::FORBIDDEN, "USER_CANNOT_ACCESS_GROUP"),
        (StatusCode::NOT_FOUND, "USER_NOT_FOUND"),
        (StatusCode::BAD_REQUEST, "USER_NOT_MANAGED_X509"),
    ] {
        let stage = Stage::new(Config::default());
        stage.ask("app").await.unwrap();
        stage.pass(PAST_TTL);
        stage.atlas.says(Word::Refusal(status, code));
        assert!(stage.ask("app").await.is_err(), "{code}");
        stage.pass(60);
        stage.atlas.says(down());
        assert!(stage.ask("app").await.is_err(), "{code} left a list behind");
    }
}

#[tokio::test]
async fn trouble_with_our_credential_address_bill_or_version_leaves_old_lists() {
    for (status, code) in [
        (401, "UNAUTHORIZED"),
        (402, "ACCOUNT_SUSPENDED"),
        (403, "IP_ADDRESS_NOT_ON_ACCESS_LIST"),
        (403, "NEVER_SEEN"),
        (404, "RESOURCE_NOT_FOUND"),
        (406, "INVALID_VERSION_DATE"),
        (410, "VERSION_GONE"),
    ] {
        let stage = Stage::new(Config::default());
        let first = stage.ask("app").await.unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        stage.atlas.says(Word::Refusal(status, code));
        let due = first.entry.lifetime().due();
        stage.ask("app").await.unwrap();
        stage.manual_clock.advance(due);
        // A refresh that no caller waits for.
        assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Hit);
        stage.settle().await;
        assert_eq!(
            stage.ask("app").await.unwrap().status,
            CacheStatus::Hit,
            "{code}"
        );
        stage.pass(PAST_TTL);
        let old = stage.ask("app").await.unwrap();
        assert_eq!(old.status, CacheStatus::Stale(Staleness::Error), "{code}");
    }
}

#[tokio::test]
async fn only_what_says_that_user_or_project_is_gone_or_closed_ends_a_list() {
    let codes = [
        "",
        "NEVER_SEEN",
        "ACCESS_FORBIDDEN",
        "ACCOUNT_SUSPENDED",
        "IP_ADDRESS_NOT_ON_ACCESS_LIST",
        "NOT_IN_GROUP",
        "RATE_LIMITED",
        "RESOURCE_NOT_FOUND",
        "UNEXPECTED_ERROR",
        "USERNAME_NOT_FOUND",
        "USER_CANNOT_ACCESS_GROUP",
        "USER_NOT_MANAGED_X509",
        "VERSION_GONE",
    ];
    let of_what_was_asked = [
        "NOT_IN_GROUP",
        "USERNAME_NOT_FOUND",
        "USER_CANNOT_ACCESS_GROUP",
        "USER_NOT_MANAGED_X509",
    ];
    for (status, code) in (400..=599).flat_map(|status| codes.map(|code| (status, code))) {
        let ends = match status {
            404 => !["RESOURCE_NOT_FOUND", "RATE_LIMITED"].contains(&code),
            400 | 401 | 403 | 409 | 422 => of_what_was_asked.contains(&code),
            _ => false,
        };
        let status = StatusCode::from_u16(status).unwrap();
        let stage = Stage::new(Config::default());
        stage.ask("app").await.unwrap();
        stage.pass(PAST_TTL);
        stage.atlas.says(Word::Refusal(status, code));
        assert_eq!(stage.ask("app").await.is_err(), ends, "{status} {code}");
        // Without a list it is passed on, whatever it means.
        assert!(stage.ask("other").await.is_err(), "{status} {code}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_remembered_as_absent_and_not_for_long() {
    for code in ["USER_NOT_FOUND", "GROUP_NOT_FOUND", "NEVER_SEEN"] {
        let stage = Stage::new(Config::default());
        stage.atlas.says(Word::Refusal(StatusCode::NOT_FOUND, code));
        let first = stage.ask("app").await.unwrap_err();
        assert_eq!(first.status(), Some(CacheStatus::Miss));
        stage.pass(29);
        for _ in 0..100 {
            let again = stage.ask("app").await.unwrap_err();
            assert_eq!(again.status(), Some(CacheStatus::Negative), "{code}");
        }
        assert_eq!(stage.atlas.fetches(), 1);
        stage.pass(2);
        stage.atlas.says(list(&["born"]));
        let found = stage.ask("app").await.unwrap();
        assert!(stage.body("app", &found).contains("born"));
    }
}

#[tokio::test]
async fn a_failure_is_remembered_for_ever_longer_while_it_lasts() {
    for word in [
        down(),
        Word::Refusal(StatusCode::FORBIDDEN, "ACCESS_FORBIDDEN"),
        Word::Refusal(StatusCode::BAD_REQUEST, "USER_NOT_MANAGED_X509"),
        Word::Refusal(StatusCode::INTERNAL_SERVER_ERROR, "UNEXPECTED_ERROR"),
        Word::Failure(FetchErrorKind::Inconsistent),
    ] {
        let stage = Stage::new(Config::default());
        stage.atlas.says(word);
        for pause in [5, 10, 20, 30, 30] {
            let failed = stage.ask("app").await.unwrap_err();
            assert_eq!(failed.status(), Some(CacheStatus::Miss));
            for second in 0..pause {
                let again = stage.ask("app").await.unwrap_err();
                assert_eq!(
                    again.status(),
                    Some(CacheStatus::Failed),
                    "{second} of {pause}"
                );
                stage.pass(1);
            }
        }
        assert_eq!(stage.atlas.fetches(), 5);
        stage.atlas.says(list(&["well"]));
        assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Miss);
        // And it begins again with the shortest.
        stage.cache.purge(&Purge::All, false);
        stage.atlas.says(down());
        stage.ask("app").await.unwrap_err();
        stage.pass(5);
        assert_eq!(
            stage.ask("app").await.unwrap_err().status(),
            Some(CacheStatus::Miss)
        );
    }
}

#[tokio::test]
async fn once_atlas_is_back_no_key_waits_longer_than_after_a_first_failure() {
    let stage = Stage::new(Config::default());
    stage.atlas.says(down());
    for pause in [5, 10, 20] {
        stage.ask("app").await.unwrap_err();
        stage.pass(pause);
    }
    stage.ask("app").await.unwrap_err();
    stage.atlas.says(list(&["one"]));
    stage.pass(5);
    assert_eq!(
        stage.ask("app").await.unwrap_err().status(),
        Some(CacheStatus::Failed)
    );
    stage.ask("another").await.unwrap();
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Miss);
}

#[tokio::test]
async fn a_forced_refresh_tries_once_per_interval_after_a_failure_too() {
    let stage = Stage::new(Config::default());
    stage
        .atlas
        .says(Word::Failure(FetchErrorKind::Inconsistent));
    for _ in 0..3 {
        for fetches in [1, 0, 0] {
            let before = stage.atlas.fetches();
            stage.refresh("app").await.unwrap_err();
            assert_eq!(stage.atlas.fetches() - before, fetches);
        }
        stage.pass(5);
    }
}

#[tokio::test]
async fn a_list_in_use_is_refreshed_ahead_and_no_caller_waits() {
    let stage = Stage::new(Config::default());
    let first = stage.ask("app").await.unwrap();
    let due = first.entry.lifetime().due();
    stage.pass(100);
    stage.ask("app").await.unwrap();
    stage
        .manual_clock
        .advance(due.saturating_sub(Duration::from_secs(100)));
    stage.atlas.hold();
    stage.atlas.says(list(&["two"]));
    let ask = Ask {
        address: super::stage::ADDRESS,
        mode: CacheMode::Cached,
        now: stage.manual_clock.now(),
    };
    let app = super::stage::query("app");
    assert!(stage.cache.0.get_fresh(&app, ask).is_none());
    for _ in 0..10 {
        let found = stage.ask("app").await.unwrap();
        assert_eq!(found.status, CacheStatus::Hit);
        stage.breathe().await;
        // One refreshes it ahead; all the others are answered from the cache.
        assert!(stage.cache.0.get_fresh(&app, ask).is_some());
    }
    assert_eq!(stage.atlas.fetches(), 2);
    assert_eq!(
        stage.atlas.urgencies.lock().unwrap().last(),
        Some(&Urgency::RefreshAhead)
    );
    stage.atlas.release();
    stage.settle().await;
    let found = stage.ask("app").await.unwrap();
    assert_eq!(found.status, CacheStatus::RefreshedAhead);
    assert_eq!(found.upstream_calls, 0);
    assert!(stage.body("app", &found).contains("two"));
    assert_eq!(stage.metrics.refreshes_ahead.get(), 1);
}

#[tokio::test]
async fn a_list_that_is_not_in_use_is_not_refreshed_ahead() {
    let stage = Stage::new(Config::default());
    let first = stage.ask("app").await.unwrap();
    stage.manual_clock.advance(first.entry.lifetime().due());
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Hit);
    stage.settle().await;
    assert_eq!(stage.atlas.fetches(), 1);
}

#[tokio::test]
async fn a_refusal_to_renew_ahead_costs_no_answer() {
    let stage = Stage::new(Config::default());
    let first = stage.ask("app").await.unwrap();
    stage.ask("app").await.unwrap();
    stage.manual_clock.advance(first.entry.lifetime().due());
    stage.atlas.says(down());
    stage.ask("app").await.unwrap();
    stage.settle().await;
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Hit);
    assert_eq!(stage.atlas.fetches(), 2, "it is left alone for a while");
    stage.pass(5);
    stage.ask("app").await.unwrap();
    stage.settle().await;
    assert_eq!(stage.atlas.fetches(), 3);
}

#[tokio::test]
async fn a_caller_with_a_stale_list_waits_for_a_hanging_atlas_only_a_little() {
    let stage = Stage::new(Config::default());
    stage.ask("app").await.unwrap();
    stage.pass(PAST_TTL);
    stage.atlas.hold();
    stage.atlas.says(list(&["two"]));
    let (found, ()) = tokio::join!(stage.ask("app"), async {
        stage.breathe().await;
        stage.pass(3);
    });
    assert_eq!(found.unwrap().status, CacheStatus::Stale(Staleness::Slow));
    // A caller that comes now does not wait at all, and begins no second fetch.
    let found = stage.ask("app").await.unwrap();
    assert_eq!(found.status, CacheStatus::Stale(Staleness::Slow));
    assert_eq!(stage.atlas.fetches(), 2);
    stage.atlas.release();
    stage.settle().await;
    let found = stage.ask("app").await.unwrap();
    assert_eq!(found.status, CacheStatus::Hit);
    assert!(stage.body("app", &found).contains("two"));
}

#[tokio::test]
async fn what_is_switched_off_is_not_done() {
    let off = Config {
        ttl: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        negative_ttl: Duration::ZERO,
        refresh_ahead: false,
        min_refresh_interval: Duration::ZERO,
        ..Config::default()
    };
    let stage = Stage::new(off);
    for _ in 0..3 {
        assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Miss);
    }
    stage.atlas.says(down());
    assert!(stage.ask("app").await.is_err());
    // Failures are remembered all the same: that spares Atlas, and costs no caller a list that there was.
    stage.pass(5);
    stage
        .atlas
        .says(Word::Refusal(StatusCode::NOT_FOUND, "USER_NOT_FOUND"));
    for _ in 0..2 {
        let refused = stage.ask("app").await.unwrap_err();
        assert_eq!(refused.status(), Some(CacheStatus::Miss));
    }
}

#[tokio::test]
async fn settings_can_be_replaced_while_lists_are_remembered() {
    let stage = Stage::new(Config::default());
    stage.ask("app").await.unwrap();
    stage.cache.replace_config(Config {
        stale_if_error: Duration::ZERO,
        ..Config::default()
    });
    stage.pass(PAST_TTL);
    stage.atlas.says(down());
    assert!(stage.ask("app").await.is_err());
}
