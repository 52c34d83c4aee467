//! What the `ETag`s of a list are made of.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderValue;

use crate::atlas::Certificate;

/// What a strong `ETag` is made of: the first 96 bits of the SHA-256 of the certificates' bytes, in
/// Atlas's order, as Base64.
///
/// It is made of what Atlas said, not of `links`, so fetching the same certificates again keeps it.
/// Its URL belongs to a validator (RFC 9110, section 8.8), and so the address need not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; Self::LENGTH]);

impl Tag {
    const LENGTH: usize = 16;

    /// The tag of `certificates`.
    pub fn of<'a>(certificates: impl Iterator<Item = Certificate<'a>>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for certificate in certificates {
            context.update(certificate.json.as_bytes());
            context.update(b",");
        }
        let hash = context.finish();
        let hash = hash.as_ref().first_chunk::<12>();
        let mut tag = [0; Self::LENGTH];
        URL_SAFE_NO_PAD
            .encode_slice(hash.expect("SHA-256 has 32 bytes"), &mut tag)
            .expect("12 bytes are 16 characters of Base64");
        Self(tag)
    }

    pub(super) fn from_bytes(tag: [u8; Self::LENGTH]) -> Self {
        Self(tag)
    }

    pub(super) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("Base64 is ASCII")
    }

    /// The value of the usual form's `ETag`, ASCII.
    pub(crate) fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// The header for one form of the list: `variant` is empty for the usual one, and differs for each
    /// other (a page, an indented one, a compressed one).
    pub(crate) fn header(self, variant: &[&str]) -> HeaderValue {
        let mut value = Vec::with_capacity(USUAL_TAG);
        value.push(b'"');
        value.extend_from_slice(&self.0);
        for part in variant {
            value.extend_from_slice(part.as_bytes());
        }
        value.push(b'"');
        HeaderValue::from_maybe_shared(Bytes::from(value)).expect("a tag and its variant are ASCII")
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

/// Nearly every variant fits.
const USUAL_TAG: usize = 48;
