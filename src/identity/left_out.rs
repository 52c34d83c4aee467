//! Published keys that are not used, for the log and for `check`: which, and why.

use std::fmt;

use crate::strict_json::{Object, text};

/// A published key that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOutKey {
    /// `kid`, where it is a text.
    pub(super) id: Option<Box<str>>,
    /// `kty`, where it is a text.
    pub(super) kind: Option<Box<str>>,
    pub(super) reason: UnusableKey,
}

/// Why a published key is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// A curve that no supported algorithm has.
    #[error("its curve is none of P-256, P-384 and Ed25519")]
    Curve,
    /// An RSA key whose private part can be computed from its public one.
    #[error("its private half can be computed from it (ROCA); the issuer must replace it at once")]
    Factorable,
    /// Of a kind that is not supported.
    #[error("its `kty` is none of RSA, EC and OKP")]
    Kind,
    /// With members that are not what they must be.
    #[error("a member that it needs is missing, is not what it must be, or occurs twice")]
    Malformed,
    /// Not for signatures, or for an algorithm that does not fit it.
    #[error("`use`, `key_ops` or `alg` say that it is not for checking signatures")]
    Purpose,
    /// A secret or a private key: whoever reads the set could sign with it.
    #[error("it is a secret or a private key, with which whoever reads it can sign")]
    Secret,
    /// An RSA key too small to be safe, or too large to be used.
    #[error("an RSA key has 2,048 to 8,192 bits and an odd exponent from 3 to 33 bits")]
    Size,
    /// Without a name, where two others without one fit the same algorithms.
    #[error("it has no `kid`, and of keys without one two are tried")]
    Unnamed,
}

impl LeftOutKey {
    /// An entry that was read as far as its members.
    pub(super) fn of(entry: &Object, reason: UnusableKey) -> Self {
        let shortened = |name| {
            let text = text(entry, name).ok().flatten()?;
            Some(text.chars().take(LONGEST).collect::<String>().into())
        };
        Self {
            id: shortened("kid"),
            kind: shortened("kty"),
            reason,
        }
    }

    /// An entry of which not even the members can be told.
    pub(super) fn unreadable() -> Self {
        Self {
            id: None,
            kind: None,
            reason: UnusableKey::Malformed,
        }
    }
}

impl fmt::Display for LeftOutKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "kid {id:?}")?,
            None => f.write_str("no kid")?,
        }
        match &self.kind {
            Some(kind) => write!(f, ", kty {kind:?}: ")?,
            None => f.write_str(", no kty: ")?,
        }
        self.reason.fmt(f)
    }
}

/// In characters; more of a name says no more.
const LONGEST: usize = 128;
