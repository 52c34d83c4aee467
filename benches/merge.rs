//! What a list costs that is not in the cache: merging its pages, and the whole way to an Atlas that
//! takes 50 ms for each call.
//!
//! `cargo bench --bench merge`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints what it measured, and a failed step of it is a failed bench"
)]

use std::hint::black_box;
use std::time::Duration;

use atlas_cert_gateway::atlas::{CertQuery, ProjectId};
use atlas_cert_gateway::system::{Clock, Secret};
use atlas_cert_gateway::telemetry::metrics::upstream::UpstreamMetrics;
use atlas_cert_gateway::upstream;
use atlas_cert_gateway::upstream::{
    BuildOptions, Config, CredentialConfig, ServiceAccountConfig, Upstream, Urgency,
};
use atlas_simulator::{BucketSize, CLIENT_ID, CLIENT_SECRET, Settings, Simulator, World};
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use serde_json::Value;
use tokio::runtime::Runtime;

const PROJECT: &str = "32b6e34b3d91647abb20e7b8";
const LATENCY: Duration = Duration::from_millis(50);
const ROUNDS: usize = 11;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    merging(&mut criterion);
    criterion.final_summary();
    if !std::env::args().any(|argument| argument == "--test") {
        Runtime::new().unwrap().block_on(cold_path());
    }
}

/// Twenty pages of 500, against one parse of the same bytes into a `Value`.
fn merging(criterion: &mut Criterion) {
    let project: ProjectId = PROJECT.parse().unwrap();
    let bodies: Vec<Bytes> = (0..20).map(page).collect();
    let length: usize = bodies.iter().map(Bytes::len).sum();
    assert_eq!(upstream::merge(&bodies, &project).unwrap().len(), 10_000);
    let mut group = criterion.benchmark_group("20 pages of 500");
    group.throughput(Throughput::Bytes(u64::try_from(length).unwrap()));
    group.bench_function("merged into one list", |bencher| {
        bencher.iter(|| upstream::merge(black_box(&bodies), &project));
    });
    group.bench_function("parsed into a Value", |bencher| {
        bencher.iter(|| {
            let parse = |body: &Bytes| serde_json::from_slice::<Value>(body).unwrap();
            black_box(&bodies).iter().map(parse).collect::<Vec<_>>()
        });
    });
    group.finish();
}

fn page(number: u64) -> Bytes {
    let items: Vec<String> = (0..500)
        .map(|item| {
            let id = 2_558_523_591_213_958_694 + number * 500 + item;
            format!(
                r#"{{"_id":{id},"createdAt":"2026-06-02T13:56:22Z","groupId":"{PROJECT}","notAfter":"2026-09-02T14:56:22Z","subject":"CN=user389"}}"#
            )
        })
        .collect();
    let results = items.join(",");
    format!(r#"{{"links":[],"results":[{results}],"totalCount":10000}}"#).into()
}

/// The whole way, at once and one page after the other, as multiples of a single call.
async fn cold_path() {
    println!(
        "\ncold path, {} ms per call, token already there",
        LATENCY.as_millis()
    );
    println!("pages  calls  bytes merged  wall ms  of one call  one after the other");
    let state = tempfile::tempdir().unwrap();
    let atlas = Simulator::start(settings()).await.unwrap();
    let upstream = build(&atlas, &state);
    // A single call, as a client without any care makes it.
    let single = alone(&atlas, 1).await;
    for (pages, user) in [(1, "one"), (5, "five"), (20, "twenty")] {
        let query = CertQuery {
            project: PROJECT.parse().unwrap(),
            username: user.parse().unwrap(),
        };
        let clock = Clock::system();
        let mut walls = Vec::new();
        let mut last = None;
        for _ in 0..ROUNDS {
            let began = clock.now().elapsed;
            last = Some(upstream.fetch(&query, Urgency::Miss.into()).await.unwrap());
            walls.push(clock.now().elapsed.saturating_sub(began));
        }
        let fetched = last.unwrap();
        assert_eq!(fetched.stats.pages, pages);
        let wall = median(walls);
        let sequential = alone(&atlas, fetched.stats.calls).await;
        println!(
            "{pages:>5}  {:>5}  {:>12}  {:>7.1}  {:>10.2}x  {:>17.2}x",
            fetched.stats.calls,
            fetched.list.joined().len(),
            wall.as_secs_f64() * 1e3,
            wall.as_secs_f64() / single.as_secs_f64(),
            sequential.as_secs_f64() / single.as_secs_f64(),
        );
    }
}

/// As many calls, one after the other, parsed into `Value`s.
async fn alone(atlas: &Simulator, calls: u32) -> Duration {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = atlas.base_url();
    let token = client
        .post(format!("{base}/api/oauth/token"))
        .basic_auth(CLIENT_ID, Some(CLIENT_SECRET))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials")
        .send()
        .await
        .unwrap();
    let token: Value = serde_json::from_slice(&token.bytes().await.unwrap()).unwrap();
    let token = token
        .get("access_token")
        .and_then(Value::as_str)
        .unwrap()
        .to_owned();
    let path = format!("{base}/api/atlas/v2/groups/{PROJECT}/databaseUsers/twenty/certs");
    let clock = Clock::system();
    let mut walls = Vec::new();
    for _ in 0..3 {
        let began = clock.now().elapsed;
        for call in 0..calls {
            let page = call % 20 + 1;
            let url = format!("{path}?itemsPerPage=500&includeCount=true&pageNum={page}");
            let answer = client
                .get(url)
                .bearer_auth(&token)
                .header("accept", "application/vnd.atlas.2023-01-01+json")
                .send()
                .await
                .unwrap();
            let body = answer.bytes().await.unwrap();
            black_box(serde_json::from_slice::<Value>(&body).unwrap());
        }
        walls.push(clock.now().elapsed.saturating_sub(began));
    }
    median(walls)
}

fn median(mut walls: Vec<Duration>) -> Duration {
    walls.sort_unstable();
    walls.get(walls.len() / 2).copied().unwrap()
}

fn settings() -> Settings {
    let mut world = World::new(std::time::SystemTime::from(Clock::system().now().wall));
    for (user, certificates) in [("one", 499), ("five", 2_499), ("twenty", 9_999)] {
        world.project(PROJECT).user(user).certificates(certificates);
    }
    let mut settings = Settings::with_world(world);
    settings.rules.latency = LATENCY;
    settings.rules.bucket = BucketSize {
        capacity: 1_000_000,
        ..BucketSize::X509
    };
    settings
}

fn build(atlas: &Simulator, state: &tempfile::TempDir) -> Upstream {
    let mut config = Config {
        base_url: atlas.base_url(),
        state_directory: state.path().to_owned(),
        credentials: vec![CredentialConfig {
            name: "bench".to_owned(),
            projects: vec!["*".to_owned()],
            service_account: Some(ServiceAccountConfig {
                client_id: CLIENT_ID.to_owned(),
                client_secret_file: None,
                client_secret: Some(Secret::new(CLIENT_SECRET.to_owned())),
            }),
            api_key: None,
        }],
        ..Config::default()
    };
    config.limits.capacity = 1_000_000;
    let (metrics, options) = (UpstreamMetrics::default(), BuildOptions::default());
    Upstream::build(&config, Clock::system(), metrics, options).unwrap()
}
