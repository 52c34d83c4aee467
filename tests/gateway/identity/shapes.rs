//! Tokens as the issuers of `docs/issuers.md` write them: every member that they have, with values made up.

use serde_json::{Value, json};

use crate::tokens::TestKey;

/// A token of an issuer.
pub(super) struct Shape {
    /// The heading of its recipe.
    pub(super) issuer: &'static str,
    /// Its header; `kid` is the key's.
    pub(super) header: Value,
    /// Its claims; `iss` is the recipe's.
    pub(super) claims: Value,
    /// What has signed it.
    pub(super) key: TestKey,
    /// What the issuer publishes beside that key.
    pub(super) beside: Vec<Value>,
    /// Who it makes the caller by the recipe.
    pub(super) subject: &'static str,
    /// And by which client.
    pub(super) client: Option<&'static str>,
    /// What it is good for by the recipe.
    pub(super) scopes: &'static [&'static str],
    /// What the gateway has without the recipe.
    pub(super) without: Without,
    /// A claim, as a JSON pointer, and what it is in the token of another customer of the issuer.
    pub(super) stranger: Option<(&'static str, Value)>,
}

/// What is left without a recipe.
pub(super) enum Without {
    /// No entry for the issuer.
    Entry,
    /// An entry with the issuer, its audience, its algorithms and its keys; and what the log says is missing.
    Keys(&'static str),
}

impl Shape {
    fn new(issuer: &'static str, header: Value, claims: Value) -> Self {
        Self {
            issuer,
            header,
            claims,
            key: TestKey::rsa(),
            beside: Vec::new(),
            subject: "",
            client: None,
            scopes: &[],
            without: Without::Entry,
            stranger: None,
        }
    }
}

/// One of each, issued at `now`, in the order of the document.
pub(super) fn all(now: i64) -> Vec<Shape> {
    vec![
        keycloak(now),
        okta(now),
        entra(now),
        auth0(now),
        kubernetes(now),
        spiffe(now),
        github(now),
        gitlab(now),
        google(now),
        vault(now),
        zitadel(now),
        dex(now),
    ]
}

fn keycloak(now: i64) -> Shape {
    let header = json!({"alg": "RS256", "typ": "JWT"});
    let claims = json!({
        "exp": now + 300,
        "iat": now,
        "jti": "trrtcc:4b1b0f0e-5f3a-4a4e-9a55-0f4c2a4c9d8e",
        "aud": ["atlas-cert-gateway", "account"],
        "sub": "f3c1a8a2-9a1f-4b53-8d4b-64a1f8a5e3b1",
        "typ": "Bearer",
        "azp": "payments-api",
        "acr": "1",
        "allowed-origins": ["/*"],
        "realm_access": {"roles": ["certs:read", "offline_access", "default-roles-platform"]},
        "resource_access": {"account": {"roles": ["manage-account", "view-profile"]}},
        "scope": "profile email",
        "email_verified": false,
        "clientHost": "10.1.2.3",
        "preferred_username": "service-account-payments-api",
        "clientAddress": "10.1.2.3",
        "client_id": "payments-api",
    });
    let encryption = json!({
        "kid": "enc-1", "kty": "RSA", "alg": "RSA-OAEP", "use": "enc", "e": "AQAB",
        "n": TestKey::next_rsa().jwk()["n"],
    });
    Shape {
        subject: "payments-api",
        client: Some("payments-api"),
        scopes: &["certs:read", "profile"],
        beside: vec![encryption],
        without: Without::Keys("`several_audiences = true`"),
        ..Shape::new("Keycloak", header, claims)
    }
}

fn okta(now: i64) -> Shape {
    let claims = json!({
        "ver": 1,
        "jti": "AT.s1f0Qm3cK4mAnMzNbPpE4Z6Yp0iR7Jd2Y3ZcQn5mVxk",
        "aud": "api://atlas-cert-gateway",
        "iat": now,
        "exp": now + 3_600,
        "cid": "0oa1payments2api3x4y",
        "scp": ["certs:read"],
        "sub": "0oa1payments2api3x4y",
    });
    Shape {
        subject: "0oa1payments2api3x4y",
        client: Some("0oa1payments2api3x4y"),
        scopes: &["certs:read"],
        without: Without::Keys("`token_types`"),
        ..Shape::new("Okta", json!({"alg": "RS256"}), claims)
    }
}

fn entra(now: i64) -> Shape {
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": "H9nj5AOSswMphg1SFx7jaV-lB9w"});
    let claims = json!({
        "aud": "99999999-8888-7777-6666-555555555555",
        "iat": now,
        "nbf": now,
        "exp": now + 3_900,
        "aio": "E2ZgYHgQFiTnkMR9yn2c6Y0T0wMA",
        "azp": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        "azpacr": "2",
        "idtyp": "app",
        "oid": "12341234-1234-1234-1234-123412341234",
        "rh": "1.AXoAERERESIiMzNEREVVVVVVVZmZmZmIiHd3ZmZVVVVVVVV6AAA.",
        "roles": ["certs.read"],
        "sub": "12341234-1234-1234-1234-123412341234",
        "tid": "11111111-2222-3333-4444-555555555555",
        "uti": "bJ1x0b3Q8kK2rJxv8l0xAA",
        "ver": "2.0",
        "xms_ftd": "r4pF5k1n0XK2R3v1fYq9Q2q0bq5cJ7Zt",
    });
    let mut shared = TestKey::next_rsa().jwk();
    shared["x5c"] = json!(["MIIC/TCCAeWgAwIBAgIIUd7j/OIahkYwDQYJKoZIhvcNAQELBQAw"]);
    shared["issuer"] = json!("https://login.microsoftonline.com/{tenantid}/v2.0");
    Shape {
        subject: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        client: Some("aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"),
        scopes: &["certs.read"],
        beside: vec![shared],
        stranger: Some(("/tid", json!("66666666-2222-3333-4444-555555555555"))),
        ..Shape::new("Entra", header, claims)
    }
}

fn auth0(now: i64) -> Shape {
    let header = json!({"alg": "RS256", "typ": "JWT"});
    let claims = json!({
        "https://certs.internal.example/roles": ["platform"],
        "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "aud": ["https://certs.internal.example", "https://example.eu.auth0.com/userinfo"],
        "iat": now,
        "exp": now + 86_400,
        "azp": "my3pAyM3ntsAp1Cl13ntId",
        "scope": "openid profile email",
        "permissions": ["certs:read"],
    });
    Shape {
        subject: "auth0|5f7c8ec7c33c6c004bbafe82",
        client: Some("my3pAyM3ntsAp1Cl13ntId"),
        scopes: &["certs:read", "platform", "openid"],
        without: Without::Keys("`several_audiences = true`"),
        ..Shape::new("Auth0", header, claims)
    }
}

fn kubernetes(now: i64) -> Shape {
    let claims = json!({
        "aud": ["atlas-cert-gateway"],
        "exp": now + 365 * 24 * 3_600,
        "iat": now,
        "jti": "0e3b7d1c-7a57-4b0e-8a3e-6d2f6a0d3c55",
        "kubernetes.io": {
            "namespace": "payments",
            "node": {"name": "node-1", "uid": "8d1f4cb5-4a0c-4f3f-94c6-7c3b0f2f7a10"},
            "pod": {"name": "api-6d4b", "uid": "f4d1c2b3-0b1a-4c8d-9e5f-112233445566"},
            "serviceaccount": {"name": "api", "uid": "778899aa-bbcc-ddee-ff00-112233445566"},
            "warnafter": now + 3_607,
        },
        "nbf": now,
        "sub": "system:serviceaccount:payments:api",
    });
    Shape {
        subject: "system:serviceaccount:payments:api",
        without: Without::Keys("`token_types`"),
        stranger: Some(("/kubernetes.io/namespace", json!("games"))),
        ..Shape::new("Kubernetes", json!({"alg": "RS256"}), claims)
    }
}

fn spiffe(now: i64) -> Shape {
    let header = json!({"alg": "ES256", "typ": "JWT"});
    let claims = json!({
        "aud": ["spiffe://internal.example/atlas-cert-gateway"],
        "exp": now + 300,
        "iat": now,
        "sub": "spiffe://internal.example/payments/api",
    });
    let mut authority = TestKey::p384().jwk();
    authority["use"] = json!("x509-svid");
    authority["x5c"] = json!(["MIIBzDCCAVOgAwIBAgIJAJM4DhRH0vmuMAoGCCqGSM49BAMEMB4x"]);
    authority.as_object_mut().unwrap().remove("kid");
    Shape {
        key: TestKey::p256(),
        beside: vec![authority],
        subject: "spiffe://internal.example/payments/api",
        ..Shape::new("SPIFFE", header, claims)
    }
}

fn github(now: i64) -> Shape {
    let header = json!({"typ": "JWT", "alg": "RS256", "x5t": "eBZ_cn3sXYAd0ch4THBKHIgOwOE"});
    let claims = json!({
        "jti": "6f4b1f6a-1b6e-4a0e-8f7e-3d9cbb0a2a11",
        "sub": "repo:example/payments:environment:production",
        "environment": "production",
        "aud": "atlas-cert-gateway",
        "ref": "refs/heads/main",
        "sha": "9f1c2b3a4d5e6f708192a3b4c5d6e7f801234567",
        "repository": "example/payments",
        "repository_owner": "example",
        "repository_owner_id": "65",
        "run_id": "13029384756",
        "run_number": "10",
        "run_attempt": "2",
        "repository_visibility": "private",
        "repository_id": "74",
        "actor_id": "12",
        "actor": "octocat",
        "workflow": "deploy",
        "head_ref": "",
        "base_ref": "",
        "event_name": "workflow_dispatch",
        "ref_protected": "true",
        "ref_type": "branch",
        "job_workflow_ref": "example/payments/.github/workflows/deploy.yml@refs/heads/main",
        "runner_environment": "github-hosted",
        "nbf": now - 600,
        "exp": now + 300,
        "iat": now,
    });
    Shape {
        subject: "repo:example/payments:environment:production",
        stranger: Some(("/repository_owner_id", json!("66"))),
        ..Shape::new("GitHub Actions", header, claims)
    }
}

fn gitlab(now: i64) -> Shape {
    let claims = json!({
        "namespace_id": "72",
        "namespace_path": "example",
        "project_id": "20",
        "project_path": "example/payments",
        "user_id": "1",
        "user_login": "sample-user",
        "user_email": "sample-user@example.com",
        "user_identities": [{"provider": "github", "extern_uid": "2435223452345"}],
        "pipeline_id": "574",
        "pipeline_source": "push",
        "job_id": "302",
        "ref": "main",
        "ref_type": "branch",
        "ref_path": "refs/heads/main",
        "ref_protected": "true",
        "runner_id": 1,
        "runner_environment": "gitlab-hosted",
        "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
        "project_visibility": "private",
        "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
        "iat": now,
        "nbf": now - 5,
        "exp": now + 3_600,
        "sub": "project_path:example/payments:ref_type:branch:ref:main",
        "aud": "atlas-cert-gateway",
    });
    Shape {
        subject: "example/payments",
        stranger: Some(("/namespace_id", json!("73"))),
        ..Shape::new("GitLab", json!({"typ": "JWT", "alg": "RS256"}), claims)
    }
}

fn google(now: i64) -> Shape {
    let claims = json!({
        "azp": "32555940559.apps.googleusercontent.com",
        "aud": "https://certs.internal.example",
        "sub": "112233445566778899001",
        "email": "payments@example-project.iam.gserviceaccount.com",
        "email_verified": true,
        "at_hash": "0PbZkd4_lQpQ0Xc6Y1S1yQ",
        "iat": now,
        "exp": now + 3_600,
    });
    Shape {
        subject: "payments@example-project.iam.gserviceaccount.com",
        client: Some("32555940559.apps.googleusercontent.com"),
        without: Without::Keys("`allow_id_token_claims = true`"),
        stranger: Some(("/email_verified", json!(false))),
        ..Shape::new("Google", json!({"alg": "RS256", "typ": "JWT"}), claims)
    }
}

fn vault(now: i64) -> Shape {
    let claims = json!({
        "aud": "atlas-cert-gateway",
        "caller": "payments-api",
        "exp": now + 3_600,
        "groups": ["certs-readers", "platform"],
        "iat": now,
        "namespace": "root",
        "sub": "a2cd63d3-5364-406f-980e-8d71bb0692f5",
    });
    Shape {
        subject: "payments-api",
        scopes: &["certs-readers"],
        without: Without::Keys("`token_types`"),
        ..Shape::new("Vault", json!({"alg": "RS256"}), claims)
    }
}

fn zitadel(now: i64) -> Shape {
    let claims = json!({
        "aud": ["291370012345678902", "291370012345678903", "291370012345678901"],
        "client_id": "payments-api",
        "exp": now + 43_200,
        "iat": now,
        "nbf": now,
        "jti": "V2_291370012345678904-at_291370012345678905",
        "sub": "291370012345678906",
        "urn:zitadel:iam:org:project:roles": {
            "certs:read": {"291370012345678907": "example.zitadel.cloud"},
            "other": {"291370012345678907": "example.zitadel.cloud"},
        },
    });
    Shape {
        subject: "payments-api",
        client: Some("payments-api"),
        scopes: &["certs:read", "other"],
        without: Without::Keys("`several_audiences = true`"),
        ..Shape::new("Zitadel", json!({"alg": "RS256", "typ": "JWT"}), claims)
    }
}

fn dex(now: i64) -> Shape {
    let claims = json!({
        "sub": "CiQwOGE4Njg0Yi1kYjg4LTRiNzMtOTBhOS0zY2QxNjYxZjU0NjYSBWxvY2Fs",
        "aud": "atlas-cert-gateway",
        "exp": now + 86_400,
        "iat": now,
        "nonce": "n-0S6_WzA2Mj",
        "at_hash": "6sG2b9rjKqF5cQvC3l1JdA",
        "c_hash": "p8WtGjPm1vHn0b8x0sT1yw",
        "email": "payments@example.com",
        "email_verified": true,
        "groups": ["example:certs-readers"],
        "name": "payments",
    });
    Shape {
        subject: "payments@example.com",
        scopes: &["example:certs-readers"],
        without: Without::Keys("`token_types`"),
        stranger: Some(("/email_verified", json!(false))),
        ..Shape::new("Dex", json!({"alg": "RS256"}), claims)
    }
}
