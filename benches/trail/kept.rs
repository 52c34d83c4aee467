//! The same trail where the oldest is removed: written, searched meanwhile, and judged in the end.

use std::path::Path;
use std::time::Duration;

use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::audit::search::{Filter, Order};
use atlas_cert_gateway::audit::verify::{VerifyReport, verify};
use atlas_cert_gateway::audit::{Config, HeadVerifier};

use crate::Bench;
use crate::MEGA;
use crate::SEED;
use crate::Times;
use crate::month;
use crate::month::{Plan, START, Written};
use crate::reading::{audit, find};

/// Writes as much as is to be written with `keep`, and asserts what has to be there and what has not.
pub(crate) fn check(bench: &Bench) {
    let span = bench.times.kept_span;
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plan = Plan {
        config: Config {
            keep: Some(bench.times.keep),
            ..bench.config(place.path())
        },
        span,
        window: [Duration::ZERO; 2],
        recent: bench.times.keep,
        seed: SEED,
        busy: month::DAY,
    };
    let (written, searches) = write(bench, &plan);
    let report = verified(&plan.config);
    let removals = removals_on_record(&plan.config.directory);
    let recent = check_ages(&bench.times, &plan, &written);
    assert!(
        removals > 0 || span <= bench.times.keep,
        "nothing was removed"
    );
    println!(
        "keep: {:.2} days written, {searches} searches meanwhile; {} files removed, {removals} of these removals \
         still on record; records {} to {} as written, with all {recent} lookups of the time to keep and none \
         older than may be",
        span.as_secs_f64() / 86_400.0,
        written.removed,
        report.first,
        report.last
    );
    check_size(bench, &plan, &written);
}

/// A search reads meanwhile, and finds each file wherever it is by then.
fn write(bench: &Bench, plan: &Plan) -> (Written, u32) {
    let mut searches = 0_u32;
    let written = bench.runtime.block_on(month::write(plan, |now| {
        let until = now.minus(plan.hour() * (searches % 144));
        searches += 1;
        let window = Filter {
            since: Some(until.minus(bench.times.window)),
            until: Some(until),
            ..Filter::default()
        };
        find(&plan.config.directory, &window, Order::OldestFirst);
    }));
    (written, searches)
}

fn verified(config: &Config) -> VerifyReport {
    let key = HeadVerifier::read(config.head_key_file.as_ref().unwrap()).unwrap();
    let report = verify(&config.directory, 1, &[key]).unwrap();
    assert_eq!(report.fault, None);
    assert_eq!(report.passed_over, []);
    // A removal is on record before the file goes; the last one may not have come to that.
    assert!(
        report.removed + 1 >= report.first,
        "not all removals are on record"
    );
    report
}

fn removals_on_record(directory: &Path) -> usize {
    let options = ["--kind=admin", "--format=json", "--limit=1000000"];
    let records = audit("search", directory, &options);
    records.text().matches(",\"action\":\"removed\",").count()
}

/// How many lookups there are of the time to keep, which is all of them.
fn check_ages(times: &Times, plan: &Plan, written: &Written) -> u64 {
    let end = START.plus(plan.span);
    let lookups = |since: Option<Timestamp>, until: Option<Timestamp>| {
        let filter = Filter {
            kind: Some("lookup".to_owned()),
            since,
            until,
            ..Filter::default()
        };
        find(&plan.config.directory, &filter, Order::OldestFirst).records
    };
    let recent = lookups(Some(end.minus(times.keep)), None);
    assert_eq!(
        recent, written.recent,
        "not all that is to be kept is there"
    );
    let older = lookups(None, Some(end.minus(times.keep + times.slack)));
    assert_eq!(older, 0, "something is older than it may be");
    recent
}

/// Beside what is kept there may be a file whose newest record is not old enough, and those that are not packed
/// yet.
fn check_size(bench: &Bench, plan: &Plan, written: &Written) {
    let (held, _) = month::measure(&plan.config.directory);
    let bound = held + held / 7 + 10 * bench.times.rotate_size.0;
    println!(
        "keep: the directory took {} MB at most (bound: {} MB), {} MB in the end",
        written.most_bytes / MEGA,
        bound / MEGA,
        held / MEGA
    );
    // Minutes pass in fractions of a second in a test, which packing need not keep up with.
    let is_bounded = bench.is_test || written.most_bytes <= bound;
    assert!(is_bounded, "more than is kept");
}
