//! What honest callers notice of attacks: slow callers, idle ones, floods of frames, of requests without a
//! token and of what is denied, on a small disk too, a log that is not read, keys that never come, answers
//! that are not read, and operators' connections.
//!
//! `cargo bench --bench abuse` runs every attack, `cargo bench --bench abuse -- slow idle` those whose
//! names contain one of the words, `-- --quick` each of them shortly and small, `-- --minute` each for a
//! minute at a time, `-- --list` only names them, and `-- --test` shows within seconds that they can be run
//! at all. The four modes of slowhttptest are run by that program itself where it is installed (Debian has
//! it), from one address and at its own pace; all other attacks come from many addresses of the loopback
//! network, so that the bound on connections of one source does not end them before they begin. All but the
//! idle ones come again, a second after they are sent away.
//!
//! Sixteen honest connections ask for a list in memory two hundred times a second each: alone,
//! while the attack goes on against another process on the same processor, and while it goes on against the
//! gateway that they ask. The second is what the machine itself costs them: its kernel's work for the
//! attack's packets and its scheduler. So there are two ratios: to none, and to the attack on
//! another process. What the gateway adds of its own is the latter. Each slice is repeated in turn, and medians of
//! the slices are printed; then how many of the attack's connections were open and how often one was ended,
//! and the gateway's resident memory and share of its processor, before and then.
//!
//! Attackers bring processors of their own. So the attack has one, at the lowest priority (nice 19); the
//! gateways, with the limits of their defaults, are on the other, and so are the honest callers, at the
//! highest priority (nice -20, where the one who runs this may).
//!
//! The same by hand, against `cargo run --release --example demo`, which prints a URL and a token (Debian:
//! `slowhttptest`, `nghttp2-client`):
//!
//! ```text
//! slowhttptest -H -c 5000 -r 1000 -i 1 -l 30 -u URL         # heads that never end
//! h2load -c 64 -m 100 -D 30 -H "Authorization: Bearer TOKEN" URL
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up has nothing to measure, and what it does is to read the time"
)]

#[path = "abuse/callers.rs"]
mod callers;
#[path = "../tests/harness/frames.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod frames;
#[path = "abuse/honest.rs"]
mod honest;
#[path = "gateway/load.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod load;
#[path = "gateway/process.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod process;
#[path = "abuse/attackers.rs"]
mod attackers;
#[path = "gateway/site.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod site;
#[path = "abuse/slices.rs"]
mod slices;
#[path = "abuse/spam.rs"]
mod spam;
#[path = "../tests/harness/tokens.rs"]
mod tokens;

use std::cell::RefCell;
use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Resource, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::runtime::{Builder, Runtime};

use attackers::{Attackers, Requests};
use callers::Kind;
use process::{Cores, Server};
use site::{Site, Tuning};
use slices::{HEAD, Observed, noticed};

/// One attack.
struct Attack {
    name: &'static str,
    attackers: Attackers,
    /// How many connections it tries to hold.
    callers: usize,
    place: Place,
}

/// What is special about the gateway that is attacked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Usual,
    /// Its trail lies on a disk of 64 MiB.
    SmallDisk,
    /// What it logs is not read.
    UnreadLog,
}

/// How long and how large.
struct Effort {
    /// For an attack to be at its full size.
    gathering: Duration,
    measured: Duration,
    /// Each slice of time is repeated so often.
    rounds: usize,
    /// Of the callers, one in so many.
    divisor: usize,
}

const ATTACKS: [Attack; 23] = [
    slowhttptest("slowhttptest-H", &["-H", "-i", "1"]),
    slowhttptest("slowhttptest-B", &["-B", "-i", "1"]),
    slowhttptest("slowhttptest-R", &["-R"]),
    slowhttptest("slowhttptest-X", &["-X", "-n", "1"]),
    attack("slow-heads", Kind::SlowHead, 5_000),
    attack("slow-bodies", Kind::SlowBody, 5_000),
    attack("slow-readers", Kind::SlowRead, 1_000),
    attack("ranges", Kind::Ranges, 200),
    attack("idle", Kind::Idle, 20_000),
    attack("silent", Kind::Silent, 20_000),
    attack("rapid-resets", Kind::Spam(spam::rapid_resets), 8),
    attack("pings", Kind::Spam(spam::pings), 8),
    attack("settings", Kind::Spam(spam::settings), 8),
    attack("continuations", Kind::Spam(spam::continuations), 8),
    attack("header-bombs", Kind::Spam(spam::header_bombs), 8),
    attack("strangers", Kind::Strangers, 8).at(Place::SmallDisk),
    attack("denied", Kind::Denied, 8).at(Place::SmallDisk),
    attack("bad-tokens", Kind::BadTokens, 8),
    attack("unread-log", Kind::BadTokens, 8).at(Place::UnreadLog),
    attack("unknown-keys", Kind::UnknownKeys, 10_100),
    attack("unread-streams", Kind::Unread, 10),
    attack("idle-operators", Kind::IdleOperators, 200),
    attack("searches", Kind::Searches, 8),
];

const fn attack(name: &'static str, kind: Kind, callers: usize) -> Attack {
    Attack {
        name,
        attackers: Attackers::Ours(kind),
        callers,
        place: Place::Usual,
    }
}

impl Attack {
    const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    /// Which of a gateway's addresses it attacks.
    fn target(&self, server: &Server) -> SocketAddr {
        match self.attackers {
            Attackers::Ours(kind) if kind.is_for_operators() => server.admin.unwrap(),
            Attackers::Ours(_) | Attackers::Slowhttptest(_) => server.address,
        }
    }
}

const fn slowhttptest(name: &'static str, mode: &'static [&'static str]) -> Attack {
    Attack {
        name,
        attackers: Attackers::Slowhttptest(mode),
        callers: 5_000,
        place: Place::Usual,
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        for attack in &ATTACKS {
            println!("{}", attack.name);
        }
        return;
    }
    let words: Vec<&String> = arguments
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let wanted =
        |attack: &&Attack| words.is_empty() || words.iter().any(|word| attack.name.contains(*word));
    let effort = if has("--test") {
        Effort {
            gathering: Duration::from_millis(100),
            measured: Duration::from_millis(100),
            rounds: 1,
            divisor: 100,
        }
    } else if has("--quick") {
        Effort {
            gathering: Duration::from_secs(1),
            measured: Duration::from_secs(1),
            rounds: 1,
            divisor: 10,
        }
    } else if has("--minute") {
        Effort {
            gathering: Duration::from_secs(6),
            measured: Duration::from_mins(1),
            rounds: 1,
            divisor: 1,
        }
    } else {
        Effort {
            gathering: Duration::from_secs(6),
            measured: Duration::from_secs(3),
            rounds: 3,
            divisor: 1,
        }
    };
    process::pin_this_process();
    let descriptors = raise_descriptors();
    let honest = runtime(FIRST, Some(GATEWAYS));
    let atlas = runtime(0, None);
    println!("{HEAD}");
    honest.block_on(async {
        let site = Site::start(atlas.handle()).await;
        for attack in ATTACKS.iter().filter(wanted) {
            let callers = (attack.callers / effort.divisor).clamp(1, descriptors);
            measure(&site, attack, callers, &effort).await;
        }
    });
}

/// One thread, of a priority; on a processor other than the process's, if one is named.
fn runtime(nice: i32, processor: Option<usize>) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(move || {
            // Of this thread alone, on Linux. Without the right to it all are equal, and ratios larger.
            let _ = setpriority_process(None, nice);
            if let Some(processor) = processor {
                let mut processors = CpuSet::new();
                processors.set(processor);
                let _ = sched_setaffinity(None, &processors);
            }
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

/// Measures alone, with the attack on another process, and in it, on gateways of its own.
async fn measure(site: &Site, attack: &Attack, callers: usize, effort: &Effort) {
    let requests = Arc::new(Requests::new(site));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let disks = RefCell::new(Vec::new());
    let start = || {
        let more = more(silent.local_addr().unwrap());
        let command = site.gateway_with(Tuning::USUAL, &more, |directory| {
            if attack.place == Place::SmallDisk {
                disks
                    .borrow_mut()
                    .extend(SmallDisk::mount(&directory.join("audit")));
            }
        });
        match attack.place {
            Place::UnreadLog => Server::start_unread(&command, Cores::One),
            Place::SmallDisk | Place::Usual => Server::start(&command, Cores::One),
        }
    };
    let (here, elsewhere) = (start(), start());
    if attack.place == Place::SmallDisk && disks.borrow().len() < 2 {
        println!("{:<14} (a small disk cannot be mounted)", attack.name);
        return;
    }
    for server in [&here, &elsewhere] {
        honest::once(server.address, &requests.small).await;
        honest::once(server.address, &requests.large).await;
    }
    let mut streams = honest::connect(here.address).await;
    let gathering = if attack.callers < A_CROWD {
        effort.gathering / 6
    } else {
        effort.gathering
    };
    let mut observed = Observed::new(here.resident());
    for _ in 0..effort.rounds {
        let slice = noticed(&here, &mut streams, &requests.small, effort.measured).await;
        observed.none.push(slice);
        for target in [&elsewhere, &here] {
            let address = attack.target(target);
            let Some(running) = attack.attackers.begin(callers, &requests, address) else {
                println!("{:<14} (slowhttptest is not installed)", attack.name);
                return;
            };
            tokio::time::sleep(gathering).await;
            let slice = noticed(&here, &mut streams, &requests.small, effort.measured).await;
            if target.address == here.address {
                observed.here.push(slice);
                observed.resident_then = here.resident();
                observed.counts = running.counts();
            } else {
                observed.elsewhere.push(slice);
            }
            drop(running);
            // What it leaves behind is not the next slice's.
            tokio::time::sleep(gathering / 4).await;
        }
    }
    println!("{:<14} {callers:>7} {observed}", attack.name);
}

/// Operators, and an issuer that says nothing.
fn more(silent: SocketAddr) -> String {
    let (issuer, audience) = (attackers::SILENT, tokens::AUDIENCE);
    format!(
        r#"
        [[access.rules]]
        name = "operators"
        subjects = ["operator"]
        projects = ["*"]
        usernames = ["*"]
        admin = true
        [[identity.issuers]]
        issuer = "{issuer}"
        audiences = ["{audience}"]
        algorithms = ["RS256"]
        jwks_url = "http://{silent}/jwks"
        "#
    )
}

/// A disk of 64 MiB, until it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(directory: &Path) -> Option<Self> {
        std::fs::create_dir(directory).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"])
            .arg(directory)
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(directory.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the gateway that writes there may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// So many take some seconds to come.
const A_CROWD: usize = 1_000;
/// The processor of the gateways.
const GATEWAYS: usize = 0;
/// Priorities, as `nice` has them.
const FIRST: i32 = -20;
const LAST: i32 = 19;

/// A request's bytes.
pub(crate) type Request = Bytes;
