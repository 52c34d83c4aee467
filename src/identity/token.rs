//! The strict reading of a JWT (JWS in compact form), before its signature is checked.
//!
//! The form is RFC 7515's compact one and nothing else: three parts of base64url without padding,
//! each the only spelling of its bytes. The header may say which algorithm, which key and which type;
//! keys that it carries or points to (`jwk`, `jku`, `x5c`, `x5u`) are not read at all (RFC 8725,
//! section 3.10), and whatever changes the meaning of the rest (`crit`, `b64`, `zip`, `enc`, `cty`)
//! refuses the token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use super::unverified::Unverified;
use crate::strict_json::{Mistyped, Object, read_object, text};

#[derive(Debug)]
pub(super) struct UnverifiedJwt<'a> {
    /// What the signature is over: the first two parts and the dot between them.
    pub(super) signed: &'a str,
    payload: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: JwtHeader,
}

#[derive(Debug, PartialEq)]
pub(super) struct JwtHeader {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<Box<str>>,
    /// `typ` in lower case and without `application/`; empty where there is none.
    pub(super) token_type: Box<str>,
}

impl<'a> UnverifiedJwt<'a> {
    pub(super) fn read(token: &'a str) -> Result<Self, Unverified> {
        if token.len() > LONGEST_TOKEN {
            return Err(Unverified::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Unverified::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Unverified::Malformed)?;
        Ok(Self {
            signed,
            payload,
            signature,
            header: JwtHeader::read(&decode(header)?)?,
        })
    }

    /// Five parts would be an encrypted token, of which this would be more than one; a dot is no base64url,
    /// so it ends here.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Unverified> {
        decode(self.payload)
    }

    pub(super) fn claims(&self) -> Result<Object, Unverified> {
        read_object(&self.payload()?).map_err(|_| Unverified::Malformed)
    }
}

impl JwtHeader {
    fn read(json: &[u8]) -> Result<Self, Unverified> {
        let header = read_object(json).map_err(|_| Unverified::Malformed)?;
        if CHANGES_THE_MEANING
            .iter()
            .any(|name| header.contains_key(*name))
        {
            return Err(Unverified::Header);
        }
        let algorithm = text(&header, "alg").ok().flatten();
        let algorithm = algorithm.and_then(|name| name.parse().ok());
        let key_id = text(&header, "kid").map_err(|Mistyped| Unverified::KeyId)?;
        if key_id.is_some_and(|id| id.is_empty() || id.len() > LONGEST_KEY_ID) {
            return Err(Unverified::KeyId);
        }
        let token_type = match text(&header, "typ") {
            Ok(Some("")) | Err(Mistyped) => return Err(Unverified::TokenType),
            Ok(name) => plain_type(name.unwrap_or("")),
        };
        Ok(Self {
            algorithm: algorithm.ok_or(Unverified::Algorithm)?,
            key_id: key_id.map(Box::from),
            token_type,
        })
    }
}

/// A `typ` as it is compared: media types know no case, and `application/` may be left out (RFC 7515,
/// section 4.1.9).
pub(super) fn plain_type(name: &str) -> Box<str> {
    let name = name.to_ascii_lowercase();
    Box::from(name.strip_prefix("application/").unwrap_or(&name))
}

/// Refuses padding, the other alphabet, white space, and bits after the last byte that are not zero:
/// a second spelling of a token would be a second key for what is remembered.
fn decode(part: &str) -> Result<Vec<u8>, Unverified> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| Unverified::Malformed)
}

const CHANGES_THE_MEANING: [&str; 5] = ["crit", "b64", "zip", "enc", "cty"];

const LONGEST_TOKEN: usize = 8 << 10;

pub(super) const LONGEST_KEY_ID: usize = 128;
