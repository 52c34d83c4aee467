//! A legacy API key of Atlas: HTTP Digest (RFC 7616).
//!
//! A nonce is used again and again with a rising count, which saves the challenge that would otherwise
//! double every call. A server may require counts to arrive in order; so a nonce serves one call at a
//! time, and calls under way at once use different ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use digest_auth::{AlgorithmType, AuthContext, Qop, WwwAuthenticateHeader};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};

use super::watched_secret::WatchedSecret;
use crate::system::Secret;

pub(crate) struct ApiKey {
    public_key: String,
    private_key: ArcSwap<WatchedSecret>,
    idle: Mutex<Vec<Nonce>>,
}

#[derive(Clone)]
pub(crate) struct Nonce(WwwAuthenticateHeader);

pub(crate) enum Challenged {
    Again(Nonce),
    /// Nothing: the answer is not about the credential.
    No,
    /// The key is wrong, or the challenge is one that we do not answer.
    Refused,
}

impl ApiKey {
    pub(crate) fn new(public_key: String, private_key: Arc<WatchedSecret>) -> Self {
        Self {
            public_key,
            private_key: ArcSwap::new(private_key),
            idle: Mutex::default(),
        }
    }

    pub(crate) fn public_key(&self) -> &str {
        &self.public_key
    }

    pub(crate) fn private_key(&self) -> Arc<Secret> {
        self.private_key.load().current()
    }

    pub(crate) fn replace_private_key(&self, private_key: Arc<WatchedSecret>) {
        self.private_key.store(private_key);
    }

    pub(crate) fn nonce(&self) -> Option<Nonce> {
        self.idle().pop()
    }

    pub(crate) fn keep(&self, nonce: Nonce) {
        let mut idle = self.idle();
        if idle.len() < MOST_NONCES {
            idle.push(nonce);
        }
    }

    pub(crate) fn authorize(&self, nonce: &mut Nonce, target: &str) -> Option<HeaderValue> {
        let private_key = self.private_key();
        let context = AuthContext::new(self.public_key.as_str(), private_key.expose(), target);
        let text = nonce.0.respond(&context).ok()?.to_header_string();
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(crate) fn maintain(&self) {
        self.private_key.load().look(|| {});
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Nonce>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the challenges of a 401. `sent` is the nonce that the refused call was made with.
///
/// A nonce that Atlas has only just given us cannot have expired: refused then means refused,
/// unless Atlas says that it is stale.
pub(crate) fn challenged(headers: &HeaderMap, sent: Option<&Nonce>) -> Challenged {
    if !headers.contains_key(WWW_AUTHENTICATE) {
        return Challenged::No;
    }
    let Some(challenge) = strongest(headers) else {
        return Challenged::Refused;
    };
    let worth_it = sent.is_none_or(|sent| challenge.stale || sent.0.nc > 1);
    if worth_it {
        Challenged::Again(Nonce(challenge))
    } else {
        Challenged::Refused
    }
}

/// The challenge to answer: SHA-256 before MD5, and nothing weaker or stranger.
fn strongest(headers: &HeaderMap) -> Option<WwwAuthenticateHeader> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| challenge(value.to_str().ok()?))
        .max_by_key(|challenge| challenge.algorithm.algo == AlgorithmType::SHA2_256)
}

fn challenge(text: &str) -> Option<WwwAuthenticateHeader> {
    if text.len() > LONGEST_CHALLENGE {
        return None;
    }
    let (scheme, parameters) = text.trim_start().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("digest") {
        return None;
    }
    let challenge = WwwAuthenticateHeader::parse(parameters).ok()?;
    // Without `qop=auth` there is no count and no client nonce: a weaker scheme that an attacker could
    // choose for us. `auth-int` and the session variants are not spoken by Atlas.
    let offered = challenge.qop.as_deref().unwrap_or(&[]);
    let strong = matches!(
        challenge.algorithm.algo,
        AlgorithmType::MD5 | AlgorithmType::SHA2_256
    );
    (offered.contains(&Qop::AUTH) && strong && !challenge.algorithm.sess && !challenge.userhash)
        .then_some(challenge)
}

const LONGEST_CHALLENGE: usize = 8 << 10;
const MOST_NONCES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::Secret;

    const OBSERVED: &str = r#"Digest realm="MMS Public API", domain="", nonce="P9Ll1pSJIkZfpI1ckkvqKqwGYQw1xL9I", algorithm=MD5, qop="auth", stale=false"#;

    fn key() -> ApiKey {
        let secret = WatchedSecret::fixed(Secret::new("private".to_owned()));
        ApiKey::new("public".to_owned(), Arc::new(secret))
    }

    fn headers(challenges: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(challenge).unwrap());
        }
        headers
    }

    fn answered(challenges: &[&str], sent: Option<&Nonce>) -> Option<Nonce> {
        match challenged(&headers(challenges), sent) {
            Challenged::Again(nonce) => Some(nonce),
            Challenged::No | Challenged::Refused => None,
        }
    }

    fn used(times: u32) -> Nonce {
        let mut nonce = answered(&[OBSERVED], None).unwrap();
        for _ in 0..times {
            key().authorize(&mut nonce, "/x").unwrap();
        }
        nonce
    }

    #[test]
    fn atlass_challenge_is_answered_with_a_rising_count() {
        let mut nonce = answered(&[OBSERVED], None).unwrap();
        let target = "/api/atlas/v2/groups/a/databaseUsers/a%2Fb/certs?pageNum=1";
        for count in ["00000001", "00000002", "00000003"] {
            let value = key().authorize(&mut nonce, target).unwrap();
            assert!(value.is_sensitive());
            let text = value.to_str().unwrap().to_owned();
            assert!(text.contains(&format!("nc={count}")), "{text}");
            assert!(text.contains(&format!("uri=\"{target}\"")), "{text}");
            assert!(
                text.contains("qop=auth,") && !text.contains("private"),
                "{text}"
            );
        }
    }

    #[test]
    fn the_example_of_rfc_7616_comes_out_as_printed_there() {
        let mut prompt = WwwAuthenticateHeader::parse(
            r#"realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#,
        )
        .unwrap();
        let mut context = AuthContext::new("Mufasa", "Circle of Life", "/dir/index.html");
        context.set_custom_cnonce("f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
        // The library prefers `auth-int` but falls back to `auth` where there is no body.
        let text = prompt.respond(&context).unwrap().to_header_string();
        let response = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert!(text.contains(response), "{text}");
    }

    #[test]
    fn challenges_that_are_weaker_stranger_or_too_long_are_not_answered() {
        for parameters in [
            "algorithm=MD5",
            r#"algorithm=MD5, qop="auth-int""#,
            r#"algorithm=MD5, qop="auth,other""#,
            r#"algorithm=MD5-sess, qop="auth""#,
            r#"algorithm=SHA-256-sess, qop="auth""#,
            r#"algorithm=SHA-512-256, qop="auth""#,
            r#"algorithm=SHA1, qop="auth""#,
            r#"algorithm=MD5, qop="auth", userhash=true"#,
        ] {
            let text = format!(r#"Digest realm="r", nonce="n", {parameters}"#);
            assert!(answered(&[&text], None).is_none(), "{text}");
        }
        let long = format!(
            r#"Digest realm="r", nonce="{}", qop="auth""#,
            "n".repeat(65_536)
        );
        for other in [
            long.as_str(),
            "Digest",
            "Basic realm=\"r\"",
            "Digest realm=\"r",
        ] {
            assert!(answered(&[other], None).is_none());
        }
        assert!(answered(&[], None).is_none());
    }

    #[test]
    fn the_stronger_of_several_challenges_is_answered() {
        let sha = r#"digest realm="r", nonce="n2", algorithm=SHA-256, qop="auth""#;
        for order in [
            ["Basic realm=\"r\"", OBSERVED, sha],
            [sha, OBSERVED, "Negotiate"],
        ] {
            let nonce = answered(&order, None).unwrap();
            assert_eq!(nonce.0.algorithm.algo, AlgorithmType::SHA2_256);
        }
    }

    #[test]
    fn a_wrong_key_is_not_tried_twice_and_an_expired_nonce_is_replaced() {
        let stale = OBSERVED.replace("stale=false", "stale=true");
        assert!(answered(&[OBSERVED], Some(&used(1))).is_none());
        assert!(answered(&[OBSERVED], Some(&used(2))).is_some());
        assert!(answered(&[&stale], Some(&used(1))).is_some());
    }
}
