//! What calls were made for: each under one cause, and all of them together every call that Atlas saw.

use atlas_cert_gateway::telemetry::metrics::upstream::{CallCause, CallLabels, Endpoint};
use atlas_cert_gateway::upstream::{FetchOptions, Proof, Urgency};
use atlas_simulator::{Asked, Fault};

use crate::upstream::world::{PROJECT, World, api_key, query};

use CallCause::{Ahead, Forced, Miss, Proof as Proven, Restart, Retry};

impl World {
    /// Asserts what calls were made for; that these are all that were counted, and all that Atlas saw.
    fn assert_spent(&self, expected: &[(CallCause, u64)]) {
        let spent = |cause| {
            let of_cause = self
                .metrics
                .calls_by_cause
                .get_or_create(&[("cause", cause)]);
            of_cause.get()
        };
        let mut sum = 0;
        for cause in [Ahead, Forced, Miss, Proven, Restart, Retry] {
            let expected = expected.iter().find(|(of, _)| *of == cause);
            let expected = expected.map_or(0, |(_, calls)| *calls);
            assert_eq!(spent(cause), expected, "{cause:?}");
            sum += expected;
        }
        let counted: u64 = (0..1_000)
            .map(|status| {
                let endpoint = Endpoint::Certificates;
                let labels = CallLabels { endpoint, status };
                self.metrics.calls.get_or_create(&labels).get()
            })
            .sum();
        let seen = u64::try_from(self.atlas.certificate_calls()).unwrap();
        assert_eq!((sum, sum), (counted, seen));
    }
}

async fn proven_by(proof: Proof) -> World {
    World::with(
        |settings| {
            let mut project = settings.world.project(PROJECT);
            project.user("app1").certificates(698);
        },
        |config| config.limits.proof = proof,
    )
    .await
}

#[tokio::test]
async fn a_first_reading_counts_for_what_it_was_asked_for() {
    let world = proven_by(Proof::CreatedAt).await;
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 2)]);
    let urgency = Urgency::RefreshAhead;
    world.ask_for(PROJECT, "app1", urgency).await.unwrap();
    world.assert_spent(&[(Miss, 2), (Ahead, 2)]);
    let urgency = Urgency::Revalidate;
    world.ask_for(PROJECT, "app1", urgency).await.unwrap();
    world.assert_spent(&[(Miss, 4), (Ahead, 2)]);
    let query = query(PROJECT, "app1");
    let options = FetchOptions {
        forced: true,
        ..Urgency::Miss.into()
    };
    let anew = world.upstream.fetch(&query, options);
    world.pass_time(anew).await.unwrap();
    world.assert_spent(&[(Miss, 4), (Ahead, 2), (Forced, 2)]);
}

#[tokio::test]
async fn what_is_read_to_prove_one_moment_counts_as_proof() {
    for (proof, calls) in [(Proof::EveryPage, 2), (Proof::FirstPage, 1)] {
        let world = proven_by(proof).await;
        world.ask().await.unwrap();
        world.assert_spent(&[(Miss, 2), (Proven, calls)]);
    }
}

#[tokio::test]
async fn a_page_that_is_asked_for_again_counts_as_a_retry() {
    let world = World::new().await;
    let asked = Asked::certificates();
    world
        .atlas
        .on(asked)
        .once()
        .respond(Fault::unexpected_error());
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 1), (Retry, 1)]);
    // A torn page makes all be read again.
    let world = proven_by(Proof::CreatedAt).await;
    let asked = Asked::certificates().page(2);
    world.atlas.on(asked).once().respond(Fault::truncate(40));
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 2), (Retry, 2)]);
    // Page 2 is asked for only once.
    let world = proven_by(Proof::CreatedAt).await;
    let asked = Asked::certificates().page(1);
    world.atlas.on(asked).once().respond(Fault::truncate(40));
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 2), (Retry, 1)]);
}

#[tokio::test]
async fn a_challenge_of_digest_makes_its_page_a_retry() {
    let world = World::with(|_| (), |config| config.credentials = vec![api_key()]).await;
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 1), (Retry, 1)]);
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 2), (Retry, 1)]);
}

#[tokio::test]
async fn a_reading_after_a_change_counts_as_a_restart() {
    let world = proven_by(Proof::CreatedAt).await;
    let gone = Fault::api_error(404, "USER_NOT_FOUND", "gone");
    let asked = Asked::certificates().page(2);
    world.atlas.on(asked).once().respond(gone);
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 2), (Restart, 2)]);
}

#[tokio::test]
async fn a_reading_after_a_doubt_counts_as_proof() {
    let world = proven_by(Proof::CreatedAt).await;
    let revoke = Fault::then(|projects| {
        let mut project = projects.project(PROJECT);
        let mut user = project.user("app1");
        let serial = user.serials()[3];
        user.remove_certificate(serial);
    });
    let asked = Asked::certificates().page(1);
    world.atlas.on(asked).nth(1).respond(revoke);
    world.ask().await.unwrap();
    world.assert_spent(&[(Miss, 2), (Proven, 2)]);
}
