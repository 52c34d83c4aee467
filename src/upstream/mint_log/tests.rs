//! What is read of a mint log, and what it allows.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::atlas::Timestamp;

/// So many seconds after the beginning; a process of which it is the first moment is as old as it.
fn at(seconds: i64) -> Moment {
    let elapsed = u64::try_from(seconds.max(0)).unwrap();
    Moment {
        elapsed: Duration::from_secs(elapsed),
        wall: Timestamp::from_seconds(START + seconds),
    }
}

const START: i64 = 1_800_000_000;

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    (directory, path)
}

const ALONE: LogOptions = LogOptions {
    writes: true,
    is_shared: false,
    assumed: 4,
};

fn open(path: &Path, now: Moment) -> MintLog {
    MintLog::open(path.to_owned(), now, ALONE)
}

fn write(path: &Path, seconds: impl IntoIterator<Item = i64>) {
    let lines = seconds
        .into_iter()
        .map(|it| format!("asked {}\n", START + it));
    put(path, lines.collect::<String>().as_bytes());
}

fn put(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn five_a_minute_and_eighty_alive_are_the_most_also_across_restarts() {
    let (_directory, path) = place();
    let mut asked = 0;
    for second in (0..3_600).step_by(6) {
        let mut log = open(&path, at(second));
        if log.may_mint(at(second).elapsed, MOST_MINTS).is_ok() {
            log.record(at(second), None).unwrap();
            asked += 1;
        }
    }
    assert_eq!(asked, 80);
    let log = open(&path, at(3_599));
    let wait = Duration::from_secs(1);
    assert_eq!(log.may_mint(at(3_599).elapsed, MOST_MINTS), Err(wait));
    assert!(log.may_mint(at(3_600).elapsed, MOST_MINTS).is_ok());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_request_in_vain_counts_for_the_minute_and_not_for_the_hour() {
    let (_directory, path) = place();
    let mut log = open(&path, at(0));
    for second in 0..200 {
        let now = at(second * 20);
        assert!(log.may_mint(now.elapsed, MOST_MINTS).is_ok());
        log.record(now, None).unwrap();
        log.in_vain().unwrap();
        log = open(&path, now);
    }
    for _ in 0..2 {
        log.record(at(3_980), None).unwrap();
    }
    let wait = Duration::from_secs(20);
    assert_eq!(log.may_mint(at(3_980).elapsed, MOST_MINTS), Err(wait));
}

#[test]
fn a_request_that_was_never_sent_counts_for_nothing_and_leaves_nothing_behind() {
    let (_directory, path) = place();
    let mut log = open(&path, at(0));
    log.record(at(0), None).unwrap();
    for second in 0..1_000 {
        assert!(log.may_mint(at(second).elapsed, MOST_MINTS).is_ok());
        log.record(at(second), None).unwrap();
        log.unsent().unwrap();
    }
    let sent = format!("asked {START}\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), sent);
    // Where something else was written behind it, it is only void.
    log.record(at(1_000), None).unwrap();
    log.in_vain().unwrap();
    log.unsent().unwrap();
    let (lines, _) = parse(&fs::read(&path).unwrap(), false);
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line.in_vain));
}

#[test]
fn a_torn_line_is_passed_over_and_a_foreign_one_is_told() {
    let whole = b"asked 10\nasked 20\nvoid 20\nvoid 99\nasked 30\n";
    let line = |seconds, in_vain| LogLine {
        in_vain,
        ..LogLine::asked(seconds)
    };
    let expected = vec![line(10, false), line(20, true), line(30, false)];
    assert_eq!(parse(whole, false), (expected.clone(), false));
    let foreign = b"asked 10\nnonsense\nasked x\nasked 20\nvoid 20\n\xff\nasked 30\n";
    assert_eq!(parse(foreign, false), (expected, true));
    let torn = (vec![line(10, false)], false);
    assert_eq!(parse(b"asked 10\nasked 1800", false), torn);
    assert_eq!(parse(b"ed 5\nasked 10\n", true), torn);
    assert_eq!(parse(b"", false), (Vec::new(), false));
}

#[test]
fn r9_requests_from_the_future_were_made_now_at_the_latest() {
    let (_directory, path) = place();
    let minute = Duration::from_mins(1);
    for ahead in [1, 59 * 60, 3_599, 90_000, 10_000_000] {
        write(&path, [ahead; 5]);
        let log = open(&path, at(0));
        assert_eq!(
            log.may_mint(at(0).elapsed, MOST_MINTS),
            Err(minute),
            "{ahead}"
        );
        assert!(log.may_mint(at(60).elapsed, MOST_MINTS).is_ok(), "{ahead}");
    }
    // What was made in the course of an hour was made in the course of one.
    write(&path, [0, 600, 1_200, 1_800, 2_400, 3_540]);
    assert!(
        open(&path, at(0))
            .may_mint(at(0).elapsed, MOST_MINTS)
            .is_ok()
    );
    // Eighty may all live, for an hour and no longer.
    write(&path, [3_000; 80]);
    let log = open(&path, at(0));
    assert!(log.may_mint(at(3_599).elapsed, MOST_MINTS).is_err());
    assert!(log.may_mint(at(3_600).elapsed, MOST_MINTS).is_ok());
}

#[test]
fn r9_a_request_from_the_future_is_no_younger_at_the_next_start() {
    let (_directory, path) = place();
    write(&path, [3_000; 5]);
    let mut log = open(&path, at(0));
    assert!(log.may_mint(at(0).elapsed, MOST_MINTS).is_err());
    for second in [30, 61] {
        log = open(&path, at(second));
    }
    assert!(log.may_mint(at(61).elapsed, MOST_MINTS).is_ok());
}

#[test]
fn g24_the_calendar_ends_no_wait_of_this_process() {
    let (_directory, path) = place();
    let mut log = open(&path, at(0));
    for _ in 0..5 {
        log.record(at(0), None).unwrap();
    }
    let ahead = Moment {
        wall: Timestamp::from_seconds(START + 7_200),
        ..at(59)
    };
    assert!(log.may_mint(ahead.elapsed, MOST_MINTS).is_err());
    assert!(log.may_mint(at(60).elapsed, MOST_MINTS).is_ok());
}

#[test]
fn r9_a_damaged_mint_log_is_set_aside_and_one_token_may_be_asked_for_at_once() {
    let (_directory, path) = place();
    let aside = path.with_extension("damaged");
    let huge = "asked 1\n".repeat(200_000);
    for content in [
        huge.as_bytes(),
        b"nonsense\n",
        b"\xff\x00\n",
        b"{\"a\":1}\n",
    ] {
        put(&path, content);
        let mut log = open(&path, at(0));
        assert_eq!(fs::read(&aside).unwrap(), content);
        assert!(log.may_mint(at(0).elapsed, MOST_MINTS).is_ok());
        log.record(at(0), None).unwrap();
        assert!(log.may_mint(at(0).elapsed, MOST_MINTS).is_err());
        // The next process knows as much.
        assert!(
            open(&path, at(30))
                .may_mint(at(30).elapsed, MOST_MINTS)
                .is_err()
        );
        assert!(
            open(&path, at(60))
                .may_mint(at(60).elapsed, MOST_MINTS)
                .is_ok()
        );
        fs::remove_file(&aside).unwrap();
    }
}

#[test]
fn r9_the_end_of_a_mint_log_that_is_too_large_still_counts() {
    let (_directory, path) = place();
    write(&path, (0..100_000).map(|_| -10));
    let log = open(&path, at(0));
    assert!(log.may_mint(at(3_589).elapsed, MOST_MINTS).is_err());
    assert!(log.may_mint(at(3_590).elapsed, MOST_MINTS).is_ok());
}

#[test]
fn a_check_leaves_the_mint_log_as_it_is_and_goes_by_it() {
    let (directory, path) = place();
    write(&path, [-5; 5]);
    let before = fs::read(&path).unwrap();
    let check = LogOptions {
        writes: false,
        ..ALONE
    };
    let mut log = MintLog::open(path.clone(), at(0), check);
    assert!(log.may_mint(at(0).elapsed, MOST_MINTS).is_err());
    log.record(at(0), None).unwrap();
    log.unsent().unwrap();
    assert_eq!(fs::read(&path).unwrap(), before);
    put(&path, b"nonsense\n");
    MintLog::open(path, at(0), check)
        .record(at(0), None)
        .unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn requests_of_a_fleet_have_an_id_that_outlives_the_process_and_others_have_none() {
    let (_directory, path) = place();
    let mut log = open(&path, at(0));
    log.record(at(0), None).unwrap();
    log.in_vain().unwrap();
    assert_eq!(log.own(at(0).elapsed), []);
    let shared = LogOptions {
        is_shared: true,
        ..ALONE
    };
    let mut log = MintLog::open(path.clone(), at(0), shared);
    let given = Uuid::now_v7();
    log.record(at(60), Some(given)).unwrap();
    log.record(at(60), None).unwrap();
    let own = log.own(at(70).elapsed);
    let ages: Vec<u64> = own.iter().map(|mint| mint.age.as_secs()).collect();
    assert_eq!((ages, own[1].id), (vec![70, 10, 10], given));
    assert!(own[0].in_vain && !own[1].in_vain);
    let again = MintLog::open(path.clone(), at(70), shared).own(at(70).elapsed);
    assert_eq!(again, own);
    // A former version passes over what it does not know, and counts every request.
    let (lines, is_foreign) = parse(&fs::read(&path).unwrap(), false);
    assert_eq!((lines.len(), is_foreign), (3, false));
    assert_eq!(parse(b"id 1\nasked 5\nid x\n", false).0.len(), 1);
}

#[test]
fn a_replica_that_is_alone_asks_for_its_part() {
    let (_directory, path) = place();
    let part = MintLimits {
        a_minute: 1,
        alive: 2,
    };
    let mut log = open(&path, at(0));
    for second in [0, 10, 20] {
        log.record(at(second), None).unwrap();
    }
    let wait = |second, limits| log.may_mint(at(second).elapsed, limits);
    assert_eq!(wait(30, part), Err(Duration::from_secs(50)));
    assert_eq!(wait(30, MOST_MINTS), Ok(()));
    // Two of the three have to end.
    assert_eq!(wait(90, part), Err(Duration::from_secs(3_520)));
    assert_eq!(wait(3_610, part), Ok(()));
}
