//! A record's bytes, held against a rendering that takes no short cut.

use std::borrow::Cow;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use atlas_cert_gateway::audit::{Arrival, CacheUse, Closing, Origin, Outcome, Sync};
use atlas_cert_gateway::identity::{Caller, RuleListNumber};
use proptest::prelude::*;
use uuid::Uuid;

use crate::audit::trail::{START, Trail, caller, query};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_record_is_spelt_as_a_naive_writer_spells_it(
        // Ten characters beyond the first plane take 120 bytes, and the shortest room has 128.
        texts in prop::collection::vec("[ -~]{0,40}|\\PC{0,10}|[\\x00-\\x1f\"\\\\\x7f]{0,8}", 7),
        absent in any::<[bool; 6]>(),
        numbers in prop::collection::vec(prop_oneof![0..12_u64, 90..110_u64, any::<u64>()], 4),
        (status, calls) in (any::<u16>(), any::<u32>()),
        ids in any::<[u128; 2]>(),
        (address, port) in (any::<std::net::IpAddr>(), any::<u16>()),
        (outcome, cache) in (0..6_usize, 0..6_usize),
        later in 0..4_000_000_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (written, expected) = runtime.block_on(async {
            let trail = Trail::with(|config| config.sync = Sync::Never);
            let peer = SocketAddr::new(address, port);
            let asked = query("CN=app");
            let mut entry = trail.audit.entry(Arrival {
                request_id: Uuid::from_u128(ids[0]).into(),
                origin: Cow::Owned(Origin::new(peer, None)),
                ..trail.arrival()
            });
            let some = |index: usize| (!absent[index]).then(|| texts[index].as_str());
            let who = Arc::new(Caller {
                subject: texts[5].as_str().into(),
                issuer: texts[6].as_str().into(),
                client_id: some(0).map(Box::from),
                token_id: some(1).map(Box::from),
                key_id: None,
                scopes: Box::default(),
                expires_at: START,
                rule_list: RuleListNumber::default(),
            });
            entry.set_caller(&who);
            entry.set_query(&asked);
            if let Some(rule) = some(2) {
                entry.set_rule(Some(&Arc::from(rule)));
            }
            trail.manual_clock.advance(Duration::from_micros(later));
            let number = |index: usize| numbers[index];
            let closing = Closing {
                outcome: OUTCOMES[outcome],
                status,
                error_code: some(3),
                reason: None,
                claim: some(2),
                cache: CACHES[cache],
                fill_id: (!absent[4]).then(|| Uuid::from_u128(ids[1])),
            fill_replica: None,
                age: (!absent[5]).then(|| Duration::from_millis(number(0))),
                certificates: (!absent[0]).then(|| number(1)),
                list: (!absent[1]).then_some(*b"n4bQgYhMfWWaL-qg"),
                upstream_calls: calls,
                now: trail.clock.now(),
            };
            let members = [
                format!("\"time\":\"{}\"", closing.now.wall),
                format!("\"seq\":2,\"kind\":\"lookup\",\"replica\":\"test\",\"chain\":\"{}\"", trail.chain()),
                format!("\"request_id\":\"{}\"", Uuid::from_u128(ids[0])),
                format!("\"outcome\":\"{}\"", OUTCOMES[outcome].word()),
                member("status", (status > 0).then(|| status.to_string())),
                member("error_code", some(3).map(quoted)),
                member("claim", some(2).map(quoted)),
                format!("\"subject\":{}", quoted(&texts[5])),
                format!("\"issuer\":{}", quoted(&texts[6])),
                member("client_id", some(0).map(quoted)),
                member("token_id", some(1).map(quoted)),
                member("rule", some(2).map(quoted)),
                format!("\"peer\":\"{peer}\""),
                format!("\"group_id\":\"{}\",\"username\":\"CN=app\"", asked.project.as_str()),
                format!("\"cache\":\"{}\"", CACHES[cache].word()),
                if CACHES[cache] == CacheUse::Stale { "\"stale\":true" } else { "" }.to_owned(),
                member("fill_id", closing.fill_id.map(|id| format!("\"{id}\""))),
                member("age_ms", closing.age.map(|_| number(0).to_string())),
                member("certificates", closing.certificates.map(|it| it.to_string())),
                if absent[1] { "" } else { "\"list\":\"n4bQgYhMfWWaL-qg\"" }.to_owned(),
                format!("\"upstream_calls\":{calls},\"duration_us\":{later}"),
            ];
            let expected = members.into_iter().filter(|member| !member.is_empty());
            let expected = expected.collect::<Vec<_>>().join(",");
            entry.close(closing).await.unwrap();
            let text = fs::read_to_string(&trail.files()[0]).unwrap();
            let line = text.lines().nth(1).unwrap().to_owned();
            assert_eq!(trail.verify().fault, None);
            (line, format!("{{{expected},\"previous\":\""))
        });
        prop_assert!(written.starts_with(&expected), "{written}\n{expected}");
    }
}

#[tokio::test]
async fn callers_who_come_again_are_recorded_as_the_first_time() {
    let trail = Trail::with(|config| config.sync = Sync::Never);
    // Some of them are freed in between, so that others take their place in memory.
    let callers: Vec<_> = (0..300)
        .map(|number| caller(&format!("subject-{number}")))
        .collect();
    let rules: [Option<Arc<str>>; 3] = [None, Some("one".into()), Some("two".into())];
    let mut expected = Vec::new();
    for turn in 0..2_000_usize {
        let passing = caller(&format!("passing-{turn}"));
        let caller = match turn % 7 {
            0 => &passing,
            1 | 2 => &callers[turn % 300],
            _ => &callers[turn % 5],
        };
        let rule = &rules[turn / 3 % 3];
        let mut entry = trail.entry();
        entry.set_caller(caller);
        if let Some(rule) = rule {
            entry.set_rule(Some(rule));
        }
        expected.push((
            caller.subject.to_string(),
            rule.as_deref().map(str::to_owned),
        ));
        entry.close(trail.closing()).await.unwrap();
    }
    let recorded: Vec<_> = trail
        .lookups()
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            (text("subject").unwrap(), text("rule"))
        })
        .collect();
    assert_eq!(recorded, expected);
}

/// A member, or nothing where it has no value.
fn member(name: &str, value: Option<String>) -> String {
    value.map_or_else(String::new, |value| format!("\"{name}\":{value}"))
}

/// A text as JSON in printable ASCII, one character after the other.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(quoted, "\\u{unit:04x}").unwrap();
                }
            }
        }
    }
    let read: String = serde_json::from_str(&format!("{quoted}\"")).unwrap();
    assert_eq!(read, text);
    quoted + "\""
}

const OUTCOMES: [Outcome; 6] = [
    Outcome::Abandoned,
    Outcome::Answered,
    Outcome::Denied,
    Outcome::Failed,
    Outcome::Rejected,
    Outcome::Unauthenticated,
];
const CACHES: [CacheUse; 6] = [
    CacheUse::Collapsed,
    CacheUse::Hit,
    CacheUse::Miss,
    CacheUse::Negative,
    CacheUse::None,
    CacheUse::Stale,
];
