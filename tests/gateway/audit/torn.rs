//! What a crash leaves at the end of the newest file, and that a restart mends it without losing a
//! whole record.

use std::fs;
use std::io::Write;

use crate::audit::trail::Trail;

#[tokio::test]
async fn a_line_cut_at_any_byte_is_taken_out_and_the_chain_goes_on() {
    let mut trail = Trail::new();
    trail.record("kept").await.unwrap();
    trail.record("torn").await.unwrap();
    trail.audit.clone().close().await;
    let file = trail.files().remove(0);
    let whole = fs::read(&file).unwrap();
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap()
        + 1;
    for length in last..whole.len() {
        let aside = file.with_extension("jsonl.torn");
        let _ = fs::remove_file(&aside);
        fs::write(&file, &whole[..length]).unwrap();
        trail.audit = trail.reopened().unwrap();
        trail.record("after").await.unwrap();
        trail.audit.clone().close().await;
        let subjects: Vec<_> = trail
            .lookups()
            .iter()
            .map(|line| line["subject"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(subjects, ["kept", "after"], "cut at {length}");
        let report = trail.verify();
        assert_eq!((report.last, report.fault), (4, None), "cut at {length}");
        let started = trail
            .lines()
            .into_iter()
            .find(|line| line["seq"] == 3)
            .unwrap();
        assert_eq!(started["torn_bytes"], length - last);
        if length > last {
            let kept = fs::read(&aside).unwrap();
            assert_eq!(kept.strip_suffix(b"\n").unwrap(), &whole[last..length]);
        } else {
            assert!(!aside.exists());
        }
    }
}

#[tokio::test]
async fn a_file_whose_only_line_is_torn_or_that_is_empty_begins_the_chain() {
    for content in ["", "{\"time\":\"2026-08-10T02:0"] {
        let mut trail = Trail::new();
        trail.audit.clone().close().await;
        let file = trail.files().remove(0);
        fs::write(&file, content).unwrap();
        trail.audit = trail.reopened().unwrap();
        trail.record("first").await.unwrap();
        let report = trail.verify();
        assert_eq!((report.first, report.last, report.fault), (1, 2, None));
    }
}

/// What no crash leaves is not mended away: it stays for the verifier to name, in a file that is not
/// written to any more.
#[tokio::test]
async fn a_false_last_line_stays_and_the_journal_goes_on_in_a_new_file() {
    let mut trail = Trail::new();
    trail.record("alice").await.unwrap();
    trail.audit.clone().close().await;
    let file = trail.files().remove(0);
    let changed = fs::read_to_string(&file).unwrap().replace("alice", "mallo");
    fs::write(&file, &changed).unwrap();
    trail
        .manual_clock
        .advance(std::time::Duration::from_secs(1));
    trail.audit = trail.reopened().unwrap();
    trail.record("after").await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), changed);
    assert_eq!(trail.files().len(), 2);
    assert_eq!(trail.verify().fault.unwrap().seq, 2);
    trail.audit.clone().close().await;
    let mut garbage = fs::OpenOptions::new()
        .append(true)
        .open(trail.files().remove(1))
        .unwrap();
    garbage.write_all(b"not a record\n").unwrap();
    trail
        .manual_clock
        .advance(std::time::Duration::from_secs(1));
    trail.audit = trail.reopened().unwrap();
    assert_eq!(trail.files().len(), 3);
}

#[tokio::test]
async fn a_restart_after_the_newest_file_was_packed_continues_the_chain() {
    let mut trail = Trail::new();
    trail.record("packed").await.unwrap();
    trail.audit.clone().close().await;
    let file = trail.files().remove(0);
    let packed = zstd::encode_all(&*fs::read(&file).unwrap(), 3).unwrap();
    fs::write(file.with_extension("jsonl.zst"), packed).unwrap();
    fs::remove_file(&file).unwrap();
    trail.audit = trail.reopened().unwrap();
    trail.record("after").await.unwrap();
    let report = trail.verify();
    assert_eq!((report.files, report.last, report.fault), (2, 4, None));
}
