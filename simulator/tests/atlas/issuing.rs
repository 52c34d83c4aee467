//! The making of certificates, which draws from the same bucket as their list.

use crate::client::{ACCEPT, Fixture, G, certificates, json};

#[tokio::test]
async fn a_new_certificate_is_answered_as_pem_and_listed_last() {
    let fixture = Fixture::start().await;
    let path = certificates("app1");
    let token = fixture.token().await;
    let post = fixture
        .http
        .post(fixture.url(&path))
        .bearer_auth(&token)
        .header("accept", ACCEPT);
    let response = post
        .body(r#"{"monthsUntilExpiration":3}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    let kind = "application/vnd.atlas.2023-01-01+json;charset=utf-8";
    assert_eq!(response.headers()["content-type"], kind);
    let pem = response.text().await.unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
    assert!(pem.contains("-----BEGIN PRIVATE KEY-----\n"), "{pem}");
    let list = json(fixture.certificates("app1").await).await;
    assert_eq!(list["totalCount"], 3);
    assert_eq!(list["results"][2]["notAfter"], "2027-02-18T11:06:40Z");
    // Creating and listing draw from the same bucket.
    assert_eq!(fixture.atlas.bucket_remaining(G), 1198);
}

#[tokio::test]
async fn a_certificate_lives_for_1_to_24_months_and_for_3_if_nothing_is_said() {
    let fixture = Fixture::start().await;
    let token = fixture.token().await;
    for (body, status) in [
        (r#"{"monthsUntilExpiration":0}"#, 400),
        (r#"{"monthsUntilExpiration":25}"#, 400),
        (r#"{"monthsUntilExpiration":"3"}"#, 400),
        ("[]", 400),
        (r#"{"monthsUntilExpiration":24}"#, 201),
        ("{}", 201),
    ] {
        let request = fixture.http.post(fixture.url(&certificates("fresh")));
        let request = request.bearer_auth(&token).header("accept", ACCEPT);
        fixture.atlas.world(|world| {
            world.project(G).user("fresh");
        });
        assert_eq!(
            request.body(body).send().await.unwrap().status(),
            status,
            "{body}"
        );
    }
    let list = json(fixture.certificates("fresh").await).await;
    assert_eq!(list["results"][0]["notAfter"], "2028-11-18T11:06:40Z");
    assert_eq!(list["results"][1]["notAfter"], "2027-02-18T11:06:40Z");
}
