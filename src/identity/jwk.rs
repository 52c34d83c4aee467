//! JSON Web Key Sets (RFC 7517): which of the published keys can be used, and why the others cannot.
//!
//! A key says itself what it may be used for, and is held to it: `use`, `key_ops`, `alg`, `crv` and its
//! size are read here, because the library reads none of them. What cannot be used is left out and told
//! of, whatever it is; the rest of the set stays good.

#[cfg(test)]
mod tests;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::left_out::{LeftOutKey, UnusableKey};
use super::roca;
use super::token::{LONGEST_KEY_ID, UnverifiedJwt};
use crate::strict_json::{Mistyped, Object, read_object, texts};

/// A key, and the algorithms that it may be used with.
pub(super) struct VerificationKey {
    id: Option<Box<str>>,
    algorithms: Box<[Algorithm]>,
    material: DecodingKey,
}

/// Why a whole set cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("it holds no key")]
    Empty,
    #[error("it is not a JSON Web Key Set")]
    Malformed,
    #[error("none of its keys can be used: {}", some_of(.0))]
    NoUsableKey(Vec<LeftOutKey>),
    #[error("it holds more than 64 keys")]
    TooManyKeys,
}

/// The keys of a set that can be used, and why the others cannot.
#[derive(Default)]
pub(super) struct KeySelection {
    pub(super) keys: Vec<VerificationKey>,
    pub(super) left_out: Vec<LeftOutKey>,
}

/// A set as it is published. An entry is read on its own, so that one spoils no other.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl VerificationKey {
    /// A secret that the issuer shares with us. It has no name, so any `kid` finds it.
    pub(super) fn shared_secret(secret: &[u8]) -> Self {
        Self {
            id: None,
            algorithms: AlgorithmFamily::Hmac.algorithms().into(),
            material: DecodingKey::from_secret(secret),
        }
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether it may check what was signed with `algorithm`.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether a token's signature is this key's, made with the token's algorithm, which fits the key.
    pub(super) fn has_signed(&self, token: &UnverifiedJwt<'_>) -> bool {
        let (signature, signed) = (token.signature, token.signed.as_bytes());
        let verdict = crypto::verify(signature, signed, &self.material, token.header.algorithm);
        verdict.unwrap_or(false)
    }

    fn read(object: &Object) -> Result<Self, UnusableKey> {
        let id = match optional(object, "kid")? {
            Some(id) if id.is_empty() || id.len() > LONGEST_KEY_ID => {
                return Err(UnusableKey::Malformed);
            }
            id => id.map(Box::from),
        };
        let (material, algorithms) = match text(object, "kty")? {
            "RSA" => (rsa(object)?, AlgorithmFamily::Rsa.algorithms()),
            "EC" => elliptic_curve(object)?,
            "OKP" => (ed25519(object)?, AlgorithmFamily::Ed.algorithms()),
            "oct" => return Err(UnusableKey::Secret),
            _ => return Err(UnusableKey::Kind),
        };
        if object.contains_key("d") {
            return Err(UnusableKey::Secret);
        }
        Ok(Self {
            id,
            algorithms: purpose(object, algorithms)?,
            material,
        })
    }
}

/// Sorts the keys of a set.
pub(super) fn read_set(json: &[u8]) -> Result<KeySelection, KeySetError> {
    let document: Document<'_> =
        serde_json::from_slice(json).map_err(|_| KeySetError::Malformed)?;
    if document.keys.len() > MOST_KEYS {
        return Err(KeySetError::TooManyKeys);
    }
    let mut sorted = KeySelection::default();
    for entry in document.keys {
        sorted.add(entry.get().as_bytes());
    }
    if !sorted.keys.is_empty() {
        Ok(sorted)
    } else if sorted.left_out.is_empty() {
        Err(KeySetError::Empty)
    } else {
        Err(KeySetError::NoUsableKey(sorted.left_out))
    }
}

impl KeySelection {
    fn add(&mut self, entry: &[u8]) {
        let Ok(object) = read_object(entry) else {
            self.left_out.push(LeftOutKey::unreadable());
            return;
        };
        match VerificationKey::read(&object) {
            Ok(key) if self.has_enough_like(&key) => {
                self.left_out
                    .push(LeftOutKey::of(&object, UnusableKey::Unnamed));
            }
            Ok(key) => self.keys.push(key),
            Err(reason) => self.left_out.push(LeftOutKey::of(&object, reason)),
        }
    }

    /// Whether so many keys without a name fit one of its algorithms that it would never be tried.
    fn has_enough_like(&self, key: &VerificationKey) -> bool {
        let unnamed = self.keys.iter().filter(|other| other.id.is_none());
        key.id.is_none()
            && key.algorithms.iter().any(|algorithm| {
                let alike = unnamed.clone().filter(|other| other.fits(*algorithm));
                alike.count() >= MOST_NAMESAKES
            })
    }
}

/// Which of the algorithms that fit the key's kind its own words allow.
fn purpose(object: &Object, candidates: &[Algorithm]) -> Result<Box<[Algorithm]>, UnusableKey> {
    // SPIFFE's bundles say of a key for tokens that it is for tokens.
    let is_for_signatures = |purpose| matches!(purpose, "sig" | "jwt-svid");
    if !optional(object, "use")?.is_none_or(is_for_signatures) {
        return Err(UnusableKey::Purpose);
    }
    if let Some(operations) = object.get("key_ops") {
        let operations = texts(operations).map_err(|Mistyped| UnusableKey::Malformed)?;
        if !operations.contains(&"verify") {
            return Err(UnusableKey::Purpose);
        }
    }
    match optional(object, "alg")? {
        None => Ok(candidates.into()),
        Some(name) => name
            .parse()
            .ok()
            .filter(|algorithm| candidates.contains(algorithm))
            .map(|algorithm| Box::from([algorithm]))
            .ok_or(UnusableKey::Purpose),
    }
}

/// RFC 7518, section 6.3. Small moduli can be factored, and an exponent of 1 signs nothing.
fn rsa(object: &Object) -> Result<DecodingKey, UnusableKey> {
    let modulus = number(object, "n")?;
    let exponent = number(object, "e")?;
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let unused = usize::try_from(unused).expect("a byte has eight bits");
    let bits = modulus.len().saturating_mul(8).saturating_sub(unused);
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !(SMALLEST_MODULUS..=LARGEST_MODULUS).contains(&bits)
        || !odd(&modulus)
        || !odd(&exponent)
        || exponent == [1]
        || exponent.len() > LONGEST_EXPONENT
    {
        return Err(UnusableKey::Size);
    }
    if roca::marks(&modulus) {
        return Err(UnusableKey::Factorable);
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

/// A key and the algorithms that fit it.
type Fitting = (DecodingKey, &'static [Algorithm]);

/// RFC 7518, section 6.2: the curve decides the algorithm and how long the coordinates are.
fn elliptic_curve(object: &Object) -> Result<Fitting, UnusableKey> {
    type Curve = &'static dyn VerificationAlgorithm;
    let (curve, algorithms, length): (Curve, &'static [Algorithm], usize) =
        match text(object, "crv")? {
            "P-256" => (&ECDSA_P256_SHA256_FIXED, &[Algorithm::ES256], 32),
            "P-384" => (&ECDSA_P384_SHA384_FIXED, &[Algorithm::ES384], 48),
            _ => return Err(UnusableKey::Curve),
        };
    let (x, y) = (text(object, "x")?, text(object, "y")?);
    let coordinates = [bytes(x)?, bytes(y)?];
    if coordinates.iter().any(|number| number.len() != length) {
        return Err(UnusableKey::Malformed);
    }
    // SEC 1, section 2.3.3: an uncompressed point. What is none of its curve is found out here.
    let point = [vec![4], coordinates.concat()].concat();
    ParsedPublicKey::new(curve, &point).map_err(|_| UnusableKey::Malformed)?;
    let key = DecodingKey::from_ec_components(x, y).map_err(|_| UnusableKey::Malformed)?;
    Ok((key, algorithms))
}

/// RFC 8037, section 2.
fn ed25519(object: &Object) -> Result<DecodingKey, UnusableKey> {
    if text(object, "crv")? != "Ed25519" {
        return Err(UnusableKey::Curve);
    }
    let x = text(object, "x")?;
    ParsedPublicKey::new(&ED25519, bytes(x)?).map_err(|_| UnusableKey::Malformed)?;
    DecodingKey::from_ed_components(x).map_err(|_| UnusableKey::Malformed)
}

fn text<'a>(object: &'a Object, name: &str) -> Result<&'a str, UnusableKey> {
    optional(object, name)?.ok_or(UnusableKey::Malformed)
}

fn optional<'a>(object: &'a Object, name: &str) -> Result<Option<&'a str>, UnusableKey> {
    crate::strict_json::text(object, name).map_err(|Mistyped| UnusableKey::Malformed)
}

/// A big-endian number without leading zeros.
fn number(object: &Object, name: &str) -> Result<Vec<u8>, UnusableKey> {
    let bytes = bytes(text(object, name)?)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn bytes(text: &str) -> Result<Vec<u8>, UnusableKey> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| UnusableKey::Malformed)
}

/// The first few, for a message.
fn some_of(left_out: &[LeftOutKey]) -> String {
    let mut told: Vec<String> = left_out
        .iter()
        .take(MOST_TOLD)
        .map(ToString::to_string)
        .collect();
    if left_out.len() > MOST_TOLD {
        told.push(format!("and {} more", left_out.len() - MOST_TOLD));
    }
    told.join("; ")
}

/// Two keys of one name, or without one, happen while an issuer rotates; more would let one token cost many
/// checks.
pub(super) const MOST_NAMESAKES: usize = 2;
const MOST_KEYS: usize = 64;
const MOST_TOLD: usize = 8;
const SMALLEST_MODULUS: usize = 2_048;
const LARGEST_MODULUS: usize = 8_192;

/// In bytes: the largest exponent that RSA verifiers agree on is below 2^33.
const LONGEST_EXPONENT: usize = 5;
