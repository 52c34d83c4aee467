//! Published keys: a JSON Web Key Set (RFC 7517) goes in, the [`Key`]s that tokens may be checked with
//! come out.
//!
//! A key says itself what it may be used for, and is held to it: `use`, `key_ops`, `alg`, `crv` and its
//! size are read here, because the library reads none of them. What cannot be used is left out, and
//! counted; the rest of the set stays good.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::AlgorithmFamily;

use super::check::Check;
use super::json::Mistyped;
use super::json::Object;
use super::json::Value;
use super::roca;
use super::token::LONGEST_KEY_ID;

/// A key, and the algorithms that it may be used with.
pub(super) struct Key {
    id: Option<Box<str>>,
    checks: Box<[Check]>,
}

/// The public numbers of a key, by its kind.
enum Kind {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

/// Why a whole set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKeySet {
    /// Not JSON, or without a list of `keys`.
    #[error("it is not a JSON Web Key Set")]
    Malformed,
    /// No key in it can be used.
    #[error("none of its keys can be used")]
    NoUsableKey,
    /// More keys than any issuer has.
    #[error("it holds more than 64 keys")]
    TooManyKeys,
}

/// Why one key of a set is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// An RSA key whose private part can be computed from its public one.
    Factorable,
    /// Not for signatures, or for an algorithm that does not fit it.
    Purpose,
    /// Of a kind, curve or size that is not supported.
    Kind,
    /// Without a `kid`, or with members that are not what they must be.
    Malformed,
    /// A secret or a private key: whoever reads the set could sign with it.
    Secret,
}

impl Key {
    /// A secret that the issuer shares with us. It has no name, so any `kid` finds it.
    pub(super) fn shared_secret(secret: &[u8]) -> Self {
        let algorithms = AlgorithmFamily::Hmac.algorithms().iter();
        Self {
            id: None,
            checks: algorithms
                .filter_map(|algorithm| Check::shared(*algorithm, secret))
                .collect(),
        }
    }

    /// `kid`, where it has one.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether a token that names `id` means this key.
    pub(super) fn is_meant_by(&self, id: Option<&str>) -> bool {
        self.id.is_none() || self.id.as_deref() == id
    }

    /// How the key checks a signature made with `algorithm`; `None` if it does not fit.
    pub(super) fn check(&self, algorithm: Algorithm) -> Option<&Check> {
        let mut checks = self.checks.iter();
        checks.find(|check| check.algorithm() == algorithm)
    }

    fn read(object: &Object<'_>) -> Result<Self, Unusable> {
        let id = match text(object, "kid")? {
            "" => return Err(Unusable::Malformed),
            id if id.len() > LONGEST_KEY_ID => return Err(Unusable::Malformed),
            id => Some(Box::from(id)),
        };
        let kind = match text(object, "kty")? {
            "RSA" => rsa(object)?,
            "EC" => elliptic_curve(object)?,
            "OKP" => ed25519(object)?,
            "oct" => return Err(Unusable::Secret),
            _ => return Err(Unusable::Kind),
        };
        if object.has("d") {
            return Err(Unusable::Secret);
        }
        let checks: Option<_> = purpose(object, kind.algorithms())?
            .iter()
            .map(|algorithm| kind.check(*algorithm))
            .collect();
        Ok(Self {
            id,
            // What is no point of its curve is found out here.
            checks: checks.ok_or(Unusable::Malformed)?,
        })
    }
}

impl Kind {
    fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Ed25519(_) => &[Algorithm::EdDSA],
            Self::P256(_) => &[Algorithm::ES256],
            Self::P384(_) => &[Algorithm::ES384],
            Self::Rsa { .. } => AlgorithmFamily::Rsa.algorithms(),
        }
    }

    fn check(&self, algorithm: Algorithm) -> Option<Check> {
        match self {
            Self::Ed25519(point) | Self::P256(point) | Self::P384(point) => {
                Check::point(algorithm, point)
            }
            Self::Rsa { modulus, exponent } => Check::rsa(algorithm, modulus, exponent),
        }
    }
}

/// The keys of a set that can be used, and why the others cannot.
type Sorted = (Vec<Key>, Vec<Unusable>);

/// Sorts the keys of a set.
pub(super) fn read_set(json: &[u8]) -> Result<Sorted, BadKeySet> {
    let document = Object::read(json).map_err(|_| BadKeySet::Malformed)?;
    let Some(Value::List(list)) = document.get("keys") else {
        return Err(BadKeySet::Malformed);
    };
    if list.len() > MOST_KEYS {
        return Err(BadKeySet::TooManyKeys);
    }
    let (mut keys, mut unusable) = (Vec::new(), Vec::new());
    for item in list {
        let Value::Object(object) = item else {
            return Err(BadKeySet::Malformed);
        };
        match Key::read(object) {
            Ok(key) => keys.push(key),
            Err(reason) => unusable.push(reason),
        }
    }
    if keys.is_empty() {
        return Err(BadKeySet::NoUsableKey);
    }
    Ok((keys, unusable))
}

/// Which of the algorithms that fit the key's kind its own words allow.
fn purpose(object: &Object<'_>, candidates: &[Algorithm]) -> Result<Box<[Algorithm]>, Unusable> {
    let optional = |name| object.text(name).map_err(|Mistyped| Unusable::Malformed);
    if optional("use")?.is_some_and(|purpose| purpose != "sig") {
        return Err(Unusable::Purpose);
    }
    if let Some(operations) = object.get("key_ops") {
        let operations = operations.texts().map_err(|Mistyped| Unusable::Malformed)?;
        if !operations.contains(&"verify") {
            return Err(Unusable::Purpose);
        }
    }
    match optional("alg")? {
        None => Ok(candidates.into()),
        Some(name) => name
            .parse()
            .ok()
            .filter(|algorithm| candidates.contains(algorithm))
            .map(|algorithm| Box::from([algorithm]))
            .ok_or(Unusable::Purpose),
    }
}

/// RFC 7518, section 6.3. Small moduli can be factored, and an exponent of 1 signs nothing.
fn rsa(object: &Object<'_>) -> Result<Kind, Unusable> {
    let modulus = number(object, "n")?;
    let exponent = number(object, "e")?;
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = modulus
        .len()
        .saturating_mul(8)
        .saturating_sub(usize::try_from(unused).unwrap_or(0));
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !(SMALLEST_MODULUS..=LARGEST_MODULUS).contains(&bits)
        || !odd(&modulus)
        || !odd(&exponent)
        || exponent == [1]
        || exponent.len() > LONGEST_EXPONENT
    {
        return Err(Unusable::Kind);
    }
    if roca::marks(&modulus) {
        return Err(Unusable::Factorable);
    }
    Ok(Kind::Rsa { modulus, exponent })
}

/// RFC 7518, section 6.2: the curve decides the algorithm and how long the coordinates are.
fn elliptic_curve(object: &Object<'_>) -> Result<Kind, Unusable> {
    let length = match text(object, "crv")? {
        "P-256" => 32,
        "P-384" => 48,
        _ => return Err(Unusable::Kind),
    };
    let (x, y) = (bytes(text(object, "x")?)?, bytes(text(object, "y")?)?);
    if x.len() != length || y.len() != length {
        return Err(Unusable::Malformed);
    }
    // SEC 1, section 2.3.3: an uncompressed point.
    let point = [vec![4], x, y].concat();
    Ok(if length == 32 {
        Kind::P256(point)
    } else {
        Kind::P384(point)
    })
}

/// RFC 8037, section 2.
fn ed25519(object: &Object<'_>) -> Result<Kind, Unusable> {
    if text(object, "crv")? != "Ed25519" {
        return Err(Unusable::Kind);
    }
    let point = bytes(text(object, "x")?)?;
    if point.len() != 32 {
        return Err(Unusable::Malformed);
    }
    Ok(Kind::Ed25519(point))
}

fn text<'a>(object: &'a Object<'_>, name: &str) -> Result<&'a str, Unusable> {
    object.text(name).ok().flatten().ok_or(Unusable::Malformed)
}

/// A big-endian number without leading zeros.
fn number(object: &Object<'_>, name: &str) -> Result<Vec<u8>, Unusable> {
    let bytes = bytes(text(object, name)?)?;
    Ok(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn bytes(text: &str) -> Result<Vec<u8>, Unusable> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| Unusable::Malformed)
}

const MOST_KEYS: usize = 64;
const SMALLEST_MODULUS: usize = 2_048;
const LARGEST_MODULUS: usize = 8_192;

/// In bytes: the largest exponent that RSA verifiers agree on is below 2^33.
const LONGEST_EXPONENT: usize = 5;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::forgeries;
    use super::super::tokens::TestKey;
    use super::*;

    fn set(keys: &serde_json::Value) -> Result<Sorted, BadKeySet> {
        read_set(json!({ "keys": keys }).to_string().as_bytes())
    }

    fn algorithms(key: &Key) -> Vec<Algorithm> {
        key.checks.iter().map(Check::algorithm).collect()
    }

    #[test]
    fn each_key_is_held_to_its_own_words() {
        let document = forgeries::published().to_string();
        let (keys, unusable) = read_set(document.as_bytes()).unwrap();
        let usable: Vec<_> = keys
            .iter()
            .map(|key| (key.id.as_deref().unwrap(), algorithms(key)))
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
            unusable,
            [
                Unusable::Kind,      // 1,024 bits
                Unusable::Kind,      // an exponent of 1
                Unusable::Purpose,   // `use: enc`
                Unusable::Purpose,   // `key_ops: ["encrypt"]`
                Unusable::Purpose,   // `alg` of another kind
                Unusable::Malformed, // coordinates of another curve's length
                Unusable::Secret,    // the private exponent with it
                Unusable::Secret,    // `kty: oct`
                Unusable::Malformed, // `kid` is a number
            ]
        );
    }

    #[test]
    fn a_key_that_names_no_algorithm_fits_all_of_its_kind_and_none_of_another() {
        let mut jwk = TestKey::rsa().jwk();
        jwk.as_object_mut().unwrap().remove("alg");
        let (keys, _) = set(&json!([jwk])).unwrap();
        let family = AlgorithmFamily::Rsa.algorithms();
        assert_eq!(algorithms(&keys[0]), family);
    }

    #[test]
    fn a_point_that_is_not_on_its_curve_is_no_key() {
        let mut jwk = TestKey::p256().jwk();
        jwk["x"] = jwk["y"].clone();
        assert_eq!(set(&json!([jwk])).err(), Some(BadKeySet::NoUsableKey));
    }

    #[test]
    fn a_set_that_is_none_or_holds_no_usable_key_is_refused_whole() {
        let key = TestKey::rsa().jwk();
        for (document, expected) in [
            (json!([]), BadKeySet::NoUsableKey),
            (
                json!([{"kty": "oct", "kid": "a", "k": "AAAA"}]),
                BadKeySet::NoUsableKey,
            ),
            (json!({}), BadKeySet::Malformed),
            (json!([1]), BadKeySet::Malformed),
            (json!(vec![&key; 65]), BadKeySet::TooManyKeys),
        ] {
            assert_eq!(set(&document).err(), Some(expected), "{document}");
        }
        assert!(set(&json!(vec![&key; 64])).is_ok());
    }
}
