//! Who is calling: a token goes in, a [`Caller`] comes out.

use std::sync::Arc;

use crate::atlas::Timestamp;

/// Somebody whose token was verified.
#[derive(Debug)]
pub struct Caller {
    /// `sub`.
    pub subject: Box<str>,
    /// `iss`.
    pub issuer: Arc<str>,
    /// `client_id` or `azp`, where the token has one.
    pub client_id: Option<Box<str>>,
    /// `jti`, where the token has one.
    pub token_id: Option<Box<str>>,
    /// `scope`, `scp` and `roles`, taken together.
    pub scopes: Box<[Box<str>]>,
    /// When the token ends, leeway included.
    pub expires_at: Timestamp,
}
