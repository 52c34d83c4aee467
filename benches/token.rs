//! What a request costs before anything is looked up: its token, verified or remembered, and the rules.
//!
//! `cargo bench --bench token`
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench that cannot be set up has nothing to measure"
)]

#[path = "lookup/any_caller.rs"]
#[allow(dead_code, reason = "the benches of the cache need more of it")]
mod any_caller;
#[path = "../tests/harness/tokens.rs"]
mod tokens;

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use atlas_cert_gateway::atlas::{CertQuery, Timestamp};
use atlas_cert_gateway::identity::{Caller, Config, Identity, Unverified};
use atlas_cert_gateway::policy;
use atlas_cert_gateway::policy::{Policy, RuleConfig};
use atlas_cert_gateway::system::{Clock, Moment};
use atlas_cert_gateway::telemetry::metrics::identity::IdentityMetrics;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde_json::json;
use tempfile::TempDir;

use tokens::{Issuer, SECRET, TestKey};

const NOW: i64 = 1_790_000_000;

/// An identity that knows one key, from a file, and tokens of about 900 bytes that it signed.
struct Scene {
    identity: Identity,
    config: Config,
    now: Moment,
    tokens: Vec<String>,
    _directory: TempDir,
}

impl Scene {
    fn new(key: &TestKey) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let (source, content) = if key.algorithm.family() == AlgorithmFamily::Hmac {
            ("hmac_secret_file", SECRET.to_owned())
        } else {
            ("jwks_file", tokens::jwks(&[key]).to_string())
        };
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let config: Config = serde_json::from_value(json!({"issuers": [{
            "issuer": tokens::ISSUER,
            "audiences": [tokens::AUDIENCE],
            "algorithms": [key.algorithm],
            source: path,
        }]}))
        .unwrap();
        let (clock, _manual_clock) = Clock::manual(Timestamp::from_seconds(NOW));
        let identity = Identity::build(&config, clock.clone(), IdentityMetrics::default());
        let issuer = Issuer::new(NOW).signing_with(key.clone());
        let tokens = (0..256).map(|number| {
            issuer.forge("payments-api", |_, claims| {
                claims["jti"] = json!(format!("3f8e2c31-6c1d-4b0f-9a43-0f4f7c1e{number:04}"));
                claims["realm_access"] = json!({"roles": ["offline_access", "default-roles"]});
                claims["preferred_username"] = json!("service-account-payments-api");
            })
        });
        Self {
            identity: identity.unwrap(),
            config,
            now: clock.now(),
            tokens: tokens.collect(),
            _directory: directory,
        }
    }

    /// A token that was not used before. Once all were used, reloading forgets them; the key is used
    /// once afterwards, because its first use costs more.
    fn unused(&self, count: &mut usize) -> &str {
        let at = *count % self.tokens.len();
        *count += 1;
        if at == 0 {
            self.identity.reload(&self.config).unwrap();
            self.verify(&self.tokens[0]).unwrap();
            *count += 1;
            return &self.tokens[1];
        }
        &self.tokens[at]
    }

    fn verify(&self, token: &str) -> Result<Arc<Caller>, Unverified> {
        let verdict = self.identity.verify(black_box(token.as_bytes()), self.now);
        verdict.now_or_never().unwrap()
    }
}

fn verify(c: &mut Criterion) {
    let shared = |algorithm| TestKey::hmac("shared", SECRET.as_bytes()).with(algorithm);
    let mut group = c.benchmark_group("token");
    for (name, key) in [
        ("RS256", TestKey::rsa()),
        ("RS384", TestKey::rsa().with(Algorithm::RS384)),
        ("RS512", TestKey::rsa().with(Algorithm::RS512)),
        ("PS256", TestKey::rsa().with(Algorithm::PS256)),
        ("PS384", TestKey::rsa().with(Algorithm::PS384)),
        ("PS512", TestKey::rsa().with(Algorithm::PS512)),
        ("ES256", TestKey::p256()),
        ("ES384", TestKey::p384()),
        ("EdDSA", TestKey::ed25519()),
        ("HS256", shared(Algorithm::HS256)),
        ("HS384", shared(Algorithm::HS384)),
        ("HS512", shared(Algorithm::HS512)),
    ] {
        let scene = Scene::new(&key);
        let mut count = 0;
        group.bench_function(format!("first use, {name}"), |b| {
            b.iter_batched(
                || scene.unused(&mut count),
                |token| scene.verify(token).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    let scene = Scene::new(&TestKey::rsa());
    let token = &scene.tokens[0];
    group.bench_function(format!("remembered, {} bytes", token.len()), |b| {
        b.iter(|| scene.verify(token).unwrap());
    });
    let (signed, _) = token.rsplit_once('.').unwrap();
    let (_, signature) = scene.tokens[1].rsplit_once('.').unwrap();
    let forged = format!("{signed}.{signature}");
    group.bench_function("forged, RS256", |b| {
        b.iter(|| scene.verify(&forged).unwrap_err());
    });
    group.finish();
}

fn authorize(c: &mut Criterion) {
    let mut group = c.benchmark_group("rules");
    let caller = Caller {
        scopes: Box::new([Box::from("scope-1234")]),
        ..any_caller::caller("team-321-api", tokens::ISSUER)
    };
    let query = |username: &str| CertQuery {
        project: "000000000000000000000036".parse().unwrap(),
        username: username.parse().unwrap(),
    };
    for (name, mut rules) in policies() {
        for (number, rule) in rules.iter_mut().enumerate() {
            rule.name = number.to_string();
        }
        let policy = Policy::build(&policy::Config {
            rules,
            ..policy::Config::default()
        })
        .unwrap();
        let asked = query("app-54321-x");
        group.bench_function(format!("{name}: granted"), |b| {
            b.iter(|| {
                policy
                    .authorize(black_box(&caller), black_box(&asked))
                    .unwrap()
            });
        });
        let asked = query("another");
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
    let rule = |subjects: &str, projects: String, usernames: &str| RuleConfig {
        subjects: vec![subjects.to_owned()],
        projects: vec![projects],
        usernames: vec![usernames.to_owned()],
        ..RuleConfig::default()
    };
    let any = || "*".to_owned();
    let many = |count, rule: &dyn Fn(usize) -> RuleConfig| (0..count).map(rule).collect();
    [
        ("one", vec![rule("team-*", any(), "app-*")]),
        (
            "10,000, by scope",
            many(10_000, &|n| RuleConfig {
                scopes: vec![format!("scope-{n}")],
                ..rule("*", any(), "app-*")
            }),
        ),
        (
            "100,000, by subject, project and username",
            many(100_000, &|n| {
                let (subject, project) = (format!("team-{}-*", n % 1_000), n / 1_000);
                rule(&subject, format!("{project:024x}"), &format!("app-{n}-*"))
            }),
        ),
        (
            "1,000, by username alone",
            many(1_000, &|n| {
                rule("*", any(), &format!("app-{}-*", 54_000 + n))
            }),
        ),
        (
            "one of 100,000 users",
            vec![RuleConfig {
                usernames: (0..100_000).map(|n| format!("app-{n}-x")).collect(),
                ..rule("*", any(), "")
            }],
        ),
    ]
}

type NamedRules = (&'static str, Vec<RuleConfig>);

criterion_group!(benches, verify, authorize);
criterion_main!(benches);
