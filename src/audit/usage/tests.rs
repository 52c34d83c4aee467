use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::audit::record::escaped;

/// A line with the members that count and some of those between them; what is empty is left out.
#[derive(Clone, Debug)]
struct Line {
    second: u8,
    outcome: &'static str,
    subject: Option<String>,
    issuer: Option<String>,
    rule: Option<String>,
    username: Option<String>,
    certificates: Option<u64>,
    upstream_calls: u64,
    says_null: bool,
}

impl Line {
    fn written(&self) -> String {
        let text = |name: &str, text: &Option<String>| match text {
            Some(text) => format!(",\"{name}\":\"{}\"", escaped(text, 1_000).0),
            None if self.says_null => format!(",\"{name}\":null"),
            None => String::new(),
        };
        let certificates = match self.certificates {
            Some(count) => format!(",\"certificates\":{count}"),
            None if self.says_null => ",\"certificates\":null".to_owned(),
            None => String::new(),
        };
        format!(
            "{{\"time\":\"2026-08-10T02:06:{:02}.000000Z\",\"seq\":7,\"kind\":\"lookup\",\"outcome\":\"{}\"\
             {}{}{}{}{},\"cache\":\"hit\"{certificates},\"upstream_calls\":{},\"duration_us\":5,\
             \"previous\":\"{:064}\",\"hash\":\"{:064}\"}}",
            self.second,
            self.outcome,
            text("subject", &self.subject),
            text("issuer", &self.issuer),
            text("rule", &self.rule),
            text("group_id", &Some("32b6e34b3d91647abb20e7b8".to_owned())),
            text("username", &self.username),
            self.upstream_calls,
            0,
            0,
        )
    }
}

fn counted(by: GroupBy, lines: &[String]) -> Vec<UsageRow> {
    let mut usage = Usage::new(by);
    for line in lines {
        usage.add(line);
    }
    usage.rows()
}

/// What comes of it if each line is read as JSON.
fn naively(by: GroupBy, lines: &[String]) -> BTreeMap<String, [u64; 7]> {
    let mut rows = BTreeMap::<String, [u64; 7]>::new();
    for line in lines {
        let record: Value = serde_json::from_str(line).unwrap();
        let key: Vec<_> = match by {
            GroupBy::Day => vec![Value::from(
                record["time"].as_str().unwrap().split('T').next(),
            )],
            GroupBy::Project | GroupBy::Rule | GroupBy::Subject | GroupBy::Username => {
                by.members().iter().map(|it| record[*it].clone()).collect()
            }
        };
        let is = |word: &str| u64::from(record["outcome"] == word);
        let pages = record["certificates"].as_u64().unwrap_or(0).div_ceil(500);
        let cost = is("answered") * pages.max(1);
        let spent = record["upstream_calls"].as_u64().unwrap();
        let failed = 1 - is("answered") - is("denied");
        let saved = cost.saturating_sub(spent);
        let added = [1, is("answered"), is("denied"), failed, cost, spent, saved];
        let sums = rows.entry(Value::from(key).to_string()).or_default();
        for (sum, more) in sums.iter_mut().zip(added) {
            *sum += more;
        }
    }
    rows
}

fn numbers(counts: &UsageCounts) -> [u64; 7] {
    [
        counts.lookups,
        counts.answered,
        counts.denied,
        counts.failed,
        counts.would_have_cost,
        counts.spent,
        counts.saved,
    ]
}

fn key(row: &UsageRow) -> String {
    let key = row.key.iter();
    let key = key.map(|it| serde_json::from_str(it.get()).unwrap());
    Value::Array(key.collect()).to_string()
}

fn lines() -> impl Strategy<Value = Line> {
    let names = || {
        let odd = "a\",\"outcome\":\"denied\",\"upstream_calls\":9,\"b\\";
        let names = ["ci", "Müller", odd, "\\", ""].map(str::to_owned).to_vec();
        prop::option::of(prop::sample::select(names))
    };
    let outcomes = ["answered", "denied", "failed", "rejected", "abandoned"].to_vec();
    let certificates = vec![0_u64, 1, 500, 501, 1_203];
    let texts = (names(), names(), names(), names());
    let numbers = (
        prop::option::of(prop::sample::select(certificates)),
        0_u64..4,
    );
    let rest = (0_u8..60, prop::sample::select(outcomes), any::<bool>());
    (texts, numbers, rest).prop_map(|(texts, numbers, rest)| {
        let (subject, issuer, rule, username) = texts;
        let (certificates, upstream_calls) = numbers;
        let (second, outcome, says_null) = rest;
        Line {
            second,
            outcome,
            subject,
            issuer,
            rule,
            username,
            certificates,
            upstream_calls,
            says_null,
        }
    })
}

proptest! {
    #[test]
    fn every_report_comes_to_what_reading_each_line_as_json_comes_to(
        lines in prop::collection::vec(lines(), 1..40),
    ) {
        let written: Vec<_> = lines.iter().map(Line::written).collect();
        for by in [GroupBy::Day, GroupBy::Project, GroupBy::Rule, GroupBy::Subject, GroupBy::Username] {
            let rows = counted(by, &written);
            let total = UsageCounts::total(&rows).unwrap();
            let times = || lines.iter().map(|line| format!("2026-08-10T02:06:{:02}.000000Z", line.second));
            prop_assert_eq!(Some(total.first.to_string()), times().min());
            prop_assert_eq!(Some(total.last.to_string()), times().max());
            let counted: BTreeMap<_, _> =
                rows.iter().map(|row| (key(row), numbers(&row.counts))).collect();
            prop_assert_eq!(counted, naively(by, &written));
        }
    }
}

#[test]
fn folded_refusals_count_where_they_were_of_a_known_caller() {
    let folded = |who: &str| {
        format!(
            "{{\"time\":\"2026-08-11T00:00:01.000000Z\",\"seq\":8,\"kind\":\"refusals\",\"replica\":\"a\",\
             \"scope\":\"caller\",\"count\":7,\"codes\":{{\"ACCESS_FORBIDDEN\":4,\"RATE_LIMITED\":3}},\
             \"first\":\"2026-08-10T23:59:00.000000Z\",\"last\":\"2026-08-10T23:59:59.000000Z\"{who},\
             \"previous\":\"{:064}\",\"hash\":\"{:064}\"}}",
            0, 0
        )
    };
    let lines = [
        folded(",\"subject\":\"M\\u00fcller\",\"issuer\":\"https://idp\""),
        folded(",\"peer\":\"192.0.2.1\""),
    ];
    for (by, expected) in [
        (GroupBy::Day, "[\"2026-08-10\"]"),
        (GroupBy::Project, "[null]"),
        (GroupBy::Rule, "[null]"),
        (GroupBy::Subject, "[\"Müller\",\"https://idp\"]"),
        (GroupBy::Username, "[null,null]"),
    ] {
        let rows = counted(by, &lines);
        let [row] = &*rows else { panic!("{rows:?}") };
        assert_eq!(key(row), expected);
        assert_eq!(numbers(&row.counts), [7, 0, 4, 3, 0, 0, 0]);
        assert_eq!(row.counts.share(), None);
        assert_eq!(row.counts.last.to_string(), "2026-08-10T23:59:59.000000Z");
    }
}

#[test]
fn rows_come_in_the_order_of_what_they_would_have_cost_and_days_in_their_own() {
    let line = |second, subject: &str, certificates| {
        let line = Line {
            second,
            outcome: "answered",
            subject: Some(subject.to_owned()),
            issuer: None,
            rule: None,
            username: None,
            certificates: Some(certificates),
            upstream_calls: 0,
            says_null: false,
        };
        line.written()
    };
    let lines = [
        line(1, "small", 1),
        line(2, "small", 0),
        line(3, "large", 1_001),
        line(4, "equal", 501),
    ];
    let rows = counted(GroupBy::Subject, &lines);
    let keys: Vec<_> = rows.iter().map(key).collect();
    let expected = ["large", "small", "equal"].map(|name| format!("[\"{name}\",null]"));
    assert_eq!(keys, expected);
    let days = [
        lines[2].replace("2026-08-10", "2026-08-12"),
        lines[0].replace("2026-08-10", "2026-08-09"),
        lines[2].replace("2026-08-10", "2026-08-11"),
    ];
    let days = counted(GroupBy::Day, &days);
    assert!(days.iter().map(key).is_sorted());
}

#[test]
fn what_is_no_record_counts_nothing() {
    let torn = "{\"time\":\"2026-08-10T02:06:35.000000Z\",\"seq\":7,\"kind\":\"look";
    for line in ["", "{}", torn, &"\0".repeat(600)] {
        assert!(
            counted(GroupBy::Subject, &[line.to_owned()]).is_empty(),
            "{line}"
        );
    }
    assert!(UsageCounts::total(&[]).is_none());
}

#[test]
fn a_share_is_in_thousandths() {
    for (saved, would_have_cost, share) in [
        (0, 0, None),
        (0, 3, Some(0)),
        (1, 3, Some(333)),
        (2, 3, Some(667)),
        (u64::MAX, u64::MAX, Some(1_000)),
    ] {
        let time = Timestamp::from_seconds(0);
        let counts = UsageCounts {
            lookups: 1,
            answered: 1,
            denied: 0,
            failed: 0,
            would_have_cost,
            spent: 0,
            saved,
            first: time,
            last: time,
        };
        assert_eq!(counts.share(), share);
    }
}
