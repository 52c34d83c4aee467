//! Published keys that are not used, for the log and for `check`: which, and why.

use std::fmt;

use crate::strict_json::{Object, text};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOutKey {
    pub(super) id: Option<Box<str>>,
    pub(super) kind: Option<Box<str>>,
    pub(super) reason: UnusableKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnusableKey {
    #[error("its curve is none of P-256, P-384 and Ed25519")]
    Curve,
    #[error("its private half can be computed from it (ROCA); the issuer must replace it at once")]
    Factorable,
    #[error("its `kty` is none of RSA, EC and OKP")]
    Kind,
    #[error("a member that it needs is missing, is not what it must be, or occurs twice")]
    Malformed,
    #[error("`use`, `key_ops` or `alg` say that it is not for checking signatures")]
    Purpose,
    #[error("it is a secret or a private key, and anyone who reads it can sign")]
    Secret,
    #[error("an RSA key has 2,048 to 8,192 bits and an odd exponent from 3 to 33 bits")]
    Size,
    #[error("it has no `kid`, and of keys without one two are tried")]
    Unnamed,
}

impl LeftOutKey {
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

const LONGEST: usize = 128;
