//! Rules, issuers and tokens that change or end while callers come and wait.

use std::time::{Duration, SystemTime};

use atlas_simulator::{Answer, Asked, Fault, Settings, Simulator};
use http::StatusCode;
use serde_json::json;

use super::Scene;
use crate::forgeries;
use crate::tokens::{TestKey, jwks};
use crate::upstream::network::Authority;
use crate::world::{FOREIGN_PROJECT, PROJECT, certs};

#[tokio::test]
async fn g9_a_reloaded_rule_or_issuer_holds_for_the_next_request() {
    let scene = Scene::new(&forgeries::published()).await;
    let token = scene.issuer.token("payments-api");
    let target = certs(FOREIGN_PROJECT, "app1");
    assert_eq!(scene.ask(&token).await.status, 200);
    scene
        .reload(|config| {
            let rules = config["access"]["rules"].as_array_mut().unwrap();
            rules[0]["projects"] = vec![FOREIGN_PROJECT].into();
        })
        .await;
    assert_eq!(scene.ask(&token).await.status, 403, "J60: cached or not");
    assert_eq!(
        scene.world.send("GET", &target, &token, &[]).await.status,
        200
    );
    scene
        .reload(|config| {
            let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
            issuers[0]["audiences"] = vec!["another"].into();
        })
        .await;
    let reply = scene.ask(&token).await;
    assert_eq!(reply.status, 401, "J58: a remembered token is judged anew");
    scene.reload(|_| {}).await;
    assert_eq!(scene.ask(&token).await.status, 200);
    // The keys were there all the time.
    assert_eq!(scene.publisher.requests(), 1);
}

#[tokio::test]
async fn g11_a_waiting_caller_is_judged_again_before_the_answer() {
    let scene = Scene::new(&forgeries::published()).await;
    let short = scene.issuer.forge("payments-short", |_, claims| {
        claims["exp"] = json!(scene.issuer.now - 27);
    });
    let gate = scene.world.atlas.on(Asked::certificates()).hold();
    // The first attempt of the fetch gets no answer in its time; the second does, after the token's end.
    let asking = async {
        tokio::join!(scene.ask(&short), async {
            gate.arrived(2).await;
            scene.world.advance(Duration::from_millis(2_500));
            gate.open();
        })
    };
    let (reply, ()) = scene.world.while_time_passes(asking).await;
    assert_eq!(
        (reply.status, &*reply.error_code()),
        (401, "USER_UNAUTHORIZED"),
        "J51"
    );
    // The fetch was not in vain for others.
    let long = scene.ask(&scene.issuer.token("payments-long")).await;
    assert_eq!(
        (long.status, long.header("x-upstream-calls")),
        (200, Some("0"))
    );
}

#[tokio::test]
async fn c03_a_leader_whose_rule_goes_while_it_waits_is_denied_and_the_others_get_the_list() {
    let scene = Scene::new(&forgeries::published()).await;
    let leader = scene.issuer.token("payments-leader");
    let follower = scene.issuer.token("payments-follower");
    let gate = scene.world.atlas.on(Asked::certificates()).hold();
    let meanwhile = async {
        gate.arrived(1).await;
        scene
            .reload(|config| {
                let rules = config["access"]["rules"].as_array_mut().unwrap();
                rules[0]["subjects"] = vec!["payments-follower"].into();
            })
            .await;
        // However short the wait was.
        gate.open();
    };
    let (led, joined, ()) = tokio::join!(scene.ask(&leader), scene.ask(&follower), meanwhile);
    assert_eq!(
        (led.status, &*led.error_code()),
        (403, "ACCESS_FORBIDDEN"),
        "C03, J66"
    );
    assert_eq!(joined.status, 200, "{}", joined.text());
    let denied = scene.world.lookups().into_iter();
    let mut denied = denied.filter(|record| record["outcome"] == "denied");
    let denied = denied.next().unwrap();
    assert_eq!(
        denied["rule"],
        json!(null),
        "the rule that had granted it is gone"
    );
}

#[tokio::test]
async fn g1_g5_what_ends_while_keys_are_fetched_is_not_handed_out() {
    let scene = Scene::new(&forgeries::published()).await;
    let start = scene.world.clock.now().wall;
    let at = |seconds| SystemTime::from(start.plus(Duration::from_secs(seconds)));
    scene.world.atlas.world(|world| {
        let mut project = world.project(PROJECT);
        let mut user = project.user("app1");
        user.remove_all_certificates();
        user.certificate_until(at(2));
        user.certificate_until(at(9_999));
    });
    let known = scene.issuer.token("payments-api");
    let list = scene.ask(&known).await;
    assert_eq!(list.json()["totalCount"], 2, "{}", list.text());
    // The next token is of a key that has to be fetched first, and that takes four seconds.
    scene
        .publisher
        .publish(&jwks(&[&TestKey::rsa(), &TestKey::next_rsa()]));
    scene.publisher.hold(true);
    let fetches = scene.publisher.requests();
    let unknown = scene
        .issuer
        .signing_with(TestKey::next_rsa())
        .token("payments-api");
    let meanwhile = async {
        scene
            .world
            .until(|_| scene.publisher.requests() > fetches)
            .await;
        scene.world.advance(Duration::from_secs(4));
        scene.publisher.hold(false);
    };
    let (late, ()) = tokio::join!(scene.ask(&unknown), meanwhile);
    assert_eq!(
        late.header("x-upstream-calls"),
        Some("0"),
        "{}",
        late.text()
    );
    assert_eq!(late.json()["totalCount"], 1);
    assert_eq!(late.header("age"), Some("4"));
}

#[tokio::test]
async fn an_issuer_proves_itself_by_the_root_that_is_named_for_it_and_by_no_other() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let settings = Settings {
        tls: Some(authority.tls("localhost", false)),
        ..Settings::default()
    };
    // Any server will do that speaks TLS.
    let issuer = Simulator::start(settings).await.unwrap();
    let keys = Answer::new(StatusCode::OK, forgeries::published().to_string());
    issuer.on(Asked::anything()).respond(Fault::answer(keys));
    // No keys that could stay.
    let scene = Scene::new(&json!({"keys": []})).await;
    for (roots, path, status) in [
        (stranger.roots(), "strange", 503),
        (authority.roots(), "known", 200),
    ] {
        scene
            .reload(|config| {
                let issuers = config["identity"]["issuers"].as_array_mut().unwrap();
                issuers[0]["jwks_url"] = format!("{}/{path}", issuer.base_url()).into();
                let issuer = issuers[0].as_table_mut().unwrap();
                let roots = roots.display().to_string();
                issuer.insert("ca_certificate".to_owned(), roots.into());
            })
            .await;
        let token = scene.issuer.token(&format!("payments-{path}"));
        assert_eq!(scene.ask(&token).await.status, status, "{path}");
        let operator = scene.issuer.token("operator");
        let search = scene.world.admin("GET", "/audit/lookups", &operator, "");
        assert_eq!(search.await.status, status, "{path}");
    }
    assert_eq!(issuer.all_calls(), 1);
}
