//! Two servers under the same load, in turn; what is printed are medians over the rounds.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::Effort;
use crate::bare;
use crate::callgrind;
use crate::callgrind::Instructions;
use crate::cases::Case;
use crate::cases::Once;
use crate::load;
use crate::load::Lines;
use crate::load::Load;
use crate::load::Slice;
use crate::load::Until;
use crate::process::Server;
use crate::site::Site;

/// What one slice showed.
struct Reading {
    per_second: f64,
    /// CPU time of the server per answer, in µs.
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// A server, its lines, and what was read of it.
struct Side {
    server: Server,
    lines: Lines,
    readings: Vec<Reading>,
    system_calls: Option<f64>,
    resident: u64,
    instructions: Option<Instructions>,
    /// Answers of another status than was wanted; they count in no honest comparison.
    others: usize,
}

/// Compares the gateway with bare hyper and prints what came of it.
pub(crate) async fn compare(site: &Site, case: &Case, effort: &Effort) {
    let plan = Plan::of(case, effort);
    let asks = case.asks(site, plan.slices(), plan.each);
    let load = || Arc::new(Load::new(&asks, case.protocol, case.status));

    let command = site.gateway(case.tuning);
    let server = Server::start(&command, case.cores);
    // What the gateway answers is what bare hyper will: the same body, the same headers.
    let answer = load::once(server.address, &case.plain(site)).await;
    let answer_file = site.write(case.name, &answer);
    let mut ours = Side::open(server, &load()).await;
    let bare_load = Arc::new(Load::new(&asks, case.protocol, 200));
    let bare_command = bare::command(&answer_file, case.protocol);
    let bare_server = Server::start(&bare_command, case.cores);
    let mut bare = Side::open(bare_server, &bare_load).await;

    if case.once == Once::Repeated {
        // What is compressed is compressed beside the first answers.
        ours.lines
            .drive(Until::Answered(2 * load().len().max(500)))
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut ratios = Vec::new();
    for _ in 0..plan.rounds {
        let before = bare.slice(plan.until).await;
        let measured = ours.slice(plan.until).await;
        let after = bare.slice(plan.until).await;
        ratios.push(f64::midpoint(before, after) / measured);
    }
    for side in [&mut ours, &mut bare] {
        let slice = side.lines.drive(plan.until);
        let (slice, calls) = side.server.system_calls(slice).await;
        side.system_calls = calls.map(|calls| calls as f64 / slice.answers as f64);
        side.resident = side.server.resident();
    }
    if effort.callgrind {
        let plan = callgrind::Plan::of(case, effort);
        bare.instructions = callgrind::per_answer(&bare_command, &bare_load, &plan).await;
        // Its own directory: the audit trail is held by the first gateway.
        let command = site.gateway(case.tuning);
        let asks = case.asks(site, 1, plan.answers());
        let load = Arc::new(Load::new(&asks, case.protocol, case.status));
        ours.instructions = callgrind::per_answer(&command, &load, &plan).await;
    }
    print(case, &answer, &ours, &bare, median(ratios));
}

/// How long a case is measured.
struct Plan {
    rounds: usize,
    until: Until,
    /// Answers in a slice, where they are counted.
    each: usize,
}

impl Plan {
    fn of(case: &Case, effort: &Effort) -> Self {
        let rounds = if effort.quick { 3 } else { 7 };
        let milliseconds = if effort.quick { 100 } else { 500 };
        let each: usize = match case.once {
            Once::Repeated => 0,
            Once::Token => 300,
            Once::User => 2_000,
            Once::TwentiethUser => 10_000,
        };
        let each = if effort.quick { each.div_ceil(4) } else { each };
        let until = match case.once {
            Once::Repeated => Until::Passed(Duration::from_millis(milliseconds)),
            Once::Token | Once::User | Once::TwentiethUser => Until::Answered(each),
        };
        Self {
            rounds,
            until,
            each,
        }
    }

    /// One more than rounds, for the system calls.
    fn slices(&self) -> usize {
        self.rounds + 1
    }
}

impl Side {
    async fn open(server: Server, load: &Arc<Load>) -> Self {
        let lines = Lines::open(server.address, load, LINES).await;
        Self {
            server,
            lines,
            readings: Vec::new(),
            system_calls: None,
            resident: 0,
            instructions: None,
            others: 0,
        }
    }

    /// Measures one slice, and returns CPU time per answer.
    async fn slice(&mut self, until: Until) -> f64 {
        let before = self.server.cpu();
        let slice = self.lines.drive(until).await;
        let cpu = self.server.cpu().saturating_sub(before);
        self.others += slice.others;
        let reading = Reading::of(slice, cpu);
        let cpu = reading.cpu;
        self.readings.push(reading);
        cpu
    }

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

impl Reading {
    fn of(mut slice: Slice, cpu: Duration) -> Self {
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

/// The table's head.
pub(crate) fn print_head() {
    println!(
        "Each figure: the gateway | bare hyper. Capacity: CPU time of bare hyper ÷ of the gateway. \
         Instructions of SHA-256 apart.\n"
    );
    println!(
        "{:<16} {:>8} {:>17} {:>15} {:>13} {:>13} {:>15} {:>23} {:>11}",
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

fn print(case: &Case, answer: &[u8], ours: &Side, bare: &Side, capacity: f64) {
    let pair = |of: fn(&Reading) -> f64, digits: usize| {
        format!(
            "{:.digits$} | {:.digits$}",
            ours.median(of),
            bare.median(of)
        )
    };
    let calls = |side: &Side| match side.system_calls {
        Some(calls) => format!("{calls:.2}"),
        None => "-".to_owned(),
    };
    let instructions = |side: &Side| match side.instructions {
        Some(Instructions { own, sha256: 0 }) => own.to_string(),
        Some(Instructions { own, sha256 }) => format!("{own} + {sha256}"),
        None => "-".to_owned(),
    };
    let mebibytes = |side: &Side| side.resident as f64 / f64::from(1 << 20);
    println!(
        "{:<16} {:>8.2} {:>17} {:>15} {:>13} {:>13} {:>15} {:>23} {:>11}   {}",
        case.name,
        capacity,
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
        "capacity": rounded(capacity),
        "answer_bytes": answer.len(),
        "gateway": ours.as_json(),
        "bare": bare.as_json(),
    });
    println!("{line}");
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// As many connections as the figures of other servers were taken with.
pub(crate) const LINES: usize = 64;
