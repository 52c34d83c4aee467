//! Clocks that are wrong: the engine's, and a replica's.

use std::time::{Duration, SystemTime};

use atlas_cert_gateway::atlas::Timestamp;
use serde_json::json;

use super::{join, replica, two_replicas, until_connected};
use crate::client::Reply;
use crate::harness::engine::Engine;
use crate::world::{NOW, PROJECT, Plan, World, certs, token_at};

/// FL12: an hour, in both directions, while lists lie there.
#[tokio::test]
async fn fl12_a_jump_of_the_engines_clock_makes_no_list_younger() {
    for shift in [3_600, -3_600] {
        let Some(engine) = Engine::with_own_clock().await else {
            return;
        };
        let [first, second] = two_replicas(&engine, with_one_that_ends).await;
        assert_eq!(ask(&first, ENDING).await.json()["totalCount"], 1);
        first.advance(AGE);
        engine.shift_clock(shift);
        assert_is_as_old(&ask(&second, ENDING).await);
        assert_eq!(first.atlas.certificate_calls(), 2, "{shift}");
        // By the clock that it has now, both share again.
        for world in [&first, &second] {
            assert_eq!(ask(world, "app1").await.status, 200);
        }
        assert_eq!(first.atlas.certificate_calls(), 3, "{shift}");
        engine.shift_clock(0);
        first.advance(LIFE);
        for world in [&first, &second] {
            assert_eq!(ask(world, ENDING).await.json()["totalCount"], 0, "{shift}");
        }
    }
}

/// FL12: five minutes, in both directions.
#[tokio::test]
async fn fl12_a_replica_whose_clock_is_wrong_makes_no_list_younger() {
    for ahead in [300, -300] {
        let Some(engine) = Engine::start().await else {
            return;
        };
        let right = replica(&engine, "gateway-1", with_one_that_ends).await;
        let wrong = right
            .beside_ahead(ahead, |plan| join(&engine, plan, "gateway-2"))
            .await;
        for world in [&right, &wrong] {
            until_connected(world).await;
        }
        for (user, [one, other]) in [(ENDING, [&right, &wrong]), ("app1", [&wrong, &right])] {
            let calls = right.atlas.certificate_calls();
            assert_eq!(ask(one, user).await.status, 200);
            for world in [&right, &wrong] {
                world.advance(AGE);
            }
            assert_is_as_old(&ask(other, user).await);
            // What cannot be believed is fetched.
            assert!(right.atlas.certificate_calls() <= calls + 2);
        }
        right.advance(LIFE);
        assert_eq!(ask(&right, ENDING).await.json()["totalCount"], 0, "{ahead}");
    }
}

/// What an answer says of a list that was first fetched [`AGE`] ago: that, or that it was fetched now.
fn assert_is_as_old(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let age: u64 = reply.header("age").map_or(0, |age| age.parse().unwrap());
    let was_fetched = reply.header("x-upstream-calls") == Some("1");
    assert!(was_fetched || age >= AGE.as_secs(), "{reply:?}");
}

/// With a token that has begun by every clock.
async fn ask(world: &World, username: &str) -> Reply {
    let made = Timestamp::parse(NOW).unwrap().seconds() - 600;
    let token = token_at(made, &json!({ "sub": "payments-api" }));
    let target = certs(PROJECT, username);
    loop {
        let reply = world.send("GET", &target, &token, &[]).await;
        // An engine whose clock was set back takes the bucket for empty, and fills it from then on.
        if reply.status != 429 {
            return reply;
        }
        world.advance(Duration::from_millis(100));
    }
}

fn with_one_that_ends(plan: &mut Plan) {
    let ends = SystemTime::from(Timestamp::parse(NOW).unwrap()) + LIFE;
    let mut project = plan.atlas.world.project(PROJECT);
    project.user(ENDING).certificate_until(ends);
}

const ENDING: &str = "ending";
const LIFE: Duration = Duration::from_mins(4);
const AGE: Duration = Duration::from_secs(7);
