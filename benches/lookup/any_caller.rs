//! Callers as identity makes them, and one whom the rules allow everything.

use atlas_cert_gateway::atlas::{CertQuery, Timestamp};
use atlas_cert_gateway::identity::{Caller, RuleListNumber};
use atlas_cert_gateway::policy::{Permit, Policy};

pub(crate) struct AnyCaller {
    policy: Policy,
    caller: Caller,
}

impl AnyCaller {
    pub(crate) fn new() -> Self {
        let rules = "[[rules]]\nname = \"all\"\nsubjects = [\"*\"]\nprojects = [\"*\"]\nusernames = [\"*\"]";
        Self {
            policy: Policy::build(&toml::from_str(rules).unwrap()).unwrap(),
            caller: caller("payments-1", "https://idp.example"),
        }
    }

    pub(crate) fn permit(&self, query: &CertQuery) -> Permit<'static> {
        let permit = self.policy.authorize(&self.caller, query);
        permit.unwrap().into_owned()
    }
}

/// A caller of whom nothing more is known, whose token does not end.
pub(crate) fn caller(subject: &str, issuer: &str) -> Caller {
    Caller {
        subject: subject.into(),
        issuer: issuer.into(),
        client_id: None,
        token_id: None,
        key_id: None,
        scopes: Box::default(),
        expires_at: Timestamp::from_seconds(i64::MAX / 1_000_000),
        rule_list: RuleListNumber::default(),
    }
}
