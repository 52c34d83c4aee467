//! What a token claims: JSON goes in, [`Claims`] come out that are good now by an issuer's settings. Pure.
//!
//! Each claim that is asked for has one type. A claim of another type refuses the token instead of
//! counting as absent, for a check that is skipped is a check that passed. What nothing asks for refuses
//! nobody: a client or a `jti` of an odd form is not on record, and that is all.

use crate::atlas::Timestamp;

use super::certificate::Thumbprint;
use super::config::{ClaimPath, IssuerConfig};
use super::json::{Mistyped, Object, Value};
use super::numeric_date::Rounding;
use super::{Unverified, numeric_date};

/// The claims of a token that is good now, if its signature is.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) subject: Box<str>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) token_id: Option<Box<str>>,
    pub(super) scopes: Scopes,
    /// When the token ends, leeway included.
    pub(super) expires_at: Timestamp,
    /// The certificate that whoever uses it must hold.
    pub(super) bound_to: Option<Thumbprint>,
}

/// Names of what a token is good for.
type Scopes = Box<[Box<str>]>;

/// Who has issued a token, by its own words.
pub(super) fn issuer<'a>(claims: &'a Object<'_>) -> Result<&'a str, Unverified> {
    let issuer = claims.get("iss").and_then(name);
    issuer.ok_or_else(|| Unverified::Claim("iss".into()))
}

/// Whether a token may be meant for an entry of its issuer: by its audience alone.
pub(super) fn names_one_of_us(claims: &Object<'_>, config: &IssuerConfig) -> bool {
    let named = claims.at(config.claims.audience.steps()).ok().flatten();
    let named = named.and_then(|named| named.texts().ok());
    named.is_some_and(|named| named.iter().any(|name| is_ours(name, config)))
}

impl Claims {
    /// Reads what an issuer's settings ask for, and judges it at `now`.
    pub(super) fn read(
        claims: &Object<'_>,
        config: &IssuerConfig,
        now: Timestamp,
    ) -> Result<Self, Unverified> {
        let places = &config.claims;
        let subject = find(claims, &places.subject)?.and_then(name);
        let subject = subject.ok_or_else(|| malformed(&places.subject))?;
        let read = Self {
            subject: Box::from(subject),
            client_id: first_name(claims, &places.client_id),
            token_id: claims.get("jti").and_then(name).map(Box::from),
            scopes: scopes(claims, &places.scopes)?,
            expires_at: times(claims, config, now)?,
            bound_to: confirmation(claims)?,
        };
        audience(claims, config)?;
        for (place, demand) in &config.required_claims {
            let value = find(claims, place)?;
            if !value.is_some_and(|value| demand.is_met_by(value)) {
                return Err(Unverified::RequiredClaim(place.as_str().into()));
            }
        }
        Ok(read)
    }
}

/// Checks that a token is meant for us, and is no token about a login.
fn audience(claims: &Object<'_>, config: &IssuerConfig) -> Result<(), Unverified> {
    let place = &config.claims.audience;
    let named = find(claims, place)?.ok_or_else(|| malformed(place))?;
    let named = named.texts().map_err(|Mistyped| malformed(place))?;
    if named.is_empty() || named.iter().any(|name| name.is_empty()) {
        return Err(malformed(place));
    }
    if !config.allow_id_token_claims
        && let Some(name) = ONLY_IN_ID_TOKENS.iter().find(|name| claims.has(name))
    {
        return Err(Unverified::IdToken(name));
    }
    if named.len() > 1 && !config.several_audiences {
        return Err(Unverified::SeveralAudiences(place.as_str().into()));
    }
    if named.iter().any(|name| is_ours(name, config)) {
        Ok(())
    } else {
        Err(Unverified::WrongAudience(place.as_str().into()))
    }
}

fn is_ours(name: &str, config: &IssuerConfig) -> bool {
    config.audiences.iter().any(|ours| ours == name)
}

/// When a token ends, leeway included, if it is good at `now`.
fn times(
    claims: &Object<'_>,
    config: &IssuerConfig,
    now: Timestamp,
) -> Result<Timestamp, Unverified> {
    let time = |name: &'static str, rounding| {
        let value = claims.get(name);
        let time = value.map(|value| numeric_date::read(value, rounding));
        time.transpose()
            .map_err(|Mistyped| Unverified::Claim(name.into()))
    };
    let expires = time("exp", Rounding::Down)?.ok_or_else(|| Unverified::Claim("exp".into()))?;
    let not_before = time("nbf", Rounding::Up)?;
    let issued = time("iat", Rounding::Up)?;
    let end = expires.plus(config.leeway);
    if now >= end {
        return Err(Unverified::Expired);
    }
    for (name, begins) in [("nbf", not_before), ("iat", issued)] {
        if begins.is_some_and(|begins| begins > now.plus(config.leeway)) {
            return Err(Unverified::NotYetValid(name));
        }
    }
    // Without `iat` the token began now at the latest, so what is left of it is a lower bound.
    let begun = issued.unwrap_or(now);
    let longest = config.max_lifetime;
    if expires.since(begun) > longest || expires.since(now) > longest.saturating_add(config.leeway)
    {
        return Err(Unverified::LivesTooLong);
    }
    Ok(end)
}

/// RFC 7800: whoever uses the token must show that they hold what `cnf` names. What cannot be checked is
/// not passed over: without the check it would be a bearer token, which its issuer did not mean.
fn confirmation(claims: &Object<'_>) -> Result<Option<Thumbprint>, Unverified> {
    let Some(confirmation) = claims.get("cnf") else {
        return Ok(None);
    };
    let Value::Object(members) = confirmation else {
        return Err(Unverified::Confirmation);
    };
    let thumbprint = members.only("x5t#S256").and_then(Value::as_text);
    let thumbprint = thumbprint.and_then(Thumbprint::read);
    thumbprint.map(Some).ok_or(Unverified::Confirmation)
}

/// The scopes of all places, each once. A text is taken apart at single spaces (RFC 6749, section 3.3).
fn scopes(claims: &Object<'_>, places: &[ClaimPath]) -> Result<Scopes, Unverified> {
    let mut scopes: Vec<Box<str>> = Vec::new();
    for place in places {
        let Some(value) = find(claims, place)? else {
            continue;
        };
        let found: Vec<&str> = match value {
            Value::Object(object) if place.is_of_names() => object.names().collect(),
            Value::Text(text) if !place.is_of_names() => text.split(' ').collect(),
            // An item of a list is not taken apart: it would grant parts that nobody named.
            Value::List(_) if !place.is_of_names() => {
                value.texts().map_err(|Mistyped| malformed(place))?
            }
            Value::Flag(_)
            | Value::Integer(_)
            | Value::List(_)
            | Value::Null
            | Value::Object(_)
            | Value::Real(_)
            | Value::Text(_) => return Err(malformed(place)),
        };
        for scope in found {
            if scope.chars().any(char::is_control) {
                return Err(malformed(place));
            }
            if scope.is_empty() || scopes.iter().any(|earlier| **earlier == *scope) {
                continue;
            }
            if scopes.len() == MOST_SCOPES {
                return Err(malformed(place));
            }
            scopes.push(Box::from(scope));
        }
    }
    Ok(scopes.into_boxed_slice())
}

/// The first of the places that holds a name.
fn first_name(claims: &Object<'_>, places: &[ClaimPath]) -> Option<Box<str>> {
    let mut names = places
        .iter()
        .filter_map(|place| claims.at(place.steps()).ok().flatten().and_then(name));
    names.next().map(Box::from)
}

/// What stands at a place, if anything does. Something else than an object on the way to it is no
/// absence.
fn find<'o, 'a>(
    claims: &'o Object<'a>,
    place: &ClaimPath,
) -> Result<Option<&'o Value<'a>>, Unverified> {
    let value = claims.at(place.steps());
    value.map_err(|Mistyped| malformed(place))
}

/// A short text without control characters.
fn name<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    let text = value.as_text()?;
    let is_name =
        !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control);
    is_name.then_some(text)
}

fn malformed(place: &ClaimPath) -> Unverified {
    Unverified::Claim(place.as_str().into())
}

/// OpenID Connect Core, sections 2 and 3.3.2.11: what binds an ID token to its login.
const ONLY_IN_ID_TOKENS: [&str; 3] = ["nonce", "at_hash", "c_hash"];

/// The longest `sub`, `iss`, `jti` or client id, in bytes.
const LONGEST_NAME: usize = 512;

/// The most scopes and roles of one token.
const MOST_SCOPES: usize = 256;
