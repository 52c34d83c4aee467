//! What the rounds of a case showed goes in, its line of the table comes out.

use std::time::Duration;

use serde_json::{Value, json};

use crate::callgrind::Instructions;
use crate::cases::Case;
use crate::load::Slice;
use crate::profile;
use crate::samples;
use crate::samples::Shares;

/// What one slice showed.
pub(crate) struct Reading {
    pub(crate) per_second: f64,
    /// CPU time of the server per answer, in µs.
    pub(crate) cpu: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// What was seen of a server.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) readings: Vec<Reading>,
    pub(crate) system_calls: Option<f64>,
    pub(crate) resident: u64,
    pub(crate) instructions: Option<Instructions>,
    pub(crate) shares: Option<Shares>,
    /// Answers of another status than was wanted; they count in no honest comparison.
    pub(crate) others: usize,
}

/// What many rounds showed of the same.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    /// A quarter of the rounds showed less than the first, a quarter more than the second.
    pub(crate) quartiles: (f64, f64),
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let (count, quarter) = (values.len(), values.len() / 4);
        Self {
            median: values[count / 2],
            quartiles: (values[quarter], values[count - 1 - quarter]),
        }
    }
}

impl Reading {
    pub(crate) fn of(mut slice: Slice, cpu: Duration) -> Self {
        slice.latencies.sort_unstable();
        let percentile = |percent: usize| {
            let at = (slice.answers * percent / 100).min(slice.answers - 1);
            slice.latencies[at].as_secs_f64() * 1e6
        };
        let answers = slice.answers as f64;
        Self {
            per_second: answers / slice.wall.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / answers,
            p50: percentile(50),
            p99: percentile(99),
        }
    }
}

impl Seen {
    fn median(&self, of: impl Fn(&Reading) -> f64) -> f64 {
        median(self.readings.iter().map(of).collect())
    }

    fn as_json(&self) -> Value {
        json!({
            "per_second": self.median(|reading| reading.per_second).round(),
            "cpu_us": rounded(self.median(|reading| reading.cpu)),
            "p50_us": self.median(|reading| reading.p50).round(),
            "p99_us": self.median(|reading| reading.p99).round(),
            "system_calls": self.system_calls.map(rounded),
            "instructions": self.instructions.map(|count| count.own),
            "instructions_of_sha256": self.instructions.map(|count| count.sha256),
            "resident_bytes": self.resident,
            "other_answers": self.others,
        })
    }
}

/// The table's head.
pub(crate) fn print_head() {
    println!(
        "Each figure: the gateway | bare hyper. Capacity: CPU time of bare hyper ÷ of the gateway, in the \
         middle half of the rounds. Instructions of SHA-256 apart.\n"
    );
    println!(
        "{:<16} {:>16} {:>17} {:>15} {:>13} {:>13} {:>15} {:>23} {:>11}",
        "case",
        "capacity",
        "answers/s",
        "CPU µs",
        "p50 µs",
        "p99 µs",
        "system calls",
        "instructions",
        "memory MiB"
    );
}

/// The line of a case, and the same for programs.
pub(crate) fn print(case: &Case, answer_bytes: usize, ours: &Seen, bare: &Seen, capacity: Spread) {
    let (low, high) = capacity.quartiles;
    let pair = |of: fn(&Reading) -> f64, digits: usize| {
        format!(
            "{:.digits$} | {:.digits$}",
            ours.median(of),
            bare.median(of)
        )
    };
    let calls = |side: &Seen| match side.system_calls {
        Some(calls) => format!("{calls:.2}"),
        None => "-".to_owned(),
    };
    let instructions = |side: &Seen| match side.instructions {
        Some(Instructions { own, sha256: 0, .. }) => own.to_string(),
        Some(Instructions { own, sha256, .. }) => format!("{own} + {sha256}"),
        None => "-".to_owned(),
    };
    let mebibytes = |side: &Seen| side.resident as f64 / f64::from(1 << 20);
    println!(
        "{:<16} {:>16} {:>17} {:>15} {:>13} {:>13} {:>15} {:>23} {:>11}   {}",
        case.name,
        format!("{:.2} ({low:.2}-{high:.2})", capacity.median),
        pair(|reading| reading.per_second, 0),
        pair(|reading| reading.cpu, 1),
        pair(|reading| reading.p50, 0),
        pair(|reading| reading.p99, 0),
        format!("{} | {}", calls(ours), calls(bare)),
        format!("{} | {}", instructions(ours), instructions(bare)),
        format!("{:.0} | {:.0}", mebibytes(ours), mebibytes(bare)),
        case.about,
    );
    if ours.others + bare.others > 0 {
        println!(
            "({} answers were not a {}: do not trust this line)",
            ours.others + bare.others,
            case.status
        );
    }
    let line = json!({
        "case": case.name,
        "capacity": rounded(capacity.median),
        "capacity_quartiles": [rounded(low), rounded(high)],
        "answer_bytes": answer_bytes,
        "gateway": ours.as_json(),
        "bare": bare.as_json(),
    });
    println!("{line}");
}

/// Where instructions and time go.
pub(crate) fn print_profile(ours: &Seen, bare: &Seen) {
    match (ours.instructions, bare.instructions) {
        (Some(ours), Some(bare)) => profile::print(&ours.profile, &bare.profile),
        _ => println!("    (instructions were not counted: valgrind does that)"),
    }
    match (&ours.shares, &bare.shares) {
        (Some(of_ours), Some(of_bare)) => {
            let cpu = |side: &Seen| side.median(|reading| reading.cpu);
            samples::print((of_ours, cpu(ours)), (of_bare, cpu(bare)));
        }
        _ => println!(
            "    (time was not sampled: perf does that, where it may look into the kernel)"
        ),
    }
}

pub(crate) fn median(values: Vec<f64>) -> f64 {
    Spread::of(values).median
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
