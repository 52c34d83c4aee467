//! Connecting to the engine.

use super::two_replicas;
use std::time::Duration;

use crate::harness::engine::Engine;

#[tokio::test]
async fn a_replica_loads_the_functions_and_is_one_of_the_members() {
    let Some(engine) = Engine::start().await else {
        return;
    };
    let [first, _second] = two_replicas(&engine, |_| {}).await;
    let functions = format!("{:?}", engine.command(&["FUNCTION", "LIST"]).await);
    assert!(functions.contains("acg1_open"), "{functions}");
    while first.metric("fleet_members").await != 2 {
        first.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
}
