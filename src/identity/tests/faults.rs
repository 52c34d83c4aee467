//! What is said of an issuer whose keys are degraded.

use super::*;
use crate::identity::issuer_keys::KeyFault;

impl Scene {
    pub(super) fn faults(&self) -> Vec<KeyFault> {
        let faults = self.identity.issuer_faults(self.clock.now());
        for issuer in &faults {
            assert_eq!(&*issuer.issuer, ISSUER);
            assert!(issuer.to_string().contains(ISSUER), "{issuer}");
        }
        faults.iter().map(|issuer| issuer.fault).collect()
    }

    fn reload(&self, url: &str) {
        let issuers = vec![published(url)];
        self.identity
            .reload(&Config {
                issuers,
                ..Config::default()
            })
            .unwrap();
    }

    /// Waits until another attempt at keys has ended, since `attempts` were counted.
    async fn after(&self, mut attempts: tokio::sync::watch::Receiver<u64>) {
        attempts.changed().await.unwrap();
    }
}

#[tokio::test]
async fn an_issuer_is_degraded_while_its_new_place_has_delivered_nothing() {
    let scene = Scene::new(&forgeries::published()).await;
    let good = scene.publisher.url("/jwks");
    scene.verify(&scene.issuer.token("a")).await.unwrap();
    assert_eq!(scene.faults(), []);
    let since = scene.clock.now().wall;
    let elsewhere = TestPublisher::serve(&json!({})).await;
    scene.manual_clock.advance(Duration::from_secs(9));
    scene.reload(&elsewhere.url("/jwks"));
    assert_eq!(scene.faults(), [KeyFault::OldPlace { since }]);
    scene.after(scene.attempts()).await;
    assert_eq!(scene.faults(), [KeyFault::OldPlace { since }]);
    // No caller is refused for it.
    scene.verify(&scene.issuer.token("b")).await.unwrap();
    assert!(scene.identity.has_keys(scene.clock.now()));
    // Wherever it is configured to be next, they are still of the first place.
    scene.reload("http://127.0.0.1:1/jwks");
    assert_eq!(scene.faults(), [KeyFault::OldPlace { since }]);
    scene.reload(&good);
    assert_eq!(scene.faults(), []);
    // The same keys from the new place are its own, too.
    elsewhere.publish(&forgeries::published());
    scene.reload(&elsewhere.url("/jwks"));
    let attempts = scene.attempts();
    assert_eq!(scene.faults().len(), 1);
    scene.after(attempts).await;
    assert_eq!(scene.faults(), []);
}

#[tokio::test]
async fn an_issuer_is_degraded_while_it_is_down_and_when_it_has_no_keys() {
    let scene = Scene::new(&forgeries::published()).await;
    scene.verify(&scene.issuer.token("a")).await.unwrap();
    let since = scene.clock.now().wall;
    scene.publisher.answer(Answer::with(503, ""));
    scene.pass(Duration::from_mins(5)).await;
    assert_eq!(scene.faults(), [KeyFault::NotRenewed { since }]);
    // A reload changes nothing of that.
    scene.reload(&scene.publisher.url("/jwks"));
    assert_eq!(scene.faults(), [KeyFault::NotRenewed { since }]);
    scene.pass(Duration::from_hours(24)).await;
    assert_eq!(scene.faults(), [KeyFault::NoKeys]);
    scene.publisher.publish(&forgeries::published());
    scene.pass(Duration::from_secs(30)).await;
    assert_eq!(scene.faults(), []);
}

#[tokio::test]
async fn a_fetch_of_the_old_settings_that_ends_late_takes_no_keys_away() {
    let scene = Scene::new(&forgeries::published()).await;
    scene.verify(&scene.issuer.token("a")).await.unwrap();
    let old = scene.identity.current.load_full();
    scene.reload(&scene.publisher.url("/jwks"));
    // What the former task had under way ends now, with other keys.
    scene.publisher.publish(&jwks(&[&TestKey::rsa()]));
    let metrics = IdentityMetrics::default();
    old.list[0].keys.refresh(&scene.clock, &metrics).await;
    assert_eq!(scene.faults(), []);
    scene.verify(&scene.issuer.token("b")).await.unwrap();
}
