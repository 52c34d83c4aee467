//! Conversations that were right until chance changed them: nothing panics or hangs, nothing is answered
//! without its record, memory does not grow, and the next caller is answered.

mod chance;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use std::{env, panic};

use tokio::io::AsyncWriteExt;

use super::conformance::conversations;
use super::floods::resident_kib;
use super::{STATUS_200, Seen, Spammer, connect, next_frame};
use crate::program;
use crate::world::World;
use chance::{Chance, Piece};

/// How many of what came back are lists.
fn lists(seen: &Seen) -> usize {
    let answers = seen.heads.values();
    answers
        .filter(|head| {
            // Sizes of the table may come first.
            let status = head.iter().find(|byte| **byte & 0xe0 != 0x20);
            status == Some(&STATUS_200)
        })
        .count()
}

/// A longer run: `FUZZ_ROUNDS=100000 cargo test --test conformance changed_by_chance -- --nocapture`; one
/// round of it again: `FUZZ_SEED=…`.
#[tokio::test]
#[expect(
    clippy::print_stdout,
    reason = "the seed and the figures of the long run"
)]
async fn conversations_changed_by_chance_break_nothing_and_are_on_record() {
    const NAME: &str =
        "http2::fuzzed::conversations_changed_by_chance_break_nothing_and_are_on_record";
    if !program::is_alone(NAME) {
        return;
    }
    count_panics();
    let number = |name: &str| Some(env::var_os(name)?.to_str()?.parse::<u64>().unwrap());
    let (rounds, first) = match (number("FUZZ_ROUNDS"), number("FUZZ_SEED")) {
        (None, None) => (2_000, 1),
        (rounds, Some(seed)) => (rounds.unwrap_or(1), seed),
        (Some(rounds), None) => (rounds, RandomState::new().hash_one("") >> 1),
    };
    println!("{rounds} rounds from FUZZ_SEED={first}");
    let all: Vec<Vec<Piece>> = conversations()
        .into_iter()
        .map(|mut bytes| {
            let frames = std::iter::from_fn(|| next_frame(&mut bytes));
            frames.map(Piece::new).collect()
        })
        .collect();
    let world = World::new().await;
    world.ask("app1").await;
    let before = resident_kib();
    let mut answered = 1;
    for seed in first..first + rounds {
        let mut chance = Chance(seed);
        let bytes = chance.conversation(&all);
        let mut caller = Spammer::over(connect(&world).await);
        let talk = async {
            for part in bytes.chunks(1 + chance.below(bytes.len())) {
                caller.send(part).await;
                // The other side may answer what it has, or not yet.
                for _ in 0..chance.below(4) {
                    tokio::task::yield_now().await;
                }
            }
            let _ = caller.stream.shutdown().await;
            caller.until(|_| false).await;
        };
        // Who sends no more can grant no window either, and is waited for until the write stall.
        let ends = tokio::time::timeout(GUARD, world.while_time_passes(talk)).await;
        assert!(ends.is_ok(), "X14: FUZZ_SEED={seed} hangs");
        assert_eq!(PANICS.with(Cell::get), 0, "X14: FUZZ_SEED={seed} panics");
        answered += lists(&caller.seen);
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 48 << 10, "X14: {grown} KiB more");
    let records = world.lookups();
    let recorded = records.iter().filter(|record| record["status"] == 200);
    let recorded = recorded
        .inspect(|record| assert_eq!(record["subject"], "payments-api", "X14"))
        .count();
    assert!(answered <= recorded, "X14: {answered} of {recorded}");
    assert_eq!(world.ask("app1").await.status, 200, "X14");
    println!(
        "{answered} answers, {recorded} of {} records, {grown} KiB more",
        records.len()
    );
}

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the panics of this test: its tasks run on its own thread, and a task's panic ends nothing else.
///
/// One is let pass, which no release build has: h2 asserts, while debugging, that no stream is left when a
/// connection is dropped, and one is whose answer found no window before the connection failed.
fn count_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() == Some("assertion failed: !self.has_streams()") {
            return;
        }
        PANICS.with(|panics| panics.set(panics.get() + 1));
        before(info);
    }));
}

/// Nothing takes that long.
const GUARD: Duration = Duration::from_secs(20);
