//! The caller that a verified token stands for, and one as an operator describes it (`check --as`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::atlas::Timestamp;

/// The principal: who calls, by a token that was verified.
#[derive(Debug)]
pub struct Caller {
    /// `sub`, or what stands in its place.
    pub subject: Box<str>,
    /// `iss`.
    pub issuer: Arc<str>,
    /// `client_id`, `azp`, `cid` or `appid`, where the token has one.
    pub client_id: Option<Box<str>>,
    /// `jti`, where the token has one.
    pub token_id: Option<Box<str>>,
    /// `kid` of the key that has signed the token, where that key has one.
    pub key_id: Option<Box<str>>,
    /// `scope`, `scp` and `roles`, or what stands in their place, taken together.
    pub scopes: Box<[Box<str>]>,
    /// When the token ends, leeway included.
    pub expires_at: Timestamp,
    /// Which access rules apply to it, as the policy has noted.
    pub rule_list: RuleListNumber,
}

/// The number of the list of rules that apply to a caller, which `policy` finds once per token and policy
/// generation: the generation in the upper half, which is never 0, the number in the lower. It holds for the
/// caller as it is; one with other claims is another caller, with a number of its own.
#[derive(Debug, Default)]
pub struct RuleListNumber(AtomicU64);

impl RuleListNumber {
    pub(crate) fn get(&self, generation: u32) -> Option<u32> {
        let noted = self.0.load(Ordering::Acquire);
        let number = u32::try_from(noted & u64::from(u32::MAX)).expect("the lower half is a u32");
        (noted >> 32 == u64::from(generation)).then_some(number)
    }

    pub(crate) fn set(&self, generation: u32, number: u32) {
        let noted = u64::from(generation) << 32 | u64::from(number);
        self.0.store(noted, Ordering::Release);
    }
}

/// The claims of a caller that an operator asks about. It never authenticates: it goes to
/// [`Policy::explain`](crate::policy::Policy::explain) alone.
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
    pub(crate) const CLAIMS: [&'static str; 6] = ["sub", "iss", "scope", "client_id", "jti", "kid"];

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
