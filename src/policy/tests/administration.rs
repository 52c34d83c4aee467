//! How far an administrator reaches.

use super::*;

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
    let (app, other) = (query(PROJECT, "app-1"), query(PROJECT, "u"));
    let may = |subject: &str| {
        [
            Reach::Everything,
            Reach::Project(&here),
            Reach::Project(&there),
            Reach::CertQuery(&app),
            Reach::CertQuery(&other),
        ]
        .map(|reach| policy.may_administer(&caller(subject), reach).is_ok())
    };
    assert_eq!(may("reader"), [false; 5]);
    assert_eq!(may("root"), [true, true, true, true, false]);
    assert_eq!(may("team"), [false, true, false, true, false]);
    assert_eq!(may("some"), [false, false, false, true, false]);
    assert_eq!(may("evil"), [true, true, false, true, false]);
    // What is denied of something larger is left out of it.
    let hidden = |subject: &str, project: Option<&str>, username: Option<&str>| {
        policy
            .hidden(&Arc::new(caller(subject)))
            .has(project, username)
    };
    for (subject, project, username, expected) in [
        ("evil", Some(OTHER), Some("x"), true),
        ("evil", Some(OTHER), None, true),
        ("evil", Some(PROJECT), None, false),
        ("root", Some(OTHER), Some("x"), false),
        ("root", Some(PROJECT), Some("u"), true),
        ("root", Some(PROJECT), Some("v"), false),
        ("root", Some("no project"), Some("u"), false),
        ("root", None, Some("u"), true),
        ("root", None, None, false),
    ] {
        let found = hidden(subject, project, username);
        assert_eq!(found, expected, "{subject} {project:?} {username:?}");
    }
    // An admin rule without projects looks nothing up.
    assert_eq!(
        granted(&policy, &caller("root"), PROJECT, "app-1"),
        "no rule grants it"
    );
}
