//! The cache's part of a hit, piece by piece: what is fresh, what is found, what is sent.
//!
//! `cargo bench --bench lookup`

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up has nothing to say"
)]

#[path = "lookup/any_caller.rs"]
mod any_caller;

use std::hint::black_box;
use std::time::Duration;

use atlas_cert_gateway::atlas::{CertQuery, Certificate, CertificateList, Timestamp};
use atlas_cert_gateway::cache::freshness::Lifetime;
use atlas_cert_gateway::cache::{Address, Ask, Cache, CacheMode, Config, Tag};
use atlas_cert_gateway::policy::Permit;
use atlas_cert_gateway::system::Clock;
use atlas_cert_gateway::telemetry::metrics::cache::CacheMetrics;
use atlas_cert_gateway::upstream::{FetchStats, Fetched};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio_util::task::TaskTracker;

use any_caller::AnyCaller;

const KEYS: usize = 1_000;
const ADDRESS: Address<'static> = Address {
    scheme: "http",
    host: "127.0.0.1:8080",
    root: "/api/atlas/v2",
};

fn list(certificates: usize) -> CertificateList {
    let texts: Vec<String> = (0..certificates)
        .map(|id| {
            format!(
                "{{\"_id\":{},\"createdAt\":\"2026-05-12T02:06:35Z\",\"groupId\":\
                 \"32b6e34b3d91647abb20e7b8\",\"notAfter\":\"2099-08-10T02:06:35Z\",\
                 \"subject\":\"CN=payments-1\"}}",
                2_558_523_591_213_958_694_u64 + u64::try_from(id).unwrap()
            )
        })
        .collect();
    CertificateList::join(texts.iter().map(|json| Certificate {
        json,
        not_after: Timestamp::parse("2099-08-10T02:06:35Z").unwrap(),
    }))
    .unwrap()
}

fn permits() -> Vec<Permit<'static>> {
    let any_caller = AnyCaller::new();
    (0..KEYS)
        .map(|number| {
            any_caller.permit(&CertQuery {
                project: "32b6e34b3d91647abb20e7b8".parse().unwrap(),
                username: format!("CN=payments-{number}").parse().unwrap(),
            })
        })
        .collect()
}

/// A memory that knows every key.
fn filled(clock: &Clock, permits: &[Permit<'_>]) -> Cache {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (metrics, tasks) = (CacheMetrics::default(), TaskTracker::new());
    let cache = Cache::new(Config::default(), clock.clone(), metrics, tasks);
    for permit in permits {
        let ask = ask(clock);
        let fetch = move |_| async move {
            Ok(Fetched {
                list: list(2),
                answered_at: ask.now,
                stats: FetchStats {
                    credential: "platform".into(),
                    calls: 2,
                    pages: 1,
                    duration: Duration::from_millis(50),
                    status: None,
                },
                shared: None,
            })
        };
        runtime
            .block_on(cache.get_or_fetch(permit, ask, |_| Ok(()), fetch))
            .unwrap();
    }
    cache
}

fn ask(clock: &Clock) -> Ask<'static> {
    Ask {
        address: ADDRESS,
        mode: CacheMode::Cached,
        now: clock.now(),
    }
}

fn found(criterion: &mut Criterion) {
    let (clock, permits) = (Clock::system(), permits());
    let cache = filled(&clock, &permits);
    let ask = ask(&clock);
    let mut turn = permits.iter().cycle();
    criterion.bench_function("get_cached, one of 1,000 keys", |bencher| {
        bencher.iter(|| black_box(cache.get_cached(turn.next().unwrap(), ask)));
    });
    criterion.bench_function(
        "get_cached, and the usual answer with its ETag",
        |bencher| {
            bencher.iter(|| {
                let permit = turn.next().unwrap();
                let found = cache.get_cached(permit, ask).unwrap();
                black_box(found.entry.usual(permit.query(), ADDRESS, ask.now.wall))
            });
        },
    );
}

fn sent(criterion: &mut Criterion) {
    let (clock, permits) = (Clock::system(), permits());
    let cache = filled(&clock, &permits);
    let (ask, permit) = (ask(&clock), permits.first().unwrap());
    let (now, query) = (ask.now, permit.query());
    let found = cache.get_cached(permit, ask).unwrap();
    criterion.bench_function("the usual answer with its ETag", |bencher| {
        bencher.iter(|| black_box(found.entry.usual(query, ADDRESS, now.wall)));
    });
    criterion.bench_function("the usual answer, made for another address", |bencher| {
        let mut hosts = ["a.example", "b.example"].iter().cycle();
        bencher.iter(|| {
            let host = hosts.next().unwrap();
            let address = Address { host, ..ADDRESS };
            black_box(found.entry.usual(query, address, now.wall))
        });
    });
    criterion.bench_function("Cache-Status and Age", |bencher| {
        bencher.iter(|| black_box((found.header().to_string(), found.age())));
    });
}

fn decided(criterion: &mut Criterion) {
    criterion.bench_function("freshness", |bencher| {
        let lifetime = Lifetime::pick(&Config::default(), 7);
        bencher.iter(|| {
            let age = black_box(Duration::from_secs(100));
            black_box(lifetime.judge(age, Duration::from_hours(1)))
        });
    });
    for certificates in [2, 1_203] {
        let list = list(certificates);
        criterion.bench_function(&format!("ETag of {certificates} certificates"), |bencher| {
            bencher.iter(|| black_box(Tag::of(list.iter())));
        });
    }
}

criterion_group!(benches, found, sent, decided);
criterion_main!(benches);
