//! Where nothing was sent to Atlas there is no record of a fetch, and the lookup's record says why.

use atlas_simulator::{Asked, Fault};
use serde_json::Value;

use crate::world::World;

fn fetches(world: &World) -> usize {
    let records = world.records().into_iter();
    records.filter(|record| record["kind"] == "fetch").count()
}

fn last_lookup(world: &World) -> Value {
    world.lookups().pop().unwrap()
}

#[tokio::test]
async fn lookups_behind_a_closed_gate_add_no_fetches() {
    let world = World::new().await;
    world
        .atlas
        .on(Asked::certificates())
        .respond(Fault::rate_limited(60));
    world.while_time_passes(world.ask("app1")).await;
    for at in 0..20 {
        assert_eq!(world.ask(&format!("nobody-{at}")).await.status, 429);
    }
    let last = last_lookup(&world);
    assert_eq!(last["reason"], "cooldown_429");
    assert_eq!(
        (&last["fill_id"], &last["upstream_calls"]),
        (&Value::Null, &0.into())
    );
    assert_eq!(fetches(&world), 1, "the one that was made");
}

#[tokio::test]
async fn a_fetch_without_a_token_is_none() {
    let world = World::new().await;
    world.atlas.on(Asked::token()).respond(Fault::status(500));
    let reply = world.while_time_passes(world.ask("app1")).await;
    assert_eq!(reply.status, 502);
    let last = last_lookup(&world);
    assert_eq!(
        (&last["reason"], &last["fill_id"]),
        (&"no_token".into(), &Value::Null)
    );
    assert_eq!(fetches(&world), 0);
}
