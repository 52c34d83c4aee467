//! Rules as an operator writes them, asked as a caller asks.

mod administration;
mod configuration;
mod properties;

use std::borrow::Cow;

use super::glob::Glob;
use super::*;
use crate::atlas::{Timestamp, Username};
use crate::identity::RuleListNumber;

const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
const OTHER: &str = "000000000000000000000000";

pub(super) fn caller(subject: &str) -> Caller {
    Caller {
        subject: Box::from(subject),
        issuer: Arc::from("https://idp.test"),
        client_id: None,
        token_id: None,
        key_id: None,
        scopes: Box::new([Box::from("certs:read")]),
        expires_at: Timestamp::default(),
        rule_list: RuleListNumber::default(),
    }
}

fn query(project: &str, username: &str) -> CertQuery {
    CertQuery {
        project: project.parse().unwrap(),
        username: username.parse::<Username>().unwrap(),
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn rule(name: &str, subjects: &[&str], projects: &[&str], usernames: &[&str]) -> RuleConfig {
    RuleConfig {
        name: name.to_owned(),
        subjects: texts(subjects),
        projects: texts(projects),
        usernames: texts(usernames),
        ..RuleConfig::default()
    }
}

fn policy(rules: impl IntoIterator<Item = RuleConfig>) -> Policy {
    Policy::build(&config(rules)).unwrap()
}

fn config(rules: impl IntoIterator<Item = RuleConfig>) -> Config {
    Config {
        rules: rules.into_iter().collect(),
        ..Config::default()
    }
}

fn granted(policy: &Policy, caller: &Caller, project: &str, username: &str) -> String {
    match policy.authorize(caller, &query(project, username)) {
        Ok(permit) => permit.rule().as_ref().to_owned(),
        Err(denied) => denied.reason().to_owned(),
    }
}

#[test]
fn what_no_rule_grants_is_denied_and_denials_win() {
    let policy = policy([
        rule(
            "payments",
            &["payments-*"],
            &[PROJECT],
            &["payments-*", "CN=payments-*"],
        ),
        rule("all of ops", &["ops"], &["*"], &["*"]),
        RuleConfig {
            deny: true,
            ..rule("no root", &["*"], &["*"], &["root"])
        },
    ]);
    let no_rule = "no rule grants it";
    for (subject, project, username, expected) in [
        ("payments-api", PROJECT, "payments-db", "payments"),
        ("payments-api", PROJECT, "CN=payments-", "payments"),
        ("payments-api", PROJECT, "cn=payments-1", no_rule),
        ("payments-api", OTHER, "payments-db", no_rule),
        ("payments", PROJECT, "payments-db", no_rule),
        ("ops", OTHER, "anything", "all of ops"),
        ("ops", OTHER, "root", "denied by a rule"),
        ("*", PROJECT, "payments-db", no_rule),
        (".*", PROJECT, "payments-db", no_rule),
        ("admin", PROJECT, "x", no_rule),
    ] {
        let found = granted(&policy, &caller(subject), project, username);
        assert_eq!(found, expected, "{subject} {project} {username}");
    }
}

#[test]
fn the_issuer_is_part_of_who_a_caller_is_and_all_listed_scopes_are_needed() {
    let policy = policy([RuleConfig {
        issuers: texts(&["https://idp.test"]),
        scopes: texts(&["certs:read", "prod"]),
        ..rule("strict", &["a"], &["*"], &["*"])
    }]);
    let asking = |issuer: &str, scopes: &[&str]| Caller {
        issuer: Arc::from(issuer),
        scopes: scopes.iter().copied().map(Box::from).collect(),
        ..caller("a")
    };
    for (issuer, scopes, expected) in [
        (
            "https://idp.test",
            &["certs:read"][..],
            "insufficient scope",
        ),
        ("https://idp.test", &["prod", "certs:read"], "strict"),
        (
            "https://idp.test/",
            &["prod", "certs:read"],
            "no rule grants it",
        ),
    ] {
        let found = granted(&policy, &asking(issuer, scopes), PROJECT, "u");
        assert_eq!(found, expected, "{issuer} {scopes:?}");
    }
}

#[test]
fn what_rules_give_adds_up() {
    let limited = |name, lookups, misses| RuleConfig {
        lookups_per_minute: lookups,
        misses_per_minute: misses,
        ..rule(name, &["a"], &["*"], &["*"])
    };
    let policy = policy([
        limited("first", Some(600), Some(125)),
        limited("second", Some(700), Some(100)),
        limited("third", Some(700), Some(125)),
        RuleConfig {
            force_refresh: true,
            misses_per_minute: Some(1),
            lookups_per_minute: Some(1),
            ..rule("refresh", &["*"], &["*"], &["*"])
        },
        RuleConfig {
            usernames: texts(&["v"]),
            ..limited("of another user", None, None)
        },
        rule("unlimited", &["b"], &["*"], &["*"]),
    ]);
    let permit = |subject, username| {
        policy
            .authorize(&caller(subject), &query(PROJECT, username))
            .unwrap()
            .into_owned()
    };
    let limit = |limit: Option<&RateLimit<'_>>| {
        limit.map(|limit| (limit.per_minute, limit.rule.to_string()))
    };
    let own = permit("a", "u");
    assert_eq!(&**own.rule(), "first");
    assert!(own.may_force_refresh());
    assert_eq!(
        limit(own.lookups_per_minute()),
        Some((700, "second".to_owned()))
    );
    assert_eq!(
        limit(own.misses_per_minute()),
        Some((125, "first".to_owned()))
    );
    assert_eq!(own.query(), &query(PROJECT, "u"));
    let without_limit = permit("a", "v");
    assert_eq!(limit(without_limit.lookups_per_minute()), None);
    assert_eq!(limit(without_limit.misses_per_minute()), None);
    let other = permit("b", "u");
    assert_eq!(&**other.rule(), "refresh");
    assert_eq!(limit(other.lookups_per_minute()), None);
}

#[test]
fn a_group_of_projects_and_the_callers_own_names_stand_for_what_they_name() {
    let mut config = config([rule(
        "own",
        &["*"],
        &["@payments"],
        &["{subject}", "CN={client_id},*"],
    )]);
    let group = texts(&[PROJECT, OTHER]);
    config.project_groups.insert("payments".to_owned(), group);
    let policy = Policy::build(&config).unwrap();
    let mut asking = caller("payments-*");
    asking.client_id = Some(Box::from("api"));
    let no_rule = "no rule grants it";
    for (project, username, expected) in [
        (PROJECT, "payments-*", "own"),
        (OTHER, "payments-*", "own"),
        (PROJECT, "payments-api", no_rule),
        (PROJECT, "CN=api,OU=x", "own"),
        (PROJECT, "CN=ap,OU=x", no_rule),
        ("000000000000000000000001", "payments-*", no_rule),
    ] {
        let found = granted(&policy, &asking, project, username);
        assert_eq!(found, expected, "{project} {username}");
    }
}

#[test]
fn the_deny_list_wins_over_every_rule() {
    let everything = RuleConfig {
        admin: true,
        ..rule("everything", &["*"], &["*"], &["*"])
    };
    let (list, _) = DenyList::parse("sub a");
    let policy = policy([everything]).with_deny_list(Arc::new(list));
    let refused = "its sub is on the deny list";
    assert_eq!(granted(&policy, &caller("a"), PROJECT, "u"), refused);
    assert_eq!(granted(&policy, &caller("b"), PROJECT, "u"), "everything");
    assert!(policy.administrates(&caller("a")).is_err());
    assert!(
        policy
            .may_administer(&caller("a"), Reach::Everything)
            .is_err()
    );
    assert!(policy.administrates(&caller("b")).is_ok());
}

#[test]
fn a_rule_is_unused_until_it_has_decided_and_stays_used_over_a_reload_that_keeps_it() {
    let rules = || {
        [
            rule("reads", &["a"], &["*"], &["*"]),
            RuleConfig {
                deny: true,
                ..rule("denies", &["*"], &["*"], &["root"])
            },
            rule("another", &["b"], &["*"], &["*"]),
        ]
    };
    let unused = |policy: &Policy| {
        policy
            .unused()
            .into_iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let first = policy(rules());
    assert_eq!(unused(&first), ["reads", "denies", "another"]);
    granted(&first, &caller("a"), PROJECT, "root");
    assert_eq!(unused(&first), ["reads", "another"]);
    granted(&first, &caller("a"), PROJECT, "u");
    // To ask why is no use.
    first.explain(&caller("b"), &query(PROJECT, "u"));
    assert_eq!(unused(&first), ["another"]);
    let mut changed = rules();
    changed[0].usernames = texts(&["u*"]);
    changed.reverse();
    let second = policy(changed).following(&first);
    assert_eq!(unused(&second), ["another", "reads"]);
}

#[test]
fn an_explanation_names_what_matches_and_what_nearly_does() {
    let policy = policy([
        RuleConfig {
            lookups_per_minute: Some(600),
            ..rule("reads", &["a"], &[PROJECT], &["app-*"])
        },
        RuleConfig {
            scopes: texts(&["admin"]),
            ..rule("scoped", &["*"], &["*"], &["*"])
        },
        RuleConfig {
            deny: true,
            ..rule("no root", &["*"], &["*"], &["root"])
        },
        rule("others", &["b"], &[OTHER], &["x"]),
    ]);
    let explain = |username| policy.explain(&caller("a"), &query(PROJECT, username));
    let shown = |explanation: &AccessExplanation| {
        let rules = explanation.rules.iter().map(ToString::to_string);
        rules.collect::<Vec<_>>()
    };
    let allowed = explain("app-1");
    assert!(allowed.allowed && !allowed.admin && !allowed.force_refresh);
    assert_eq!(allowed.reason, "granted by rule \"reads\"");
    let limit = RateLimit {
        per_minute: 600,
        rule: Cow::Owned(Arc::from("reads")),
    };
    assert_eq!(allowed.lookups_per_minute, Some(limit));
    assert_eq!(
        shown(&allowed),
        [
            "\"reads\" grants it",
            "\"scoped\" grants it but for its `scopes`, which do not fit",
            "\"no root\" denies it but for its `usernames`, which do not fit",
        ]
    );
    assert_eq!(allowed.others, 1);
    let denied = explain("root");
    assert!(!denied.allowed);
    assert_eq!(denied.reason, "denied by rule \"no root\"");
    assert_eq!(denied.rule.as_deref(), Some("no root"));
    assert_eq!(explain("x").reason, "the token lacks a scope");
}

#[test]
fn a_hundred_thousand_rules_answer_as_few_do() {
    let rules = (0..100_000).map(|number| {
        rule(
            &format!("rule {number}"),
            &[&format!("team-{}-*", number % 1_000)],
            &[&format!("{:024x}", number / 1_000)],
            &[&format!("app-{number}-*")],
        )
    });
    let policy = policy(rules);
    let project = format!("{:024x}", 54);
    let found = granted(&policy, &caller("team-321-api"), &project, "app-54321-x");
    assert_eq!(found, "rule 54321");
    let missed = granted(&policy, &caller("team-322-api"), &project, "app-54321-x");
    assert_eq!(missed, "no rule grants it");
}

#[test]
fn which_rules_apply_is_found_once_per_token_and_policy() {
    let one = || rule("one", &["a*"], &["*"], &["u"]);
    let first = policy([one(), rule("other", &["b"], &["*"], &["*"])]);
    let asking = caller("a");
    assert_eq!(granted(&first, &asking, PROJECT, "u"), "one");
    let noted = |policy: &Policy| asking.rule_list.get(policy.rules.lists.generation());
    assert_eq!(noted(&first), Some(0));
    // Callers that the same rules apply to share one list.
    let alike = caller("ab");
    assert_eq!(granted(&first, &alike, PROJECT, "u"), "one");
    assert_eq!(granted(&first, &caller("b"), PROJECT, "u"), "other");
    assert_eq!(alike.rule_list.get(first.rules.lists.generation()), Some(0));
    // Another policy does not go by it, and the same rules with another deny list do.
    let second = policy([rule("none", &["x"], &["*"], &["*"])]);
    assert_eq!(granted(&second, &asking, PROJECT, "u"), "no rule grants it");
    assert_eq!(granted(&first, &asking, PROJECT, "u"), "one");
    let same = first.with_deny_list(Arc::default());
    assert_eq!(noted(&same), Some(0));
}
