//! What a token claims: JSON goes in, typed [`Claims`] come out, judged against an issuer's settings
//! and the clock. Pure.
//!
//! Each claim that is read has one type. A claim of another type refuses the token instead of
//! counting as absent, for a check that is skipped is a check that passed.

use std::time::Duration;

use super::Unverified;
use super::config::IssuerConfig;
use super::json::Mistyped;
use super::json::Object;
use super::json::Value;
use super::numeric_date;
use super::numeric_date::Rounding;
use crate::atlas::Timestamp;

/// The claims of a token.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) issuer: Box<str>,
    pub(super) subject: Box<str>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) token_id: Option<Box<str>>,
    pub(super) scopes: Scopes,
    audiences: Vec<Box<str>>,
    expires: Timestamp,
    not_before: Option<Timestamp>,
    issued: Option<Timestamp>,
    is_id_token: bool,
}

/// Names of what a token is good for.
type Scopes = Box<[Box<str>]>;

impl Claims {
    /// Reads the claims and refuses what has the wrong type or a size that nobody needs.
    pub(super) fn read(json: &[u8]) -> Result<Self, Unverified> {
        let object = Object::read(json).map_err(|_| Unverified::Malformed)?;
        Self::take(&object).map_err(|Mistyped| Unverified::Claim)
    }

    fn take(object: &Object<'_>) -> Result<Self, Mistyped> {
        let audiences = object.get("aud").ok_or(Mistyped)?.texts()?;
        if audiences.is_empty() || audiences.iter().any(|name| name.is_empty()) {
            return Err(Mistyped);
        }
        Ok(Self {
            issuer: name(object, "iss")?.ok_or(Mistyped)?,
            subject: name(object, "sub")?.ok_or(Mistyped)?,
            // RFC 9068 calls it `client_id`, OpenID Connect `azp`.
            client_id: match name(object, "client_id")? {
                Some(client) => Some(client),
                None => name(object, "azp")?,
            },
            token_id: name(object, "jti")?,
            scopes: scopes(object)?,
            audiences: audiences.into_iter().map(Box::from).collect(),
            expires: time(object, "exp", Rounding::Down)?.ok_or(Mistyped)?,
            not_before: time(object, "nbf", Rounding::Up)?,
            issued: time(object, "iat", Rounding::Up)?,
            is_id_token: ONLY_IN_ID_TOKENS.iter().any(|name| object.has(name)),
        })
    }

    /// Whether a token of this issuer with these claims is good at `now`.
    pub(super) fn judge(&self, issuer: &IssuerConfig, now: Timestamp) -> Result<(), Unverified> {
        if self.is_id_token {
            return Err(Unverified::IdToken);
        }
        if self.audiences.len() > 1 && !issuer.several_audiences {
            return Err(Unverified::SeveralAudiences);
        }
        if !self
            .audiences
            .iter()
            .any(|audience| issuer.audiences.iter().any(|ours| **ours == **audience))
        {
            return Err(Unverified::WrongAudience);
        }
        let expires = self.expires;
        if now >= expires.plus(issuer.leeway) {
            return Err(Unverified::Expired);
        }
        for begins in [self.not_before, self.issued].into_iter().flatten() {
            if begins > now.plus(issuer.leeway) {
                return Err(Unverified::NotYetValid);
            }
        }
        // Without `iat` the token began now at the latest, so what is left of it is a lower bound.
        let begun = self.issued.unwrap_or(now);
        let longest = issuer.max_lifetime;
        if expires.since(begun) > longest
            || expires.since(now) > longest.saturating_add(issuer.leeway)
        {
            return Err(Unverified::LivesTooLong);
        }
        Ok(())
    }

    /// When the token ends, leeway included.
    pub(super) fn end(&self, leeway: Duration) -> Timestamp {
        self.expires.plus(leeway)
    }
}

/// A short text without control characters, if the member is there.
fn name(object: &Object<'_>, member: &str) -> Result<Option<Box<str>>, Mistyped> {
    match object.text(member)? {
        Some(text) if text.is_empty() || text.len() > LONGEST_NAME => Err(Mistyped),
        Some(text) if text.chars().any(char::is_control) => Err(Mistyped),
        text => Ok(text.map(Box::from)),
    }
}

/// A time, if the member is there.
fn time(
    object: &Object<'_>,
    member: &str,
    rounding: Rounding,
) -> Result<Option<Timestamp>, Mistyped> {
    let value = object.get(member);
    value
        .map(|value| numeric_date::read(value, rounding))
        .transpose()
}

/// The scopes in all their spellings, each once: `scope` (RFC 8693), `scp` and `roles`, as one text
/// with single spaces (RFC 6749, section 3.3) or as a list.
fn scopes(object: &Object<'_>) -> Result<Scopes, Mistyped> {
    let mut scopes: Vec<Box<str>> = Vec::new();
    for member in ["scope", "scp", "roles"] {
        let Some(value) = object.get(member) else {
            continue;
        };
        // A text is taken apart at its spaces. An item of a list is not: it would grant parts that
        // nobody named.
        let found: Vec<&str> = match value {
            Value::Text(text) => text.split(' ').collect(),
            Value::Flag(_)
            | Value::Integer(_)
            | Value::List(_)
            | Value::Null
            | Value::Object(_)
            | Value::Real(_) => value.texts()?,
        };
        for scope in found {
            if scope.chars().any(char::is_control) {
                return Err(Mistyped);
            }
            if scope.is_empty() || scopes.iter().any(|earlier| **earlier == *scope) {
                continue;
            }
            if scopes.len() == MOST_SCOPES {
                return Err(Mistyped);
            }
            scopes.push(Box::from(scope));
        }
    }
    Ok(scopes.into_boxed_slice())
}

/// OpenID Connect Core, sections 2 and 3.3.2.11: what binds an ID token to its login.
const ONLY_IN_ID_TOKENS: [&str; 3] = ["nonce", "at_hash", "c_hash"];

/// The longest `sub`, `iss`, `jti` or client id, in bytes.
const LONGEST_NAME: usize = 512;

/// The most scopes and roles of one token.
const MOST_SCOPES: usize = 256;
