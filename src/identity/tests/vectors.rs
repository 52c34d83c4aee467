//! J25: Project Wycheproof's vectors for signed and encrypted tokens, with the keys that they name.
//!
//! Their content is no set of claims, so what is asked is how far a token gets before its claims are
//! read: its form, its header, its key and its signature.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::*;
use crate::identity::jwk::{self, VerificationKey};
use crate::identity::key_set::KeySet;
use crate::identity::left_out::UnusableKey;
use crate::identity::token::UnverifiedJwt;

#[derive(Deserialize)]
struct Vectors {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    keys: Vec<Value>,
    valid: BTreeSet<u32>,
    parts: BTreeMap<char, String>,
    tests: Vec<(u32, String)>,
    #[serde(default)]
    json: Vec<(u32, Value)>,
}

impl Group {
    /// The keys as we come to hold them: a secret from its file, any other from a published set. A set
    /// that holds both is a published one.
    fn keys(&self) -> KeySet {
        let secret = |key: &Value| {
            let secret = key["k"].as_str().map(decoded)?;
            Some(VerificationKey::shared_secret(&secret))
        };
        let secrets: Option<Vec<VerificationKey>> = self.keys.iter().map(secret).collect();
        KeySet::for_tests(secrets.unwrap_or_else(|| {
            let document = json!({ "keys": self.keys }).to_string();
            jwk::read_set(document.as_bytes()).map_or_else(|_| Vec::new(), |sorted| sorted.keys)
        }))
    }

    fn tokens(&self) -> impl Iterator<Item = (u32, String)> {
        let named = |name: char| self.parts.get(&name).map_or("", String::as_str);
        let written = move |form: &String| {
            let parts = form.split('.');
            let parts = parts.map(|names| names.chars().map(named).collect::<String>());
            parts.collect::<Vec<_>>().join(".")
        };
        let compact = self.tests.iter();
        let compact = compact.map(move |(id, form)| (*id, written(form)));
        compact.chain(self.json.iter().map(|(id, json)| (*id, json.to_string())))
    }
}

fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

#[test]
fn j25_of_the_published_vectors_exactly_those_signed_with_a_usable_key_are_verified() {
    let vectors = include_str!("../../../tests/vectors/json_web_crypto.json");
    let vectors: Vectors = serde_json::from_str(vectors).unwrap();
    let (mut verified, mut refused, mut valid) =
        (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    for group in &vectors.groups {
        let keys = group.keys();
        for (id, token) in group.tokens() {
            let verdict = UnverifiedJwt::read(&token).and_then(|token| {
                let content = token.payload()?;
                keys.verify(&token)?;
                Ok(content)
            });
            match verdict {
                Ok(content) => {
                    assert_eq!(content, b"foo", "{id}");
                    verified.insert(id);
                }
                Err(reason) => {
                    refused.insert(id, reason);
                }
            }
        }
        valid.extend(&group.valid);
    }
    assert_eq!((verified.len() + refused.len(), valid.len()), (83, 6));
    // The two others that are valid are encrypted, which no token for us is (J08, J23).
    assert_eq!(verified, BTreeSet::from([1, 18, 33, 48]));
    for (id, reason) in [
        (16, Unverified::Algorithm), // none
        (31, Unverified::Algorithm), // HS256 with the bytes of a public key
        (32, Unverified::Signature), // by a key that came with it
        (46, Unverified::Algorithm), // by a key that can be factored
        (47, Unverified::Algorithm), // by a secret in a published set
        (50, Unverified::Header),    // encrypted, and valid
        (67, Unverified::Header),    // encrypted, and valid
    ] {
        assert_eq!(refused.get(&id), Some(&reason), "{id}");
    }
    assert!(valid.difference(&verified).eq(&[50, 67]));
}

#[test]
fn of_long_keys_those_that_can_be_factored_are_left_out() {
    let vectors = include_str!("../../../tests/vectors/json_web_crypto.json");
    let vectors: Vectors = serde_json::from_str(vectors).unwrap();
    let roca = vectors.groups.iter().find(|group| group.valid.is_empty());
    let document = json!({ "keys": [roca.unwrap().keys[0], TestKey::rsa().jwk()] }).to_string();
    let sorted = jwk::read_set(document.as_bytes()).unwrap();
    let reasons: Vec<_> = sorted.left_out.iter().map(|key| key.reason).collect();
    assert_eq!(
        (sorted.keys.len(), reasons),
        (1, vec![UnusableKey::Factorable])
    );
}
