//! A 401 that names missing access: of an old token it may be the token that is dead.

use std::time::Duration;

use atlas_simulator::{Asked, Fault};
use futures_util::future::join_all;

use crate::upstream::world::{World, outcome};

const CODES: [&str; 2] = ["USER_UNAUTHORIZED", "USER_CANNOT_ACCESS_GROUP"];

fn refusal(code: &str) -> Fault {
    Fault::api_error(401, code, "No.")
}

#[tokio::test]
async fn a_dead_token_is_replaced_whatever_code_atlas_gives() {
    for code in CODES {
        let world = World::new().await;
        world.ask().await.unwrap();
        world.manual_clock.advance(Duration::from_secs(61));
        world
            .atlas
            .on(Asked::certificates())
            .once()
            .respond(refusal(code));
        world.ask().await.expect(code);
        assert_eq!(world.atlas.mints(), 2);
        assert_eq!(world.upstream.readiness(), []);
    }
}

#[tokio::test]
async fn a_second_401_is_believed_and_ten_minutes_pass_before_the_next_mint() {
    for code in CODES {
        let world = World::new().await;
        world.ask().await.unwrap();
        world.manual_clock.advance(Duration::from_secs(61));
        let refused = format!("401 {code}");
        let planted = world.atlas.on(Asked::certificates()).respond(refusal(code));
        for _ in 0..9 {
            assert_eq!(outcome(&world.ask().await), refused);
            world.manual_clock.advance(Duration::from_secs(61));
        }
        assert_eq!(world.atlas.mints(), 2);
        assert_eq!(world.upstream.readiness(), []);
        world.manual_clock.advance(Duration::from_secs(61));
        assert_eq!(outcome(&world.ask().await), refused);
        assert_eq!(world.atlas.mints(), 3);
        planted.withdraw();
        world.ask().await.unwrap();
    }
}

#[tokio::test]
async fn many_who_are_refused_at_once_share_one_new_token() {
    let world = World::new().await;
    world.ask().await.unwrap();
    world.manual_clock.advance(Duration::from_secs(61));
    world
        .atlas
        .on(Asked::certificates())
        .times(20)
        .respond(refusal("USER_UNAUTHORIZED"));
    let asked = join_all((0..20).map(|_| world.ask_at_once()));
    let answers = world.pass_time(asked).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(world.atlas.mints(), 2);
}

#[tokio::test]
async fn a_dead_token_that_was_kept_is_not_taken_up_again() {
    let mut world = World::new().await;
    world.ask().await.unwrap();
    world.restart();
    world
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(refusal("USER_UNAUTHORIZED"));
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 2);
    world.restart();
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 2, "the new one is kept");
}

#[tokio::test]
async fn while_no_new_token_can_be_had_the_old_one_serves_other_projects() {
    let world = World::new().await;
    world.ask().await.unwrap();
    world.manual_clock.advance(Duration::from_secs(61));
    let no_tokens = world.atlas.on(Asked::token()).respond(Fault::status(500));
    world
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(refusal("USER_CANNOT_ACCESS_GROUP"));
    assert_eq!(outcome(&world.ask().await), "credential Unavailable");
    world.ask().await.unwrap();
    no_tokens.withdraw();
}
