//! Claims of a token (RFC 7519), judged by an issuer's settings at one moment.
//!
//! Each claim that is asked for has one type. A claim of another type refuses the token instead of
//! counting as absent, for a check that is skipped is a check that passed. What nothing asks for refuses
//! no token: a client or a `jti` of an odd form is not on record, and that is all.

mod numeric_date;

use serde_json::Value;

use self::numeric_date::Rounding;
use super::certificate::Thumbprint;
use super::config::{ClaimPath, IssuerConfig};
use super::unverified::Unverified;
use crate::atlas::Timestamp;
use crate::strict_json::{Mistyped, Object, texts};

#[derive(Debug)]
pub(super) struct Claims {
    pub(super) subject: Box<str>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) token_id: Option<Box<str>>,
    pub(super) scopes: Scopes,
    /// When the token ends, leeway included.
    pub(super) expires_at: Timestamp,
    pub(super) bound_to: Option<Thumbprint>,
}

type Scopes = Box<[Box<str>]>;

pub(super) fn issuer(claims: &Object) -> Result<&str, Unverified> {
    let issuer = claims.get("iss").and_then(name);
    issuer.ok_or_else(|| Unverified::Claim("iss".into()))
}

/// Whether a token may be meant for an entry of its issuer: by its audience alone.
pub(super) fn has_audience_of(claims: &Object, config: &IssuerConfig) -> bool {
    let audience = find(claims, &config.claims.audience).ok().flatten();
    let audience = audience.and_then(|audience| texts(audience).ok());
    audience.is_some_and(|named| names_us(&named, config))
}

impl Claims {
    pub(super) fn read(
        claims: &Object,
        config: &IssuerConfig,
        now: Timestamp,
    ) -> Result<Self, Unverified> {
        let places = &config.claims;
        let subject = find(claims, &places.subject)?.and_then(name);
        let mut client_ids = places.client_id.iter().filter_map(|place| {
            let client_id = find(claims, place).ok().flatten();
            client_id.and_then(name)
        });
        let read = Self {
            subject: Box::from(subject.ok_or_else(|| malformed(&places.subject))?),
            client_id: client_ids.next().map(Box::from),
            token_id: claims.get("jti").and_then(name).map(Box::from),
            scopes: scopes(claims, &places.scopes)?,
            expires_at: times(claims, config, now)?,
            bound_to: confirmation(claims)?,
        };
        audience(claims, config)?;
        for (place, requirement) in &config.required_claims {
            let value = find(claims, place)?;
            if !value.is_some_and(|value| requirement.is_met_by(value)) {
                return Err(Unverified::RequiredClaim(place.as_str().into()));
            }
        }
        Ok(read)
    }
}

fn audience(claims: &Object, config: &IssuerConfig) -> Result<(), Unverified> {
    let place = &config.claims.audience;
    let named = find(claims, place)?.ok_or_else(|| malformed(place))?;
    let named = texts(named).map_err(|Mistyped| malformed(place))?;
    if named.is_empty() || named.iter().any(|name| name.is_empty()) {
        return Err(malformed(place));
    }
    let of_login = ONLY_IN_ID_TOKENS
        .iter()
        .find(|name| claims.contains_key(**name));
    if let (Some(name), false) = (of_login, config.allow_id_token_claims) {
        return Err(Unverified::IdToken(name));
    }
    if named.len() > 1 && !config.several_audiences {
        return Err(Unverified::SeveralAudiences(place.as_str().into()));
    }
    if names_us(&named, config) {
        Ok(())
    } else {
        Err(Unverified::WrongAudience(place.as_str().into()))
    }
}

fn names_us(named: &[&str], config: &IssuerConfig) -> bool {
    let ours = &config.audiences;
    named.iter().any(|name| ours.iter().any(|own| own == name))
}

fn times(claims: &Object, config: &IssuerConfig, now: Timestamp) -> Result<Timestamp, Unverified> {
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

/// RFC 7800: the holder must show that it has what `cnf` names. What cannot be checked is not passed over:
/// without the check it would be a bearer token, which its issuer did not mean.
fn confirmation(claims: &Object) -> Result<Option<Thumbprint>, Unverified> {
    let Some(confirmation) = claims.get("cnf") else {
        return Ok(None);
    };
    let members = confirmation
        .as_object()
        .filter(|members| members.len() == 1);
    let thumbprint = members.and_then(|members| members.get("x5t#S256")?.as_str());
    let thumbprint = thumbprint.and_then(Thumbprint::read);
    thumbprint.map(Some).ok_or(Unverified::Confirmation)
}

/// The scopes of all places, each once. A text is split at single spaces (RFC 6749, section 3.3).
fn scopes(claims: &Object, places: &[ClaimPath]) -> Result<Scopes, Unverified> {
    let mut scopes: Vec<Box<str>> = Vec::new();
    for place in places {
        let Some(value) = find(claims, place)? else {
            continue;
        };
        let found: Vec<&str> = match (value, place.is_of_names()) {
            (Value::Object(object), true) => object.keys().map(String::as_str).collect(),
            (Value::String(text), false) => text.split(' ').collect(),
            // An item of a list is not split: it would grant parts that its issuer did not name.
            (Value::Array(_), false) => texts(value).map_err(|Mistyped| malformed(place))?,
            (_, _) => return Err(malformed(place)),
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

/// What stands at a place, if anything does. Something else than an object on the way to it is no
/// absence.
fn find<'o>(claims: &'o Object, place: &ClaimPath) -> Result<Option<&'o Value>, Unverified> {
    let mut steps = place.steps();
    let mut value = steps.next().and_then(|step| claims.get(step));
    for step in steps {
        let Some(outer) = value else {
            return Ok(None);
        };
        value = outer.as_object().ok_or_else(|| malformed(place))?.get(step);
    }
    Ok(value)
}

fn name(value: &Value) -> Option<&str> {
    let is_short = |text: &&str| !text.is_empty() && text.len() <= LONGEST_NAME;
    let text = value.as_str().filter(is_short)?;
    (!text.chars().any(char::is_control)).then_some(text)
}

fn malformed(place: &ClaimPath) -> Unverified {
    Unverified::Claim(place.as_str().into())
}

/// OpenID Connect Core, sections 2 and 3.3.2.11: what binds an ID token to its login.
const ONLY_IN_ID_TOKENS: [&str; 3] = ["nonce", "at_hash", "c_hash"];

const LONGEST_NAME: usize = 512;

const MOST_SCOPES: usize = 256;
