//! A lookup that its caller gives up is counted with the time that it took.

use std::time::Duration;

use atlas_simulator::Asked;

use crate::client::Connection;
use crate::world::{PROJECT, World, certs, token};

#[tokio::test]
async fn an_abandoned_lookup_is_observed_with_its_time() {
    let world = World::new().await;
    let gate = world.atlas.on(Asked::certificates()).hold();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {}\r\n\r\n",
        certs(PROJECT, "app1"),
        token()
    );
    let mut caller = Connection::open(world.address()).await;
    caller.send(request.as_bytes()).await;
    gate.arrived(1).await;
    world.advance(Duration::from_secs(2));
    caller.reset();
    let abandoned = "lookups_total{outcome=\"abandoned\",cache=\"none\"}";
    while world.metric(abandoned).await == 0 {}
    let page = world.admin("GET", "/metrics", "", "").await.text();
    let sum = "atlas_cert_gateway_lookup_duration_seconds_sum{cache=\"none\"} ";
    let took = page.lines().find_map(|line| line.strip_prefix(sum));
    assert_eq!(took, Some("2.0"));
    gate.open();
}
