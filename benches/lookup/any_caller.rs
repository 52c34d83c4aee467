//! A caller whom the rules allow everything, for what costs the same for every caller.

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
            caller: Caller {
                subject: "payments-1".into(),
                issuer: "https://idp.example".into(),
                client_id: None,
                token_id: None,
                key_id: None,
                scopes: Box::default(),
                expires_at: Timestamp::from_seconds(i64::MAX / 1_000_000),
                rule_list: RuleListNumber::default(),
            },
        }
    }

    pub(crate) fn permit(&self, query: &CertQuery) -> Permit<'static> {
        let permit = self.policy.authorize(&self.caller, query);
        permit.unwrap().into_owned()
    }
}
