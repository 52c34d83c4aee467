//! What a request costs the whole program, beside a bare hyper server that answers the same bytes.
//!
//! `cargo bench --bench gateway` runs every case, `cargo bench --bench gateway -- hit miss` those whose
//! names contain one of the words, `-- --quick` each of them shortly, and `-- --list` only names them.
//! `-- --no-callgrind` leaves the instructions out, which cost most of the time. `-- --profile hit` says
//! behind the line of each case where its instructions go, and the processor's time. `-- stopped` alone takes
//! three minutes, in which Atlas stands still; with `--quick` it is ten seconds.
//!
//! `-- --against=/tmp/before hit` compares the gateway with another build of it instead, for which
//! `/tmp/before` is a copy of `target/release/atlas-cert-gateway` from before a change.
//!
//! The gateway is the release binary in a process of its own, in front of a simulated Atlas in this
//! process. Bare hyper is this binary, started once more: the same runtime, the same bytes, the same
//! headers. Both are driven in turn by the same 64 connections, the servers on one processor and this
//! process on another, and what is printed are medians over rounds. On a machine that others use too,
//! wall time means nothing and CPU time little: compare ratios, and trust instructions and system calls.
//!
//! After each case's line for people comes one of JSON for programs, on standard output as well.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up has nothing to measure, and what it does is to read the time"
)]

#[path = "gateway/against.rs"]
mod against;
#[path = "gateway/bare.rs"]
mod bare;
#[path = "gateway/callgrind.rs"]
mod callgrind;
#[path = "gateway/cases.rs"]
mod cases;
#[path = "gateway/cold.rs"]
mod cold;
#[path = "gateway/counts.rs"]
mod counts;
#[path = "gateway/load.rs"]
mod load;
#[path = "gateway/process.rs"]
#[allow(dead_code, reason = "the bench of abuse needs more of it")]
mod process;
#[path = "gateway/profile.rs"]
mod profile;
#[path = "gateway/rounds.rs"]
mod rounds;
#[path = "gateway/samples.rs"]
mod samples;
#[path = "gateway/sdk.rs"]
mod sdk;
#[path = "gateway/site.rs"]
#[allow(dead_code, reason = "the bench of abuse needs more of it")]
mod site;
#[path = "gateway/table.rs"]
mod table;
#[path = "../tests/harness/tokens.rs"]
mod tokens;
#[path = "gateway/trouble.rs"]
mod trouble;

use std::env;
use std::path::Path;

use site::Site;

/// How thorough a run is.
pub(crate) struct Effort {
    pub(crate) quick: bool,
    pub(crate) callgrind: bool,
    /// Prints where instructions and time go, and keeps callgrind's files for `callgrind_annotate`.
    pub(crate) profile: bool,
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [mode, rest @ ..] = arguments.as_slice()
        && mode == bare::MODE
    {
        return bare::serve(rest);
    }
    if arguments.first().is_some_and(|mode| mode == trouble::MODE) {
        return trouble::be_atlas();
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let effort = Effort {
        quick: has("--quick"),
        callgrind: !has("--no-callgrind"),
        profile: has("--profile"),
    };
    let words: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(*word));
    if has("--list") {
        for name in cases::names().chain(cold::names()) {
            println!("{name}");
        }
        return;
    }
    // `cargo test --benches` asks only whether this can be run.
    if has("--test") {
        return;
    }
    let other = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("--against="));
    process::pin_this_process();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let atlas = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let site = Site::start(atlas.handle()).await;
        if let Some(other) = other {
            for case in cases::all().filter(|case| wanted(case.name)) {
                against::compare(&site, &case, Path::new(other), &effort).await;
            }
            return;
        }
        table::print_head();
        for case in cases::all().filter(|case| wanted(case.name)) {
            rounds::compare(&site, &case, &effort).await;
        }
        for case in cold::all().into_iter().filter(|case| wanted(case.name)) {
            cold::run(&site, &case, &effort).await;
        }
    });
}
