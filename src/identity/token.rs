//! The strict reading of a JWT: text goes in, an [`Envelope`] comes out, whose signature nobody has
//! checked yet.
//!
//! The form is RFC 7515's compact one and nothing else: three parts of base64url without padding,
//! each the only spelling of its bytes. The header may say which algorithm, which key and which type;
//! keys that it carries or points to (`jwk`, `jku`, `x5c`, `x5u`) are not read at all (RFC 8725,
//! section 3.10), and whatever changes the meaning of the rest (`crit`, `b64`, `zip`, `enc`, `cty`)
//! refuses the token.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use super::Unverified;
use super::json::Object;

/// A signed text in compact form, whatever it says.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// What the signature is over: the first two parts and the dot between them.
    pub(super) signed: &'a str,
    /// The second part, as it came.
    content: &'a str,
    /// The third part, as it came.
    pub(super) signature: &'a str,
    /// The first part.
    pub(super) header: Header,
}

/// What a header says, as far as it is listened to.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// `alg`.
    pub(super) algorithm: Algorithm,
    /// `kid`, where there is one.
    pub(super) key_id: Option<Box<str>>,
    /// `typ` in lower case and without `application/`; empty where there is none.
    pub(super) token_type: Box<str>,
}

impl<'a> Envelope<'a> {
    /// Reads the compact form, and the first part of it.
    pub(super) fn read(token: &'a str) -> Result<Self, Unverified> {
        if token.len() > LONGEST_TOKEN {
            return Err(Unverified::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Unverified::Malformed)?;
        let (header, content) = signed.split_once('.').ok_or(Unverified::Malformed)?;
        Ok(Self {
            signed,
            content,
            signature,
            header: Header::read(&decode(header)?)?,
        })
    }

    /// The bytes of the second part. Five parts would be an encrypted token, of which this would be
    /// more than one; a dot is no base64url, so it ends here.
    pub(super) fn content(&self) -> Result<Vec<u8>, Unverified> {
        decode(self.content)
    }
}

impl Header {
    fn read(json: &[u8]) -> Result<Self, Unverified> {
        let object = Object::read(json).map_err(|_| Unverified::Malformed)?;
        if CHANGES_THE_MEANING.iter().any(|name| object.has(name)) {
            return Err(Unverified::Header);
        }
        let algorithm = object
            .text("alg")
            .ok()
            .flatten()
            .and_then(|name| Algorithm::from_str(name).ok())
            .ok_or(Unverified::Algorithm)?;
        let key_id = match object.text("kid").map_err(|_| Unverified::KeyId)? {
            Some(id) if id.is_empty() || id.len() > LONGEST_KEY_ID => {
                return Err(Unverified::KeyId);
            }
            id => id.map(Box::from),
        };
        let token_type = match object.text("typ").map_err(|_| Unverified::TokenType)? {
            Some("") => return Err(Unverified::TokenType),
            name => name.map_or_else(Box::default, plain_type),
        };
        Ok(Self {
            algorithm,
            key_id,
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

/// The longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 8 << 10;

/// The longest `kid`, in bytes.
pub(super) const LONGEST_KEY_ID: usize = 128;
