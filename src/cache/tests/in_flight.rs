//! One fetch per key, whichever callers come and leave (request coalescing).

use futures_util::FutureExt;
use futures_util::future::join_all;
use http::StatusCode;

use super::super::*;
use super::stage::{ADDRESS, Stage, Word, down, list, query};

#[tokio::test]
async fn f06_f07_g21_one_fetch_per_key_however_many_callers_leave() {
    for leaving in [0, 5_000, 10_000] {
        let stage = Stage::new(Config::default());
        stage.atlas.hold();
        let mut waiting: Vec<_> = (0..10_000).map(|_| Box::pin(stage.ask("app"))).collect();
        let mut full = 0;
        waiting.retain_mut(|caller| match caller.now_or_never() {
            None => true,
            Some(Err(NotFound::TooManyWaiters { .. })) => {
                full += 1;
                false
            }
            Some(other) => panic!("answered before the fetch ended: {other:?}"),
        });
        // Half of them are more than may wait for one key.
        assert_eq!((waiting.len(), full), (5_000, 5_000));
        // The first of all, who caused the fetch, is the first to leave.
        waiting.drain(..leaving / 2);
        stage.atlas.release();
        let mut statuses = Vec::new();
        for answer in join_all(waiting).await {
            statuses.push(answer.unwrap().status);
        }
        stage.settle().await;
        assert_eq!(statuses.len(), 5_000 - leaving / 2);
        assert!(
            statuses
                .iter()
                .skip(1)
                .all(|it| *it == CacheStatus::Collapsed)
        );
        assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Hit);
        assert_eq!(stage.atlas.fetches(), 1, "{leaving} leave");
        assert_eq!(stage.metrics.waiters.get(), 0);
    }
}

#[tokio::test]
async fn f06_no_more_than_ten_thousand_wait_in_all() {
    let stage = Stage::new(Config::default());
    stage.atlas.hold();
    let names: Vec<String> = (0..10_001).map(|number| format!("app{number}")).collect();
    let mut callers: Vec<_> = names.iter().map(|name| Box::pin(stage.ask(name))).collect();
    let waiting = callers
        .iter_mut()
        .filter_map(FutureExt::now_or_never)
        .collect::<Vec<_>>();
    assert!(matches!(
        waiting[..],
        [Err(NotFound::TooManyWaiters { .. })]
    ));
    // A place that was left is free.
    callers.truncate(9_999);
    assert!(stage.ask("late").now_or_never().is_none());
    stage.atlas.release();
}

#[tokio::test]
async fn followers_pay_nothing_and_are_told_so() {
    let stage = Stage::new(Config::default());
    let answers = join_all((0..50).map(|_| stage.ask("app"))).await;
    let calls: u32 = answers
        .iter()
        .map(|answer| answer.as_ref().unwrap().upstream_calls)
        .sum();
    assert_eq!((stage.atlas.fetches(), calls), (1, 2));
}

#[tokio::test]
async fn followers_of_a_fetch_that_failed_share_its_failure() {
    let stage = Stage::new(Config::default());
    stage.atlas.says(down());
    stage.atlas.hold();
    let mut callers: Vec<_> = (0..10).map(|_| Box::pin(stage.ask("app"))).collect();
    assert!(callers.iter_mut().all(|it| it.now_or_never().is_none()));
    stage.breathe().await;
    stage.atlas.release();
    let failed = join_all(callers).await;
    let statuses = failed.iter().map(|it| it.as_ref().unwrap_err().status());
    let statuses: Vec<_> = statuses.map(Option::unwrap).collect();
    assert_eq!(statuses[0], CacheStatus::Miss);
    assert!(statuses[1..].iter().all(|it| *it == CacheStatus::Collapsed));
    let late = stage.ask("app").await.unwrap_err();
    assert_eq!(late.status(), Some(CacheStatus::Failed));
    assert_eq!(stage.atlas.fetches(), 1);
}

#[tokio::test]
async fn nobody_tries_again_where_atlas_has_asked_to_be_left_alone() {
    let stage = Stage::new(Config::default());
    let limited = crate::upstream::FetchErrorKind::HeldBack {
        why: crate::upstream::HeldBack::OwnShare,
        calls_per_minute: 250,
        retry_after: Duration::from_secs(9),
    };
    stage.atlas.says(Word::Failure(limited));
    let answers = join_all((0..10).map(|_| stage.ask("app"))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(stage.atlas.fetches(), 1);
}

#[tokio::test]
async fn a_caller_does_not_share_the_refusal_of_a_refresh_ahead() {
    let stage = Stage::new(Config::default());
    let first = stage.ask("app").await.unwrap();
    stage.ask("app").await.unwrap();
    stage.manual_clock.advance(first.entry.lifetime().due());
    let busy = crate::upstream::FetchErrorKind::HeldBack {
        why: crate::upstream::HeldBack::Busy,
        calls_per_minute: 250,
        retry_after: Duration::from_secs(1),
    };
    stage.atlas.says(Word::Failure(busy));
    stage.atlas.hold();
    stage.ask("app").await.unwrap();
    stage.breathe().await;
    stage.cache.purge(&Purge::Key(query("app")), true);
    let mut caller = Box::pin(stage.ask("app"));
    assert!(caller.as_mut().now_or_never().is_none());
    stage.atlas.says(list(&["two"]));
    stage.atlas.release();
    let found = caller.await.unwrap();
    assert!(stage.body("app", &found).contains("two"));
    assert_eq!(
        *stage.atlas.urgencies.lock().unwrap(),
        [Urgency::Miss, Urgency::RefreshAhead, Urgency::Revalidate]
    );
}

#[tokio::test]
async fn f08_a_walk_that_panics_fails_those_who_wait_and_nobody_else() {
    let stage = Stage::new(Config::default());
    stage.atlas.says(Word::Panic);
    for answer in join_all((0..10).map(|_| stage.ask("app"))).await {
        assert!(matches!(answer, Err(NotFound::FetchDied)));
    }
    stage.atlas.says(list(&["one"]));
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Miss);
    assert_eq!(stage.metrics.fetches_died.get(), 1);
    assert_eq!(stage.metrics.waiters.get(), 0);
}

#[tokio::test]
async fn a_caller_who_insists_gets_atlas_s_word_but_not_more_often_than_allowed() {
    let stage = Stage::new(Config::default());
    // Atlas's word to those who do not insist may be older than what this caller wants to see.
    stage.ask("app").await.unwrap();
    assert_eq!(
        stage.refresh("app").await.unwrap().status,
        CacheStatus::Forced
    );
    stage.pass(4);
    assert_eq!(stage.refresh("app").await.unwrap().status, CacheStatus::Hit);
    stage.pass(1);
    stage.atlas.says(list(&["two"]));
    let answers = join_all((0..50).map(|_| stage.refresh("app"))).await;
    for (at, answer) in answers.into_iter().enumerate() {
        let found = answer.unwrap();
        let expected = if at == 0 {
            CacheStatus::Forced
        } else {
            CacheStatus::Collapsed
        };
        assert_eq!(found.status, expected);
        assert!(stage.body("app", &found).contains("two"));
    }
    assert_eq!(stage.atlas.fetches(), 3);
    assert_eq!(stage.metrics.refreshes_forced.get(), 2);
}

#[tokio::test]
async fn a_first_forced_refresh_of_a_missing_name_asks_atlas() {
    let stage = Stage::new(Config::default());
    stage
        .atlas
        .says(Word::Refusal(StatusCode::NOT_FOUND, "USERNAME_NOT_FOUND"));
    let status = |answer: Result<Found, NotFound>| answer.unwrap_err().status();
    assert_eq!(status(stage.ask("app").await), Some(CacheStatus::Miss));
    assert_eq!(
        status(stage.refresh("app").await),
        Some(CacheStatus::Forced)
    );
    assert_eq!(
        status(stage.refresh("app").await),
        Some(CacheStatus::Negative)
    );
    stage.pass(5);
    stage.atlas.says(list(&["one"]));
    assert_eq!(
        stage.refresh("app").await.unwrap().status,
        CacheStatus::Forced
    );
    assert_eq!(stage.atlas.fetches(), 3);
}

#[tokio::test]
async fn who_insists_while_an_older_walk_is_under_way_gets_the_next_one() {
    let stage = Stage::new(Config::default());
    stage.atlas.hold();
    let mut early = Box::pin(stage.ask("app"));
    assert!(early.as_mut().now_or_never().is_none());
    stage.breathe().await;
    stage.atlas.says(list(&["two"]));
    let mut late: Vec<_> = (0..3).map(|_| Box::pin(stage.refresh("app"))).collect();
    assert!(late.iter_mut().all(|it| it.now_or_never().is_none()));
    stage.atlas.release_one();
    let early = early.await.unwrap();
    assert!(stage.body("app", &early).contains("one"));
    stage.atlas.release();
    let mut statuses = Vec::new();
    for answer in join_all(late).await {
        let found = answer.unwrap();
        assert!(stage.body("app", &found).contains("two"));
        statuses.push(found.status);
    }
    assert_eq!(
        statuses,
        [
            CacheStatus::Forced,
            CacheStatus::Collapsed,
            CacheStatus::Collapsed
        ]
    );
    assert_eq!((stage.atlas.fetches(), stage.atlas.most_at_once()), (2, 1));
}

#[tokio::test]
async fn t4_a_denied_refresh_ends_the_entry_and_a_failed_one_does_not() {
    let stage = Stage::new(Config::default());
    let first = stage.ask("app").await.unwrap();
    stage.pass(10);
    stage.atlas.says(down());
    let kept = stage.refresh("app").await.unwrap();
    assert_eq!(kept.status, CacheStatus::Stale(Staleness::Error));
    assert_eq!(kept.entry.fill_id(), first.entry.fill_id());
    assert_eq!(stage.ask("app").await.unwrap().status, CacheStatus::Hit);

    stage.pass(10);
    let forbidden = StatusCode::FORBIDDEN;
    stage
        .atlas
        .says(Word::Refusal(forbidden, "USER_CANNOT_ACCESS_GROUP"));
    stage.refresh("app").await.unwrap_err();
    assert!(stage.cache.0.store.get(&query("app")).is_none());
    assert!(stage.ask("app").await.is_err());
}

#[tokio::test]
async fn an_answer_that_came_while_boarding_is_taken() {
    let stage = Stage::new(Config::default());
    stage.ask("app").await.unwrap();
    let ask = Ask {
        address: ADDRESS,
        mode: CacheMode::Cached,
        now: stage.manual_clock.now(),
    };
    let atlas = Arc::clone(&stage.atlas);
    let joined = stage.cache.0.join(
        (&query("app"), ask),
        Urgency::Miss,
        |_| Ok(()),
        Box::new(move |request| Arc::clone(&atlas).fetch(request).map(Into::into).boxed()),
    );
    assert!(matches!(joined, in_flight::JoinOutcome::Answered(_)));
    assert_eq!(stage.atlas.fetches(), 1);
}
