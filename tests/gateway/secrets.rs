//! No secret leaves: not the caller's token upstream, not the gateway's own anywhere.

use atlas_cert_gateway::telemetry;
use atlas_simulator::{Asked, CLIENT_SECRET, Fault};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

use crate::log::Log;
use crate::world::{PROJECT, World, certs, operator_token, token, token_of};

#[tokio::test]
async fn the_callers_token_never_reaches_atlas() {
    let world = World::new().await;
    world.ask("app1").await;
    world.ask("many").await;
    let headers = [
        ("X-Custom", "caller-header"),
        ("Cookie", "session=caller-cookie"),
    ];
    world.get(&certs(PROJECT, "nobody"), &headers).await;
    let caller = token();
    let signature = caller.rsplit('.').next().unwrap();
    for needle in [
        &caller,
        signature,
        "caller-header",
        "caller-cookie",
        "gateway.test",
    ] {
        assert!(!world.atlas.saw_anywhere(needle), "{needle}");
    }
    assert!(world.atlas.all_calls() > 3);
}

/// A canary: everything that is written at the finest level, searched for every secret in every coat.
#[tokio::test]
async fn no_secret_is_in_any_log_record_error_or_metric() {
    let log = Log::default();
    // As fine as an operator can ask for, and in every way that can be asked.
    let finest = "trace,h2::codec=trace,hyper::proto=trace,[request]=trace";
    let (finest, _) = telemetry::filter(finest).unwrap();
    let lines = tracing_subscriber::fmt::layer().with_writer(log.clone());
    let lines = lines.with_filter(finest);
    let subscriber = tracing_subscriber::registry().with(lines);
    crate::log::be_heard();
    let _guard = tracing::subscriber::set_default(subscriber);
    let world = World::new().await;
    let expired = token_of(&serde_json::json!({ "exp": 1 }));
    let mut outputs = Vec::new();
    outputs.push(world.ask("app1").await.text());
    outputs.push(
        world
            .send("GET", &certs(PROJECT, "app1"), &expired, &[])
            .await
            .text(),
    );
    outputs.push(
        world
            .get(
                &format!("{}?access_token={}", certs(PROJECT, "x"), token()),
                &[],
            )
            .await
            .text(),
    );
    world.atlas.revoke_all_tokens();
    world
        .atlas
        .on(Asked::token())
        .once()
        .respond(Fault::html(503));
    outputs.push(world.while_time_passes(world.ask("nobody")).await.text());
    world
        .atlas
        .on(Asked::certificates())
        .once()
        .respond(Fault::html(503));
    outputs.push(world.while_time_passes(world.ask("many")).await.text());
    outputs.push(world.admin("GET", "/metrics", "", "").await.text());
    let explain = format!("/cache/explain?groupId={PROJECT}&username=app1");
    outputs.push(
        world
            .admin("GET", &explain, &operator_token(), "")
            .await
            .text(),
    );
    outputs.push(serde_json::to_string(&world.records()).unwrap());
    let logged = log.text();
    assert!(logged.len() > 100, "something was logged: {logged}");
    outputs.push(logged);
    let minted = world
        .atlas
        .requests()
        .iter()
        .filter_map(|seen| {
            let value = seen.headers.get("authorization")?.to_str().ok()?;
            value.strip_prefix("Bearer ").map(str::to_owned)
        })
        .collect::<Vec<_>>();
    assert!(!minted.is_empty());
    let mut secrets = vec![CLIENT_SECRET.to_owned(), token(), expired, operator_token()];
    secrets.extend(minted);
    for secret in secrets {
        let signature = secret.rsplit('.').next().unwrap().to_owned();
        for coat in [secret.clone(), STANDARD.encode(&secret), signature] {
            for (at, output) in outputs.iter().enumerate() {
                assert!(!output.contains(&coat), "output {at} holds {coat}");
            }
        }
    }
}
