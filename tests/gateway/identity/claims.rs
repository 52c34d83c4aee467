//! Claims where an issuer's settings say that they stand; what is refused is named, but not to the caller.

use serde_json::{Value, json};

use super::{Scene, face};
use crate::forgeries;
use crate::log::listen;
use crate::tokens::ISSUER;
use crate::world::{Plan, set_rule};

/// A scene whose issuer has further settings.
async fn scene(settings: &str) -> Scene {
    let settings: toml::Table = settings.parse().unwrap();
    let change = |plan: &mut Plan| {
        let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
        issuers[0].as_table_mut().unwrap().extend(settings);
    };
    Scene::with(&forgeries::published(), change).await
}

/// A token with other claims; one that is null is taken out.
fn token(scene: &Scene, changes: &Value) -> String {
    scene.issuer.forge("payments-api", |_, claims| {
        let claims = claims.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.remove(name);
            } else {
                claims.insert(name.clone(), value.clone());
            }
        }
    })
}

#[tokio::test]
async fn subject_scopes_and_audience_stand_where_the_settings_say() {
    let audience = "atlas-cert-gateway";
    for (settings, claims) in [
        (
            "claims = { subject = \"azp\" }",
            json!({"sub": null, "azp": "payments-b"}),
        ),
        (
            "claims = { subject = '\"a.b\".c' }",
            json!({"sub": 7, "a.b": {"c": "payments-b"}, "a": {"b": {"c": "other"}}}),
        ),
        (
            "claims = { subject = \"https://example.com/name\" }",
            json!({"sub": "other", "https://example.com/name": "payments-b"}),
        ),
        (
            "claims = { audience = \"resource\" }",
            json!({"sub": "payments-b", "aud": {"odd": 1}, "resource": audience}),
        ),
        (
            "claims = { audience = \"a.b\" }",
            json!({"sub": "payments-b", "aud": null, "a": {"b": [audience]}}),
        ),
        (
            "claims = { scopes = [\"permissions\", \"a.b\", \"c.*\"] }",
            json!({"sub": "payments-b", "scope": 1, "permissions": ["one"], "a": {"b": "two x"}, "c": {"three": {}}}),
        ),
    ] {
        let scene = Scene::with(&forgeries::published(), |plan| {
            let settings: toml::Table = settings.parse().unwrap();
            let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
            issuers[0].as_table_mut().unwrap().extend(settings);
            if claims.get("permissions").is_some() {
                set_rule(plan, 0, "scopes", vec!["one", "two", "three"]);
            }
        })
        .await;
        let reply = scene.ask(&token(&scene, &claims)).await;
        assert_eq!(reply.status, 200, "{settings}: {:?}", scene.world.lookups());
        assert_eq!(
            scene.world.lookups()[0]["subject"],
            "payments-b",
            "{settings}"
        );
    }
}

#[tokio::test]
async fn what_is_refused_is_named_in_the_log_and_on_record_and_not_to_the_caller() {
    let scene = scene(
        "claims = { scopes = [\"scope\", \"realm_access.roles\"] }\n\
         required_claims = { tid = \"t1\", env = [\"prod\", \"stage\"], level = 2, human = false }",
    )
    .await;
    let (log, _listening) = listen();
    let good = json!({"tid": "t1", "env": "stage", "level": 2, "human": false});
    let with = |changes: Value| {
        let mut claims = good.clone();
        let changes = changes.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(changes);
        token(&scene, &claims)
    };
    assert_eq!(scene.ask(&with(json!({}))).await.status, 200);
    assert_eq!(
        scene
            .ask(&with(json!({"env": ["dev", "prod"]})))
            .await
            .status,
        200
    );
    let now = scene.issuer.now;
    let cases = [
        (json!({"tid": null}), "required claim", "tid"),
        (json!({"tid": "T1"}), "required claim", "tid"),
        (json!({"tid": ["t2"]}), "required claim", "tid"),
        (json!({"tid": {"t1": 1}}), "required claim", "tid"),
        (json!({"env": "dev"}), "required claim", "env"),
        (json!({"level": "2"}), "required claim", "level"),
        (json!({"level": 2.5}), "required claim", "level"),
        (json!({"human": true}), "required claim", "human"),
        (json!({"human": "false"}), "required claim", "human"),
        (json!({"sub": "canary\n"}), "malformed claim", "sub"),
        (json!({"aud": "canary"}), "wrong audience", "aud"),
        (
            json!({"aud": ["canary", "atlas-cert-gateway"]}),
            "several audiences",
            "aud",
        ),
        (json!({"exp": "canary"}), "malformed claim", "exp"),
        (json!({"exp": now - 100}), "expired", "exp"),
        (json!({"nbf": now + 100}), "not yet valid", "nbf"),
        (json!({"iat": now + 100}), "not yet valid", "iat"),
        (json!({"exp": now + 100_000}), "lives too long", "exp"),
        (
            json!({"realm_access": "canary"}),
            "malformed claim",
            "realm_access.roles",
        ),
        (
            json!({"realm_access": {"roles": "a\tb"}}),
            "malformed claim",
            "realm_access.roles",
        ),
        (json!({"at_hash": "canary"}), "id token", "at_hash"),
        (
            json!({"cnf": {"jkt": "canary"}}),
            "unsupported confirmation",
            "cnf",
        ),
        (json!({"iss": "https://canary"}), "unknown issuer", "iss"),
    ];
    let mut faces = Vec::new();
    for (changes, reason, claim) in &cases {
        let reply = scene.ask(&with(changes.clone())).await;
        assert_eq!(reply.status, 401, "{changes}");
        let records = scene.world.lookups();
        let record = records.last().unwrap();
        assert_eq!(record["reason"], *reason, "{changes}");
        assert_eq!(record["claim"], *claim, "{changes}");
        let told = format!("a token was refused: {reason} (claim {claim:?})");
        assert!(log.text().contains(&told), "{told}: {}", log.text());
        faces.push(face(reply));
    }
    assert!(faces.iter().all(|other| *other == faces[0]));
    // Of a token that is not believed nothing is repeated.
    assert!(!log.text().contains("canary"), "{}", log.text());
    assert!(
        scene
            .world
            .records()
            .iter()
            .all(|it| !it.to_string().contains("canary"))
    );
}

#[tokio::test]
async fn a_claim_that_nothing_asks_for_refuses_no_token() {
    let scene = scene("claims = { subject = \"azp\", scopes = [\"scope\"] }").await;
    for odd in [
        json!({"sub": {"odd": [1, 2.5, null, true]}}),
        json!({"jti": 7}),
        json!({"jti": "a\nb"}),
        json!({"client_id": ["a"]}),
        json!({"scp": 1, "roles": {"a": "b"}}),
        json!({"email": "x".repeat(600), "auth_time": "never"}),
        json!({"act": {"sub": "another"}, "may_act": []}),
        json!({"ver": 1.0, "amr": null}),
    ] {
        let mut claims = json!({"azp": "payments-api"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(odd.as_object().unwrap().clone());
        let token = scene.issuer.forge("other", |_, all| {
            all.as_object_mut()
                .unwrap()
                .extend(claims.as_object().unwrap().clone());
        });
        assert_eq!(scene.ask(&token).await.status, 200, "{odd}");
        let records = scene.world.lookups();
        let record = records.last().unwrap();
        assert_eq!(record["subject"], "payments-api", "{odd}");
        if odd.get("jti").is_some() {
            assert!(record["token_id"].is_null(), "{record}");
        }
    }
}

#[tokio::test]
async fn the_client_of_any_issuer_is_on_record() {
    let default = scene("").await;
    for (claims, client) in [
        (
            json!({"client_id": "one", "azp": "two", "cid": "three", "appid": "four"}),
            json!("one"),
        ),
        (json!({"client_id": 1, "azp": "two"}), json!("two")),
        (json!({"client_id": null, "azp": "two"}), json!("two")),
        (json!({"client_id": null, "cid": "three"}), json!("three")),
        (json!({"client_id": null, "appid": "four"}), json!("four")),
        (json!({"client_id": null}), json!(null)),
    ] {
        assert_eq!(
            default.ask(&token(&default, &claims)).await.status,
            200,
            "{claims}"
        );
        let records = default.world.lookups();
        assert_eq!(records.last().unwrap()["client_id"], client, "{claims}");
    }
    let named = scene("claims = { client_id = [\"act.client\"] }").await;
    let claims = json!({"client_id": "one", "act": {"client": "two"}});
    assert_eq!(named.ask(&token(&named, &claims)).await.status, 200);
    assert_eq!(named.world.lookups()[0]["client_id"], "two");
}

#[tokio::test]
async fn k3_what_only_id_tokens_have_passes_where_the_issuer_may() {
    let (default, allowed) = (scene("").await, scene("allow_id_token_claims = true").await);
    for name in ["nonce", "at_hash", "c_hash"] {
        for (scene, status) in [(&default, 401), (&allowed, 200)] {
            let reply = scene.ask(&token(scene, &json!({ name: "odd" }))).await;
            assert_eq!(reply.status, status, "{name}");
        }
        let records = default.world.lookups();
        assert_eq!(records.last().unwrap()["claim"], name);
    }
}

#[tokio::test]
async fn k1_times_with_fractions_pass() {
    let scene = scene("").await;
    let now = scene.issuer.now;
    let times = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
    for claims in [
        times(format!("{{\"exp\": {}.5}}", now + 600)),
        times(format!("{{\"iat\": {now}.0}}")),
        times(format!(
            "{{\"iat\": {}.999999, \"nbf\": {}.25}}",
            now - 1,
            now - 1
        )),
    ] {
        let reply = scene.ask(&token(&scene, &claims)).await;
        assert_eq!(reply.status, 200, "{claims}");
    }
}

#[tokio::test]
async fn two_entries_of_one_issuer_are_for_two_audiences_and_share_nothing() {
    let scene = Scene::with(&forgeries::published(), |plan| {
        let issuers = plan.config["identity"]["issuers"].as_array_mut().unwrap();
        let mut other = issuers[0].as_table().unwrap().clone();
        other.insert("audiences".to_owned(), vec!["another"].into());
        other.insert("algorithms".to_owned(), vec!["ES256"].into());
        let claims: toml::Table = "subject = \"azp\"".parse().unwrap();
        other.insert("claims".to_owned(), claims.into());
        issuers.push(other.into());
    })
    .await;
    let es256 = scene.issuer.signing_with(crate::tokens::TestKey::p256());
    let for_another = |issuer: &crate::tokens::Issuer, name: &str| {
        issuer.forge("payments-api", |_, claims| {
            claims["aud"] = json!("another");
            claims["azp"] = json!(name);
        })
    };
    let first = scene.issuer.token("payments-api");
    let second = for_another(&es256, "payments-azp");
    for (token, subject) in [(first, "payments-api"), (second, "payments-azp")] {
        assert_eq!(scene.ask(&token).await.status, 200, "{subject}");
        let records = scene.world.lookups();
        let record = records.last().unwrap();
        assert_eq!(
            (&record["subject"], &record["issuer"]),
            (&json!(subject), &json!(ISSUER))
        );
    }
    // The first entry's algorithm with the second one's audience, and neither's audience.
    let mixed = for_another(&scene.issuer, "payments-azp");
    let neither = scene
        .issuer
        .forge("payments-api", |_, claims| claims["aud"] = json!("x"));
    for (token, reason) in [
        (mixed, "algorithm not allowed"),
        (neither, "wrong audience"),
    ] {
        assert_eq!(scene.ask(&token).await.status, 401, "{reason}");
        let records = scene.world.lookups();
        assert_eq!(records.last().unwrap()["reason"], reason);
    }
}
