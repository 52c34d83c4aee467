//! A caller that sends no more still waits for its answers, on all of its streams.

use std::time::Duration;

use atlas_simulator::Asked;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{STATUS_200, Spammer, get, lookup};
use crate::frames::{
    END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, WINDOW_UPDATE, block, frame,
};
use crate::world::{PROJECT, World, certs, token};

/// Sends no more.
async fn finish(caller: &mut Spammer) {
    caller.stream.shutdown().await.unwrap();
}

/// Ends without a goodbye.
fn reset(caller: Spammer) {
    let Spammer { stream, .. } = caller;
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Whether each of so many streams was answered whole, and the connection closed behind that.
async fn is_answered(caller: &mut Spammer, streams: usize) -> bool {
    let seen = caller.until(|_| false).await;
    seen.ended.len() == streams
        && seen.resets.is_empty()
        && seen.heads.len() == streams
        && seen.heads.values().all(|head| head[0] == STATUS_200)
}

fn outcomes(world: &World) -> Vec<Value> {
    let mut lookups = world.lookups();
    lookups.iter_mut().map(|it| it["outcome"].take()).collect()
}

#[tokio::test]
async fn hits_are_answered_behind_the_end_of_what_their_caller_sends() {
    let world = World::new().await;
    world.ask("app1").await;
    for number in 0..100 {
        let mut caller = Spammer::open(&world).await;
        let asked: Vec<u8> = (1..10).step_by(2).flat_map(lookup).collect();
        caller.send(&asked).await;
        finish(&mut caller).await;
        assert!(
            is_answered(&mut caller, 5).await,
            "{number}: {:?}",
            caller.seen
        );
    }
    let outcomes = outcomes(&world);
    assert_eq!(outcomes.len(), 501);
    assert!(outcomes.iter().all(|outcome| outcome == "answered"));
}

#[tokio::test]
async fn long_answers_leave_whole_as_far_as_their_caller_grants_window() {
    let world = World::new().await;
    let whole = world.get(&certs(PROJECT, "many"), &[]).await.body.len();
    let room = [(INITIAL_WINDOW_SIZE, 0x7fff_ffff)];
    for _ in 0..10 {
        let mut caller = Spammer::with_settings(&world, &room).await;
        let more = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
        let (path, authorization) = (certs(PROJECT, "many"), format!("Bearer {}", token()));
        let many = block(&get(&path, &authorization));
        let many = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &many);
        caller.send(&[more, many(1), many(3)].concat()).await;
        finish(&mut caller).await;
        assert!(is_answered(&mut caller, 2).await, "{:?}", caller.seen);
        assert_eq!(caller.seen.data.iter().sum::<usize>(), 2 * whole);
    }
}

#[tokio::test]
async fn what_has_to_be_fetched_is_answered_too_unless_its_caller_resets() {
    let world = World::new().await;
    for (finishes, resets, outcome) in [
        (true, false, "answered"),
        (true, true, "abandoned"),
        (false, true, "abandoned"),
    ] {
        world.advance(Duration::from_mins(10));
        let before = world.lookups().len();
        let gate = world.atlas.on(Asked::certificates()).hold();
        let mut caller = Spammer::open(&world).await;
        caller.until(|seen| seen.acks > 0).await;
        caller.send(&lookup(1)).await;
        gate.arrived(1).await;
        if finishes {
            finish(&mut caller).await;
        }
        for _ in 0..20 {
            world.admin("GET", "/healthz", "", "").await;
        }
        assert_eq!(world.lookups().len(), before);
        if resets {
            reset(caller);
            let recorded = world.until(|world| world.lookups().len() > before);
            world.soon(recorded).await.unwrap();
            gate.open();
        } else {
            gate.open();
            assert!(is_answered(&mut caller, 1).await, "{:?}", caller.seen);
        }
        assert_eq!(outcomes(&world)[before], outcome);
        let others = async { while world.metric("connections").await > 1 {} };
        world.soon(others).await.unwrap();
    }
}
