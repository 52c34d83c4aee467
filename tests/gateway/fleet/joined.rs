//! Connecting to the engine.

use super::{replica, until_connected};
use crate::harness::engine::Engine;

#[tokio::test]
async fn a_replica_loads_the_functions_and_is_one_of_the_members() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let world = replica(&engine, "gateway-1", |_| {}).await;
    until_connected(&world).await;
    let functions = format!("{:?}", engine.command(&["FUNCTION", "LIST"]).await);
    assert!(functions.contains("acg1_open"), "{functions}");
    while world.metric("fleet_members").await != 1 {
        tokio::task::yield_now().await;
    }
}
