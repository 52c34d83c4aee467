//! `check --as`: whether a caller may look a user up, and what each rule has to say.

use std::sync::Arc;

use clap::Args;

use crate::atlas::{CertQuery, ProjectId, Username};
use crate::commands::{ExitStatus, complain, say};
use crate::config::Config;
use crate::identity::CallerDescription;
use crate::policy::{AccessExplanation, Policy, RateLimit};

#[derive(Debug, Args)]
#[group(id = "access")]
pub(super) struct AccessArguments {
    /// Says whether a caller with these claims may look a user up, and why: `sub=…,scope=…`; also `iss`,
    /// `client_id`, `jti` and `kid`. Several scopes are apart by blanks.
    #[arg(
        long = "as",
        value_name = "CLAIMS",
        requires = "group",
        requires = "username"
    )]
    claims: Vec<String>,
    /// The project that the caller would ask about.
    #[arg(long, value_name = "ID", requires = "claims")]
    group: Option<ProjectId>,
    /// The database user that the caller would ask about.
    #[arg(long, value_name = "NAME", requires = "claims")]
    username: Option<Username>,
}

impl AccessArguments {
    /// Answers, if anything was asked: [`ExitStatus::Well`] if the caller may, [`ExitStatus::Failed`] if not.
    pub(super) fn answer(&self, config: &Config, policy: &Policy) -> Option<ExitStatus> {
        let query = CertQuery {
            project: self.group?,
            username: self.username.clone()?,
        };
        let mut described = CallerDescription::default();
        let mut issuers: Vec<Arc<str>> = Vec::new();
        for entry in &config.identity.issuers {
            if !issuers.iter().any(|known| **known == *entry.issuer) {
                issuers.push(Arc::from(entry.issuer.as_str()));
            }
        }
        let set = |(claim, value): (&str, &str)| described.set(claim, value);
        let caller = self
            .claims
            .iter()
            .flat_map(|text| claims(text))
            .try_for_each(set)
            .and_then(|()| described.caller(&issuers));
        match caller {
            Ok(caller) => Some(print(&policy.explain(&caller, &query))),
            Err(message) => {
                complain(&format_args!("--as {message}"));
                Some(ExitStatus::Misused)
            }
        }
    }
}

/// Takes `sub=a,scope=b c` apart. A comma that no claim's name follows is part of a value: a subject may
/// well be a distinguished name.
fn claims(text: &str) -> Vec<(&str, &str)> {
    let begins = |rest: &str| {
        CallerDescription::CLAIMS.iter().any(|claim| {
            rest.strip_prefix(claim)
                .is_some_and(|it| it.starts_with('='))
        })
    };
    let mut claims = Vec::new();
    let mut start = 0;
    let commas = text.match_indices(',').map(|(at, _)| at);
    let ends: Vec<usize> = commas
        .filter(|at| text.get(at + 1..).is_some_and(begins))
        .chain([text.len()])
        .collect();
    for end in ends {
        let claim = text.get(start..end).expect("commas are one byte each");
        claims.push(claim.split_once('=').unwrap_or((claim, "")));
        start = end + 1;
    }
    claims
}

fn print(explanation: &AccessExplanation) -> ExitStatus {
    let was_said = lines(explanation).iter().all(|line| say(line));
    if explanation.allowed && was_said {
        ExitStatus::Well
    } else {
        ExitStatus::Failed
    }
}

fn lines(explanation: &AccessExplanation) -> Vec<String> {
    let yes = |is_so| if is_so { "yes" } else { "no" };
    let limit = |limit: &Option<RateLimit<'_>>| match limit {
        Some(limit) => format!("{} (rule \"{}\")", limit.per_minute, limit.rule),
        None => "no limit".to_owned(),
    };
    let verdict = if explanation.allowed {
        "allowed"
    } else {
        "denied"
    };
    let mut lines = vec![format!("{verdict}: {}", explanation.reason)];
    if explanation.allowed {
        lines.extend([
            format!("  force_refresh: {}", yes(explanation.force_refresh)),
            format!(
                "  lookups_per_minute: {}",
                limit(&explanation.lookups_per_minute)
            ),
            format!(
                "  misses_per_minute: {}",
                limit(&explanation.misses_per_minute)
            ),
        ]);
    }
    lines.push(format!("  admin: {}", yes(explanation.admin)));
    lines.extend(
        explanation
            .rules
            .iter()
            .map(|rule| format!("  rule {rule}")),
    );
    if explanation.others > 0 {
        lines.push(format!(
            "  {} more speak of something else",
            explanation.others
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_separates_claims_only_before_the_name_of_one() {
        assert_eq!(
            claims("sub=CN=a,O=b,scope=certs:read x,client_id=c"),
            [
                ("sub", "CN=a,O=b"),
                ("scope", "certs:read x"),
                ("client_id", "c")
            ]
        );
        assert_eq!(claims("payments"), [("payments", "")]);
    }
}
