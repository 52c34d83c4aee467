//! What a request costs before anything is looked up: its token, verified or remembered, and the rules.
//!
//! `cargo bench --bench token`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot be set up has nothing to measure"
)]

#[path = "../tests/gateway/tokens.rs"]
mod tokens;

use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use atlas_cert_gateway::atlas::Question;
use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::clock::Clock;
use atlas_cert_gateway::identity::Caller;
use atlas_cert_gateway::identity::Config;
use atlas_cert_gateway::identity::Identity;
use atlas_cert_gateway::policy;
use atlas_cert_gateway::policy::Policy;
use atlas_cert_gateway::policy::RuleConfig;
use atlas_cert_gateway::telemetry::metrics::identity::IdentityMetrics;
use criterion::BatchSize;
use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use futures_util::FutureExt;
use jsonwebtoken::Algorithm;
use serde_json::json;

use tokens::Issuer;
use tokens::SECRET;
use tokens::TestKey;

const NOW: i64 = 1_790_000_000;

/// An identity that knows one key, from a file; and a token of 946 bytes or so.
fn scene(key: &TestKey) -> (Identity, Config, Clock, String, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let shared = key.algorithm == Algorithm::HS256;
    let path = directory.path().join("keys");
    let content = if shared {
        SECRET.to_owned()
    } else {
        tokens::jwks(&[key]).to_string()
    };
    fs::write(&path, content).unwrap();
    make_private(&path);
    let source = if shared {
        "hmac_secret_file"
    } else {
        "jwks_file"
    };
    let config: Config = serde_json::from_value(json!({"issuers": [{
        "issuer": tokens::ISSUER,
        "audiences": [tokens::AUDIENCE],
        "algorithms": [key.algorithm],
        source: path,
    }]}))
    .unwrap();
    let (clock, _hands) = Clock::manual(Timestamp::from_seconds(NOW));
    let identity = Identity::build(&config, clock.clone(), IdentityMetrics::default()).unwrap();
    let issuer = Issuer::new(NOW).signing_with(key.clone());
    let token = issuer.forge("payments-api", |_, claims| {
        claims["realm_access"] = json!({"roles": ["offline_access", "default-roles"]});
        claims["preferred_username"] = json!("service-account-payments-api");
        claims["session_state"] = json!("3f8e2c31-6c1d-4b0f-9a43-0f4f7c1e2d3a");
    });
    (identity, config, clock, token, directory)
}

fn verify(c: &mut Criterion) {
    let mut group = c.benchmark_group("token");
    for (name, key) in [
        ("RS256", TestKey::rsa()),
        ("PS256", TestKey::rsa().with(Algorithm::PS256)),
        ("ES256", TestKey::p256()),
        ("ES384", TestKey::p384()),
        ("EdDSA", TestKey::ed25519()),
        ("HS256", TestKey::hmac("shared", SECRET.as_bytes())),
    ] {
        let (identity, config, clock, token, _directory) = scene(&key);
        let now = clock.now();
        group.bench_function(format!("first use, {name}"), |b| {
            b.iter_batched(
                // Reloading forgets every token.
                || identity.reload(&config).unwrap(),
                |()| {
                    identity
                        .verify(black_box(&token), now)
                        .now_or_never()
                        .unwrap()
                        .unwrap()
                },
                BatchSize::PerIteration,
            );
        });
    }
    let (identity, _, clock, token, _directory) = scene(&TestKey::rsa());
    let now = clock.now();
    group.bench_function(format!("remembered, {} bytes", token.len()), |b| {
        b.iter(|| {
            identity
                .verify(black_box(&token), now)
                .now_or_never()
                .unwrap()
                .unwrap()
        });
    });
    let forged = format!("{}A", &token.as_str().get(..token.len() - 2).unwrap());
    group.bench_function("refused", |b| {
        b.iter(|| {
            identity
                .verify(black_box(&forged), now)
                .now_or_never()
                .unwrap()
                .unwrap_err()
        });
    });
    group.finish();
}

fn authorize(c: &mut Criterion) {
    let mut group = c.benchmark_group("rules");
    let caller = Caller {
        subject: Box::from("team-321-api"),
        issuer: Arc::from(tokens::ISSUER),
        client_id: None,
        token_id: None,
        scopes: Box::default(),
        expires_at: Timestamp::from_seconds(NOW),
    };
    let question = |username: &str| Question {
        project: "000000000000000000000036".parse().unwrap(),
        username: username.parse().unwrap(),
    };
    for (name, mut rules) in policies() {
        for (number, rule) in rules.iter_mut().enumerate() {
            rule.name = number.to_string();
        }
        let policy = Policy::build(&policy::Config { rules }).unwrap();
        let asked = question("app-54321-x");
        group.bench_function(format!("{name}: granted"), |b| {
            b.iter(|| {
                policy
                    .authorize(black_box(&caller), black_box(&asked))
                    .unwrap()
            });
        });
        let asked = question("another");
        group.bench_function(format!("{name}: denied"), |b| {
            b.iter(|| {
                policy
                    .authorize(black_box(&caller), black_box(&asked))
                    .unwrap_err()
            });
        });
    }
    group.finish();
}

/// Few rules, and many of each shape.
fn policies() -> [NamedRules; 5] {
    let rule = |subjects: Vec<String>, projects: Vec<String>, usernames: Vec<String>| RuleConfig {
        subjects,
        projects,
        usernames,
        ..RuleConfig::default()
    };
    let project = |number: usize| vec![format!("{number:024x}")];
    let any = || vec!["*".to_owned()];
    [
        (
            "one",
            vec![rule(
                vec!["team-*".to_owned()],
                any(),
                vec!["app-*".to_owned()],
            )],
        ),
        (
            "100,000, by all three",
            (0..100_000)
                .map(|n| {
                    let subject = vec![format!("team-{}-*", n % 1_000)];
                    rule(subject, project(n / 1_000), vec![format!("app-{n}-*")])
                })
                .collect(),
        ),
        (
            "100,000, by username alone",
            (0..100_000)
                .map(|n| rule(any(), any(), vec![format!("app-{n}-*")]))
                .collect(),
        ),
        (
            "100,000, by username's end",
            (0..100_000)
                .map(|n| rule(any(), any(), vec![format!("*-{n}-x")]))
                .collect(),
        ),
        (
            "one of 100,000 users",
            vec![rule(
                any(),
                any(),
                (0..100_000).map(|n| format!("app-{n}-*")).collect(),
            )],
        ),
    ]
}

type NamedRules = (&'static str, Vec<RuleConfig>);

/// A secret that everybody may read is refused.
fn make_private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

criterion_group!(benches, verify, authorize);
criterion_main!(benches);
