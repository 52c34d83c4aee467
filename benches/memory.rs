//! Resident memory per entry of two certificates, between 10,000 and 100,000 entries, keys included.
//!
//! `cargo bench --bench memory` prints it for entries that came from a fetch and were answered once, and
//! for entries that were hit as well.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up has nothing to say"
)]
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "lookup/any_caller.rs"]
mod any_caller;

use std::ops::Range;
use std::time::Duration;

use atlas_cert_gateway::atlas::{CertQuery, Certificate, CertificateList, Timestamp};
use atlas_cert_gateway::cache::{Address, Ask, Cache, CacheMode, Config};
use atlas_cert_gateway::policy::Permit;
use atlas_cert_gateway::system::Clock;
use atlas_cert_gateway::telemetry::metrics::cache::CacheMetrics;
use atlas_cert_gateway::upstream::{FetchStats, Fetched};
use tokio_util::task::TaskTracker;

use any_caller::AnyCaller;

const FEW: usize = 10_000;
const MANY: usize = 100_000;
const ADDRESS: Address<'static> = Address {
    scheme: "http",
    host: "127.0.0.1:8080",
    root: "/api/atlas/v2",
};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let memory = Memory::new();
    runtime.block_on(memory.fill(0..FEW));
    let few = resident_bytes();
    runtime.block_on(memory.fill(FEW..MANY));
    let many = resident_bytes();
    let length = memory.hit(0..MANY);
    let hit = resident_bytes();

    let weight = memory.metrics.bytes.get() / i64::try_from(MANY).unwrap();
    println!("an answer of two certificates has {length} bytes");
    println!("{} entries are kept", memory.metrics.entries.get());
    println!("{} bytes resident an entry", (many - few) / (MANY - FEW));
    println!("{} bytes more once it was hit", (hit - many) / MANY);
    println!("{weight} bytes an entry by its own account");
}

struct Memory {
    cache: Cache,
    clock: Clock,
    metrics: CacheMetrics,
    any_caller: AnyCaller,
}

impl Memory {
    fn new() -> Self {
        let (clock, metrics) = (Clock::system(), CacheMetrics::default());
        let tasks = TaskTracker::new();
        Self {
            cache: Cache::new(Config::default(), clock.clone(), metrics.clone(), tasks),
            clock,
            metrics,
            any_caller: AnyCaller::new(),
        }
    }

    /// Asks for what is not there yet, and renders each answer as it would be sent.
    async fn fill(&self, numbers: Range<usize>) {
        for number in numbers {
            let permit = permit(&self.any_caller, number);
            let ask = self.ask();
            let fetch = move |_| async move {
                Ok(Fetched {
                    list: list(number),
                    answered_at: ask.now,
                    stats: fetch_stats(),
                    shared: None,
                })
            };
            let found = self
                .cache
                .get_or_fetch(&permit, ask, |_| Ok(()), fetch)
                .await
                .unwrap();
            let now = ask.now.wall;
            found.entry.usual(permit.query(), ADDRESS, now);
        }
        self.cache.measure();
    }

    /// Asks for what is there; says how long an answer is.
    fn hit(&self, numbers: Range<usize>) -> usize {
        let mut length = 0;
        for number in numbers {
            let permit = permit(&self.any_caller, number);
            let ask = self.ask();
            let found = self.cache.get_cached(&permit, ask).unwrap();
            let usual = found.entry.usual(permit.query(), ADDRESS, ask.now.wall);
            length = usual.body.len();
        }
        length
    }

    fn ask(&self) -> Ask<'static> {
        Ask {
            address: ADDRESS,
            mode: CacheMode::Cached,
            now: self.clock.now(),
        }
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

fn permit(any_caller: &AnyCaller, number: usize) -> Permit<'static> {
    let query = CertQuery {
        project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
        username: format!("CN=payments-{number:06}").parse().unwrap(),
    };
    any_caller.permit(&query)
}

fn list(number: usize) -> CertificateList {
    let texts = [0, 1].map(|second| {
        format!(
            "{{\"_id\":{},\"createdAt\":\"2026-05-12T02:06:35Z\",\"groupId\":\
             \"32b6e34b3d91647abb20e7b8\",\"notAfter\":\"2099-08-10T02:06:35Z\",\
             \"subject\":\"CN=payments-{number:06}\"}}",
            2_558_523_591_213_958_694_u64 + second
        )
    });
    CertificateList::join(texts.iter().map(|json| Certificate {
        json,
        not_after: Timestamp::parse("2099-08-10T02:06:35Z").unwrap(),
    }))
    .unwrap()
}

fn fetch_stats() -> FetchStats {
    FetchStats {
        credential: "platform".into(),
        calls: 2,
        pages: 1,
        duration: Duration::from_millis(50),
        status: None,
    }
}
