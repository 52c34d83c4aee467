//! Tokens from one process to the next: kept through kills and restarts, given back at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use atlas_simulator::{Asked, CLIENT_SECRET, Endpoint, Fault};

use crate::upstream::world::World;

#[tokio::test]
async fn f24_a_hundred_and_fifty_kills_and_restarts_need_one_token() {
    let mut world = World::new().await;
    for _ in 0..150 {
        world.ask().await.unwrap();
        world.restart();
        world.manual_clock.advance(Duration::from_secs(4));
    }
    assert_eq!(world.atlas.mints(), 1);
    assert_eq!(world.atlas.calls(Endpoint::Token), 1);
}

#[tokio::test]
async fn f24_kills_before_the_token_could_be_kept_never_reach_atlass_limits() {
    let mut world = World::new().await;
    for _ in 0..150 {
        // Killed when the mint has been answered and nothing was kept.
        let _ = world.ask().await;
        for entry in fs::read_dir(world.state.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "token") {
                fs::remove_file(path).unwrap();
            }
        }
        world.restart();
        world.manual_clock.advance(Duration::from_secs(4));
    }
    assert!(
        (1..=80).contains(&world.atlas.mints()),
        "{}",
        world.atlas.mints()
    );
    assert_eq!(world.atlas.answers(403) + world.atlas.answers(429), 0);
    world.manual_clock.advance(Duration::from_hours(1));
    world.ask().await.unwrap();
}

#[tokio::test]
async fn what_is_kept_for_the_next_process_is_readable_by_its_owner_only_and_not_in_the_clear() {
    let world = World::new().await;
    world.ask().await.unwrap();
    let requests = world.atlas.requests();
    let asked = requests
        .iter()
        .find(|seen| seen.endpoint == Endpoint::Certificates);
    let bearer = asked.unwrap().headers["authorization"].to_str().unwrap();
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let mut files = 0;
    for entry in fs::read_dir(world.state.path()).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        let content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!content.contains(token) && !content.contains(CLIENT_SECRET));
        files += 1;
    }
    assert_eq!(files, 2);
}

#[tokio::test]
async fn the_token_is_given_back_at_the_end_within_a_second() {
    let mut world = World::new().await;
    world.ask().await.unwrap();
    world.pass_time(world.upstream.close()).await;
    assert_eq!((world.atlas.revokes(), world.atlas.live_tokens()), (1, 0));
    world.restart();
    world.ask().await.unwrap();
    assert_eq!(world.atlas.mints(), 2);
    world.atlas.on(Asked::revoke()).respond(Fault::silence());
    let before = world.clock.now().elapsed;
    world.pass_time(world.upstream.close()).await;
    let took = world.clock.now().elapsed.saturating_sub(before);
    assert!(took <= Duration::from_millis(1_001), "{took:?}");
}
