//! A month of the audit trail at twenty lookups a second, and what reading it takes.
//!
//! `cargo bench --bench trail` writes 51.8 million lookups of 300 callers about 4,000 users, with the fetches,
//! refusals and signed heads that come with them. The writer and the retention that packs what it has written
//! are the gateway's own; only time is moved. It takes minutes, and some GB of `target/tmp`. `-- --days 3`
//! writes less. `-- --test` writes some minutes in small files, and asserts that what is found is right.
//!
//! Measured are a start over that month, a window of ten minutes in its middle, `audit usage`, `audit verify` and
//! a search for one caller, through the binary where there is a command. Afterwards ten days of it, or as many as
//! `-- --keep-days` says, are written again with `keep = "7d"`, and searched meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that cannot be set up has nothing to measure"
)]

#[path = "lookup/any_caller.rs"]
#[allow(dead_code, reason = "the benches of the cache need more of it")]
mod any_caller;
#[path = "trail/kept.rs"]
mod kept;
#[path = "trail/month.rs"]
mod month;
#[path = "trail/reading.rs"]
mod reading;
#[path = "trail/site.rs"]
mod site;

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use atlas_cert_gateway::audit::search::{Filter, Order};
use atlas_cert_gateway::audit::{Audit, Config, Sync};
use atlas_cert_gateway::settings::Size;
use atlas_cert_gateway::system::Clock;
use atlas_cert_gateway::telemetry::metrics::audit::AuditMetrics;
use month::{Plan, RARE, START, Written};
use reading::{Run, audit, find};
use tokio::runtime::{Builder, Runtime};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let days = |name: &str| {
        let mut rest = arguments.iter().skip_while(|argument| *argument != name);
        let days = rest.nth(1).map(|days| days.parse::<u64>().unwrap());
        days.map(|days| 24 * HOUR * u32::try_from(days).unwrap())
    };
    let times = if is_test {
        Times {
            span: Duration::from_mins(6),
            window: Duration::from_secs(20),
            kept_span: Duration::from_mins(8),
            keep: Duration::from_mins(3),
            slack: Duration::from_mins(4),
            pack_after: Duration::from_secs(10),
            rotate_size: Size::kibibytes(64),
        }
    } else {
        let span = days("--days").unwrap_or(30 * 24 * HOUR);
        Times {
            span,
            window: Duration::from_mins(10),
            kept_span: days("--keep-days").unwrap_or_else(|| span.min(10 * 24 * HOUR)),
            keep: 7 * 24 * HOUR,
            slack: 24 * HOUR,
            pack_after: HOUR,
            rotate_size: Size::mebibytes(64),
        }
    };
    let bench = Bench {
        runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        times,
        is_test,
        missed: Cell::new(0),
    };
    bench.month();
    kept::check(&bench);
    assert_eq!(bench.missed.get(), 0, "targets were missed");
}

/// How long everything is.
struct Times {
    span: Duration,
    window: Duration,
    kept_span: Duration,
    keep: Duration,
    /// How much older than `keep` a record may be.
    slack: Duration,
    pack_after: Duration,
    rotate_size: Size,
}

struct Bench {
    runtime: Runtime,
    times: Times,
    is_test: bool,
    missed: Cell<u32>,
}

impl Bench {
    fn month(&self) {
        let Times { span, window, .. } = self.times;
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // Not where a file begins or ends.
        let since = span / 2 + window / 7;
        let plan = Plan {
            config: self.config(place.path()),
            span,
            window: [since, since + window],
            recent: Duration::ZERO,
            seed: SEED,
            busy: month::DAY,
        };
        let written = self.runtime.block_on(month::write(&plan, |_| ()));
        let directory = &plan.config.directory;
        let all = find(directory, &Filter::default(), Order::OldestFirst);
        show_written(&written, directory, span, all.bytes);
        self.start(&plan.config);
        let verdict = self.verify(&plan.config, all.bytes);
        assert!(verdict.text().contains("as written"), "{}", verdict.text());
        self.windows(directory, &written, plan.window);
        self.one_caller(directory, &written, all.bytes);
        self.usage(directory, &written, all.bytes);
        println!(
            "{:<26} {:>7} MB/s, in the library",
            "search, all of it",
            rate(all.bytes, all.took)
        );
    }

    /// What opening the trail takes.
    fn start(&self, config: &Config) {
        let unsigned = Config {
            head_key_file: None,
            ..config.clone()
        };
        for (name, config) in [
            ("start, heads signed", config),
            ("start, no heads", &unsigned),
        ] {
            let took = middle(|| {
                let _inside = self.runtime.enter();
                let (calendar, _manual_clock) = Clock::manual(START.plus(self.times.span));
                let clock = Clock::system();
                let audit = Audit::open(config, "gateway-1", calendar, AuditMetrics::default());
                let took = clock.elapsed();
                self.runtime.block_on(audit.unwrap().close());
                took
            });
            self.within(name, took, Duration::from_secs(1));
        }
    }

    fn verify(&self, config: &Config, bytes: u64) -> Run {
        let key = config.head_key_file.as_ref().unwrap();
        let key = ["--head-key", key.to_str().unwrap()];
        let run = audit("verify", &config.directory, &key);
        self.pace("audit verify, with heads", &run, bytes, 0);
        run
    }

    fn windows(&self, directory: &Path, written: &Written, window: [Duration; 2]) {
        let [since, until] = window.map(|it| START.plus(it));
        let filter = Filter {
            since: Some(since),
            until: Some(until),
            kind: Some("lookup".to_owned()),
            ..Filter::default()
        };
        let (since, until) = (format!("--since={since}"), format!("--until={until}"));
        for (name, order) in [
            ("newest", Order::NewestFirst),
            ("oldest", Order::OldestFirst),
        ] {
            let first = format!("--first={name}");
            let options = [&since, &until, &first].map(String::as_str);
            let rest = ["--kind=lookup", "--format=json", "--limit=1000000"];
            let took = middle(|| {
                let run = audit("search", directory, &[&options[..], &rest].concat());
                assert_eq!(run.lines(), written.in_window);
                run.took
            });
            let name = format!("window, {name} first");
            self.within(&name, took, Duration::from_millis(200));
            let took = middle(|| {
                let found = find(directory, &filter, order);
                assert_eq!(found.records, written.in_window);
                found.took
            });
            self.within(
                &format!("{name}, library"),
                took,
                Duration::from_millis(200),
            );
        }
    }

    fn one_caller(&self, directory: &Path, written: &Written, bytes: u64) {
        let subject = format!("--subject={}", site::subject(RARE));
        let options = [
            &*subject,
            "--format=json",
            "--limit=10000000",
            "--kind=lookup",
        ];
        let run = audit("search", directory, &options);
        assert_eq!(run.lines(), written.of_one);
        self.pace("search for one subject", &run, bytes, 0);
    }

    fn usage(&self, directory: &Path, written: &Written, bytes: u64) {
        for by in ["day", "project", "rule", "subject", "username"] {
            let by_option = format!("--by={by}");
            let run = audit("usage", directory, &[&by_option, "--format=json"]);
            let report: serde_json::Value = serde_json::from_slice(&run.out).unwrap();
            let lookups = report["total"]["lookups"].as_u64().unwrap();
            // Whose the refusals without a token are cannot be known; of the others none is left out.
            assert_eq!(lookups, written.lookups + written.folded, "{by}");
            self.pace(&format!("audit usage by {by}"), &run, bytes, 300);
        }
    }

    fn config(&self, place: &Path) -> Config {
        Config {
            directory: place.join("audit"),
            // The disk is not what is measured.
            sync: Sync::Never,
            rotate_size: self.times.rotate_size,
            head_key_file: Some(head_key(place)),
            compress_after: self.times.pack_after,
            ..Config::default()
        }
    }

    fn within(&self, name: &str, took: Duration, target: Duration) {
        let missed = self.judge(took > target);
        let took = took.as_secs_f64() * 1_000.0;
        let target = target.as_millis();
        println!("{name:<32} {took:>7.1} ms    (target: < {target} ms){missed}");
    }

    /// `target` in MB of the unpacked trail for each second of a processor.
    fn pace(&self, name: &str, run: &Run, bytes: u64, target: u64) {
        let pace = rate(bytes, run.cpu);
        let missed = self.judge(pace < target);
        let (took, cpu) = (run.took.as_secs_f64(), run.cpu.as_secs_f64());
        let target = match target {
            0 => String::new(),
            target => format!(" (target: >= {target} MB/s)"),
        };
        println!("{name:<32} {pace:>7} MB/s{target}, {cpu:.1} s of CPU, {took:.1} s{missed}");
    }

    fn judge(&self, is_missed: bool) -> &'static str {
        if self.is_test || !is_missed {
            return "";
        }
        self.missed.update(|missed| missed + 1);
        " MISSED"
    }
}

fn show_written(written: &Written, directory: &Path, span: Duration, bytes: u64) {
    let (held, unpacked) = month::measure(directory);
    println!(
        "{:.2} days: {} lookups on record and {} folded, {} fetches; {} MB, {} of {} files packed, {} MB on \
         the disk; written in {} s, heads signed",
        span.as_secs_f64() / 86_400.0,
        written.lookups,
        written.folded,
        written.fetches,
        bytes / MEGA,
        written.packed,
        written.packed + unpacked,
        held / MEGA,
        written.took.as_secs()
    );
}

/// The middle one of five.
fn middle(measure: impl FnMut() -> Duration) -> Duration {
    let mut all: Vec<_> = std::iter::repeat_with(measure).take(5).collect();
    all.sort();
    all[2]
}

/// In MB a second.
fn rate(bytes: u64, span: Duration) -> u64 {
    bytes / u64::try_from(span.as_micros()).unwrap().max(1)
}

fn head_key(place: &Path) -> PathBuf {
    let path = place.join("head.key");
    fs::write(&path, "0123456789abcdef0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub(crate) const SEED: u64 = 0x7a11;
const HOUR: Duration = Duration::from_hours(1);
const MEGA: u64 = 1_000_000;
