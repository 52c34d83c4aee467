//! New tokens queue for their signature check; known ones never wait.

use std::net::IpAddr;

use futures_util::FutureExt;

use super::*;

fn caller() -> Requester {
    Requester::at(IpAddr::from([192, 0, 2, 1]))
}

#[tokio::test]
async fn known_tokens_pass_while_new_ones_queue_for_their_check() {
    let scene = Scene::new(&forgeries::published()).await;
    let known = scene.issuer.token("known");
    scene.verify(&known).await.unwrap();
    let now = scene.clock.now();
    let all = u32::try_from(checks_at_once()).unwrap();
    let permits = scene
        .identity
        .signature_checks
        .acquire_many(all)
        .await
        .unwrap();
    let new = scene.issuer.token("new");
    let identity = &scene.identity;
    let mut waiting = std::pin::pin!(identity.verify_for(caller(), new.as_bytes(), None, now));
    assert!(waiting.as_mut().now_or_never().is_none());
    // No known caller is behind it, and no operator.
    assert!(identity.get_cached(known.as_bytes(), None, now).is_some());
    let known = identity.verify_for(caller(), known.as_bytes(), None, now);
    assert!(known.now_or_never().unwrap().is_ok());
    let operator = scene.issuer.token("operator");
    let operator = identity.verify(operator.as_bytes(), now).now_or_never();
    assert!(operator.unwrap().is_ok());
    // What costs no check is refused at once.
    let refused = identity
        .verify_for(caller(), b"null", None, now)
        .now_or_never();
    assert_eq!(refused.unwrap().unwrap_err(), Unverified::Malformed);
    drop(permits);
    // It goes behind those who are ready.
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(&*waiting.await.unwrap().subject, "new");
    assert_eq!(
        identity.signature_checks.available_permits(),
        checks_at_once()
    );
}

#[tokio::test]
async fn of_one_source_few_wait_for_keys_and_others_still_may() {
    let scene = Scene::new(&forgeries::published()).await;
    scene.verify(&scene.issuer.token("known")).await.unwrap();
    scene.publisher.hold(true);
    let now = scene.clock.now();
    let verify = |number: usize, requester| {
        let token = scene.issuer.forge("new", |header, _| {
            header["kid"] = json!(format!("kid-{number}"));
        });
        let identity = Arc::clone(&scene.identity);
        async move {
            identity
                .verify_for(requester, token.as_bytes(), None, now)
                .await
        }
    };
    let mut waiting: Vec<_> = (0..200)
        .map(|number| Box::pin(verify(number, caller())))
        .collect();
    let verdicts: Vec<_> = waiting
        .iter_mut()
        .filter_map(|waiting| waiting.as_mut().now_or_never())
        .map(|verdict| verdict.unwrap_err())
        .collect();
    assert_eq!(verdicts, vec![Unverified::TooManyWait; 72]);
    assert_eq!(scene.identity.callers_waiting_for_keys(), 128);
    // From elsewhere, and for operators, there is room.
    let elsewhere = Requester::at(IpAddr::from([192, 0, 2, 2]));
    for requester in [elsewhere, Requester::Operator] {
        assert!(verify(0, requester).now_or_never().is_none());
    }
    drop(waiting);
    assert_eq!(scene.identity.callers_waiting_for_keys(), 0);
}
