//! Callers that are slow, silent or gone: each is waited for as long as the limits say, and no longer.

use std::time::Duration;

use super::{Asked, USUAL, assert_refusal};
use crate::client::Connection;
use crate::world::{PROJECT, World, certs, every, set};

#[tokio::test]
async fn a_head_has_five_seconds_from_its_first_byte() {
    // H51: a byte now and then does not help, at the beginning of a connection or later.
    for leading in [Vec::new(), USUAL.bytes()] {
        let world = World::new().await;
        let mut connection = Connection::open(world.address()).await;
        if !leading.is_empty() {
            connection.send(&leading).await;
            assert_eq!(connection.reply(false).await.status, 200);
            world.advance(Duration::from_secs(30));
        }
        let head = USUAL.bytes();
        let mut glances = every(Duration::from_millis(5));
        let dripping = async {
            for byte in head {
                connection.send(&[byte]).await;
                glances.tick().await;
                world.advance(Duration::from_millis(500));
                if connection.has_something() {
                    break;
                }
            }
            connection.reply(false).await
        };
        let began = world.clock.now().elapsed;
        assert_refusal(&dripping.await, 408, "REQUEST_TIMEOUT", "H51");
        // The whole head would take minutes. On a busy machine the hands run ahead of the gateway.
        let passed = world.clock.now().elapsed.saturating_sub(began);
        assert!(passed < Duration::from_mins(1), "H51: {passed:?}");
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn a_caller_that_says_nothing_is_gone_when_the_first_byte_is_due() {
    let world = World::new().await;
    for (id, bytes) in [
        ("H50", &b""[..]),
        ("H52", b"P"),
        ("H52", b"PRI * HTTP/2.0\r\n"),
    ] {
        let mut connection = Connection::open(world.address()).await;
        connection.send(bytes).await;
        let closed = world.while_time_passes(connection.is_closed()).await;
        assert!(closed, "{id}");
    }
}

#[tokio::test]
async fn a_connection_may_wait_a_minute_for_its_next_request_and_no_longer() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address()).await;
    for _ in 0..2 {
        connection.send(&USUAL.bytes()).await;
        assert_eq!(connection.reply(false).await.status, 200);
        world.advance(Duration::from_secs(59));
    }
    world.advance(Duration::from_secs(1));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn half_a_connection_closed_still_gets_its_answer_and_a_clean_end() {
    let world = World::new().await;
    let mut connection = Connection::open(world.address()).await;
    connection.send(&USUAL.bytes()).await;
    connection.finish().await;
    assert_eq!(connection.reply(false).await.status, 200, "H55");
    assert!(connection.is_closed().await, "H55");
}

#[tokio::test]
async fn callers_that_reset_at_once_cause_no_storm_and_leave_no_connection() {
    let world = World::new().await;
    for _ in 0..300 {
        let mut connection = Connection::open(world.address()).await;
        connection.send(&USUAL.bytes()).await;
        connection.reset();
    }
    // H57.
    assert_eq!(world.ask("app1").await.status, 200);
    assert_eq!(world.atlas.certificate_calls(), 1);
    let outcomes = ["answered", "abandoned"];
    for record in world.lookups() {
        let outcome = record["outcome"].as_str().unwrap();
        assert!(outcomes.contains(&outcome), "H57: {record}");
    }
}

#[tokio::test]
async fn an_answer_that_is_read_slowly_is_given_up_after_a_minute() {
    let name = "n".repeat(900);
    let world = World::with(|plan| {
        // So that only the bound on the whole answer can end it.
        set(&mut plan.config, "server.limits.write_stall", "10m");
        let mut project = plan.atlas.world.project(PROJECT);
        project.user(&name).certificates(8_000);
    })
    .await;
    let giant = Asked {
        line: &format!("GET {} HTTP/1.1", certs(PROJECT, &name)),
        ..USUAL
    };
    let mut connection = Connection::open(world.address()).await;
    connection.send(&giant.bytes()).await;
    let (mut read, mut glances) = (0, every(Duration::from_millis(2)));
    // At a byte a second the answer would take months; the clock begins with the full buffer.
    let passed = loop {
        glances.tick().await;
        let Some(count) = connection.read_some(1 << 12).await else {
            break world.clock.now().elapsed;
        };
        read += count;
        world.advance(Duration::from_secs(1));
    };
    assert!(read < 8_000_000, "H54: {read} bytes");
    assert!(passed >= Duration::from_mins(1), "H54: {passed:?}");
    assert_eq!(world.refused("write_stall").await, 1, "H54");
}
