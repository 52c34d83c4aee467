//! The parts of a hit that the listener does itself: reading the request, writing the answer, counting.
//!
//! `cargo bench --bench parts`. The token is measured in `token`, what memory does in `lookup`, the record
//! in `audit`, and all of it together in `gateway`.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

#[path = "lookup/any_caller.rs"]
mod any_caller;

use std::hint::black_box;
use std::time::Duration;

use atlas_cert_gateway::atlas::{Certificate, CertificateList, Timestamp};
use atlas_cert_gateway::audit::{CacheUse, Outcome, RequestId};
use atlas_cert_gateway::cache;
use atlas_cert_gateway::cache::{Ask, Cache, CacheMode, Found};
use atlas_cert_gateway::server::negotiation::Encodings;
use atlas_cert_gateway::server::request::{CertRequest, Received};
use atlas_cert_gateway::server::unsent_budget::UnsentBudget;
use atlas_cert_gateway::server::{ServerLimits, response};
use atlas_cert_gateway::system::{Clock, Ids};
use atlas_cert_gateway::telemetry::metrics::cache::CacheMetrics;
use atlas_cert_gateway::telemetry::metrics::lookups::LookupMetrics;
use atlas_cert_gateway::upstream::{FetchStats, Fetched};
use criterion::{Criterion, criterion_group, criterion_main};
use http::Request;
use http::request::Parts;
use prometheus_client::registry::Registry;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use any_caller::AnyCaller;

/// The head of a request as most clients send it, with more headers put behind.
fn head(more: &[(&str, &str)]) -> Parts {
    let target =
        "/api/atlas/v2/groups/32b6e34b3d91647abb20e7b8/databaseUsers/CN%3Dpayments-1/certs";
    let mut request = Request::get(target)
        .header("host", "certs.internal.example")
        .header("authorization", format!("Bearer {}", "a".repeat(946)))
        .header("user-agent", "curl/8.14.1");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// A list of two certificates, found in memory.
fn found(clock: &Clock, asked: &CertRequest<'_>) -> Found {
    let permit = AnyCaller::new().permit(&asked.query);
    let ask = Ask {
        address: asked.address,
        mode: CacheMode::Cached,
        now: clock.now(),
    };
    let json = "{\"_id\":2558523591213958694,\"createdAt\":\"2026-05-12T02:06:35Z\",\"groupId\":\
                \"32b6e34b3d91647abb20e7b8\",\"notAfter\":\"2099-08-10T02:06:35Z\",\"subject\":\
                \"CN=payments-1\"}";
    let certificate = Certificate {
        json,
        not_after: Timestamp::parse("2099-08-10T02:06:35Z").unwrap(),
    };
    let fetch = move |_| async move {
        Ok(Fetched {
            list: CertificateList::join([certificate, certificate]).unwrap(),
            answered_at: ask.now,
            stats: FetchStats {
                credential: "platform".into(),
                calls: 1,
                pages: 1,
                duration: Duration::from_millis(50),
                status: None,
            },
            shared: None,
        })
    };
    let cache = Cache::new(
        cache::Config::default(),
        clock.clone(),
        CacheMetrics::default(),
        TaskTracker::new(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime
        .block_on(cache.get_or_fetch(&permit, ask, |_| Ok(()), fetch))
        .unwrap();
    cache.get_cached(&permit, ask).unwrap()
}

fn read_head(head: &Parts) -> CertRequest<'_> {
    let received = Received {
        scheme: "http",
        host: None,
        public_url: None,
    };
    CertRequest::read(head, received, false).unwrap()
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reading");
    let plain = head(&[]);
    group.bench_function("a request", |bencher| {
        bencher.iter(|| read_head(black_box(&plain)));
    });
    let of_a_browser = head(&[
        ("accept", "application/vnd.atlas.2023-01-01+json, */*;q=0.8"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cache-control", "max-age=0"),
        ("if-none-match", "\"0123456789abcdef\""),
    ]);
    group.bench_function("a request with every header", |bencher| {
        bencher.iter(|| read_head(black_box(&of_a_browser)));
    });
    group.bench_function("Accept-Encoding", |bencher| {
        let headers = &of_a_browser.headers;
        bencher.iter(|| Encodings::read(black_box(headers).get_all("accept-encoding")));
    });
    group.finish();
}

fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("writing");
    let clock = Clock::system();
    let plain = head(&[]);
    let asked = read_head(&plain);
    let found = found(&clock, &asked);
    let metrics = LookupMetrics::register(&mut Registry::default());
    let unsent = UnsentBudget::new(&ServerLimits::default(), None, metrics).account();
    let id = RequestId::from(Uuid::from_u128(0x0192_8000_7fff_8000_0000_0000_0000));
    group.bench_function("an answer and its headers", |bencher| {
        bencher.iter(|| response::answered(black_box(&found), &asked, id, &unsent));
    });
    let knowing = head(&[("if-none-match", "*")]);
    let knowing = read_head(&knowing);
    group.bench_function("a 304 and its headers", |bencher| {
        bencher.iter(|| response::answered(black_box(&found), &knowing, id, &unsent));
    });
    group.finish();
}

fn count(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("counting");
    let metrics = LookupMetrics::register(&mut Registry::default());
    group.bench_function("a lookup", |bencher| {
        let duration = Duration::from_micros(80);
        bencher.iter(|| {
            metrics.lookup(
                black_box(Outcome::Answered),
                black_box(CacheUse::Hit),
                duration,
            );
        });
    });
    let clock = Clock::system();
    group.bench_function("both clocks", |bencher| bencher.iter(|| clock.now()));
    let ids = Ids::default();
    let now = clock.now();
    group.bench_function("a request id", |bencher| {
        bencher.iter(|| RequestId::from(ids.at(black_box(now.wall))));
    });
    group.finish();
}

criterion_group!(benches, read, write, count);
criterion_main!(benches);
