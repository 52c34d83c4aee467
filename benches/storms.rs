//! What honest callers notice of storms: slow callers, idle ones, and floods of frames.
//!
//! `cargo bench --bench storms` runs every storm, `cargo bench --bench storms -- slow idle` those whose
//! names contain one of the words, `-- --quick` each of them shortly and small, `-- --list` only names
//! them, and `-- --test` shows within seconds that they can be run at all.
//!
//! The gateway is a process of its own with the limits of its defaults, on one processor; honest callers
//! and the storm share another, each on a thread. Attackers bring processors of their own, and here there
//! are none to give them: so the storm's thread has the lowest priority (nice 19), and the honest callers'
//! the highest (nice -20, where the one who runs this may). What the kernel does for the storm's packets
//! still falls on both.
//!
//! Sixteen honest connections ask for a list in memory two hundred times a second each, before each storm
//! and while it rages. What is printed is their latency, the ratio of the two, how many of the storm's
//! connections were open, how often one was ended, and the gateway's resident memory and share of its
//! processor, before and then. Storms come from many addresses of the loopback network, so that the bound
//! on connections of one source does not end them before they begin.
//!
//! The same with others' programs, against `cargo run --release --example demo`, which prints a URL and a
//! token (Debian: `slowhttptest`, `nghttp2-client`):
//!
//! ```text
//! slowhttptest -H -c 1000 -r 200 -i 1 -l 30 -u URL          # heads that never end
//! slowhttptest -B -c 1000 -r 200 -i 1 -l 30 -u URL          # bodies that never end
//! slowhttptest -R -c 1000 -r 200 -l 30 -u URL               # ranges by the thousand
//! slowhttptest -X -c 1000 -r 200 -n 1 -z 16 -l 30 -u URL    # answers that nobody reads
//! h2load -c 64 -m 100 -D 30 -H "Authorization: Bearer TOKEN" URL
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up has nothing to measure, and what it does is to read the time"
)]

#[path = "storms/callers.rs"]
mod callers;
#[path = "../tests/gateway/frames.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod frames;
#[path = "storms/honest.rs"]
mod honest;
#[path = "gateway/load.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod load;
#[path = "gateway/process.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod process;
#[path = "gateway/site.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod site;
#[path = "storms/spam.rs"]
mod spam;
#[path = "../tests/gateway/tokens.rs"]
mod tokens;

use std::env;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use rustix::process::Resource;
use rustix::process::getrlimit;
use rustix::process::setpriority_process;
use rustix::process::setrlimit;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;

use callers::Ammunition;
use callers::Counts;
use callers::Kind;
use honest::Latencies;
use process::Cores;
use process::Server;
use site::Site;
use site::Tuning;
use site::Users;

/// One storm.
struct Storm {
    name: &'static str,
    kind: Kind,
    /// How many connections it tries to hold.
    callers: usize,
}

/// How long and how large.
struct Effort {
    /// For the storm to be at its full size.
    gathering: Duration,
    measured: Duration,
    /// Of the callers, one in so many.
    divisor: usize,
}

const STORMS: [Storm; 10] = [
    storm("slow-heads", Kind::SlowHead, 5_000),
    storm("slow-bodies", Kind::SlowBody, 5_000),
    storm("slow-readers", Kind::SlowRead, 1_000),
    storm("ranges", Kind::Ranges, 200),
    storm("idle", Kind::Idle, 20_000),
    storm("rapid-resets", Kind::Spam(spam::rapid_resets), 8),
    storm("pings", Kind::Spam(spam::pings), 8),
    storm("settings", Kind::Spam(spam::settings), 8),
    storm("continuations", Kind::Spam(spam::continuations), 8),
    storm("header-bombs", Kind::Spam(spam::header_bombs), 8),
];

const fn storm(name: &'static str, kind: Kind, callers: usize) -> Storm {
    Storm {
        name,
        kind,
        callers,
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        for storm in &STORMS {
            println!("{}", storm.name);
        }
        return;
    }
    let words: Vec<&String> = arguments
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(*word));
    let effort = if has("--test") {
        Effort {
            gathering: Duration::from_millis(100),
            measured: Duration::from_millis(100),
            divisor: 100,
        }
    } else if has("--quick") {
        Effort {
            gathering: Duration::from_secs(1),
            measured: Duration::from_secs(1),
            divisor: 10,
        }
    } else {
        Effort {
            gathering: Duration::from_secs(7),
            measured: Duration::from_secs(6),
            divisor: 1,
        }
    };
    process::pin_this_process();
    let descriptors = raise_descriptors();
    let (honest, atlas) = (runtime(FIRST), runtime(0));
    println!("{HEAD}");
    honest.block_on(async {
        let site = Site::start(atlas.handle()).await;
        for storm in STORMS.iter().filter(|storm| wanted(storm.name)) {
            let storming = runtime(LAST);
            let callers = (storm.callers / effort.divisor).clamp(1, descriptors);
            weather(&site, storm, callers, &effort, &storming).await;
            storming.shutdown_background();
        }
    });
}

/// One thread, of a priority.
fn runtime(nice: i32) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(move || {
            // Of this thread alone, on Linux. Without the right to it all are equal, and ratios larger.
            let _ = setpriority_process(None, nice);
        })
        .enable_all()
        .build()
        .unwrap()
}

/// As many as the operator allows; what is left when everything else has some.
fn raise_descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(most).unwrap().saturating_sub(500)
}

/// Measures before a storm and in it, on a gateway of its own.
async fn weather(site: &Site, storm: &Storm, callers: usize, effort: &Effort, storming: &Runtime) {
    let tokens = site.tokens(1);
    let of = |name, count, certificates| Users {
        name,
        count,
        certificates,
    };
    let ask = site
        .asks(of("payments-storm", 1, 2), &tokens)
        .remove(0)
        .http1();
    let large = site
        .asks(of("payments-storm-many", 1, 5_000), &tokens)
        .remove(0)
        .http1();
    let server = Server::start(&site.gateway(Tuning { sync: "interval" }), Cores::One);
    for request in [&ask, &large] {
        honest::once(server.address, request).await;
    }
    let mut streams = honest::connect(server.address).await;
    let (calm, calm_share) = share(&server, &mut streams, &ask, effort.measured).await;
    let resident = server.resident();

    let counts = Arc::new(Counts::default());
    let ammunition = Ammunition {
        small: ask.clone(),
        large,
        gateway: server.address,
    };
    callers::attack(
        storm.kind,
        callers,
        &Arc::new(ammunition),
        &counts,
        storming.handle(),
    );
    tokio::time::sleep(effort.gathering).await;
    let (rough, rough_share) = share(&server, &mut streams, &ask, effort.measured).await;
    let (open, ended) = (counts.open(), counts.ended());
    let [before, then] = [resident, server.resident()].map(|bytes| bytes >> 20);
    println!(
        "{:<14} {callers:>7} {open:>7} {ended:>7} | {calm} | {rough} | {} | {before:>4} {then:>4} | \
         {calm_share:>3.0}% {rough_share:>3.0}%",
        storm.name,
        rough.beside(&calm),
    );
}

/// What honest callers notice, and how many hundredths of its processor the server takes meanwhile.
async fn share(
    server: &Server,
    streams: &mut Vec<TcpStream>,
    ask: &Request,
    span: Duration,
) -> (Latencies, f64) {
    let (cpu, began) = (server.cpu(), Instant::now());
    let latencies = honest::measure(streams, ask, span).await;
    let busy = server.cpu().saturating_sub(cpu).as_secs_f64();
    (latencies, 100.0 * busy / began.elapsed().as_secs_f64())
}

const HEAD: &str = "storm          callers    open   ended | calm p50    p99 | then p50    p99 | ratios      | \
                    RSS  then |  CPU then";

/// Priorities, as `nice` has them.
const FIRST: i32 = -20;
const LAST: i32 = 19;

/// A request's bytes.
pub(crate) type Request = Bytes;
