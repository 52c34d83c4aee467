//! What the simulator remembers of the requests it saw.

use std::sync::Arc;

use atlas_simulator::{CLIENT_ID, Credential, Endpoint};

use crate::client::{Fixture, G, certificates, raw_get};

#[tokio::test]
async fn a_request_is_recorded_with_all_that_it_carried_and_how_it_ended() {
    let fixture = Fixture::start().await;
    let path = format!("{}?pageNum=2", certificates("CN%3Da%2Fb"));
    let request = fixture.get(&path).await.header("x-canary", "yellow");
    request.send().await.unwrap();
    let requests = fixture.atlas.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].endpoint, Endpoint::Token);
    assert_eq!(requests[0].body, "grant_type=client_credentials");
    assert_eq!(
        requests[0].credential,
        Credential::Basic(CLIENT_ID.to_owned())
    );
    let list = &requests[1];
    assert_eq!(
        (list.number, list.at, list.page),
        (1, fixture.clock.now(), 2)
    );
    assert_eq!(
        (&list.target, list.endpoint),
        (&path, Endpoint::Certificates)
    );
    assert_eq!(
        (list.project.as_deref(), list.username.as_deref()),
        (Some(G), Some("CN=a/b"))
    );
    assert_eq!(list.headers["x-canary"], "yellow");
    assert_eq!(list.credential, Credential::Bearer(CLIENT_ID.to_owned()));
    assert_eq!(list.status.unwrap(), 200);
}

#[tokio::test]
async fn a_target_is_recorded_byte_for_byte() {
    let fixture = Fixture::start().await;
    let target = "/api/atlas/v2/%2e%2E/./a+b//c?x=%zz&y=%2B";
    raw_get(&fixture.atlas, target, "none").await;
    assert_eq!(fixture.atlas.requests()[0].target, target);
}

#[tokio::test]
async fn a_text_is_found_wherever_it_was_sent() {
    let fixture = Fixture::start().await;
    let post = fixture
        .http
        .post(fixture.url("/in-the-target?q=in-the-query"));
    post.header("in-a-name", "in-a-value")
        .body("in-the-body")
        .send()
        .await
        .unwrap();
    for text in [
        "in-the-target",
        "in-the-query",
        "in-a-name",
        "in-a-value",
        "in-the-body",
    ] {
        assert!(fixture.atlas.saw_anywhere(text), "{text}");
    }
    assert!(!fixture.atlas.saw_anywhere("nowhere"));
}

#[tokio::test]
async fn counts_outlive_the_requests_that_are_kept() {
    let fixture = Fixture::start_with(|settings| settings.keep_requests = 2).await;
    for _ in 0..3 {
        fixture
            .http
            .get(fixture.url("/other"))
            .send()
            .await
            .unwrap();
    }
    let numbers: Vec<usize> = fixture
        .atlas
        .requests()
        .iter()
        .map(|request| request.number)
        .collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(fixture.atlas.calls(Endpoint::Unknown), 3);
    assert_eq!(
        (fixture.atlas.answers(404), fixture.atlas.all_calls()),
        (3, 3)
    );
    fixture.atlas.forget_requests();
    assert_eq!(
        (fixture.atlas.requests().len(), fixture.atlas.all_calls()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_test_can_wait_for_a_number_of_calls() {
    let fixture = Arc::new(Fixture::start().await);
    let waiting = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move {
            fixture
                .atlas
                .wait_for_calls(Endpoint::Certificates, 2)
                .await;
        }
    });
    for _ in 0..2 {
        assert!(!waiting.is_finished());
        fixture.certificates("app1").await;
    }
    waiting.await.unwrap();
}
