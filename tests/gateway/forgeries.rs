//! Tokens that must not pass, each with the row of the catalogue that it stands for and the reason
//! that the record must give.
#![allow(
    dead_code,
    reason = "unit tests and integration tests include this file, and neither uses all of it"
)]
#![expect(
    clippy::too_many_lines,
    reason = "tables, which are easier to check against the catalogue whole"
)]

// By its path, because this file is included from elsewhere by its path as well.
#[path = "forgeries/claims.rs"]
mod claims;

use std::fmt::Display;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::tokens::{Issuer, SECRET, TestKey, WEAK_MODULUS, base64url, jwks};

/// A token that must not pass.
pub(crate) struct Forgery {
    /// The row of the catalogue.
    pub(crate) row: &'static str,
    /// What is wrong with it.
    pub(crate) what: String,
    /// The token.
    pub(crate) token: String,
    /// The reason for the record.
    pub(crate) reason: &'static str,
}

/// What the issuer of the forgeries publishes: good keys, and keys that must not be used.
pub(crate) fn published() -> Value {
    let mut set = jwks(&[
        &TestKey::rsa(),
        &TestKey::p256(),
        &TestKey::p384(),
        &TestKey::ed25519(),
    ]);
    let changed = |key: TestKey, name: &str, change: fn(&mut Value)| {
        let mut jwk = key.jwk();
        jwk["kid"] = json!(name);
        change(&mut jwk);
        jwk
    };
    let unusable = [
        changed(TestKey::rsa(), "weak", |jwk| jwk["n"] = json!(WEAK_MODULUS)),
        changed(TestKey::rsa(), "e-is-1", |jwk| jwk["e"] = json!("AQ")),
        changed(TestKey::rsa(), "enc", |jwk| jwk["use"] = json!("enc")),
        changed(TestKey::rsa(), "ops", |jwk| {
            jwk["key_ops"] = json!(["encrypt"]);
        }),
        changed(TestKey::rsa(), "wrong-alg", |jwk| {
            jwk["alg"] = json!("ES256");
        }),
        changed(TestKey::p256(), "wrong-crv", |jwk| {
            jwk["crv"] = json!("P-384");
        }),
        changed(TestKey::rsa(), "private", |jwk| jwk["d"] = json!("AQAB")),
        json!({"kty": "oct", "kid": "oct", "alg": "HS256", "k": base64url(SECRET)}),
        json!({"kty": "RSA", "kid": 7}),
    ];
    if let Some(keys) = set["keys"].as_array_mut() {
        keys.extend(unusable);
    }
    set
}

/// The algorithms that the issuer of the forgeries may use.
pub(crate) const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Every token that must not pass, signed at `now`, for settings with the default leeway (30 s) and
/// the default lifetime (24 h).
pub(crate) fn forgeries(now: i64) -> Vec<Forgery> {
    let mut all = Vec::new();
    let issuer = Issuer::new(now);
    form(&issuer, &mut all);
    algorithms(&issuer, &mut all);
    signatures(&issuer, &mut all);
    headers(&issuer, &mut all);
    claims::times(&issuer, &mut all);
    claims::parties(&issuer, &mut all);
    claims::texts(&issuer, &mut all);
    all
}

fn add(
    all: &mut Vec<Forgery>,
    row: &'static str,
    reason: &'static str,
    what: impl Display,
    token: String,
) {
    all.push(Forgery {
        row,
        what: what.to_string(),
        token,
        reason,
    });
}

fn form(issuer: &Issuer, all: &mut Vec<Forgery>) {
    let good = issuer.token("payments-api");
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    for text in ["null", "undefined", "x", "."] {
        add(all, "J06", "malformed", text, text.to_owned());
    }
    add(all, "J07", "too long", "8,193 bytes", "a".repeat(8_193));
    for (what, token) in [
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{good}.{signature}")),
        (
            "five parts, a JWE",
            format!("{good}.{signature}.{signature}"),
        ),
    ] {
        add(all, "J08", "malformed", what, token);
    }
    for (what, token) in [
        ("padded header", format!("{header}=.{claims}.{signature}")),
        ("padded claims", format!("{header}.{claims}==.{signature}")),
        (
            "the other alphabet",
            format!("{header}+.{claims}.{signature}"),
        ),
        (
            "a line end inside",
            format!("{header}.{claims}\n.{signature}"),
        ),
        ("a space before", format!(" {good}")),
    ] {
        add(all, "J09", "malformed", what, token);
    }
    for (what, token) in [
        ("padded signature", format!("{good}==")),
        (
            "the other alphabet at the end",
            format!("{header}.{claims}./{signature}"),
        ),
        ("bits that mean nothing", {
            // 256 bytes of signature leave four bits over, which must be zero.
            let mut bent = good.clone();
            let last = bent.pop().unwrap();
            bent.push(char::from(u8::try_from(last).unwrap() + 1));
            bent
        }),
    ] {
        add(all, "J09", "bad signature", what, token);
    }
}

fn algorithms(issuer: &Issuer, all: &mut Vec<Forgery>) {
    for algorithm in [
        json!("none"),
        json!("None"),
        json!("nOnE"),
        json!(""),
        json!(1),
        json!(["RS256"]),
        json!(null),
        json!("rs256"),
        json!("ES512"),
        json!("HS256"),
    ] {
        let token = issuer.forge("payments-api", |header, _| {
            header["alg"] = algorithm.clone();
        });
        add(all, "J10", "algorithm not allowed", &algorithm, token);
    }
    let missing = issuer.forge("payments-api", |header, _| {
        header.as_object_mut().unwrap().remove("alg");
    });
    add(all, "J10", "algorithm not allowed", "no alg", missing);
    let none = issuer.forge("payments-api", |header, _| header["alg"] = json!("none"));
    let unsigned = none.rsplit_once('.').unwrap().0;
    for signature in ["", "AAAA"] {
        let token = format!("{unsigned}.{signature}");
        add(all, "J11", "algorithm not allowed", signature, token);
    }
    let jwk = TestKey::rsa().jwk();
    let modulus = jwk["n"].as_str().unwrap().to_owned();
    for secret in [jwk.to_string(), modulus, String::new()] {
        let token = issuer
            .signing_with(TestKey::hmac("rsa-1", secret.as_bytes()))
            .token("payments-api");
        add(
            all,
            "J12",
            "algorithm not allowed",
            "HS256 with what is public",
            token,
        );
    }
    for (what, key) in [
        (
            "PS256 on an RS256 key",
            TestKey::rsa().with(Algorithm::PS256),
        ),
        ("ES384 on a P-256 key", TestKey::p384().called("ec-256")),
        ("ES256 on a P-384 key", TestKey::p256().called("ec-384")),
        ("EdDSA on an EC key", TestKey::ed25519().called("ec-256")),
        ("RS256 on an EC key", TestKey::rsa().called("ec-256")),
    ] {
        let token = issuer.signing_with(key).token("payments-api");
        add(all, "J13", "algorithm not allowed", what, token);
    }
    let rs512 = issuer.signing_with(TestKey::rsa().with(Algorithm::RS512));
    let token = rs512.token("payments-api");
    add(
        all,
        "J13",
        "algorithm not allowed",
        "RS512, which is not configured",
        token,
    );
    for name in ["weak", "e-is-1"] {
        let token = issuer.signing_with(TestKey::rsa().called(name)).token("a");
        add(all, "J14", "unknown key", name, token);
    }
    for name in ["enc", "ops", "wrong-alg", "wrong-crv", "private"] {
        let token = issuer.signing_with(TestKey::rsa().called(name)).token("a");
        add(all, "J20", "unknown key", name, token);
    }
    let token = issuer
        .signing_with(TestKey::hmac("oct", SECRET.as_bytes()))
        .token("payments-api");
    add(
        all,
        "J21",
        "algorithm not allowed",
        "a published secret",
        token,
    );
}

fn signatures(issuer: &Issuer, all: &mut Vec<Forgery>) {
    for (row, key, length) in [
        ("J15", TestKey::rsa(), 256),
        ("J15", TestKey::p256(), 64),
        ("J15", TestKey::p384(), 96),
        ("J15", TestKey::ed25519(), 64),
    ] {
        let good = issuer.signing_with(key.clone()).token("payments-api");
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let signature = decode(signature);
        assert_eq!(signature.len(), length);
        let mut flipped = signature.clone();
        flipped[7] ^= 1;
        let mut longer = signature.clone();
        longer.push(0);
        for (what, bytes) in [
            ("nothing", vec![]),
            ("zeros", vec![0; length]),
            ("all ones", vec![0xff; length]),
            ("one byte less", signature[..length - 1].to_vec()),
            ("one byte more", longer),
            ("one bit flipped", flipped),
            ("DER instead of raw", der(&signature)),
        ] {
            let what = format!("{:?}: {what}", key.algorithm);
            let token = format!("{signed}.{}", base64url(bytes));
            add(all, row, "bad signature", what, token);
        }
    }
    // r and s are the order of the curve.
    let order: [u128; 2] = [
        0xffff_ffff_0000_0000_ffff_ffff_ffff_ffff,
        0xbce6_faad_a717_9e84_f3b9_cac2_fc63_2551,
    ];
    let order = order.map(u128::to_be_bytes).concat();
    let good = issuer.signing_with(TestKey::p256()).token("payments-api");
    let signed = good.rsplit_once('.').unwrap().0;
    let token = format!("{signed}.{}", base64url([order.clone(), order].concat()));
    add(all, "J15", "bad signature", "r = s = n", token);

    // Whoever brings a key of their own: the key must not be used, and its place not be asked.
    let attacker = issuer.signing_with(TestKey::next_rsa().called("rsa-1"));
    for (name, value) in [
        ("jwk", TestKey::next_rsa().jwk()),
        ("x5c", json!(["MIIB"])),
        ("x5u", json!("http://127.0.0.1:9/evil")),
        ("jku", json!("http://127.0.0.1:9/evil")),
    ] {
        let token = attacker.forge("payments-api", |header, _| header[name] = value.clone());
        add(all, "J16", "bad signature", name, token);
    }
    let other = issuer.token("payments-api");
    let (signed, _) = other.rsplit_once('.').unwrap();
    let swapped = issuer.token("payments-other");
    let (_, signature) = swapped.rsplit_once('.').unwrap();
    let token = format!("{signed}.{signature}");
    add(all, "J15", "bad signature", "another token's", token);
}

fn headers(issuer: &Issuer, all: &mut Vec<Forgery>) {
    for kid in [
        json!("unknown"),
        json!("../../etc/passwd"),
        json!("' OR 1=1"),
        json!("\0"),
        json!("🔑"),
        json!("rsa-1 "),
        json!("k".repeat(128)),
    ] {
        let token = issuer.forge("payments-api", |header, _| header["kid"] = kid.clone());
        add(all, "J18", "unknown key", &kid, token);
    }
    for kid in [json!(""), json!("k".repeat(129)), json!(1), json!(null)] {
        let token = issuer.forge("payments-api", |header, _| header["kid"] = kid.clone());
        add(all, "J18", "malformed key id", &kid, token);
    }
    let token = issuer.forge("payments-api", |header, _| {
        header.as_object_mut().unwrap().remove("kid");
    });
    add(all, "J18", "unknown key", "no kid", token);
    for crit in [
        json!(["exp"]),
        json!(["b64"]),
        json!(["x"]),
        json!([]),
        json!("x"),
    ] {
        let token = issuer.forge("payments-api", |header, _| {
            header["crit"] = crit.clone();
            header["b64"] = json!(false);
        });
        add(all, "J22", "unsupported header", &crit, token);
    }
    for (name, value) in [
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
        ("cty", json!("JWT")),
        ("b64", json!(false)),
    ] {
        let token = issuer.forge("payments-api", |header, _| header[name] = value.clone());
        add(all, "J23", "unsupported header", name, token);
    }
    for typ in [
        json!("id+jwt"),
        json!("dpop+jwt"),
        json!("logout+jwt"),
        json!("application/application/at+jwt"),
        json!(""),
        json!(1),
        json!(["JWT"]),
    ] {
        let token = issuer.forge("payments-api", |header, _| header["typ"] = typ.clone());
        add(all, "J42", "wrong token type", &typ, token);
    }
    let token = issuer.forge("payments-api", |header, _| {
        header.as_object_mut().unwrap().remove("typ");
    });
    add(all, "J42", "wrong token type", "no typ", token);
}

/// A second issuer that is trusted, with keys of its own.
pub(crate) const OTHER_ISSUER: &str = "https://other.test";

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(text)
        .unwrap()
}

/// Two halves as an ASN.1 sequence of two numbers, as X.509 writes an ECDSA signature.
fn der(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(signature.len() / 2);
    let number = |half: &[u8]| {
        let length = u8::try_from(half.len() + 1).unwrap();
        [&[2, length, 0][..], half].concat()
    };
    let body = [number(r), number(s)].concat();
    let length = u8::try_from(body.len() % 128).unwrap();
    [&[0x30, length][..], &body].concat()
}
