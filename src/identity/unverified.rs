//! Why a token is refused: for the log, which says what to set, and for the audit trail; the
//! caller learns only what RFC 6750 has words for.

use std::fmt;

/// Why a token is refused.
///
/// A claim is named as the configuration names its place. What the token says there is not told: nothing
/// of it is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says what its variant is")]
pub enum Unverified {
    Algorithm,
    Certificate,
    Claim(Box<str>),
    Confirmation,
    Expired,
    Header,
    IdToken(&'static str),
    KeyId,
    LivesTooLong,
    Malformed,
    /// There is no key of the issuer at all, for now: not the caller's fault.
    NoKeys,
    NotYetValid(&'static str),
    RequiredClaim(Box<str>),
    SeveralAudiences(Box<str>),
    Revoked,
    Signature,
    TokenType,
    TooLong,
    /// Its key may be on its way, and too many wait for that already: not the caller's fault.
    TooManyWait,
    UnknownIssuer,
    UnknownKey,
    WrongAudience(Box<str>),
}

impl Unverified {
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Algorithm => "algorithm not allowed",
            Self::Certificate => "not the holder's certificate",
            Self::Claim(_) => "malformed claim",
            Self::Confirmation => "unsupported confirmation",
            Self::Expired => "expired",
            Self::Header => "unsupported header",
            Self::IdToken(_) => "id token",
            Self::KeyId => "malformed key id",
            Self::LivesTooLong => "lives too long",
            Self::Malformed => "malformed",
            Self::NoKeys => "no keys",
            Self::NotYetValid(_) => "not yet valid",
            Self::RequiredClaim(_) => "required claim",
            Self::Revoked => "on the deny list",
            Self::SeveralAudiences(_) => "several audiences",
            Self::Signature => "bad signature",
            Self::TokenType => "wrong token type",
            Self::TooLong => "too long",
            Self::TooManyWait => "too many wait for keys",
            Self::UnknownIssuer => "unknown issuer",
            Self::UnknownKey => "unknown key",
            Self::WrongAudience(_) => "wrong audience",
        }
    }

    pub(crate) fn claim(&self) -> Option<&str> {
        match self {
            Self::Certificate | Self::Confirmation => Some("cnf"),
            Self::Claim(name)
            | Self::RequiredClaim(name)
            | Self::SeveralAudiences(name)
            | Self::WrongAudience(name) => Some(name),
            Self::Expired | Self::LivesTooLong => Some("exp"),
            Self::IdToken(name) | Self::NotYetValid(name) => Some(name),
            Self::UnknownIssuer => Some("iss"),
            Self::Algorithm
            | Self::Header
            | Self::KeyId
            | Self::Malformed
            | Self::NoKeys
            | Self::Revoked
            | Self::Signature
            | Self::TokenType
            | Self::TooLong
            | Self::TooManyWait
            | Self::UnknownKey => None,
        }
    }

    /// What to set, if such tokens are to pass; `None` where no setting lets them.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Algorithm => {
                Some("the issuer's `algorithms` say which are, and its keys fit them")
            }
            Self::Certificate => Some(
                "it passes over a TLS connection of this gateway with `server.tls.client_ca`, with the \
                 certificate that it was issued for",
            ),
            Self::Claim(_) => Some(
                "it is missing, or is not what is looked for there; `claims` says where subject, scopes \
                 and audience stand",
            ),
            Self::Confirmation => Some("only `x5t#S256` can be checked here (RFC 8705)"),
            Self::IdToken(_) => Some(
                "it was issued for a login; `allow_id_token_claims = true` lets such tokens of the issuer \
                 pass",
            ),
            Self::LivesTooLong => Some("the issuer's `max_lifetime` says how long it may"),
            Self::NotYetValid(_) => {
                Some("look at both clocks; the issuer's `leeway` says how far they may differ")
            }
            Self::RequiredClaim(_) => Some("`required_claims` says what it must be"),
            Self::SeveralAudiences(_) => Some(
                "it is meant for others, too, who could use it here; `several_audiences = true` lets \
                 such tokens of the issuer pass",
            ),
            Self::TokenType => Some(
                "the issuer's `token_types` say what `typ` may be; `\"\"` stands for a token without one",
            ),
            Self::UnknownIssuer => {
                Some("add [[identity.issuers]] with its `iss` if its tokens are to pass")
            }
            Self::UnknownKey => {
                Some("the issuer publishes no key that it names and that can be used")
            }
            Self::WrongAudience(_) => Some(
                "it names none of the issuer's `audiences`; `claims.audience` says in which claim they \
                 stand",
            ),
            Self::Expired
            | Self::Header
            | Self::KeyId
            | Self::Malformed
            | Self::NoKeys
            | Self::Revoked
            | Self::Signature
            | Self::TooLong
            | Self::TooManyWait => None,
        }
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())?;
        if let Some(claim) = self.claim() {
            write!(f, " (claim {claim:?})")?;
        }
        match self.advice() {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}
