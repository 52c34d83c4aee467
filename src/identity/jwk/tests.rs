//! Key sets: what of them is used, and what is said of the rest.

use serde_json::json;

use super::*;
use crate::identity::forgeries;
use crate::identity::tokens::TestKey;

fn set(keys: &serde_json::Value) -> Result<KeySelection, KeySetError> {
    read_set(json!({ "keys": keys }).to_string().as_bytes())
}

fn reasons(sorted: &KeySelection) -> Vec<UnusableKey> {
    sorted.left_out.iter().map(|key| key.reason).collect()
}

#[test]
fn each_key_is_held_to_its_own_words() {
    let document = forgeries::published().to_string();
    let sorted = read_set(document.as_bytes()).unwrap();
    let usable: Vec<_> = sorted
        .keys
        .iter()
        .map(|key| (key.id().unwrap(), key.algorithms.to_vec()))
        .collect();
    assert_eq!(
        usable,
        [
            ("rsa-1", vec![Algorithm::RS256]),
            ("ec-256", vec![Algorithm::ES256]),
            ("ec-384", vec![Algorithm::ES384]),
            ("ed-1", vec![Algorithm::EdDSA]),
        ]
    );
    assert_eq!(
        reasons(&sorted),
        [
            UnusableKey::Size,      // 1,024 bits
            UnusableKey::Size,      // an exponent of 1
            UnusableKey::Purpose,   // `use: enc`
            UnusableKey::Purpose,   // `key_ops: ["encrypt"]`
            UnusableKey::Purpose,   // `alg` of another kind
            UnusableKey::Malformed, // coordinates of another curve's length
            UnusableKey::Secret,    // the private exponent with it
            UnusableKey::Secret,    // `kty: oct`
            UnusableKey::Malformed, // `kid` is a number
        ]
    );
}

#[test]
fn a_key_that_names_no_algorithm_fits_all_of_its_kind_and_none_of_another() {
    let mut jwk = TestKey::rsa().jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    let sorted = set(&json!([jwk])).unwrap();
    let family = AlgorithmFamily::Rsa.algorithms();
    assert_eq!(*sorted.keys[0].algorithms, *family);
}

#[test]
fn a_point_that_is_not_on_its_curve_is_no_key() {
    let mut jwk = TestKey::p256().jwk();
    jwk["x"] = jwk["y"].clone();
    let refused = set(&json!([jwk])).err().unwrap().to_string();
    assert!(
        refused.contains("kid \"ec-256\", kty \"EC\": a member"),
        "{refused}"
    );
}

#[test]
fn a_set_that_is_none_or_holds_no_usable_key_is_refused_whole() {
    let key = TestKey::rsa().jwk();
    for (document, expected) in [
        (json!([]), "it holds no key"),
        (
            json!([{"kty": "oct", "kid": "a\n", "k": "canary"}, 1, {"kid": 1}]),
            "none of its keys can be used: kid \"a\\n\", kty \"oct\": it is a secret or a private key, \
             and anyone who reads it can sign; no kid, no kty: a member that it needs is missing, \
             is not what it must be, or occurs twice; no kid, no kty: a member that it needs is \
             missing, is not what it must be, or occurs twice",
        ),
        (json!({}), "it is not a JSON Web Key Set"),
        (json!(vec![&key; 65]), "it holds more than 64 keys"),
    ] {
        let refused = set(&document).err().unwrap();
        assert_eq!(refused.to_string(), expected, "{document}");
    }
    assert!(set(&json!(vec![&key; 64])).is_ok());
    let many = vec![json!({"kty": "RSA1_5"}); 20];
    let refused = set(&json!(many)).err().unwrap().to_string();
    assert!(refused.ends_with("; and 12 more"), "{refused}");
}

#[test]
fn k2_an_odd_entry_spoils_no_other() {
    let good = TestKey::rsa().jwk().to_string();
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for odd in [
        "1",
        "null",
        "[]",
        "{}",
        "\"\\ud800\"",
        "{\"kty\": \"RSA\", \"kty\": \"EC\"}",
        "{\"kty\": \"EC\", \"crv\": \"P-521\", \"kid\": \"a\"}",
        "{\"kty\": \"AKP\", \"alg\": \"ML-DSA-44\", \"kid\": \"a\", \"pub\": \"AAAA\"}",
        "{\"kty\": \"RSA\", \"n\": 1e300}",
        &format!("{{\"kty\": \"RSA\", \"x5c\": {deep}}}"),
    ] {
        for entries in [format!("{odd},{good}"), format!("{good},{odd}")] {
            let document = format!("{{\"keys\":[{entries}],\"other\":{{}}}}");
            let sorted = read_set(document.as_bytes()).unwrap();
            assert_eq!((sorted.keys.len(), sorted.left_out.len()), (1, 1), "{odd}");
        }
    }
}

#[test]
fn of_keys_without_a_name_two_of_a_kind_are_taken() {
    let unnamed = |key: TestKey| {
        let mut jwk = key.jwk();
        jwk.as_object_mut().unwrap().remove("kid");
        jwk
    };
    let (rsa, p256) = (unnamed(TestKey::rsa()), unnamed(TestKey::p256()));
    let sorted = set(&json!([rsa, rsa, rsa, p256, TestKey::rsa().jwk()])).unwrap();
    assert_eq!(
        (sorted.keys.len(), reasons(&sorted)),
        (4, vec![UnusableKey::Unnamed])
    );
}
