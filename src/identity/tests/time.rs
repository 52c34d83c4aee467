//! How old keys are after the machine was suspended, or its clock was set.

use super::*;
use crate::identity::issuer_keys::KeyFault;
use crate::system::SLICE;

const TWO_HOURS: Duration = Duration::from_hours(2);
const MORE_THAN_A_DAY: Duration = Duration::from_hours(25);

fn published_keys() -> Value {
    jwks(&[&TestKey::rsa()])
}

async fn known_token(scene: &Scene) -> String {
    let token = scene.issuer.forge("payments-api", |_, claims| {
        claims["exp"] = json!(NOW + 24 * 3_600);
    });
    scene.verify(&token).await.unwrap();
    token
}

#[tokio::test]
async fn r8_keys_are_fetched_within_seconds_after_a_suspend_or_a_pause() {
    for paused in [false, true] {
        let scene = Scene::new(&published_keys()).await;
        known_token(&scene).await;
        let before = scene.publisher.requests();
        let now = scene.manual_clock.now().wall;
        if paused {
            scene.manual_clock.set_wall(now.plus(TWO_HOURS));
        } else {
            scene.manual_clock.suspend(TWO_HOURS);
        }
        scene.pass(SLICE).await;
        assert_eq!(scene.publisher.requests(), before + 1, "paused: {paused}");
    }
}

#[tokio::test]
async fn r8_keys_of_yesterday_are_not_believed_because_the_machine_was_paused() {
    for paused in [false, true] {
        let scene = Scene::new(&published_keys()).await;
        let token = known_token(&scene).await;
        scene.publisher.answer(Answer::with(503, ""));
        let now = scene.manual_clock.now().wall;
        if paused {
            scene.manual_clock.set_wall(now.plus(MORE_THAN_A_DAY));
        } else {
            scene.manual_clock.suspend(MORE_THAN_A_DAY);
        }
        let now = scene.clock.now();
        assert_eq!(scene.faults(), [KeyFault::NoKeys], "paused: {paused}");
        let late = TestIssuer::new(now.wall.seconds()).token("payments-api");
        let waiting = scene.verify(&late);
        let mut waiting = std::pin::pin!(waiting);
        let refused = loop {
            tokio::select! {
                biased;
                refused = waiting.as_mut() => break refused,
                () = tokio::task::yield_now() => scene.manual_clock.advance(Duration::from_millis(100)),
            }
        };
        assert_eq!(refused.unwrap_err(), Unverified::NoKeys, "paused: {paused}");
        assert!(scene.verify(&token).await.is_err(), "paused: {paused}");
    }
}
