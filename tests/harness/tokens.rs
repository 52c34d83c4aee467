//! An issuer for tests: claims go in, tokens of every kind come out, good and forged.
//!
//! The keys were made once for these tests and are used nowhere else. The file stands alone, so that
//! the unit tests of `identity`, the integration tests and the benches share it.
#![allow(
    dead_code,
    reason = "three kinds of test include this file, and none of them uses all of it"
)]

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What the test issuer calls itself.
pub(crate) const ISSUER: &str = "https://idp.test";

/// Whom its tokens are meant for.
pub(crate) const AUDIENCE: &str = "atlas-cert-gateway";

/// A secret long enough for every HMAC.
pub(crate) const SECRET: &str =
    "a shared secret of the tests, long enough for HS256, HS384 and HS512";

/// The modulus of an RSA key of 1,024 bits, in base64url.
pub(crate) const WEAK_MODULUS: &str = "1Ky3XrMf8aN4cA1_zuPO-qM-jZ9RTAn3zB8AUkn4ZaY7oLJKV3lyP4rAnbdoMf229DekvgYpRtpJPB_8HapkJGanlhgEDRQwO84h7hZNbU-TJUYhwLxRsNZP6TcovFRaGCqv09E6jTaVO9kwdfpD1oTkU5gluwdULO0LyoJZJ4E";

/// A key that signs.
#[derive(Clone)]
pub(crate) struct TestKey {
    /// `kid`.
    pub(crate) id: &'static str,
    /// `alg`.
    pub(crate) algorithm: Algorithm,
    secret: EncodingKey,
}

impl TestKey {
    /// The key that the issuer uses unless told otherwise: RS256.
    pub(crate) fn rsa() -> Self {
        Self::rsa_from("rsa-1", include_bytes!("keys/rsa-1.pem"))
    }

    /// The key that it changes to.
    pub(crate) fn next_rsa() -> Self {
        Self::rsa_from("rsa-2", include_bytes!("keys/rsa-2.pem"))
    }

    /// ES256.
    pub(crate) fn p256() -> Self {
        let pem = include_bytes!("keys/p256.pem");
        Self {
            id: "ec-256",
            algorithm: Algorithm::ES256,
            secret: EncodingKey::from_ec_pem(pem).unwrap(),
        }
    }

    /// ES384.
    pub(crate) fn p384() -> Self {
        let pem = include_bytes!("keys/p384.pem");
        Self {
            id: "ec-384",
            algorithm: Algorithm::ES384,
            secret: EncodingKey::from_ec_pem(pem).unwrap(),
        }
    }

    /// `EdDSA`.
    pub(crate) fn ed25519() -> Self {
        let pem = include_bytes!("keys/ed25519.pem");
        Self {
            id: "ed-1",
            algorithm: Algorithm::EdDSA,
            secret: EncodingKey::from_ed_pem(pem).unwrap(),
        }
    }

    /// HS256 with any secret.
    pub(crate) fn hmac(id: &'static str, secret: &[u8]) -> Self {
        Self {
            id,
            algorithm: Algorithm::HS256,
            secret: EncodingKey::from_secret(secret),
        }
    }

    /// The same key under another name.
    pub(crate) fn called(self, id: &'static str) -> Self {
        Self { id, ..self }
    }

    /// The same key with another algorithm of its family.
    pub(crate) fn with(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// The signature over `signed`, in base64url.
    pub(crate) fn sign(&self, signed: &str) -> String {
        jsonwebtoken::crypto::sign(signed.as_bytes(), &self.secret, self.algorithm).unwrap()
    }

    /// The public half as it is published.
    pub(crate) fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.secret, self.algorithm).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    fn rsa_from(id: &'static str, pem: &[u8]) -> Self {
        Self {
            id,
            algorithm: Algorithm::RS256,
            secret: EncodingKey::from_rsa_pem(pem).unwrap(),
        }
    }
}

/// An issuer that signs with one key, at one moment.
#[derive(Clone)]
pub(crate) struct Issuer {
    /// `iss`.
    pub(crate) name: String,
    /// `aud`.
    pub(crate) audience: String,
    /// What it signs with.
    pub(crate) key: TestKey,
    /// When it signs, in seconds since 1970.
    pub(crate) now: i64,
}

impl Issuer {
    /// The usual one; its tokens begin `now` and live for ten minutes.
    pub(crate) fn new(now: i64) -> Self {
        Self {
            name: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            key: TestKey::rsa(),
            now,
        }
    }

    /// The same issuer with another key.
    pub(crate) fn signing_with(&self, key: TestKey) -> Self {
        Self {
            key,
            ..self.clone()
        }
    }

    /// What it publishes: its one key.
    pub(crate) fn jwks(&self) -> Value {
        jwks(&[&self.key])
    }

    /// The usual header.
    pub(crate) fn header(&self) -> Value {
        json!({"typ": "at+jwt", "alg": self.key.algorithm, "kid": self.key.id})
    }

    /// The usual claims.
    pub(crate) fn claims(&self, subject: &str) -> Value {
        json!({
            "iss": self.name,
            "aud": self.audience,
            "sub": subject,
            "client_id": format!("{subject}-client"),
            "jti": format!("{subject}-{}", self.now),
            "scope": "certs:read",
            "iat": self.now,
            "exp": self.now + 600,
        })
    }

    /// A good token.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.forge(subject, |_, _| {})
    }

    /// A token whose header and claims were changed before it was signed.
    pub(crate) fn forge(
        &self,
        subject: &str,
        change: impl FnOnce(&mut Value, &mut Value),
    ) -> String {
        let (mut header, mut claims) = (self.header(), self.claims(subject));
        change(&mut header, &mut claims);
        self.compact(&header.to_string(), &claims.to_string())
    }

    /// A token of any two texts, signed.
    pub(crate) fn compact(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.key.sign(&signed);
        format!("{signed}.{signature}")
    }
}

/// A key set of these keys.
pub(crate) fn jwks(keys: &[&TestKey]) -> Value {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({"keys": keys})
}

/// Bytes as a token carries them.
pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A server that publishes a key set, or whatever else it is told to answer.
pub(crate) struct Publisher {
    address: SocketAddr,
    answer: watch::Sender<Answer>,
    requests: Arc<AtomicUsize>,
    authorization: Arc<Mutex<Option<String>>>,
}

/// How many requests there were, and `Authorization` of the last one.
type Seen = (Arc<AtomicUsize>, Arc<Mutex<Option<String>>>);

/// What it answers.
#[derive(Clone)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// `Location`, if any.
    pub(crate) location: Option<String>,
    /// The body.
    pub(crate) body: Bytes,
    /// Whether it keeps everybody waiting.
    pub(crate) held: bool,
}

impl Publisher {
    /// Publishes `document` on a port of its own.
    pub(crate) async fn serve(document: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = watch::Sender::new(Answer::json(document));
        let (requests, authorization) = Seen::default();
        let seen = (Arc::clone(&requests), Arc::clone(&authorization));
        tokio::spawn(publish(listener, answer.subscribe(), seen));
        Self {
            address,
            answer,
            requests,
            authorization,
        }
    }

    /// Where it is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers this from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// Publishes `document` from now on.
    pub(crate) fn publish(&self, document: &Value) {
        self.answer(Answer::json(document));
    }

    /// Keeps everybody waiting, or no longer.
    pub(crate) fn hold(&self, held: bool) {
        self.answer.send_modify(|answer| answer.held = held);
    }

    /// `Authorization` of the last request.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.authorization.lock().unwrap().clone()
    }

    /// How many requests have come.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Answer {
    /// 200 with a document.
    pub(crate) fn json(document: &Value) -> Self {
        Self::with(200, document.to_string())
    }

    /// Any status and any body.
    pub(crate) fn with(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            location: None,
            body: body.into(),
            held: false,
        }
    }
}

async fn publish(listener: TcpListener, answer: watch::Receiver<Answer>, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        let (answer, seen) = (answer.clone(), seen.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (mut answer, (requests, authorization)) = (answer.clone(), seen.clone());
            async move {
                let header = request.headers().get("authorization");
                let header = header.map(|value| value.to_str().unwrap().to_owned());
                *authorization.lock().unwrap() = header;
                requests.fetch_add(1, Ordering::SeqCst);
                let open = answer.wait_for(|answer| !answer.held).await;
                let Some(answer) = open.ok().map(|answer| answer.clone()) else {
                    // The test is over; nobody waits for an answer.
                    return pending().await;
                };
                let mut response = Response::builder().status(answer.status);
                if let Some(location) = &answer.location {
                    response = response.header("location", location);
                }
                Ok::<_, Infallible>(response.body(Full::new(answer.body)).unwrap())
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service),
        );
    }
}
