//! Never more than our share: budgets, gates, and projects that do not disturb each other.

use std::time::Duration;

use atlas_cert_gateway::upstream::{FetchErrorKind, HeldBack, Urgency};
use atlas_simulator::{Answer, Asked, BucketSize, Fault, Filling, Gate};
use futures_util::future::join_all;
use http::StatusCode;

use crate::upstream::world::{OTHER, PROJECT, World, name, outcome, project_id};

async fn with_users(count: u32, other: u32) -> World {
    World::with(
        |settings| {
            for number in 0..count {
                let user = format!("app{number}");
                settings.world.project(PROJECT).user(&user).certificates(1);
            }
            for number in 0..other {
                let user = format!("app{number}");
                settings.world.project(OTHER).user(&user).certificates(1);
            }
        },
        |_| (),
    )
    .await
}

/// Asks for so many users of a project at the same time; how each question ended, and how often.
async fn ask_all(world: &World, project: &str, users: std::ops::Range<u32>) -> Vec<String> {
    let names: Vec<String> = users.map(|number| format!("app{number}")).collect();
    let asked = names
        .iter()
        .map(|user| world.ask_for(project, user, Urgency::Miss));
    let answers = join_all(asked).await;
    answers
        .iter()
        .map(|answer| match answer {
            Ok(_) => "answered".to_owned(),
            Err(error) => name(&error.reason),
        })
        .collect()
}

fn count(answers: &[String], what: &str) -> usize {
    answers.iter().filter(|answer| *answer == what).count()
}

#[tokio::test]
async fn a_cold_start_of_a_thousand_users_is_answered_in_full_and_leaves_the_reserve() {
    let world = with_users(1_000, 0).await;
    let answers = ask_all(&world, PROJECT, 0..1_000).await;
    assert_eq!(count(&answers, "answered"), 1_000, "{answers:?}");
    assert_eq!(world.atlas.answers(429), 0);
    assert_eq!(world.atlas.bucket_remaining(PROJECT), 200);
}

#[tokio::test]
async fn at_ten_times_the_bucket_atlas_sends_no_429_and_another_project_notices_nothing() {
    let world = with_users(10_000, 200).await;
    let (answers, others) = tokio::join!(
        ask_all(&world, PROJECT, 0..10_000),
        ask_all(&world, OTHER, 0..200)
    );
    assert_eq!(count(&others, "answered"), 200);
    let answered = count(&answers, "answered");
    assert!((990..=1_010).contains(&answered), "{answered}");
    assert_eq!(count(&answers, "rate limited"), 10_000 - answered);
    assert_eq!(world.atlas.answers(429), 0);
    assert!(world.atlas.bucket_remaining(PROJECT) >= 190);
}

#[tokio::test]
async fn a_refusal_names_a_time_at_which_there_is_an_answer() {
    let world = with_users(1_000, 0).await;
    ask_all(&world, PROJECT, 0..1_000).await;
    let error = world.ask().await.unwrap_err();
    let FetchErrorKind::HeldBack {
        why: HeldBack::OwnShare | HeldBack::BucketLow,
        retry_after,
        ..
    } = error.reason
    else {
        panic!("{}", name(&error.reason));
    };
    assert_eq!(error.stats.calls, 0);
    world.manual_clock.advance(retry_after);
    assert_eq!(outcome(&world.ask().await), "3 certificates");
}

#[tokio::test]
async fn ten_minutes_of_more_than_there_is_never_bring_a_429_and_never_touch_the_reserve() {
    for filling in [Filling::Stepwise, Filling::Gradual] {
        let world = with_users(100, 0).await;
        world.atlas.rules(|rules| {
            rules.bucket = BucketSize {
                filling,
                ..BucketSize::X509
            }
        });
        let mut answered = 0;
        for _ in 0..600 {
            answered += count(&ask_all(&world, PROJECT, 0..10).await, "answered");
            assert!(world.atlas.bucket_remaining(PROJECT) >= 200);
            world.manual_clock.advance(Duration::from_secs(1));
        }
        assert_eq!(world.atlas.answers(429), 0);
        // The burst, and our half of the refill.
        assert!(
            (3_000..=3_600).contains(&answered),
            "{filling:?}: {answered}"
        );
    }
}

#[tokio::test]
async fn what_others_take_from_the_bucket_is_left_to_them() {
    let world = with_users(100, 0).await;
    world.ask().await.unwrap();
    world.atlas.drain_bucket(PROJECT, 998);
    let answers = ask_all(&world, PROJECT, 0..100).await;
    assert!(count(&answers, "answered") <= 5, "{answers:?}");
    assert_eq!(world.atlas.answers(429), 0);
    assert!(world.atlas.bucket_remaining(PROJECT) >= 196);
}

#[tokio::test]
async fn what_nobody_waits_for_gives_way_first() {
    let world = with_users(1, 0).await;
    world.ask().await.unwrap();
    world.atlas.drain_bucket(PROJECT, 800);
    world.ask().await.unwrap();
    for (urgency, expected) in [
        (Urgency::RefreshAhead, "rate limited"),
        (Urgency::Revalidate, "1 certificates"),
        (Urgency::Miss, "1 certificates"),
    ] {
        let result = world.ask_for(PROJECT, "app0", urgency).await;
        assert_eq!(outcome(&result), expected, "{urgency:?}");
    }
}

fn limited(headers: &[(&str, &str)]) -> Fault {
    let body = r#"{"error":429,"errorCode":"RATE_LIMITED_TOKEN_BUCKET","parameters":["x",55,1200,500,60]}"#;
    let mut answer = Answer::new(StatusCode::TOO_MANY_REQUESTS, body);
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    Fault::answer(answer.header("content-type", "application/json"))
}

#[tokio::test]
async fn u25_after_a_429_nothing_is_sent_before_its_time_and_then_one_probe() {
    for (headers, seconds) in [
        (&[("retry-after", "55")][..], 55),
        (&[], 55),
        (&[("retry-after", "0")], 1),
        (&[("retry-after", "-1")], 55),
        (&[("retry-after", "abc")], 55),
        (&[("retry-after", "1000000000")], 300),
        (&[("retry-after", "Mon, 10 Aug 2026 02:07:35 GMT")], 60),
        (&[("retry-after", "Mon, 10 Aug 2020 02:07:35 GMT")], 1),
    ] {
        let world = with_users(30, 30).await;
        world
            .atlas
            .on(Asked::certificates())
            .once()
            .respond(limited(headers));
        let error = world.ask_at_once().await.unwrap_err();
        let FetchErrorKind::Atlas(answer) = &error.reason else {
            panic!();
        };
        let wait = Duration::from_secs(seconds);
        assert_eq!(answer.retry_after, Some(wait), "{headers:?}");
        let sent = world.atlas.certificate_calls();
        world
            .manual_clock
            .advance(wait.saturating_sub(Duration::from_millis(50)));
        let error = world.ask_at_once().await.unwrap_err();
        let FetchErrorKind::HeldBack {
            why: HeldBack::RateLimited,
            retry_after,
            ..
        } = error.reason
        else {
            panic!();
        };
        assert_eq!(retry_after, Duration::from_millis(50));
        assert_eq!(world.atlas.certificate_calls(), sent, "{headers:?}");
        assert_eq!(
            world.upstream.budget_view(&project_id(PROJECT)).gate,
            Some(retry_after)
        );
        // Another project is asked as ever.
        assert_eq!(count(&ask_all(&world, OTHER, 0..30).await, "answered"), 30);
        let sent = world.atlas.certificate_calls();
        world.manual_clock.advance(Duration::from_millis(50));
        let probe = world
            .atlas
            .on(Asked::certificates().project(PROJECT))
            .once()
            .hold();
        let ((), answers) = tokio::join!(
            async {
                probe.arrived(1).await;
                probe.open();
            },
            join_all((0..20).map(|_| world.ask_at_once()))
        );
        assert_eq!(
            answers.iter().filter(|answer| answer.is_ok()).count(),
            1,
            "{headers:?}"
        );
        assert_eq!(world.atlas.certificate_calls(), sent + 1);
    }
}

#[tokio::test]
async fn u25_of_two_times_to_wait_the_longer_one_is_kept() {
    for (one, other) in [("7", "55"), ("55", "7"), ("abc", "55")] {
        let world = with_users(1, 0).await;
        let pages = Asked::certificates();
        let limited = limited(&[("retry-after", one)]);
        world.atlas.on(pages.clone()).respond(limited);
        world
            .atlas
            .on(pages)
            .respond(Fault::add_header("retry-after", other));
        let error = world.ask_at_once().await.unwrap_err();
        let FetchErrorKind::Atlas(answer) = &error.reason else {
            panic!();
        };
        assert_eq!(answer.retry_after, Some(Duration::from_secs(55)));
    }
}

#[tokio::test]
async fn a_gate_that_closes_while_calls_wait_for_their_turn_holds_them_back() {
    let world = with_users(50, 0).await;
    world.ask().await.unwrap();
    let first = world.atlas.on(Asked::certificates()).hold();
    world
        .atlas
        .on(Asked::certificates())
        .respond(limited(&[("retry-after", "30")]));
    let (answers, ()) = tokio::join!(join_all((0..50).map(|_| world.ask_at_once())), async {
        first.arrived(4).await;
        first.open();
    });
    assert!(answers.iter().all(Result::is_err));
    // Those under way at once; the others were waiting for their turn and are never sent.
    assert!(
        world.atlas.certificate_calls() <= 9,
        "{}",
        world.atlas.certificate_calls()
    );
}

#[tokio::test]
async fn u26_numbers_of_atlas_that_cannot_be_are_ignored() {
    for value in ["-1", "abc", "1201", "", "99999999999999999999999"] {
        let world = with_users(100, 0).await;
        world
            .atlas
            .on(Asked::certificates())
            .respond(Fault::header("ratelimit-remaining", value));
        let answers = ask_all(&world, PROJECT, 0..100).await;
        assert_eq!(count(&answers, "answered"), 100, "{value}");
    }
    let world = with_users(100, 0).await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::header("ratelimit-remaining", "203"));
    let answers = ask_all(&world, PROJECT, 0..100).await;
    assert!(count(&answers, "answered") < 100);
    let world = with_users(100, 0).await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::without_header("ratelimit-remaining"));
    assert_eq!(
        count(&ask_all(&world, PROJECT, 0..100).await, "answered"),
        100
    );
}

#[tokio::test]
async fn g23_a_project_that_hangs_or_fails_does_not_delay_another() {
    for fault in [
        Fault::silence(),
        Fault::unexpected_error(),
        Fault::html(503),
        limited(&[("retry-after", "55")]),
    ] {
        let world = with_users(200, 200).await;
        world.ask().await.unwrap();
        let storm = Asked::certificates().project(PROJECT);
        world.atlas.on(storm).respond(fault);
        let (failing, others) = tokio::join!(
            ask_all(&world, PROJECT, 0..200),
            ask_all(&world, OTHER, 0..200)
        );
        assert_eq!(count(&failing, "answered"), 0);
        assert_eq!(count(&others, "answered"), 200);
    }
}

#[tokio::test]
async fn g22_g27_a_project_that_keeps_failing_is_asked_rarely_and_found_when_it_is_back() {
    let world = with_users(10, 10).await;
    world.ask().await.unwrap();
    let planted = world
        .atlas
        .on(Asked::certificates().project(PROJECT))
        .respond(Fault::unexpected_error());
    for _ in 0..30 {
        assert!(world.ask().await.is_err());
    }
    let error = world.ask_at_once().await.unwrap_err();
    let FetchErrorKind::BreakerOpen { retry_after } = error.reason else {
        panic!("{}", name(&error.reason));
    };
    assert!(retry_after <= Duration::from_secs(5) && error.stats.calls == 0);
    let calls = world.atlas.certificate_calls();
    for _ in 0..60 {
        world.manual_clock.advance(Duration::from_secs(1));
        assert!(world.ask_at_once().await.is_err());
    }
    assert!(world.atlas.certificate_calls() - calls <= 15);
    planted.withdraw();
    world.manual_clock.advance(Duration::from_secs(5));
    world.ask_at_once().await.unwrap();
    assert_eq!(
        count(&ask_all(&world, PROJECT, 0..10).await, "answered"),
        10
    );
}

/// Ten minutes in which one answer in twenty is an error of some kind and one in twenty is two seconds
/// late.
#[tokio::test]
async fn u52_with_random_errors_and_delays_nearly_all_is_answered_for_a_tenth_of_calls_more() {
    let world = with_users(1, 0).await;
    world.atlas.rules(|rules| rules.bucket.capacity = 1_000_000);
    for (seed, fault) in (1..).zip([
        Fault::unexpected_error(),
        Fault::html(502),
        Fault::html(503),
        Fault::html(504),
    ]) {
        let now_and_then = world.atlas.on(Asked::certificates()).one_in(80, seed);
        now_and_then.respond(fault);
    }
    let late = Gate::new();
    let now_and_then = world.atlas.on(Asked::certificates()).one_in(20, 7);
    now_and_then.respond(Fault::hold(&late));
    let two_seconds_each = async {
        for count in 1.. {
            late.arrived(count).await;
            world.manual_clock.advance(Duration::from_secs(2));
            late.release_one();
        }
    };
    let queries = 2_000;
    let ask_all = async {
        let mut answered = 0;
        for _ in 0..queries {
            answered += usize::from(world.ask_at_once().await.is_ok());
            world.manual_clock.advance(Duration::from_millis(200));
        }
        answered
    };
    let answered = tokio::select! {
        answered = ask_all => answered,
        () = two_seconds_each => unreachable!("there is always another to come"),
    };
    assert!(world.manual_clock.passed() >= Duration::from_mins(10));
    assert!(late.arrivals() >= queries / 25);
    let calls = world.atlas.certificate_calls();
    assert!(calls - queries >= queries / 25, "{calls} calls");
    assert!(calls - queries <= queries / 10, "{calls} calls");
    assert!(answered >= queries * 999 / 1_000, "{answered} of {queries}");
}
