//! When more is wanted of Atlas than our share brings back, the operator learns of it.

use std::time::Duration;

use atlas_cert_gateway::telemetry::metrics::upstream::CredentialLabels;
use tokio_util::sync::CancellationToken;

use crate::log::Log;
use crate::upstream::world::{PROJECT, World};

impl World {
    /// Asks so many times within one minute, and waits until the gateway has measured what that was of
    /// its share.
    async fn ask_and_measure(&self, times: u32, expected: f64) {
        for _ in 0..times {
            self.ask_at_once().await.unwrap();
        }
        self.manual_clock.advance(Duration::from_secs(5));
        let credential = "platform".to_owned();
        let ratio = self.metrics.demand_ratio.clone();
        let ratio = || {
            let labels = CredentialLabels {
                credential: credential.clone(),
            };
            ratio.get_or_create(&labels).get()
        };
        while (ratio() - expected).abs() > 1e-9 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_demand_above_our_share_is_told_of_by_the_log_and_by_a_metric_while_all_is_still_answered()
 {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    crate::log::be_heard();
    let _guard = tracing::subscriber::set_default(subscriber);
    // A tenth of 500 calls a minute: 250 in five minutes.
    let world = World::with(|_| (), |config| config.limits.share_percent = 10).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (upstream, stop) = (world.upstream.clone(), stop.clone());
        async move { upstream.run(stop).await }
    });
    let warnings = || log.text().matches("more is wanted of Atlas").count();
    world.ask_and_measure(200, 0.8).await;
    world.manual_clock.advance(Duration::from_mins(1));
    world.ask_and_measure(50, 1.0).await;
    assert_eq!(warnings(), 0, "{}", log.text());
    world.ask_and_measure(25, 1.1).await;
    world.ask_and_measure(25, 1.2).await;
    assert_eq!(warnings(), 1, "{}", log.text());
    assert!(log.text().contains(PROJECT), "{}", log.text());
    world.manual_clock.advance(Duration::from_mins(10));
    world.ask_and_measure(1, 0.004).await;
    assert_eq!(warnings(), 1);
    stop.cancel();
    running.await.unwrap();
}
