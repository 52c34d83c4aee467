//! Which credential a request carries, and what it proves.

use std::time::SystemTime;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::accounts::Projects;
use crate::answer::{Answer, Refusal};
use crate::digest::{Asked, Nonces, Verdict};
use crate::errors;
use crate::held::Held;
use crate::oauth::Tokens;
use crate::settings::Rules;

/// What a request proved about its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The id and secret of this service account, at the token endpoints.
    Basic(String),
    /// A live token of this service account.
    Bearer(String),
    /// This API key.
    Digest(String),
    /// Nothing: there was no credential, or it was refused.
    None,
}

/// A request as authentication sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presented<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

/// Tokens and nonces: what credentials are checked against.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(crate) tokens: Held<Tokens>,
    pub(crate) nonces: Held<Nonces>,
}

impl Authenticator {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self {
            tokens: Held::new(Tokens::seeded(seed)),
            nonces: Held::new(Nonces::seeded(seed.wrapping_add(1))),
        }
    }

    /// What the credential of an API call proves, and which projects that opens.
    pub(crate) fn identify(
        &self,
        request: Presented<'_>,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<(Credential, Projects), Refusal> {
        let mut values = request.headers.get_all(AUTHORIZATION).iter();
        let (value, more) = (values.next(), values.next());
        let value = value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        if more.is_none() && scheme.eq_ignore_ascii_case("bearer") {
            self.bearer(rest, rules, now)
        } else if more.is_none() && scheme.eq_ignore_ascii_case("digest") {
            self.digest(rest, request, rules, now)
        } else {
            Err(self.challenge(rules, false, now).into())
        }
    }

    fn bearer(
        &self,
        token: &str,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<(Credential, Projects), Refusal> {
        let owner = self
            .tokens
            .with(|tokens| tokens.owner(token, now).map(str::to_owned));
        let account = owner.and_then(|owner| {
            rules
                .service_accounts
                .iter()
                .find(|account| account.client_id == owner)
        });
        let account = account.ok_or_else(errors::token_refused)?;
        Ok((
            Credential::Bearer(account.client_id.clone()),
            account.projects.clone(),
        ))
    }

    fn digest(
        &self,
        credential: &str,
        request: Presented<'_>,
        rules: &Rules,
        now: SystemTime,
    ) -> Result<(Credential, Projects), Refusal> {
        let asked = Asked {
            method: request.method,
            target: request.target,
            credential,
        };
        let verdict = self
            .nonces
            .with(|nonces| nonces.judge(asked, &rules.digest, &rules.api_keys, now));
        let public_key = match verdict {
            Verdict::Proven(public_key) => public_key,
            Verdict::Refused => return Err(self.challenge(rules, false, now).into()),
            Verdict::Stale => return Err(self.challenge(rules, true, now).into()),
        };
        let key = rules
            .api_keys
            .iter()
            .find(|key| key.public_key == public_key);
        let projects = key.map_or(Projects::All, |key| key.projects.clone());
        Ok((Credential::Digest(public_key), projects))
    }

    fn challenge(&self, rules: &Rules, stale: bool, now: SystemTime) -> Answer {
        let challenges = self
            .nonces
            .with(|nonces| nonces.challenge(&rules.digest, stale, now));
        errors::challenge(&challenges)
    }
}
