//! One key with one algorithm: a text and its signature go in, whether it holds comes out.
//!
//! A key is parsed once, when its set arrives, and not for each token. So the primitives are taken from
//! `aws_lc_rs` and not through `jsonwebtoken`, which parses anew each time: the first use of an RS256
//! token costs 325,000 instructions this way and 360,000 that way. Which primitive belongs to which
//! algorithm is said in this file and nowhere else (RFC 8725, section 3.1).

use aws_lc_rs::hmac;
use aws_lc_rs::signature;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::RsaParameters;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use aws_lc_rs::signature::VerificationAlgorithm;
use jsonwebtoken::Algorithm;

/// A key, ready to check signatures of one algorithm.
pub(super) struct Check {
    algorithm: Algorithm,
    key: Ready,
}

enum Ready {
    Public(ParsedPublicKey),
    // Boxed, for it holds two hashes under way.
    Shared(Box<hmac::Key>),
}

type Curve = &'static dyn VerificationAlgorithm;

impl Check {
    /// With a shared secret; `None` if `algorithm` takes none.
    pub(super) fn shared(algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let key = hmac::Key::new(named(&HASHES, algorithm)?, secret);
        let key = Ready::Shared(Box::new(key));
        Some(Self { algorithm, key })
    }

    /// With a point of a curve; `None` if it is none, or if `algorithm` has another curve.
    pub(super) fn point(algorithm: Algorithm, point: &[u8]) -> Option<Self> {
        let key = ParsedPublicKey::new(named(&CURVES, algorithm)?, point).ok()?;
        let key = Ready::Public(key);
        Some(Self { algorithm, key })
    }

    /// With an RSA key; `None` if `algorithm` is of another kind.
    pub(super) fn rsa(algorithm: Algorithm, modulus: &[u8], exponent: &[u8]) -> Option<Self> {
        let numbers = RsaPublicKeyComponents {
            n: modulus,
            e: exponent,
        };
        let key = numbers.to_parsed_public_key(named(&PADDINGS, algorithm)?);
        let key = Ready::Public(key.ok()?);
        Some(Self { algorithm, key })
    }

    /// The one algorithm.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `signed`.
    pub(super) fn holds(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Ready::Public(key) => key.verify_sig(signed, signature).is_ok(),
            // Compared in constant time.
            Ready::Shared(key) => hmac::verify(key, signed, signature).is_ok(),
        }
    }
}

fn named<T: Copy>(table: &[(Algorithm, T)], algorithm: Algorithm) -> Option<T> {
    let mut entries = table.iter();
    entries
        .find(|(name, _)| *name == algorithm)
        .map(|(_, primitive)| *primitive)
}

static HASHES: [(Algorithm, hmac::Algorithm); 3] = [
    (Algorithm::HS256, hmac::HMAC_SHA256),
    (Algorithm::HS384, hmac::HMAC_SHA384),
    (Algorithm::HS512, hmac::HMAC_SHA512),
];

/// RFC 7518, section 3.4: an ECDSA signature is `r` and `s`, each of the curve's length.
static CURVES: [(Algorithm, Curve); 3] = [
    (Algorithm::ES256, &signature::ECDSA_P256_SHA256_FIXED),
    (Algorithm::ES384, &signature::ECDSA_P384_SHA384_FIXED),
    (Algorithm::EdDSA, &signature::ED25519),
];

static PADDINGS: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::RS256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::RS384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::RS512, &signature::RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::PS256, &signature::RSA_PSS_2048_8192_SHA256),
    (Algorithm::PS384, &signature::RSA_PSS_2048_8192_SHA384),
    (Algorithm::PS512, &signature::RSA_PSS_2048_8192_SHA512),
];
