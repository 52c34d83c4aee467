//! What the audit trail costs: the instructions of a record on the way of an answer, the rate of the
//! journal in each sync mode, reading it back, and adding it up.
//!
//! `cargo bench --bench audit`; `-- record`, `-- read` or `-- usage` for a part of it. The instructions are
//! counted by valgrind, where there is one, in this program run anew: `-- instructions` counts them alone.
//! valgrind knows no SHA instructions, so that what hashes is counted apart; a processor that has them does
//! with a tenth of it. `AUDIT_BENCH_RECORDS=20000` only writes so many records, for a profile of one's own, and
//! with `AUDIT_BENCH_MODE=off` does all but that.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot go on should say so"
)]

#[path = "lookup/any_caller.rs"]
#[allow(dead_code, reason = "the benches of the cache need more of it")]
mod any_caller;
#[path = "gateway/counts.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod counts;

use std::borrow::Cow;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io};

use atlas_cert_gateway::atlas::{CertQuery, Timestamp};
use atlas_cert_gateway::audit::search::{Filter, Order, Search, search};
use atlas_cert_gateway::audit::usage::{GroupBy, Usage};
use atlas_cert_gateway::audit::verify::verify;
use atlas_cert_gateway::audit::{
    Arrival, Audit, CacheUse, Closing, Config, Origin, Outcome, RequestId, Sync,
};
use atlas_cert_gateway::identity::Caller;
use atlas_cert_gateway::system::Clock;
use atlas_cert_gateway::telemetry::metrics::audit::AuditMetrics;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

criterion_group!(benches, record, read, usage);

fn main() {
    if let Some(records) = env::var_os("AUDIT_BENCH_RECORDS") {
        return count(records.to_str().unwrap().parse().unwrap());
    }
    if !env::args().any(|argument| argument == "--test") {
        print_instructions();
    }
    if env::args().any(|argument| argument == "instructions") {
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}

/// Counts this program twice for each mode, so that what it takes to start drops out.
fn print_instructions() {
    let count = |mode| Some(counted(mode, FEW)?.until(&counted(mode, MANY)?));
    let (Some(on), Some(off)) = (count("on"), count("off")) else {
        return println!("no valgrind, no count of instructions");
    };
    println!(
        "instructions of a record: {} and {} of SHA-256; of the same without one: {}",
        on.own - off.own,
        on.sha256,
        off.own
    );
}

/// Instructions, those of SHA-256 apart.
struct Counted {
    own: u64,
    sha256: u64,
}

impl Counted {
    /// What each record costs that `later` has more.
    fn until(&self, later: &Self) -> Self {
        let each = |few: u64, many: u64| many.saturating_sub(few) / (MANY - FEW);
        Self {
            own: each(self.own, later.own),
            sha256: each(self.sha256, later.sha256),
        }
    }
}

fn counted(mode: &str, records: u64) -> Option<Counted> {
    let place = tempfile::tempdir().unwrap();
    let out = place.path().join("out");
    Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().unwrap())
        .env("AUDIT_BENCH_RECORDS", records.to_string())
        .env("AUDIT_BENCH_MODE", mode)
        .stderr(Stdio::null())
        .status()
        .ok()?;
    let dump = fs::read_to_string(out).ok()?;
    let sha256 = counts::of_sha256(&counts::costs(&dump));
    let own = counts::total(&dump)? - sha256;
    Some(Counted { own, sha256 })
}

const FEW: u64 = 6_400;
const MANY: u64 = 12_800;

/// As many answers at once as the connections of the bench of the whole program.
const CALLERS: usize = 64;

fn record(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(CALLERS.try_into().unwrap()));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let off = Trail::new(Sync::Never, &runtime);
    group.bench_function("off", |bencher| {
        bencher.iter(|| runtime.block_on(join_all((0..CALLERS).map(|_| off.skip()))));
    });
    for (name, sync) in [
        ("never", Sync::Never),
        ("interval", Sync::Interval),
        ("always", Sync::Always),
    ] {
        let trail = Trail::new(sync, &runtime);
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(join_all((0..CALLERS).map(|_| trail.record()))));
        });
    }
    group.finish();
}

/// Reading back 200,000 records, of which one in a hundred is about another user.
fn read(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let trail = Trail::new(Sync::Never, &runtime);
    let rare = "CN=reports,OU=apps";
    let other = Trail {
        query: CertQuery {
            username: rare.parse().unwrap(),
            ..trail.query.clone()
        },
        ..trail.clone()
    };
    runtime.block_on(async {
        for _ in 0..1_000 {
            join_all((0..198).map(|_| trail.record())).await;
            join_all((0..2).map(|_| other.record())).await;
        }
    });
    let size: u64 = fs::read_dir(trail.audit.directory())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(size)).sample_size(10);
    let directories = [trail.audit.directory().to_owned()];
    // As `audit search --format json` does it.
    let written = |filter: &Filter, order| {
        let mut out = BufWriter::with_capacity(256 << 10, io::sink());
        let wanted = Search {
            directories: &directories,
            filter,
            order,
        };
        search(&wanted, &|_| (), |found| {
            out.write_all(black_box(found.line.as_bytes())).unwrap();
            out.write_all(b"\n").unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    };
    for (name, filter) in filters(rare) {
        for (suffix, order) in [
            ("", Order::OldestFirst),
            (", newest first", Order::NewestFirst),
        ] {
            group.bench_function(format!("search for {name}{suffix}"), |bencher| {
                bencher.iter(|| written(&filter, order));
            });
        }
    }
    rows(&mut group, &directories);
    group.bench_function("verify", |bencher| {
        bencher.iter(|| verify(trail.audit.directory(), 1, &[]).unwrap().records);
    });
    group.finish();
}

fn rows(group: &mut BenchmarkGroup<'_, WallTime>, directories: &[PathBuf]) {
    group.bench_function("search for all, as rows of a table", |bencher| {
        bencher.iter(|| {
            let mut seen = 0;
            let wanted = Search {
                directories,
                filter: &Filter::default(),
                order: Order::OldestFirst,
            };
            search(&wanted, &|_| (), |found| {
                seen += black_box(found.members()).len();
                ControlFlow::Continue(())
            })
            .unwrap();
            seen
        });
    });
}

/// Adding up 20,000 records of 100 callers, as lines in memory.
fn usage(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let trail = Trail::new(Sync::Never, &runtime);
    for number in 0..100 {
        let trail = Trail {
            caller: Arc::new(caller(&format!("payments-api-{number}"))),
            ..trail.clone()
        };
        runtime.block_on(join_all((0..200).map(|_| trail.record())));
    }
    let mut lines = Vec::new();
    let everything = Search {
        directories: &[trail.audit.directory().to_owned()],
        filter: &Filter::default(),
        order: Order::OldestFirst,
    };
    search(&everything, &|_| (), |found| {
        lines.push(found.line.to_owned());
        ControlFlow::Continue(())
    })
    .unwrap();
    let size: usize = lines.iter().map(String::len).sum();
    let mut group = criterion.benchmark_group("usage");
    group.throughput(Throughput::Bytes(size.try_into().unwrap()));
    for (name, by) in [
        ("day", GroupBy::Day),
        ("subject", GroupBy::Subject),
        ("username", GroupBy::Username),
    ] {
        group.bench_function(format!("by {name}"), |bencher| {
            bencher.iter(|| {
                let mut usage = Usage::new(by);
                for line in &lines {
                    usage.add(black_box(line));
                }
                usage.rows()
            });
        });
    }
    group.finish();
}

fn filters(rare: &str) -> [(&'static str, Filter); 5] {
    let named = |name: &str| Filter {
        username: Some(name.to_owned()),
        ..Filter::default()
    };
    let late = Filter {
        since: Some(Timestamp::from_seconds(32_503_680_000)),
        ..Filter::default()
    };
    let answered = Filter {
        outcome: Some("answered".to_owned()),
        kind: Some("lookup".to_owned()),
        ..Filter::default()
    };
    [
        ("none, by name", named("CN=nobody")),
        ("none, by time", late),
        ("one in a hundred, by name", named(rare)),
        ("all, by outcome and kind", answered),
        ("all, unfiltered", Filter::default()),
    ]
}

/// Writes `records` records and ends, for a tool that counts.
fn count(records: usize) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let trail = Trail::new(Sync::Interval, &runtime);
    let off = env::var_os("AUDIT_BENCH_MODE").is_some_and(|mode| mode == "off");
    // Each caller is a task, as each connection is one.
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let trail = trail.clone();
            runtime.spawn(async move {
                for _ in 0..records / CALLERS {
                    if off {
                        trail.skip().await;
                    } else {
                        trail.record().await;
                    }
                }
            })
        })
        .collect();
    runtime.block_on(join_all(callers));
}

#[derive(Clone)]
struct Trail {
    audit: Audit,
    clock: Clock,
    origin: Origin,
    caller: Arc<Caller>,
    query: CertQuery,
    rule: Arc<str>,
    _place: Arc<TempDir>,
}

impl Trail {
    fn new(sync: Sync, runtime: &Runtime) -> Self {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = Config {
            directory: place.path().join("audit"),
            sync,
            ..Config::default()
        };
        let clock = Clock::system();
        let _inside = runtime.enter();
        let audit =
            Audit::open(&config, "gateway-1", clock.clone(), AuditMetrics::default()).unwrap();
        Self {
            audit,
            clock,
            // A caller keeps its connection.
            origin: Origin::new(([192, 0, 2, 7], 50_123).into(), None),
            caller: Arc::new(caller("payments-api")),
            query: CertQuery {
                project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
                username: "CN=payments-api,OU=apps".parse().unwrap(),
            },
            rule: Arc::from("payments reads its own users"),
            _place: Arc::new(place),
        }
    }

    /// What a hit does.
    async fn record(&self) {
        let now = self.clock.now();
        let mut entry = self.audit.entry(Arrival {
            request_id: black_box(ID).into(),
            origin: Cow::Borrowed(&self.origin),
            at: now,
            caller_request_id: None,
        });
        entry.set_query(&self.query);
        entry.set_caller(&self.caller);
        entry.set_rule(Some(&self.rule));
        let closing = Closing {
            outcome: Outcome::Answered,
            status: 200,
            cache: CacheUse::Hit,
            fill_id: Some(ID),
            age: Some(Duration::from_millis(1_500)),
            certificates: Some(2),
            list: Some(*b"n4bQgYhMfWWaL-qg"),
            ..Closing::abandoned(now)
        };
        entry.close(closing).await.unwrap();
    }

    /// The same without a record; the answer has the request's id in any case.
    async fn skip(&self) {
        black_box(self.clock.now());
        black_box(RequestId::from(black_box(ID)));
        black_box((&self.caller, &self.query, &self.rule));
        std::future::ready(()).await;
    }
}

fn caller(subject: &str) -> Caller {
    Caller {
        client_id: Some(Box::from("payments")),
        token_id: Some(Box::from("3f0c7bb4-7f0e-4a52-8d8b-4b8a39b3bb0d")),
        ..any_caller::caller(subject, "https://idp.internal.example")
    }
}

const ID: Uuid = Uuid::from_u128(0x0198_a3f0_1234_7abc_8def_0123_4567_89ab);
