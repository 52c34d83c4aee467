//! What is refused of the section `access`, and what is warned of.

use super::*;

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
    let places: Vec<String> = Policy::build(&config(rules))
        .unwrap_err()
        .into_iter()
        .map(|config_error| config_error.place)
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
            "access.rules[2].projects[0]",
            "access.rules[2].misses_per_minute",
            "access.rules[2].name",
        ]
    );
    let nothing = Policy::build(&Config::default()).unwrap_err();
    assert_eq!(nothing[0].place, "access.rules");
}

/// Makes a rule one that can fit nothing.
type Change = fn(&mut RuleConfig);

/// What is said of it.
const FITS_NOTHING: [(Change, &str); 11] = [
    (
        |rule| rule.scopes = texts(&["x", "a b"]),
        "rules[0].scopes[1]: has a blank in it",
    ),
    (
        |rule| rule.scopes = texts(&["a\tb"]),
        "rules[0].scopes[0]: has a control character",
    ),
    (
        |rule| rule.scopes = texts(&[""]),
        "rules[0].scopes[0]: is empty",
    ),
    (
        |rule| rule.subjects = texts(&[" a"]),
        "rules[0].subjects[0]: has blanks around it",
    ),
    (
        |rule| rule.subjects = texts(&["a", ""]),
        "rules[0].subjects[1]: is empty",
    ),
    (
        |rule| rule.subjects = texts(&["{subject}"]),
        "rules[0].subjects[0]: has {subject} or",
    ),
    (
        |rule| rule.issuers = texts(&["https://x "]),
        "rules[0].issuers[0]: has blanks",
    ),
    (
        |rule| rule.usernames = texts(&[""]),
        "rules[0].usernames[0]: is empty",
    ),
    (
        |rule| rule.usernames = texts(&["{sub}-*"]),
        "rules[0].usernames[0]: has a word in braces",
    ),
    (
        |rule| rule.projects = texts(&["@nowhere"]),
        "rules[0].projects[0]: names no group",
    ),
    (
        |rule| rule.projects = texts(&["payments"]),
        "rules[0].projects[0]: is neither 24",
    ),
];

#[test]
fn what_can_fit_nothing_is_refused() {
    for (change, expected) in FITS_NOTHING {
        let mut rule = rule("x", &["a"], &["*"], &["u"]);
        change(&mut rule);
        let refused = Policy::build(&config([rule])).unwrap_err();
        let found: Vec<String> = refused.iter().map(ToString::to_string).collect();
        let found = found.join("\n");
        assert!(found.contains(expected), "{expected}: {found}");
    }
    let mut config = config([rule("x", &["a"], &["@empty"], &["u"])]);
    config.project_groups.insert("empty".to_owned(), Vec::new());
    config
        .project_groups
        .insert("wrong".to_owned(), texts(&["*"]));
    assert_eq!(Policy::build(&config).unwrap_err().len(), 2);
}

#[test]
fn what_is_seldom_meant_is_warned_of() {
    let config = config([
        rule("everything", &["*"], &["*"], &["**"]),
        RuleConfig {
            issuers: texts(&["https://unknown"]),
            ..rule("never", &["a"], &["*"], &["a\nb", ".."])
        },
        RuleConfig {
            deny: true,
            ..rule("nothing", &["*"], &["*"], &["*"])
        },
    ]);
    let warnings: Vec<String> = config
        .warnings(&["https://idp.test", "https://other.test"], |_| true)
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
            "access.rules[1].issuers[0]: is no issuer whose tokens are believed, so it never matches",
            "access.rules[1].usernames[0]: is no database user's name, so it never matches",
            "access.rules[1].usernames[1]: is no database user's name, so it never matches",
        ]
    );
    assert!(
        self::config([rule("usual", &["a-*"], &["*"], &["a-*"])])
            .warnings(&["https://idp.test"], |_| true)
            .is_empty()
    );
}
