//! Tokens that are bound to a certificate (RFC 8705), and the names of certificates on record (RFC 4514).

use atlas_cert_gateway::atlas::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::{Authority, Identity};
use crate::tokens::base64url;
use crate::world::{NOW, PROJECT, World, certs, token_at};

/// The status of a lookup with `token` on a connection of its own.
async fn ask(authority: &Authority, world: &World, identity: &Identity, token: &str) -> String {
    let identity = (identity.0.clone(), identity.1.clone_key());
    let mut stream = authority.connect(world, Some(identity), &[]).await.unwrap();
    let path = certs(PROJECT, "app1");
    let request =
        format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head[9..12].to_vec()).unwrap()
}

fn thumbprint(identity: &Identity) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &identity.0[0]);
    base64url(digest)
}

fn bound_to(confirmation: &Value) -> String {
    let now = Timestamp::parse(NOW).unwrap().seconds();
    token_at(now, &json!({"sub": "payments-api", "cnf": confirmation}))
}

#[tokio::test]
async fn k5_a_bound_token_passes_with_its_certificate_and_with_no_other() {
    let authority = Authority::new();
    let world = authority.world(true).await;
    let [holder, thief] = [authority.caller(), authority.caller()];
    let token = bound_to(&json!({ "x5t#S256": thumbprint(&holder) }));
    // Before it is remembered and after, whichever was first.
    assert_eq!(ask(&authority, &world, &thief, &token).await, "401");
    assert_eq!(ask(&authority, &world, &holder, &token).await, "200");
    assert_eq!(ask(&authority, &world, &thief, &token).await, "401");
    assert_eq!(ask(&authority, &world, &holder, &token).await, "200");
    let records = world.lookups();
    let refused: Vec<_> = records.iter().filter(|it| it["status"] == 401).collect();
    assert_eq!(refused.len(), 2);
    for record in refused {
        assert_eq!(record["reason"], "not the holder's certificate");
        assert_eq!(record["claim"], "cnf");
    }
    // What is not bound passes with any.
    assert_eq!(
        ask(&authority, &world, &thief, &crate::world::token()).await,
        "200"
    );
    // The admin listener has no certificates.
    let operator = world.admin("GET", "/audit/lookups", &token, "").await;
    assert_eq!(operator.status, 401);
}

#[tokio::test]
async fn k5_a_bound_token_does_not_pass_without_tls_or_bound_to_what_cannot_be_checked() {
    let world = World::new().await;
    let hash = base64url([7; 32]);
    let no_certificate = "not the holder's certificate";
    let unsupported = "unsupported confirmation";
    for (confirmation, reason) in [
        (json!({ "x5t#S256": hash }), no_certificate),
        (json!({ "jkt": hash }), unsupported),
        (json!({ "x5t#S256": hash, "jkt": hash }), unsupported),
        (json!({ "jwk": {"kty": "EC"} }), unsupported),
        (json!({ "kid": "a" }), unsupported),
        (json!({ "x5t#S256": format!("{hash}=") }), unsupported),
        (json!({ "x5t#S256": base64url([7; 31]) }), unsupported),
        (json!({ "x5t#S256": [hash] }), unsupported),
        (json!({}), unsupported),
        (json!([]), unsupported),
        (json!(null), unsupported),
        (json!("x5t#S256"), unsupported),
    ] {
        let token = bound_to(&confirmation);
        let reply = world
            .send("GET", &certs(PROJECT, "app1"), &token, &[])
            .await;
        assert_eq!(reply.status, 401, "{confirmation}");
        let records = world.lookups();
        let record = records.last().unwrap();
        assert_eq!(record["reason"], reason, "{confirmation}");
        assert_eq!(record["claim"], "cnf", "{confirmation}");
    }
}

#[tokio::test]
async fn k8_names_of_certificates_are_on_record_so_that_none_can_be_taken_for_two() {
    let authority = Authority::new();
    let world = authority.world(true).await;
    let identity = |names: &[(DnType, &str)], others: Vec<SanType>| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names = others;
        authority.signed(&params)
    };
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let evil = [(DnType::CommonName, "evil, CN=alice")];
    let person = [
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "Example, \"Inc\""),
        (DnType::CommonName, "#payments "),
    ];
    let odd = [(DnType::CustomDnType(vec![1, 2, 3, 4]), "x")];
    let many: Vec<SanType> = (0..100)
        .map(|number| dns(&format!("host-{number}.test")))
        .collect();
    for (identity, subject, names) in [
        (
            identity(&evil, Vec::new()),
            "CN=evil\\, CN=alice",
            json!(null),
        ),
        (
            identity(
                &person,
                vec![
                    dns("a.test"),
                    uri("spiffe://a.test/b"),
                    SanType::IpAddress([10, 0, 0, 1].into()),
                ],
            ),
            "CN=\\#payments\\ ,O=Example\\, \\\"Inc\\\",C=DE",
            json!(["DNS:a.test", "URI:spiffe://a.test/b"]),
        ),
        (identity(&odd, Vec::new()), "1.2.3.4=#0c0178", json!(null)),
    ] {
        assert_eq!(
            ask(&authority, &world, &identity, &crate::world::token()).await,
            "200"
        );
        let records = world.lookups();
        let record = records.last().unwrap();
        assert_eq!(
            (&record["tls_subject"], &record["tls_names"]),
            (&json!(subject), &names)
        );
    }
    let identity = identity(&evil, many);
    assert_eq!(
        ask(&authority, &world, &identity, &crate::world::token()).await,
        "200"
    );
    let records = world.lookups();
    let record = records.last().unwrap();
    let listed = record["tls_names"].as_array().unwrap().len();
    assert_eq!(record["tls_names_more"], json!(100 - listed), "{record}");
    assert_eq!(record["tls_names"][0], "DNS:host-0.test");
}
