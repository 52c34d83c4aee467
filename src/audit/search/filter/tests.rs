//! What filters take, by both ways to give them.

use clap::{CommandFactory, Parser};

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<Filter, String> {
    let now = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
    let mut filter = Filter::default();
    for (name, value) in pairs {
        filter
            .set(name, value, now)
            .map_err(|bad| bad.to_string())?;
    }
    Ok(filter)
}

#[test]
fn an_instant_is_a_time_a_day_or_how_long_ago_it_was() {
    for (text, instant) in [
        ("2026-08-10T04:06:35+02:00", "2026-08-10T02:06:35Z"),
        ("2026-08-10", "2026-08-10T00:00:00Z"),
        ("24h", "2026-08-09T02:06:35Z"),
        ("90s", "2026-08-10T02:05:05Z"),
        ("15m", "2026-08-10T01:51:35Z"),
        ("7d", "2026-08-03T02:06:35Z"),
    ] {
        let filter = read(&[("since", text)]).unwrap();
        assert_eq!(filter.since, Timestamp::parse(instant), "{text}");
    }
}

#[test]
fn a_peer_is_looked_for_in_every_spelling_that_a_record_may_have() {
    for (text, spellings) in [
        (
            "10.0.0.1",
            &["10.0.0.1:", "10.0.0.1\"", "[::ffff:10.0.0.1]:"][..],
        ),
        (
            "::ffff:10.0.0.1",
            &["10.0.0.1:", "10.0.0.1\"", "[::ffff:10.0.0.1]:"],
        ),
        ("10.0.0.1:80", &["10.0.0.1:80\"", "[::ffff:10.0.0.1]:80\""]),
        (
            "2001:DB8:0:0::1",
            &["[2001:db8::1]:", "2001:db8::1\"", "2001:db8::/64\""],
        ),
        ("[0::1]:80", &["[::1]:80\""]),
    ] {
        let expected: Vec<String> = spellings
            .iter()
            .map(|spelling| format!(",\"peer\":\"{spelling}"))
            .collect();
        assert_eq!(peer(text).unwrap().spellings(), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_is_allowed() {
    for (pairs, told) in [
        (
            &[("outcome", "answerd")][..],
            "takes as `outcome` answered, denied",
        ),
        (&[("group", "XYZ")], "takes as `group` 24 lower-case"),
        (&[("kind", "lookups")], "takes as `kind` lookup, fetch"),
        (&[("since", "yesterday")], "takes as `since` a time"),
        (&[("until", "h")], "takes as `until` a time"),
        (&[("since", "-1h")], "takes as `since` a time"),
        (
            &[("since", "99999999999999999999d")],
            "takes as `since` a time",
        ),
        (&[("request-id", "1")], "takes as `request-id` a UUID"),
        (&[("before", "x")], "takes as `before` a record's number"),
        (
            &[("subject", "a"), ("subject", "b")],
            "takes `subject` once",
        ),
        (&[("colour", "blue")], "there are subject, issuer"),
        (&[("peer", "localhost")], "takes as `peer` an IP address"),
        (&[("peer", "10.0.0.1:")], "takes as `peer` an IP address"),
        (&[("status", "99")], "takes as `status` an HTTP status"),
        (&[("status", "2xx")], "takes as `status` an HTTP status"),
    ] {
        let error = read(pairs).unwrap_err();
        assert!(error.contains(told), "{pairs:?}: {error}");
    }
}

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    filter: Filter,
}

const ID: &str = "0198a3f0-0000-7000-8000-000000000000";
/// An option, a value that it takes, and one that it does not take.
type Example = (&'static str, &'static str, Option<&'static str>);
const OPTIONS: [Example; 19] = [
    ("subject", "ci", None),
    ("issuer", "https://idp.internal.example", None),
    ("client-id", "payments", None),
    ("token-id", "1", None),
    ("rule", "payments reads", None),
    ("peer", "10.0.0.1", Some("localhost")),
    ("group", "32b6e34b3d91647abb20e7b8", Some("XYZ")),
    ("username", "app", None),
    ("outcome", "denied", Some("allowed")),
    ("status", "403", Some("4xx")),
    ("kind", "lookup", Some("lookups")),
    ("since", "2026-08-10", Some("yesterday")),
    ("until", "2026-08-09", Some("h")),
    ("request-id", ID, Some("7")),
    ("fill-id", ID, Some("7")),
    ("certificate", "5225608189600411232", Some("0x5e")),
    ("changed", "true", Some("no")),
    ("after", "7", Some("-1")),
    ("before", "7", Some("x")),
];

#[test]
fn the_command_and_the_admin_listener_take_the_same_filters() {
    let now = Timestamp::parse("2026-08-10T02:06:35Z").unwrap();
    let known = Program::command();
    let known = known.get_arguments().filter_map(clap::Arg::get_long);
    let options = OPTIONS.map(|(name, ..)| name);
    assert_eq!(known.collect::<Vec<_>>(), options);
    for (name, value, wrong) in OPTIONS {
        let read = |value: &str| Program::try_parse_from(["", &format!("--{name}={value}")]);
        let mut by_http = Filter::default();
        by_http.set(name, value, now).unwrap();
        let by_command = read(value).unwrap().filter;
        assert_eq!(by_command, by_http, "{name}");
        assert_ne!(by_command, Filter::default(), "{name}");
        if let Some(wrong) = wrong {
            assert!(read(wrong).is_err(), "{name}");
            assert!(Filter::default().set(name, wrong, now).is_err(), "{name}");
        }
    }
}
