//! What a record holds, and that there is one whatever becomes of a question.

pub(crate) mod schema;

use std::sync::Arc;
use std::time::Duration;

use atlas_cert_gateway::atlas::CertQuery;
use atlas_cert_gateway::audit::{
    AdminAction, AdminRecord, Arrival, CacheUse, Closing, FetchRecord, Outcome, Sync,
};
use atlas_cert_gateway::identity::{Caller, RuleListNumber};
use futures_util::future::join_all;
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

use crate::audit::trail::{START, Trail, caller, query};
use crate::world::{World, set};

#[tokio::test]
async fn a_replica_has_the_name_that_it_is_given_or_its_hosts() {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for (given, name) in [(Some("gateway-1"), "gateway-1"), (None, host.trim())] {
        let world = World::with(|plan| {
            if let Some(given) = given {
                set(&mut plan.config, "audit.replica", given);
            }
        })
        .await;
        world.ask("app1").await;
        assert!(world.records().iter().all(|it| it["replica"] == name));
    }
}

#[tokio::test]
async fn a_record_has_the_members_of_the_contract_in_their_order() {
    let trail = Trail::new();
    let query = query("CN=payments");
    let mut entry = trail.entry();
    entry.set_caller(&caller("payments-api"));
    entry.set_query(&query);
    entry.set_rule(Some(&Arc::from("payments reads its own users")));
    let closing = Closing {
        cache: CacheUse::Stale,
        fill_id: Some(Uuid::nil()),
        ..trail.closing()
    };
    entry.close(closing).await.unwrap();
    let file = trail.files().remove(0);
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().nth(1).unwrap();
    assert_eq!(
        names(line),
        "time seq kind replica chain request_id outcome status subject issuer token_id \
         rule peer group_id username cache stale fill_id age_ms certificates list upstream_calls \
         duration_us \
         previous hash"
    );
    let record = &trail.lookups()[0];
    assert_eq!(record["time"], "2026-08-10T02:06:35.000000Z");
    assert_eq!(record["seq"], 2);
    assert_eq!(record["peer"], "192.0.2.7:50123");
    assert_eq!(record["username"], "CN=payments");
    assert_eq!(record["age_ms"], 1_500);
    assert_eq!(record["stale"], true);
    assert_eq!(record["fill_id"], "00000000-0000-0000-0000-000000000000");
    assert!(record["error_code"].is_null());
    assert_eq!(trail.verify().fault, None);
}

#[tokio::test]
async fn fetches_and_operators_have_records_of_their_own() {
    let trail = Trail::new();
    let query = query("app");
    let fill_id = Uuid::now_v7();
    trail.audit.record_fetch(&FetchRecord {
        fill_id,
        ..fetch(&trail, &query)
    });
    let operator = caller("operator");
    trail
        .audit
        .record_admin(&purge(&trail, &operator))
        .await
        .unwrap();
    trail.until(|| trail.lines().len() == 3).await;
    let lines = trail.lines();
    let fetch = lines.iter().find(|line| line["kind"] == "fetch").unwrap();
    assert_eq!(fetch["fill_id"], fill_id.to_string());
    assert_eq!(
        (&fetch["credential"], &fetch["pages"], &fetch["duration_us"]),
        (&"platform".into(), &3.into(), &250_000.into())
    );
    let purge = lines.iter().find(|line| line["action"] == "purge").unwrap();
    assert_eq!(purge["subject"], "operator");
    assert_eq!(purge["peer"], "[2001:db8::1]:443");
    assert_eq!(purge["entries"], 7);
}

#[tokio::test]
async fn a_question_that_is_dropped_was_abandoned() {
    let trail = Trail::new();
    let mut entry = trail.entry();
    entry.set_caller(&caller("payments-api"));
    drop(entry);
    trail.until(|| !trail.lookups().is_empty()).await;
    let record = &trail.lookups()[0];
    assert_eq!(record["outcome"], "abandoned");
    assert_eq!(record["subject"], "payments-api");
    assert!(record["status"].is_null());
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_the_record_is_written_has_exactly_one() {
    let trail = Trail::new();
    let entry = trail.entry();
    let closing = trail.closing();
    let mut waiting = Box::pin(entry.close(closing));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(waiting);
    trail.until(|| trail.lookups().len() == 1).await;
    trail.record("another").await.unwrap();
    assert_eq!(trail.lookups().len(), 2);
    assert_eq!(trail.lookups()[0]["outcome"], Outcome::Answered.word());
    assert_eq!(trail.verify().fault, None);
}

#[tokio::test]
async fn a_thousand_answers_at_once_share_a_handful_of_writes() {
    // With `always`, a lookup that comes while the disk is busy shares the next write: how many that are
    // depends on the disk.
    for (sync, most) in [(Sync::Always, 500), (Sync::Interval, 5), (Sync::Never, 5)] {
        let trail = Trail::with(|config| config.sync = sync);
        let answers = join_all((0..1_000).map(|_| trail.record("crowd"))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(trail.lookups().len(), 1_000);
        let writes = trail.writes();
        assert!(writes <= most, "{sync:?}: {writes} writes");
        assert_eq!(trail.verify().fault, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_answer_from_many_threads_has_its_record_once() {
    let trail = Arc::new(Trail::with(|config| config.sync = Sync::Never));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let trail = Arc::clone(&trail);
            tokio::spawn(async move {
                for turn in 0..50 {
                    trail.record(&format!("{task}.{turn}")).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut subjects: Vec<_> = trail
        .lookups()
        .iter()
        .map(|line| line["subject"].as_str().unwrap().to_owned())
        .collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 64 * 50);
    let report = trail.verify();
    assert_eq!((report.records, report.fault), (64 * 50 + 1, None));
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_first_goes_on() {
    let trail = Trail::new();
    let error = trail.reopened().unwrap_err();
    assert!(error.to_string().contains("used by another process"));
    trail.record("first").await.unwrap();
    let trail = trail.restart().await;
    trail.record("second").await.unwrap();
    assert_eq!(trail.lookups().len(), 2);
}

#[tokio::test]
async fn after_the_end_nothing_is_taken() {
    let trail = Trail::new();
    trail.audit.clone().close().await;
    assert!(trail.record("late").await.is_err());
    assert_eq!(trail.lookups().len(), 0);
}

/// Rows A01 to A07.
#[tokio::test]
async fn nothing_that_a_caller_sends_breaks_out_of_its_member() {
    let trail = Trail::new();
    let mut entry = trail.audit.entry(Arrival {
        caller_request_id: Some(b"id\n{\"outcome\":\"answered\"}\xff"[..].into()),
        ..trail.arrival()
    });
    entry.set_invalid_path(
        b"/groups/x\"}\n{\"outcome\":\"answered\"\x1b[31m\xe2\x80\xa8\xe2\x80\xae",
    );
    let closing = Closing {
        outcome: Outcome::Rejected,
        status: 400,
        error_code: Some("INVALID_PATH"),
        reason: Some("malformed"),
        ..Closing::abandoned(trail.clock.now())
    };
    entry.close(closing).await.unwrap();
    let mut entry = trail.entry();
    entry.set_invalid_path(b"/groups/\xff\xfe");
    entry.close(trail.closing()).await.unwrap();
    let records = trail.lookups();
    assert_eq!(records.len(), 2);
    assert_eq!(
        records[0]["path"],
        "/groups/x\"}\n{\"outcome\":\"answered\"\u{1b}[31m\u{2028}\u{202e}"
    );
    assert_eq!(records[0]["caller_request_id_hex"], true);
    assert_eq!(records[0]["reason"], "malformed");
    assert_eq!(records[1]["path"], "2f67726f7570732ffffe");
    assert_eq!(records[1]["path_hex"], true);
}

#[tokio::test]
async fn the_longest_record_of_a_fetch_is_below_eight_kibibytes() {
    let trail = Trail::with(|config| config.replica = Some("r".repeat(255)));
    // Of each character of a username three bytes stay.
    let query = query(&"\u{e9}".repeat(512));
    let long = "\u{1}".repeat(1_000);
    for serial in [i64::MAX, i64::MIN] {
        let serials = vec![serial; 10_000];
        trail.audit.record_fetch(&FetchRecord {
            credential: &long,
            error_code: Some(&long),
            certificates: Some(u64::MAX),
            pages: u32::MAX,
            upstream_calls: u32::MAX,
            duration: Duration::MAX,
            appeared: &serials,
            vanished: &serials,
            expired: &serials,
            ..fetch(&trail, &query)
        });
        let file = &trail.files()[0];
        let last = || {
            let text = std::fs::read_to_string(file).unwrap();
            text.lines().next_back().unwrap().to_owned()
        };
        let is_there = || last().contains(&serial.to_string());
        trail.until(is_there).await;
        let line = last();
        assert!(line.len() < 8 << 10, "{} bytes", line.len());
        let record: Value = serde_json::from_str(&line).unwrap();
        for change in ["appeared", "vanished"] {
            assert_eq!(record[change].as_array().unwrap().len(), 64);
            assert_eq!(record[format!("{change}_more")], 10_000 - 64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Row A03: whatever comes in, a record is one line of JSON of at most 8 KiB.
    #[test]
    fn a_record_is_one_line_of_at_most_eight_kibibytes(
        texts in prop::collection::vec("\\PC{0,40}|[\\x00-\\x1f\"\\\\]{0,40}|\u{1f600}{0,40}", 9),
        times in 1_usize..400,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let trail = Trail::with(|config| config.sync = Sync::Never);
            let text = |index: usize| texts[index].repeat(times);
            let asked;
            let mut entry = trail.audit.entry(Arrival {
                caller_request_id: Some(text(0).into_bytes().into()),
                ..trail.arrival()
            });
            entry.set_caller(&Arc::new(Caller {
                subject: text(1).into(),
                issuer: text(2).into(),
                client_id: Some(text(3).into()),
                token_id: Some(text(4).into()),
                key_id: None,
                scopes: Box::default(),
                expires_at: START,
                rule_list: RuleListNumber::default(),
            }));
            let mut username: String = text(5).replace(|it: char| it.is_control() || "%/\\".contains(it), "x");
            while username.len() > 1_024 {
                username.pop();
            }
            if username.trim_matches('.').is_empty() || times % 2 == 0 {
                entry.set_invalid_path(text(6).as_bytes());
            } else {
                asked = query(&username);
                entry.set_query(&asked);
            }
            entry.set_rule(Some(&text(7).into()));
            let code = text(8);
            let closing = Closing { error_code: Some(&code), ..trail.closing() };
            entry.close(closing).await.unwrap();
            let file = std::fs::read_to_string(&trail.files()[0]).unwrap();
            prop_assert_eq!(file.lines().count(), 2);
            let line = file.lines().nth(1).unwrap();
            prop_assert!(line.len() < 8 << 10 && line.is_ascii());
            let record: Value = serde_json::from_str(line).unwrap();
            if let Some(recorded) = record["username"].as_str() {
                prop_assert_eq!(recorded, &username);
            }
            let subject = record["subject"].as_str().unwrap();
            prop_assert!(text(1).starts_with(subject));
            prop_assert_eq!(record["subject_truncated"] == true, subject != text(1));
            Ok(())
        })?;
    }
}

pub(super) fn fetch<'a>(trail: &Trail, query: &'a CertQuery) -> FetchRecord<'a> {
    FetchRecord {
        fill_id: Uuid::nil(),
        query,
        outcome: Outcome::Answered,
        credential: "platform",
        status: Some(200),
        error_code: None,
        pages: 3,
        upstream_calls: 4,
        certificates: Some(1_200),
        list: Some(*b"n4bQgYhMfWWaL-qg"),
        before: Some(Uuid::nil()),
        appeared: &[2_558_523_591_213_958_694],
        vanished: &[1, i64::MAX],
        expired: &[3],
        duration: Duration::from_millis(250),
        now: trail.clock.now(),
    }
}

fn purge<'a>(trail: &Trail, caller: &'a Caller) -> AdminRecord<'a> {
    AdminRecord {
        action: AdminAction::Purge,
        outcome: Outcome::Answered,
        caller: Some(caller),
        peer: Some("[2001:db8::1]:443".parse().unwrap()),
        request_id: Some(Uuid::nil().into()),
        status: Some(200),
        rule: Some("operators"),
        group_id: Some("32b6e34b3d91647abb20e7b8"),
        username: None,
        entries: Some(7),
        told_by: None,
        filters: None,
        now: trail.clock.now(),
    }
}

fn names(line: &str) -> String {
    let names: Vec<&str> = line
        .split(",\"")
        .map(|member| member.split('"').find(|name| name.len() > 1).unwrap())
        .collect();
    names.join(" ")
}
