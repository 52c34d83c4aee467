//! HTTP Digest: the challenge as recorded, and what is accepted in answer to it.

use std::fmt::Write as _;
use std::time::Duration;

use atlas_simulator::{ApiKey, Credential, PRIVATE_KEY, PUBLIC_KEY};
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::client::{Fixture, G, certificates, error_code};

#[tokio::test]
async fn without_a_credential_the_challenge_and_its_body_are_as_recorded() {
    let fixture = Fixture::start().await;
    let response = fixture
        .http
        .get(fixture.url(&certificates("app1")))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 401);
    assert!(!response.headers().contains_key("x-error-code"));
    assert!(!response.headers().contains_key("ratelimit-limit"));
    let challenge = response.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned();
    let nonce = between(&challenge, "nonce=\"", "\"");
    assert_eq!(nonce.len(), 32);
    let expected = format!(
        r#"Digest realm="MMS Public API", domain="", nonce="{nonce}", algorithm=MD5, qop="auth", stale=false"#
    );
    assert_eq!(challenge, expected);
    let body = "{\n  \"error\" : 401,\n  \"reason\" : \"Unauthorized\",\n  \"detail\" : \"You are not \
                authorized for this resource.\",\n  \"errorCode\" : \"UNEXPECTED_ERROR\"\n}";
    assert_eq!(response.text().await.unwrap(), body);
}

#[tokio::test]
async fn a_right_answer_opens_the_list_as_often_as_its_count_rises() {
    let fixture = Fixture::start().await;
    let mut key = Key::challenged(&fixture).await;
    for count in [1, 2, 7] {
        assert_eq!(key.ask(&fixture, count).await, (200, None));
    }
    assert_eq!(key.ask(&fixture, 7).await, (401, Some(true)));
    assert_eq!(key.ask(&fixture, 3).await, (401, Some(true)));
    assert_eq!(key.ask(&fixture, 8).await, (200, None));
    assert_eq!(
        (
            fixture.atlas.digest_challenges(),
            fixture.atlas.digest_repeats()
        ),
        (3, 2)
    );
    let credential = Credential::Digest(PUBLIC_KEY.to_owned());
    assert_eq!(fixture.atlas.requests()[1].credential, credential);
    key.nonce = "made up".to_owned();
    assert_eq!(key.ask(&fixture, 9).await, (401, Some(false)));
}

#[tokio::test]
async fn a_wrong_key_realm_or_target_is_challenged_again_without_stale() {
    let fixture = Fixture::start().await;
    let key = Key::challenged(&fixture).await;
    for wrong in [
        Key {
            password: "wrong".to_owned(),
            ..key.clone()
        },
        Key {
            user: "nobody".to_owned(),
            ..key.clone()
        },
        Key {
            realm: "elsewhere".to_owned(),
            ..key.clone()
        },
        Key {
            uri: certificates("app2"),
            ..key.clone()
        },
        Key {
            uri: format!("{}?pageNum=1", certificates("app1")),
            ..key.clone()
        },
        Key {
            qop: "auth-int",
            ..key.clone()
        },
    ] {
        assert_eq!(
            wrong.ask(&fixture, 1).await,
            (401, Some(false)),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn an_old_nonce_is_stale() {
    let fixture = Fixture::start().await;
    let key = Key::challenged(&fixture).await;
    fixture.clock.advance(Duration::from_mins(5));
    assert_eq!(key.ask(&fixture, 1).await, (401, Some(true)));
    // A wrong key is refused as such, however old its nonce is.
    let wrong = Key {
        password: "wrong".to_owned(),
        ..key
    };
    assert_eq!(wrong.ask(&fixture, 1).await, (401, Some(false)));
}

#[tokio::test]
async fn sha_256_and_sessions_are_verified_when_the_rules_ask_for_them() {
    let fixture = Fixture::start().await;
    for algorithm in ["SHA-256", "MD5-sess", "SHA-256-sess"] {
        fixture
            .atlas
            .rules(|rules| rules.digest.algorithm = algorithm.to_owned());
        let key = Key::challenged(&fixture).await;
        assert_eq!(key.algorithm, algorithm);
        assert_eq!(key.ask(&fixture, 1).await, (200, None), "{algorithm}");
    }
    fixture
        .atlas
        .rules(|rules| rules.digest.algorithm = "SHA-512-256".to_owned());
    let key = Key::challenged(&fixture).await;
    assert_eq!(key.ask(&fixture, 1).await, (401, Some(false)));
}

#[tokio::test]
async fn the_realm_can_change_and_every_nonce_can_be_stale() {
    let fixture = Fixture::start().await;
    fixture
        .atlas
        .rules(|rules| rules.digest.changing_realm = true);
    let (one, other) = (
        Key::challenged(&fixture).await,
        Key::challenged(&fixture).await,
    );
    assert_ne!(one.realm, other.realm);
    assert_eq!(one.ask(&fixture, 1).await, (200, None));
    fixture
        .atlas
        .rules(|rules| rules.digest.always_stale = true);
    assert_eq!(other.ask(&fixture, 1).await, (401, Some(true)));
}

#[tokio::test]
async fn a_challenge_can_be_odd() {
    let fixture = Fixture::start().await;
    fixture.atlas.rules(|rules| {
        rules.digest.qop = None;
        rules.digest.nonce_length = 65_536;
        rules.digest.other_challenges = vec!["Negotiate".parse().unwrap()];
    });
    let response = fixture
        .http
        .get(fixture.url(&certificates("app1")))
        .send()
        .await
        .unwrap();
    let challenges: Vec<&str> = response
        .headers()
        .get_all("www-authenticate")
        .iter()
        .map(|challenge| challenge.to_str().unwrap())
        .collect();
    assert_eq!(challenges[0], "Negotiate");
    assert!(!challenges[1].contains("qop"));
    assert_eq!(between(challenges[1], "nonce=\"", "\"").len(), 65_536);
}

#[tokio::test]
async fn a_key_reads_only_its_projects() {
    let fixture = Fixture::start_with(|settings| {
        let key = ApiKey::new(PUBLIC_KEY, PRIVATE_KEY).only(&["5f0000000000000000000001"]);
        settings.rules.api_keys = vec![key];
    })
    .await;
    let key = Key::challenged(&fixture).await;
    let response = key.send(&fixture, 1).await;
    assert_eq!(response.status(), 401);
    assert_eq!(error_code(response).await, "USER_CANNOT_ACCESS_GROUP");
    assert_eq!(fixture.atlas.bucket_remaining(G), 1200);
}

/// A client's side of Digest, computed here independently of the simulator.
#[derive(Clone, Debug)]
struct Key {
    user: String,
    password: String,
    realm: String,
    nonce: String,
    algorithm: String,
    uri: String,
    qop: &'static str,
}

impl Key {
    async fn challenged(fixture: &Fixture) -> Self {
        let response = fixture
            .http
            .get(fixture.url(&certificates("app1")))
            .send()
            .await
            .unwrap();
        let challenge = response.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .to_owned();
        Self {
            user: PUBLIC_KEY.to_owned(),
            password: PRIVATE_KEY.to_owned(),
            realm: between(&challenge, "realm=\"", "\"").to_owned(),
            nonce: between(&challenge, "nonce=\"", "\"").to_owned(),
            algorithm: between(&challenge, "algorithm=", ",").to_owned(),
            uri: certificates("app1"),
            qop: "auth",
        }
    }

    /// The status, and what `stale` says if there is a challenge.
    async fn ask(&self, fixture: &Fixture, count: u32) -> (u16, Option<bool>) {
        let response = self.send(fixture, count).await;
        let challenge = response.headers().get("www-authenticate");
        let stale = challenge.map(|challenge| challenge.to_str().unwrap().ends_with("stale=true"));
        (response.status().as_u16(), stale)
    }

    async fn send(&self, fixture: &Fixture, count: u32) -> reqwest::Response {
        let Self {
            user,
            password,
            realm,
            nonce,
            algorithm,
            uri,
            qop,
        } = self;
        let hash = |text: String| {
            if algorithm.starts_with("MD5") {
                md5(&text)
            } else {
                sha256(&text)
            }
        };
        let mut a1 = hash(format!("{user}:{realm}:{password}"));
        if algorithm.ends_with("-sess") {
            a1 = hash(format!("{a1}:{nonce}:0a4f113b"));
        }
        let a2 = hash(format!("GET:{uri}"));
        let response = hash(format!("{a1}:{nonce}:{count:08x}:0a4f113b:{qop}:{a2}"));
        let credential = format!(
            r#"Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", qop={qop}, nc={count:08x}, cnonce="0a4f113b", response="{response}", algorithm={algorithm}"#
        );
        let request = fixture.http.get(fixture.url(&certificates("app1")));
        let request = request.header("accept", crate::client::ACCEPT);
        request
            .header("authorization", credential)
            .send()
            .await
            .unwrap()
    }
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> &'t str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

fn md5(text: &str) -> String {
    hex(&Md5::digest(text.as_bytes()))
}

fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
