//! What the metrics say of Atlas's buckets: of all projects of a credential, not of the one asked last.

use std::time::Duration;

use atlas_cert_gateway::telemetry::metrics::upstream::CredentialLabels;
use atlas_cert_gateway::upstream::Urgency;

use crate::upstream::world::{OTHER, PROJECT, World};

/// What is shown of a credential.
#[derive(Debug)]
struct Shown {
    remaining: Option<i64>,
    reserve_in: f64,
    others: u64,
}

impl World {
    fn shown(&self) -> Shown {
        self.upstream.update_gauges();
        let labels = CredentialLabels {
            credential: "platform".to_owned(),
        };
        let metrics = &self.metrics;
        let remaining = metrics.rate_limit_remaining.get(&labels);
        Shown {
            remaining: remaining.map(|remaining| remaining.get()),
            reserve_in: metrics.reserve_in.get_or_create(&labels).get(),
            others: metrics.others_calls.get_or_create(&labels).get(),
        }
    }

    async fn ask_in(&self, project: &str) {
        self.ask_for(project, "app1", Urgency::Miss).await.unwrap();
    }
}

async fn two_projects() -> World {
    let other = |settings: &mut atlas_simulator::Settings| {
        settings.world.project(OTHER).user("app1").certificates(1);
    };
    World::with(other, |_| ()).await
}

#[tokio::test]
async fn the_least_of_all_projects_is_shown_whichever_was_asked_last() {
    let world = two_projects().await;
    assert_eq!(world.shown().remaining, None);
    world.ask_in(OTHER).await;
    world.atlas.drain_bucket(OTHER, 990);
    world.ask_in(OTHER).await;
    world.ask_in(PROJECT).await;
    assert_eq!(world.shown().remaining, Some(208));
    // Five minutes later that is no longer known, but what was asked meanwhile is.
    world.manual_clock.advance(Duration::from_mins(4));
    world.ask_in(PROJECT).await;
    assert_eq!(world.shown().remaining, Some(208));
    world.manual_clock.advance(Duration::from_mins(1));
    assert_eq!(world.shown().remaining, Some(1_199));
    world.manual_clock.advance(Duration::from_mins(5));
    assert_eq!(world.shown().remaining, None);
}

#[tokio::test]
async fn what_others_take_is_counted_and_what_we_take_is_not() {
    let world = two_projects().await;
    for _ in 0..20 {
        world.ask_in(PROJECT).await;
        world.manual_clock.advance(Duration::from_secs(25));
    }
    assert_eq!(world.shown().others, 0);
    world.atlas.drain_bucket(PROJECT, 300);
    world.ask_in(PROJECT).await;
    assert_eq!(world.shown().others, 300);
    // Of a project that was never asked about nothing is known.
    world.atlas.drain_bucket(OTHER, 300);
    world.ask_in(OTHER).await;
    assert_eq!(world.shown().others, 300);
}

#[tokio::test]
async fn the_project_that_is_down_at_the_reserve_first_is_foretold() {
    let world = two_projects().await;
    assert!(world.shown().reserve_in.is_infinite());
    for _ in 0..5 {
        world.ask_in(OTHER).await;
        world.ask_in(PROJECT).await;
        world.atlas.drain_bucket(OTHER, 600);
        world.manual_clock.advance(Duration::from_mins(1));
    }
    let shown = world.shown();
    assert!((60.0..=600.0).contains(&shown.reserve_in), "{shown:?}");
    world.atlas.drain_bucket(OTHER, 500);
    world.ask_in(OTHER).await;
    world.ask_in(PROJECT).await;
    let shown = world.shown();
    assert!(
        shown.reserve_in <= 0.0 && shown.remaining < Some(200),
        "{shown:?}"
    );
    // Nobody has asked about it for five minutes: whether it fills again is not known.
    world.manual_clock.advance(Duration::from_mins(5));
    assert!(world.shown().reserve_in.is_infinite());
}

#[tokio::test]
async fn a_bucket_that_is_low_and_steady_is_not_foretold_to_run_out() {
    let world = two_projects().await;
    world.atlas.drain_bucket(OTHER, 800);
    for minute in 0..8 {
        world.ask_in(OTHER).await;
        let shown = world.shown();
        assert!(shown.reserve_in.is_infinite(), "{minute}: {shown:?}");
        world.manual_clock.advance(Duration::from_mins(1));
        world.atlas.drain_bucket(OTHER, 499);
    }
}
