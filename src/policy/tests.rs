//! Rules as an operator writes them, asked as a caller asks.

use proptest::prelude::*;

use super::glob::Glob;
use super::*;
use crate::atlas::Timestamp;
use crate::atlas::Username;

const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
const OTHER: &str = "000000000000000000000000";

fn caller(subject: &str) -> Caller {
    Caller {
        subject: Box::from(subject),
        issuer: Arc::from("https://idp.test"),
        client_id: None,
        token_id: None,
        key_id: None,
        scopes: Box::new([Box::from("certs:read")]),
        expires_at: Timestamp::default(),
    }
}

fn question(project: &str, username: &str) -> Question {
    Question {
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
    let rules = rules.into_iter().collect();
    Policy::build(&Config { rules }).unwrap()
}

fn granted(policy: &Policy, caller: &Caller, project: &str, username: &str) -> String {
    match policy.authorize(caller, &question(project, username)) {
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
    let mut asking = caller("a");
    assert_eq!(
        granted(&policy, &asking, PROJECT, "u"),
        "insufficient scope"
    );
    asking.scopes = Box::new([Box::from("prod"), Box::from("certs:read")]);
    assert_eq!(granted(&policy, &asking, PROJECT, "u"), "strict");
    asking.issuer = Arc::from("https://idp.test/");
    assert_eq!(granted(&policy, &asking, PROJECT, "u"), "no rule grants it");
}

#[test]
fn the_first_rule_that_grants_gives_its_rights_and_limits() {
    let policy = policy([
        RuleConfig {
            lookups_per_minute: Some(600),
            misses_per_minute: Some(125),
            ..rule("first", &["a"], &["*"], &["*"])
        },
        RuleConfig {
            force_refresh: true,
            ..rule("second", &["*"], &["*"], &["*"])
        },
    ]);
    let permit = |subject| {
        policy
            .authorize(&caller(subject), &question(PROJECT, "u"))
            .unwrap()
            .kept()
    };
    let first = permit("a");
    assert_eq!(&**first.rule(), "first");
    assert!(!first.may_force_refresh());
    assert_eq!(first.lookups_per_minute(), Some(600));
    assert_eq!(first.misses_per_minute(), Some(125));
    assert_eq!(first.question(), &question(PROJECT, "u"));
    let second = permit("b");
    assert!(second.may_force_refresh());
    assert_eq!(second.lookups_per_minute(), None);
}

#[test]
fn administration_reaches_as_far_as_its_rule() {
    let admin = |rule| RuleConfig {
        admin: true,
        ..rule
    };
    let policy = policy([
        rule("reader", &["reader"], &["*"], &["*"]),
        admin(rule("root", &["root", "evil"], &[], &[])),
        admin(rule("team", &["team"], &[PROJECT], &["*"])),
        admin(rule("some", &["some"], &[PROJECT], &["app-*"])),
        RuleConfig {
            deny: true,
            ..rule("not evil", &["evil"], &[OTHER], &["*"])
        },
        RuleConfig {
            deny: true,
            ..rule("nobody reads u", &["*"], &[PROJECT], &["u"])
        },
    ]);
    let here = PROJECT.parse().unwrap();
    let there = OTHER.parse().unwrap();
    let (app, other) = (question(PROJECT, "app-1"), question(PROJECT, "u"));
    let may = |subject: &str| {
        [
            Reach::Everything,
            Reach::Project(&here),
            Reach::Project(&there),
            Reach::Question(&app),
            Reach::Question(&other),
        ]
        .map(|reach| policy.may_administer(&caller(subject), reach).is_ok())
    };
    assert_eq!(may("reader"), [false; 5]);
    assert_eq!(may("root"), [true, true, true, true, false]);
    assert_eq!(may("team"), [false, true, false, true, false]);
    assert_eq!(may("some"), [false, false, false, true, false]);
    assert_eq!(may("evil"), [false, true, false, true, false]);
    // An admin rule without projects looks nothing up.
    assert_eq!(
        granted(&policy, &caller("root"), PROJECT, "app-1"),
        "no rule grants it"
    );
}

#[test]
fn a_configuration_that_cannot_be_meant_is_refused_with_every_place() {
    let rules = vec![
        RuleConfig::default(),
        RuleConfig {
            deny: true,
            admin: true,
            lookups_per_minute: Some(1),
            ..rule("x", &["*"], &["*"], &[])
        },
        RuleConfig {
            misses_per_minute: Some(0),
            ..rule("x", &["*"], &["32B6E34B3D91647ABB20E7B8", "*"], &["*"])
        },
    ];
    let places: Vec<String> = Policy::build(&Config { rules })
        .unwrap_err()
        .into_iter()
        .map(|mistake| mistake.place)
        .collect();
    assert_eq!(
        places,
        [
            "access.rules[0].name",
            "access.rules[0].subjects",
            "access.rules[0].projects",
            "access.rules[0].usernames",
            "access.rules[1].usernames",
            "access.rules[1].deny",
            "access.rules[1].lookups_per_minute",
            "access.rules[2].projects",
            "access.rules[2].misses_per_minute",
            "access.rules[2].name",
        ]
    );
    let nothing = Policy::build(&Config::default()).unwrap_err();
    assert_eq!(nothing[0].place, "access.rules");
}

#[test]
fn what_is_seldom_meant_is_warned_of() {
    let config = Config {
        rules: vec![
            rule("everything", &["*"], &["*"], &["**"]),
            RuleConfig {
                issuers: texts(&["https://unknown"]),
                ..rule("never", &["a"], &["*"], &["a\nb", ".."])
            },
            RuleConfig {
                deny: true,
                ..rule("nothing", &["*"], &["*"], &["*"])
            },
        ],
    };
    let warnings: Vec<String> = config
        .warnings(&["https://idp.test", "https://other.test"])
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        warnings,
        [
            "access.rules[0]: this rule grants everything to everybody with a token",
            "access.rules[0]: this rule can never grant: another rule denies everything",
            "access.rules[0].issuers: there are several issuers, and a subject of any of them \
             matches; name one",
            "access.rules[1]: this rule can never grant: another rule denies everything",
            "access.rules[1].issuers: no token of \"https://unknown\" is believed, so this never \
             matches",
            "access.rules[1].usernames: \"a\\nb\" is no database user's name, so this never matches",
            "access.rules[1].usernames: \"..\" is no database user's name, so this never matches",
        ]
    );
    assert!(
        Config {
            rules: vec![rule("usual", &["a-*"], &["*"], &["a-*"])]
        }
        .warnings(&["https://idp.test"])
        .is_empty()
    );
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

/// What the rules mean, word for word.
fn naive(rules: &[RuleConfig], caller: &Caller, question: &Question) -> Option<String> {
    let fits = |patterns: &[String], text: &str| {
        patterns
            .iter()
            .any(|pattern| Glob::new(pattern).matches(text))
    };
    let matches = |rule: &&RuleConfig| {
        let project = question.project.as_str();
        fits(&rule.subjects, &caller.subject)
            && (rule.issuers.is_empty() || rule.issuers.iter().any(|name| **name == *caller.issuer))
            && rule
                .scopes
                .iter()
                .all(|scope| caller.scopes.iter().any(|own| **own == **scope))
            && rule.projects.iter().any(|id| id == "*" || id == project)
            && fits(&rule.usernames, question.username.as_str())
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
    )
        .prop_map(
            |(subjects, projects, usernames, deny, scopes, issuers)| RuleConfig {
                subjects,
                projects: texts(&projects),
                usernames,
                deny,
                scopes,
                issuers,
                ..RuleConfig::default()
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
        let asked = question(if here { PROJECT } else { OTHER }, &username);
        let expected = naive(&rules, &asking, &asked);
        let policy = Policy::build(&Config { rules }).unwrap();
        let granted = policy.authorize(&asking, &asked).ok().map(|permit| permit.rule().to_string());
        prop_assert_eq!(granted, expected);
    }

    #[test]
    fn a_rule_of_many_patterns_means_what_few_do(
        patterns in prop::collection::vec("[ab*é]{1,6}", 13..40),
        username in "[abé]{1,6}",
    ) {
        let expected = patterns.iter().any(|pattern| Glob::new(pattern).matches(&username));
        let policy = policy([RuleConfig { usernames: patterns, ..rule("x", &["*"], &["*"], &[]) }]);
        let asked = question(PROJECT, &username);
        prop_assert_eq!(policy.authorize(&caller("a"), &asked).is_ok(), expected);
    }
}
