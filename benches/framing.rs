//! Whether nginx and HAProxy see the same requests in the same bytes as the gateway (H41).
//!
//! `cargo bench --bench framing` sends some 4,000 streams of bytes, each on a connection of its own: the 215
//! cases of `tests/vectors/http11probe.txt`, every mutation of `benches/framing/mutations.txt` alone,
//! everything there that may frame a body with every body, and two or three mutations together, drawn from
//! a fixed seed. `-- --drawn 20000` draws more, `-- --seed 7` others. Needed are Debian's packages
//! `nginx-light` and `haproxy`; Envoy is not in Debian.
//!
//! 1. Each stream goes to the gateway, and to each proxy before a server that writes down what the proxy
//!    makes of it. Where the gateway answers a request, the proxy must have passed on the same one, and no
//!    body with it, or have refused: the one that takes for a part of a request what the other takes for a whole
//!    one can be made to smuggle. That the gateway refuses what a proxy passes on is no fault.
//! 2. Each stream goes to the gateway through each proxy, over connections that all callers share. Every
//!    request that the proxy says it has passed on must be on record once, with the name that the proxy
//!    has read, and nothing else; and its answer must have come to its caller in its turn.
//!
//! A difference is printed with its bytes, and ends the program with 1.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up has nothing to compare; real proxies need real time"
)]

#[path = "../tests/conformance/http1/cases.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod cases;
#[path = "framing/exchange.rs"]
mod exchange;
#[path = "framing/judge.rs"]
mod judge;
#[path = "framing/proxies.rs"]
mod proxies;
#[path = "framing/recorder.rs"]
mod recorder;
#[path = "framing/streams.rs"]
mod streams;
#[path = "framing/through.rs"]
mod through;
#[path = "../tests/harness/mod.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod harness;

use std::collections::HashMap;
use std::env;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use exchange::{Exchange, send_all};
use harness::world;
use judge::{Reading, Verdict};
use proxies::{Kind, Line, Proxy};
use recorder::Notes;
use streams::{Stream, USERS, user};
use through::Passage;
use world::{PROJECT, World, set};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().collect();
    let number = |flag: &str, usual: u64| {
        let mut from = arguments.iter().skip_while(|argument| *argument != flag);
        from.nth(1).map_or(usual, |number| number.parse().unwrap())
    };
    let drawn = usize::try_from(number("--drawn", 2_000)).unwrap();
    let streams = Arc::new(streams::streams(drawn, number("--seed", 41)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let faults = runtime.block_on(compare(&streams));
    for fault in &faults {
        println!("{fault}\n");
    }
    if faults.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{} faults", faults.len());
    ExitCode::FAILURE
}

/// Compares, prints the counts, and returns what is wrong.
async fn compare(streams: &Arc<Vec<Stream>>) -> Vec<String> {
    let world = world().await;
    let (recorder, notes) = recorder::start().await;
    let mut proxies = Vec::new();
    for kind in Kind::ALL {
        proxies.push(kind.start(world.address(), recorder).await);
    }
    println!("{} streams", streams.len());
    let direct = send_all(streams, world.address()).await;
    let mut known = on_record(&world);
    let ours = direct
        .iter()
        .map(|exchange| Reading::of_gateway(exchange, &known));
    let ours: Vec<Reading> = ours.collect();

    let mut faults = Vec::new();
    println!("before a recorder  alike  both refuse  proxy stricter  gateway stricter  different");
    for proxy in &proxies {
        faults.extend(alone(proxy, streams, &ours, &notes).await);
    }
    println!("before the gateway  passed on  on record  refused unrecorded  faults");
    for proxy in &proxies {
        faults.extend(before_the_gateway(proxy, streams, &world, &mut known).await);
    }
    faults
}

/// What a proxy alone makes of each stream, beside what the gateway has made of it.
async fn alone(
    proxy: &Proxy,
    streams: &Arc<Vec<Stream>>,
    ours: &[Reading],
    notes: &Notes,
) -> Vec<String> {
    let sent = send_all(streams, proxy.to_recorder).await;
    let theirs = readings(&sent, notes, &settled(proxy).await);
    let (mut counts, mut faults) = ([0; 5], Vec::new());
    for ((stream, ours), theirs) in streams.iter().zip(ours).zip(&theirs) {
        let column = match ours.behind(theirs) {
            Verdict::Alike => 0,
            Verdict::BothRefuse => 1,
            Verdict::FrontStricter => 2,
            Verdict::GatewayStricter => 3,
            Verdict::Different(how) => {
                faults.push(fault(proxy.kind, Some(stream), &how));
                4
            }
        };
        counts[column] += 1;
    }
    for (_, forwarded) in notes.lock().unwrap().drain() {
        faults.push(fault(
            proxy.kind,
            None,
            &format!("from no caller: {forwarded:?}"),
        ));
    }
    let [alike, refused, front, gateway, different] = counts;
    let name = proxy.kind.name();
    println!("{name:<17} {alike:>6} {refused:>12} {front:>15} {gateway:>17} {different:>10}");
    faults
}

/// What comes of each stream through a proxy, beside what was on record before.
async fn before_the_gateway(
    proxy: &Proxy,
    streams: &Arc<Vec<Stream>>,
    world: &World,
    known: &mut HashMap<String, Value>,
) -> Vec<String> {
    let before = proxy.lines().len();
    let sent = send_all(streams, proxy.to_gateway).await;
    let lines = settled(proxy).await.split_off(before);
    let mut records = on_record(world);
    records.retain(|id, _| !known.contains_key(id));
    let passage = Passage {
        sent: &sent,
        lines: &lines,
        records: &records,
    };
    let (passed_on, faults) = (passage.passed_on(), passage.faults(streams));
    let (name, recorded, wrong) = (proxy.kind.name(), records.len(), faults.len());
    let unrecorded = passed_on.saturating_sub(recorded);
    println!("{name:<18} {passed_on:>10} {recorded:>10} {unrecorded:>19} {wrong:>7}");
    known.extend(records);
    let with_its_stream =
        |(at, how): (Option<usize>, String)| fault(proxy.kind, at.map(|at| &streams[at]), &how);
    faults.into_iter().map(with_its_stream).collect()
}

/// A gateway that soon has enough, by a clock that goes as any other.
async fn world() -> World {
    let world = World::with(|plan| {
        for limit in ["first_byte", "head"] {
            set(&mut plan.config, &format!("server.limits.{limit}"), "3s");
        }
        for limit in ["capacity", "refill_per_minute"] {
            set(&mut plan.config, &format!("atlas.limits.{limit}"), PLENTY);
        }
        set(&mut plan.config, "atlas.limits.reserve", 0);
        let bucket = &mut plan.atlas.rules.bucket;
        (bucket.capacity, bucket.refill) = (PLENTY.unsigned_abs(), PLENTY.unsigned_abs());
        let mut project = plan.atlas.world.project(PROJECT);
        for number in 0..USERS {
            project.user(&user(number)).certificates(1);
        }
    })
    .await;
    let manual_clock = world.clock.clone();
    tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = Instant::now();
            manual_clock.advance(now - last);
            last = now;
        }
    });
    world
}

/// What a proxy has said of all requests, once it has no more to say.
async fn settled(proxy: &Proxy) -> Vec<Line> {
    let mut lines = proxy.lines();
    loop {
        tokio::time::sleep(SETTLING).await;
        let before = std::mem::replace(&mut lines, proxy.lines()).len();
        if lines.len() == before {
            return lines;
        }
    }
}

/// What a proxy has made of each stream.
fn readings(sent: &[Exchange], notes: &Notes, lines: &[Line]) -> Vec<Reading> {
    let mut notes = notes.lock().unwrap();
    sent.iter()
        .map(|exchange| {
            let forwarded = notes.remove(&exchange.caller).unwrap_or_default();
            let of_it = lines.iter().filter(|line| line.caller == exchange.caller);
            Reading::of_proxy(exchange, &forwarded, &of_it.collect::<Vec<&Line>>())
        })
        .collect()
}

/// Everything asked, by the request's id.
fn on_record(world: &World) -> HashMap<String, Value> {
    let id = |record: &Value| record["request_id"].as_str().unwrap().to_owned();
    world
        .lookups()
        .into_iter()
        .map(|record| (id(&record), record))
        .collect()
}

fn fault(kind: Kind, stream: Option<&Stream>, how: &str) -> String {
    let name = stream.map_or("?", |stream| &stream.name);
    let bytes = stream.map_or_else(String::new, |stream| {
        stream.bytes.escape_ascii().to_string()
    });
    format!("{}, {name}: {how}\n{bytes}", kind.name())
}

/// More than is asked of Atlas here.
const PLENTY: i64 = 1_000_000_000;
/// Longer than a proxy waits for the last bytes of a caller that it has refused.
const SETTLING: Duration = Duration::from_millis(1_500);
