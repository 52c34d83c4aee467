//! Service accounts: minting, limits, revoking, and what a token opens.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use atlas_simulator::{
    BucketSize, CLIENT_ID, CLIENT_SECRET, Credential, ServiceAccount, TokenRules,
};
use serde_json::json;

use crate::client::{ACCEPT, Fixture, G, certificates, error_code, json};

#[tokio::test]
async fn a_token_lives_for_an_hour_of_the_simulators_clock() {
    let fixture = Fixture::start().await;
    let minted = json(fixture.mint().await).await;
    assert_eq!(
        (&minted["expires_in"], &minted["token_type"]),
        (&json!(3600), &json!("Bearer"))
    );
    let token = minted["access_token"].as_str().unwrap();
    assert_eq!(token.split('.').count(), 3);
    let ask = async || {
        let request = fixture
            .http
            .get(fixture.url(&certificates("app1")))
            .bearer_auth(token);
        request
            .header("accept", ACCEPT)
            .send()
            .await
            .unwrap()
            .status()
    };
    fixture.clock.advance(Duration::from_secs(3599));
    assert_eq!(ask().await, 200);
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(ask().await, 401);
    assert_eq!((fixture.atlas.mints(), fixture.atlas.live_tokens()), (1, 0));
}

#[tokio::test]
async fn basic_credentials_are_compared_raw() {
    let fixture = Fixture::start().await;
    let encoded = CLIENT_ID.replace('_', "%5F");
    for (id, secret) in [
        (CLIENT_ID, "wrong"),
        ("nobody", CLIENT_SECRET),
        (&encoded, CLIENT_SECRET),
    ] {
        let response = fixture.mint_as(id, secret).await;
        assert_eq!(response.status(), 401);
        let expected = json!({
            "error": "invalid_client",
            "error_description": "Invalid credentials provided.",
        });
        assert_eq!(json(response).await, expected);
    }
    assert_eq!(fixture.atlas.mints(), 0);
}

#[tokio::test]
async fn a_token_request_has_to_be_a_form_that_asks_for_client_credentials() {
    let fixture = Fixture::start().await;
    for (kind, body, error) in [
        (
            "application/json",
            "grant_type=client_credentials",
            "invalid_request",
        ),
        ("application/x-www-form-urlencoded", "", "invalid_request"),
        (
            "application/x-www-form-urlencoded",
            "grant_type=password",
            "unsupported_grant_type",
        ),
    ] {
        let request = fixture.http.post(fixture.url("/api/oauth/token"));
        let request = request.basic_auth(CLIENT_ID, Some(CLIENT_SECRET));
        let response = request
            .header("content-type", kind)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(json(response).await["error"], error);
    }
}

#[tokio::test]
async fn the_eleventh_mint_of_a_minute_is_refused_in_the_form_of_the_api() {
    let fixture = Fixture::start().await;
    for _ in 0..10 {
        assert_eq!(fixture.mint().await.status(), 200);
    }
    let response = fixture.mint().await;
    assert_eq!(response.status(), 429);
    let expected = json!({
        "detail": "Resource /api/oauth/token is limited to 10 requests every 1 minutes.",
        "error": 429,
        "errorCode": "RATE_LIMITED",
        "parameters": ["/api/oauth/token", 10, 1],
        "reason": "Too Many Requests",
    });
    assert_eq!(json(response).await, expected);
    fixture.clock.advance(Duration::from_mins(1));
    assert_eq!(fixture.mint().await.status(), 200);
}

#[tokio::test]
async fn the_hundred_and_first_live_token_is_refused_in_the_form_of_oauth() {
    let fixture = Fixture::start().await;
    for _ in 0..10 {
        for _ in 0..10 {
            assert_eq!(fixture.mint().await.status(), 200);
        }
        fixture.clock.advance(Duration::from_mins(1));
    }
    assert_eq!(fixture.atlas.live_tokens_of(CLIENT_ID), 100);
    let response = fixture.mint().await;
    assert_eq!(response.status(), 403);
    let expected = json!({
        "error": "access_denied",
        "error_description": "Access Token limit reached",
    });
    assert_eq!(json(response).await, expected);
    // The first ten expire an hour after they were minted.
    fixture.clock.advance(Duration::from_mins(50));
    assert_eq!(fixture.mint().await.status(), 200);
}

#[tokio::test]
async fn a_revoked_token_opens_nothing() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    let revoke = fixture.http.post(fixture.url("/api/oauth/revoke"));
    let revoke = revoke.basic_auth(CLIENT_ID, Some(CLIENT_SECRET));
    let form = format!("token={token}&token_type_hint=access_token");
    let response = revoke.body(form).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.bytes().await.unwrap(), "");
    let request = fixture
        .http
        .get(fixture.url(&certificates("app1")))
        .bearer_auth(token);
    let response = request.header("accept", ACCEPT).send().await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(error_code(response).await, "UNAUTHORIZED");
    assert_eq!(
        (fixture.atlas.revokes(), fixture.atlas.live_tokens()),
        (1, 0)
    );
}

#[tokio::test]
async fn lack_of_access_to_a_project_is_a_401_with_its_own_code() {
    let other = "5f0000000000000000000001";
    let fixture = Fixture::start_with(|settings| {
        let account = ServiceAccount::new(CLIENT_ID, CLIENT_SECRET).only(&[other]);
        settings.rules.service_accounts = vec![account];
    })
    .await;
    let response = fixture.certificates("app1").await;
    assert_eq!(response.status(), 401);
    assert_eq!(error_code(response).await, "USER_CANNOT_ACCESS_GROUP");
    assert_eq!(fixture.atlas.bucket_remaining(G), 1200);
}

#[tokio::test]
async fn a_token_can_be_minted_but_not_used_from_an_address_that_is_not_listed() {
    let fixture = Fixture::start().await;
    let listed = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    fixture
        .atlas
        .rules(|rules| rules.access_list = Some(vec![listed]));
    let response = fixture.certificates("app1").await;
    assert_eq!(response.status(), 403);
    let error = json(response).await;
    assert_eq!(error["errorCode"], "IP_ADDRESS_NOT_ON_ACCESS_LIST");
    assert_eq!(error["parameters"], json!(["127.0.0.1"]));
}

#[tokio::test]
async fn a_rotated_secret_replaces_the_old_one() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    fixture.atlas.rules(|rules| {
        rules.service_accounts = vec![ServiceAccount::new(CLIENT_ID, "mdb_sa_sk_new")];
    });
    assert_eq!(fixture.mint().await.status(), 401);
    assert_eq!(
        fixture.mint_as(CLIENT_ID, "mdb_sa_sk_new").await.status(),
        200
    );
    // What was minted before lives on.
    let request = fixture
        .http
        .get(fixture.url(&certificates("app1")))
        .bearer_auth(token);
    assert_eq!(
        request
            .header("accept", ACCEPT)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let used = &fixture.atlas.requests()[3].credential;
    assert_eq!(*used, Credential::Bearer(CLIENT_ID.to_owned()));
}

#[tokio::test]
async fn an_empty_bucket_says_how_long_to_wait_and_other_projects_do_not_notice() {
    let other = "5f0000000000000000000001";
    let fixture = Fixture::start_with(|settings| {
        settings.rules.bucket = BucketSize {
            capacity: 2,
            refill: 1,
            ..BucketSize::X509
        };
        settings.rules.tokens = TokenRules {
            per_minute: 1000,
            ..TokenRules::default()
        };
        settings.world.project(other).user("app1");
    })
    .await;
    for _ in 0..2 {
        assert_eq!(fixture.certificates("app1").await.status(), 200);
    }
    fixture.clock.advance(Duration::from_secs(5));
    let response = fixture.certificates("app1").await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "55");
    assert_eq!(response.headers()["ratelimit-remaining"], "0");
    let error = json(response).await;
    assert_eq!(error["errorCode"], "RATE_LIMITED_TOKEN_BUCKET");
    let path = certificates("app1").trim_start_matches('/').to_owned();
    assert_eq!(error["parameters"], json!([path, 55, 2, 1, 60]));
    let elsewhere = certificates("app1").replace(G, other);
    assert_eq!(
        fixture.get(&elsewhere).await.send().await.unwrap().status(),
        200
    );
    fixture.clock.advance(Duration::from_secs(55));
    assert_eq!(fixture.certificates("app1").await.status(), 200);
    assert_eq!(fixture.atlas.answers(429), 1);
}

#[tokio::test]
async fn an_account_revokes_only_its_own_tokens() {
    let fixture = Fixture::start_with(|settings| {
        settings
            .rules
            .service_accounts
            .push(ServiceAccount::new("mdb_sa_id_other", "secret"));
    })
    .await;
    let token = fixture.token().await;
    let revoke = fixture.http.post(fixture.url("/api/oauth/revoke"));
    let revoke = revoke.basic_auth("mdb_sa_id_other", Some("secret"));
    let response = revoke.body(format!("token={token}")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        (fixture.atlas.revokes(), fixture.atlas.live_tokens()),
        (0, 1)
    );
}

#[tokio::test]
async fn two_credentials_are_none() {
    let fixture = Fixture::start().await;
    let request = fixture.get(&certificates("app1")).await;
    let token = fixture.token().await;
    assert_eq!(
        request.bearer_auth(token).send().await.unwrap().status(),
        401
    );
}

#[tokio::test]
async fn all_tokens_can_end_before_their_time() {
    let fixture = Fixture::start().await;
    let request = fixture.get(&certificates("app1")).await;
    fixture.atlas.revoke_all_tokens();
    assert_eq!(request.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn other_clients_of_a_project_can_empty_its_bucket() {
    let fixture = Fixture::start().await;
    fixture.atlas.drain_bucket(G, 1199);
    assert_eq!(
        fixture.certificates("app1").await.headers()["ratelimit-remaining"],
        "0"
    );
    assert_eq!(fixture.certificates("app1").await.status(), 429);
}
