//! A caller as an operator describes it, to ask what it may: for `check --as` and `/access/explain`.
//!
//! It lets nobody in: it goes to [`Policy::explain`](crate::policy::Policy::explain) alone.

use std::sync::Arc;

use super::{Caller, RuleListNumber};
use crate::atlas::Timestamp;

/// The claims of a caller that an operator asks about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallerDescription {
    subject: Option<Box<str>>,
    issuer: Option<Box<str>>,
    client_id: Option<Box<str>>,
    token_id: Option<Box<str>>,
    key_id: Option<Box<str>>,
    scopes: Vec<Box<str>>,
}

impl CallerDescription {
    /// The names of the claims that can be described.
    pub(crate) const CLAIMS: [&'static str; 6] = ["sub", "iss", "scope", "client_id", "jti", "kid"];

    /// Takes a claim. The scopes of one `scope` are apart by blanks, and there may be several.
    pub(crate) fn set(&mut self, claim: &str, value: &str) -> Result<(), String> {
        let place = match claim {
            "sub" => &mut self.subject,
            "iss" => &mut self.issuer,
            "client_id" => &mut self.client_id,
            "jti" => &mut self.token_id,
            "kid" => &mut self.key_id,
            "scope" => {
                self.scopes.extend(value.split_whitespace().map(Box::from));
                return Ok(());
            }
            _ => {
                return Err(format!(
                    "has {claim:?}, which is none of {}",
                    Self::CLAIMS.join(", ")
                ));
            }
        };
        if value.is_empty() {
            return Err(format!("has an empty {claim}, which no token may have"));
        }
        match place.replace(Box::from(value)) {
            Some(_) => Err(format!("has {claim} twice")),
            None => Ok(()),
        }
    }

    /// Whether nothing is described.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The caller. Its issuer is one of `issuers`; where there is only one, it need not be named.
    pub(crate) fn caller(self, issuers: &[Arc<str>]) -> Result<Caller, String> {
        let issuer = match (&self.issuer, issuers) {
            (Some(name), _) => issuers.iter().find(|known| ***known == **name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let issuer = issuer
            .ok_or_else(|| format!("must have an iss that is one of {}", issuers.join(", ")))?;
        Ok(Caller {
            subject: self.subject.ok_or("must have a sub")?,
            issuer: Arc::clone(issuer),
            client_id: self.client_id,
            token_id: self.token_id,
            key_id: self.key_id,
            scopes: self.scopes.into_boxed_slice(),
            expires_at: Timestamp::default(),
            rule_list: RuleListNumber::default(),
        })
    }
}
