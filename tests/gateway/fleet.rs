//! Replicas that share a Valkey or Redis, which the test starts. Debian's package `redis-server` will do. Where
//! neither is, nothing is tried, unless `CI` is set.

mod burst;
mod clocks;
mod explained;
mod failover;
mod faults;
mod joined;
mod killed;
mod lists;
mod processes;
mod purges;
mod rights;
mod rolled;
mod share;
mod tampered;
mod tokens;

use crate::harness::engine::Engine;
use crate::world::{Plan, World, set, write_private};

/// A world whose gateway is the replica `name` of the fleet of `engine`.
pub(crate) async fn replica(engine: &Engine, name: &str, change: impl FnOnce(&mut Plan)) -> World {
    World::with(|plan| {
        join(engine, plan, name);
        change(plan);
    })
    .await
}

/// Two replicas of one fleet, which are connected, in front of one Atlas.
pub(crate) async fn two_replicas(engine: &Engine, change: impl Fn(&mut Plan)) -> [World; 2] {
    let of = |name: &'static str| {
        let change = &change;
        move |plan: &mut Plan| {
            join(engine, plan, name);
            change(plan);
        }
    };
    let first = World::with(of("gateway-1")).await;
    let second = first.beside(of("gateway-2")).await;
    until_connected(&first).await;
    until_connected(&second).await;
    [first, second]
}

/// Makes a gateway a replica of a fleet of five.
pub(crate) fn join(engine: &Engine, plan: &mut Plan, name: &str) {
    join_config(engine, &mut plan.config, name);
}

/// The same for a configuration alone.
pub(crate) fn join_config(engine: &Engine, config: &mut toml::Table, name: &str) {
    let key = engine.socket().with_file_name("key");
    write_private(&key, "a key of the fleet for tests, 32 and more");
    set(config, "audit.replica", name);
    set(config, "fleet.name", "tests");
    set(config, "fleet.replicas", 5);
    set(config, "fleet.url", engine.url());
    // A test that lets time pass is faster than an engine on a busy machine.
    set(config, "fleet.silence", "500ms");
    set(config, "fleet.key_files", vec![key.display().to_string()]);
}

/// Waits until a gateway shares with the others.
pub(crate) async fn until_connected(world: &World) {
    until_connected_is(world, 1).await;
}

/// Waits until a gateway shares with the others (1), or is alone (0).
pub(crate) async fn until_connected_is(world: &World, connected: u64) {
    while world.metric("fleet_connected").await != connected {
        tokio::task::yield_now().await;
    }
}
