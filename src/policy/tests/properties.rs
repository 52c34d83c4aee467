//! What holds of all rules: they mean what they say, and adding one does what it is for and no more.

use proptest::prelude::*;

use super::*;

/// What the rules mean, word for word.
fn naive(rules: &[RuleConfig], caller: &Caller, query: &CertQuery) -> Option<String> {
    let fits = |patterns: &[String], text: &str| {
        patterns
            .iter()
            .any(|pattern| Glob::new(pattern).matches(text))
    };
    let matches = |rule: &&RuleConfig| {
        let project = query.project.as_str();
        fits(&rule.subjects, &caller.subject)
            && (rule.issuers.is_empty() || rule.issuers.iter().any(|name| **name == *caller.issuer))
            && rule
                .scopes
                .iter()
                .all(|scope| caller.scopes.iter().any(|own| **own == **scope))
            && rule.projects.iter().any(|id| id == "*" || id == project)
            && fits(&rule.usernames, query.username.as_str())
    };
    if rules
        .iter()
        .filter(|rule| rule.deny)
        .any(|rule| matches(&rule))
    {
        return None;
    }
    let granting = rules.iter().filter(|rule| !rule.deny).find(matches);
    granting.map(|rule| rule.name.clone())
}

/// What a caller may, to be compared. Without a limit it is the largest number.
#[derive(Clone, Copy, Debug)]
struct Given {
    force_refresh: bool,
    lookups: u64,
    misses: u64,
    admin: bool,
}

impl Given {
    fn is_within(self, other: Self) -> bool {
        self.force_refresh <= other.force_refresh
            && self.lookups <= other.lookups
            && self.misses <= other.misses
            && self.admin <= other.admin
    }
}

fn given(policy: &Policy, caller: &Caller, query: &CertQuery) -> Option<Given> {
    let most =
        |limit: Option<&RateLimit<'_>>| limit.map_or(u64::MAX, |limit| limit.per_minute.into());
    let permit = policy.authorize(caller, query).ok()?;
    let admin = policy.may_administer(caller, Reach::CertQuery(query));
    Some(Given {
        force_refresh: permit.may_force_refresh(),
        lookups: most(permit.lookups_per_minute()),
        misses: most(permit.misses_per_minute()),
        admin: admin.is_ok(),
    })
}

fn a_rule() -> impl Strategy<Value = RuleConfig> {
    let patterns = || prop::collection::vec("[ab*é]{1,6}", 1..4);
    let project = prop::sample::select(vec!["*", PROJECT, OTHER]);
    let scopes = prop::collection::vec(
        prop::sample::select(vec!["certs:read".to_owned(), "x".to_owned()]),
        0..2,
    );
    let issuer = prop::sample::select(vec!["https://idp.test".to_owned(), "https://x".to_owned()]);
    (
        patterns(),
        prop::collection::vec(project, 1..3),
        patterns(),
        prop::bool::weighted(0.05),
        scopes,
        prop::collection::vec(issuer, 0..2),
        (
            any::<bool>(),
            any::<bool>(),
            prop::option::of(1..5_u32),
            prop::option::of(1..5_u32),
        ),
    )
        .prop_map(
            |(subjects, projects, usernames, deny, scopes, issuers, rights)| {
                let (refresh, admin, lookups, misses) = rights;
                RuleConfig {
                    subjects,
                    projects: texts(&projects),
                    usernames,
                    deny,
                    scopes,
                    issuers,
                    force_refresh: refresh && !deny,
                    admin: admin && !deny,
                    lookups_per_minute: lookups.filter(|_| !deny),
                    misses_per_minute: misses.filter(|_| !deny),
                    ..RuleConfig::default()
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_policy_and_the_naive_evaluator_agree(
        mut rules in prop::collection::vec(a_rule(), 1..60),
        subject in "[abé]{1,4}",
        username in "[abé]{1,4}",
        here in any::<bool>(),
    ) {
        for (number, rule) in rules.iter_mut().enumerate() {
            rule.name = number.to_string();
        }
        let asking = caller(&subject);
        let asked = query(if here { PROJECT } else { OTHER }, &username);
        let expected = naive(&rules, &asking, &asked);
        let policy = Policy::build(&config(rules)).unwrap();
        // The second time by what the caller remembers of the first.
        for _ in 0..2 {
            let permit = policy.authorize(&asking, &asked);
            let granted = permit.ok().map(|permit| permit.rule().to_string());
            prop_assert_eq!(&granted, &expected);
        }
    }

    #[test]
    fn a_granting_rule_takes_no_right_away_and_a_denying_one_gives_none(
        mut rules in prop::collection::vec(a_rule(), 1..30),
        mut another in a_rule(),
        at in any::<prop::sample::Index>(),
        subject in "[abé]{1,4}",
        username in "[abé]{1,4}",
        here in any::<bool>(),
    ) {
        for (number, rule) in rules.iter_mut().enumerate() {
            rule.name = number.to_string();
        }
        another.name = "another".to_owned();
        let asking = caller(&subject);
        let asked = query(if here { PROJECT } else { OTHER }, &username);
        let before = given(&policy(rules.clone()), &asking, &asked);
        rules.insert(at.index(rules.len() + 1), another.clone());
        let after = given(&policy(rules), &asking, &asked);
        let is_less = |one: Option<Given>, other: Option<Given>| match (one, other) {
            (Some(one), Some(other)) => one.is_within(other),
            (one, _) => one.is_none(),
        };
        if another.deny {
            prop_assert!(is_less(after, before), "{before:?} {after:?}");
        } else {
            prop_assert!(is_less(before, after), "{before:?} {after:?}");
        }
    }

    #[test]
    fn what_a_rule_denies_is_hidden_and_nothing_else(
        mut rules in prop::collection::vec(a_rule(), 1..30),
        denying in prop::collection::vec(any::<bool>(), 30),
        subject in "[abé]{1,4}",
        username in "[abé]{1,4}",
        here in any::<bool>(),
    ) {
        for ((number, rule), deny) in rules.iter_mut().enumerate().zip(denying) {
            rule.name = number.to_string();
            rule.deny = deny;
            if deny {
                *rule = RuleConfig {
                    force_refresh: false,
                    admin: false,
                    lookups_per_minute: None,
                    misses_per_minute: None,
                    ..rule.clone()
                };
            }
        }
        let asking = Arc::new(caller(&subject));
        let project = if here { PROJECT } else { OTHER };
        let asked = query(project, &username);
        let policy = policy(rules);
        let hidden = policy.hidden(&asking);
        let by_rule = |denied: Option<Denied>| matches!(denied, Some(Denied::ByRule(_)));
        let is_denied = by_rule(policy.authorize(&asking, &asked).err());
        prop_assert_eq!(hidden.has(Some(project), Some(&username)), is_denied);
        let reach = Reach::CertQuery(&asked);
        prop_assert_eq!(by_rule(policy.may_administer(&asking, reach).err()), is_denied);
        let reach = Reach::Project(&asked.project);
        if by_rule(policy.may_administer(&asking, reach).err()) {
            prop_assert!(is_denied && hidden.has(Some(project), None));
        }
    }

    #[test]
    fn a_rule_of_many_patterns_means_what_few_do(
        patterns in prop::collection::vec("[ab*é]{1,6}", 13..40),
        username in "[abé]{1,6}",
    ) {
        let expected = patterns.iter().any(|pattern| Glob::new(pattern).matches(&username));
        let policy = policy([RuleConfig { usernames: patterns, ..rule("x", &["*"], &["*"], &[]) }]);
        let asked = query(PROJECT, &username);
        prop_assert_eq!(policy.authorize(&caller("a"), &asked).is_ok(), expected);
    }
}
