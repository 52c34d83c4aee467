//! What callers notice of Atlas's troubles: cases in which one side fails, and another is measured.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atlas_simulator::{Asked, Fault, Settings, Simulator};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Effort;
use crate::load;
use crate::load::{Ask, Lines, Load, Protocol, Slice, Until};
use crate::process::{Cores, Server};
use crate::site::{BROKEN, Site, Tuning, Users};
use crate::table::{median, rounded};

/// The argument that makes this binary an Atlas in a process of its own.
pub(crate) const MODE: &str = "--atlas";

/// Serves for ever; the address is printed.
pub(crate) fn be_atlas() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut settings = Settings {
            keep_requests: 1,
            ..Settings::default()
        };
        for number in 0..STOPPED_USERS {
            let mut project = settings.world.project(PROJECT);
            project.user(&format!("payments-{number}")).certificates(2);
        }
        let atlas = Simulator::start(settings).await.unwrap();
        println!("{}", atlas.base_url());
        std::future::pending::<()>().await;
    });
}

/// Atlas in a process that can be stopped.
struct AtlasProcess {
    child: Child,
    url: String,
}

impl AtlasProcess {
    fn start() -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg(MODE)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines.next().unwrap().unwrap();
        Self { child, url }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for AtlasProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Atlas is stopped while hits run, asked for lists that are not in memory, and goes on again.
pub(crate) async fn stopped(site: &Site, effort: &Effort) -> Value {
    let span = Duration::from_secs(if effort.quick { 10 } else { 150 });
    let atlas = AtlasProcess::start();
    let server = Server::start(&site.gateway_before(USUAL, &atlas.url), Cores::One);
    let token = &site.tokens(1)[0];
    let ask = |number: usize| {
        let target =
            format!("/api/atlas/v2/groups/{PROJECT}/databaseUsers/payments-{number}/certs");
        Ask::new(target, token)
    };
    let known: Vec<Ask> = (0..KNOWN).map(ask).collect();
    let load = Arc::new(Load::new(&known, Protocol::Http1, 200));
    let mut lines = Lines::open(server.address, &load, QUIET_LINES).await;
    lines.drive(Until::Answered(20 * KNOWN)).await;
    let undisturbed = lines.drive(Until::Passed(span / 4)).await;
    atlas.signal(Signal::STOP);
    let misses = misses(&server, span, ask);
    let (stopped, misses) = tokio::join!(lines.drive(Until::Passed(span)), misses);
    atlas.signal(Signal::CONT);
    let back = until_answered(&server, ask).await;
    let others = undisturbed.others + stopped.others;
    let (undisturbed, stopped) = (Latency::of(undisturbed), Latency::of(stopped));
    let longest = misses.iter().map(|(_, took)| *took).max().unwrap();
    let waited = misses.iter().filter(|(status, _)| *status == 504).count();
    // The breaker lets one through now and then; half of all is what most callers see.
    let refusal = median(
        misses
            .iter()
            .map(|(_, took)| took.as_secs_f64() * 1e3)
            .collect(),
    );
    println!(
        "stopped          Atlas's process stopped for {span:?}: hits p50 {:.0} | {:.0} µs, p99 {:.0} | {:.0} µs \
         (stopped | undisturbed), {others} not answered; of {} misses {waited} waited (504, {longest:.1?} at \
         most), half were refused within {refusal:.1} ms; first list {back:.1?} after it went on",
        stopped.p50,
        undisturbed.p50,
        stopped.p99,
        undisturbed.p99,
        misses.len(),
    );
    json!({
        "stopped_s": span.as_secs(),
        "hit_p50_ratio": rounded(stopped.p50 / undisturbed.p50),
        "hit_p99_ratio": rounded(stopped.p99 / undisturbed.p99),
        "hits_not_answered": others,
        "misses": misses.len(),
        "misses_that_waited": waited,
        "longest_miss_ms": longest.as_millis(),
        "refused_in_ms": rounded(refusal),
        "first_list_after_ms": back.as_millis(),
    })
}

/// Asks for lists that are not in memory, ten a second, however long each takes; the status and the time
/// of each.
async fn misses(
    server: &Server,
    span: Duration,
    ask: impl Fn(usize) -> Ask,
) -> Vec<(u16, Duration)> {
    let (begun, mut under_way) = (Instant::now(), JoinSet::new());
    for number in KNOWN.. {
        if begun.elapsed() >= span {
            break;
        }
        let (address, ask) = (server.address, ask(number));
        under_way.spawn(async move {
            let asked = Instant::now();
            (load::status(address, &ask).await, asked.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    under_way.join_all().await
}

/// Asks for lists that are not in memory until there is one.
async fn until_answered(server: &Server, ask: impl Fn(usize) -> Ask) -> Duration {
    let begun = Instant::now();
    for number in 1.. {
        let late = ask(STOPPED_USERS - number);
        if load::status(server.address, &late).await == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

/// Lists of one project are asked of Atlas while another project is flooded, or its credential fails.
pub(crate) async fn neighbours(site: &Site, effort: &Effort) -> Value {
    let each = if effort.quick { 200 } else { 1_000 };
    let rounds = if effort.quick { 3 } else { 5 };
    let faults = [
        ("429", Some(Fault::rate_limited(30))),
        ("500", Some(Fault::unexpected_error())),
        ("silence", Some(Fault::silence())),
        ("credential", None),
    ];
    let server = Server::start(&site.gateway_with_a_broken_credential(USUAL), Cores::One);
    let token = site.tokens(1);
    let ours = Users {
        name: "payments-neighbour",
        count: 2 * each * rounds * faults.len() + 1,
        certificates: 2,
    };
    let asks = site.asks(ours, &token);
    load::once(server.address, &asks[0]).await;
    site.delay(Duration::from_millis(10));
    let load = Arc::new(Load::new(&asks[1..], Protocol::Http1, 200));
    let mut lines = Lines::open(server.address, &load, QUIET_LINES).await;
    let mut figures = Vec::new();
    for (name, fault) in faults {
        let (mut p50s, mut p99s, mut others) = (Vec::new(), Vec::new(), 0);
        let project = if fault.is_some() { FLOODED } else { BROKEN };
        let planted = fault.map(|fault| {
            let asked = Asked::certificates().project(FLOODED);
            site.atlas.on(asked).respond(fault)
        });
        for _ in 0..rounds {
            let alone = lines.drive(Until::Answered(each)).await;
            let flood = flood(&server, project, &token[0]);
            let beside = lines.drive(Until::Answered(each)).await;
            drop(flood);
            others += alone.others + beside.others;
            let (alone, beside) = (Latency::of(alone), Latency::of(beside));
            p50s.push(beside.p50 / alone.p50);
            p99s.push(beside.p99 / alone.p99);
        }
        if let Some(planted) = planted {
            planted.withdraw();
        }
        let (p50, p99) = (median(p50s), median(p99s));
        println!(
            "neighbours       lists asked of Atlas (10 ms) beside {FLOOD_LINES} callers of a project that fails \
             with {name}: p50 × {p50:.2}, p99 × {p99:.2} of undisturbed, {others} not answered"
        );
        figures.push(json!({
            "fault": name, "p50_ratio": rounded(p50), "p99_ratio": rounded(p99), "not_answered": others,
        }));
    }
    site.delay(Duration::ZERO);
    Value::from(figures)
}

/// Callers who ask for one list after another of a project, a hundred times a second each. They leave
/// when this is dropped.
fn flood(server: &Server, project: &'static str, token: &str) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for line in 0..FLOOD_LINES {
        let (address, token) = (server.address, token.to_owned());
        all.spawn(async move {
            for number in 0.. {
                let user = format!("payments-{line}-{number}");
                let target = format!("/api/atlas/v2/groups/{project}/databaseUsers/{user}/certs");
                load::status(address, &Ask::new(target, &token)).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
    all
}

/// Percentiles, in µs.
struct Latency {
    p50: f64,
    p99: f64,
}

impl Latency {
    fn of(mut slice: Slice) -> Self {
        slice.latencies.sort_unstable();
        let percentile = |percent: usize| {
            let at = (slice.answers * percent / 100).min(slice.answers - 1);
            slice.latencies[at].as_secs_f64() * 1e6
        };
        Self {
            p50: percentile(50),
            p99: percentile(99),
        }
    }
}

const USUAL: Tuning = Tuning::USUAL;
/// Few enough that the server is not what they wait for.
const QUIET_LINES: usize = 4;
const FLOOD_LINES: usize = 16;
const KNOWN: usize = 64;
const STOPPED_USERS: usize = 4_000;
const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
/// A project of one caller alone.
const FLOODED: &str = "32b6e34b3d91647abb3fffff";
