//! Thousands of tokens that chance has made: each is answered, none is a failure of ours, and a caller that gets in
//! was signed for.

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::Scene;
use crate::forgeries;
use crate::tokens::{Issuer, TestKey};

/// What becomes of a token on its way.
#[derive(Clone, Debug)]
enum Made {
    /// Signed as it should be.
    Signed,
    /// Signed with an unknown key.
    Forged,
    /// Signed, and then one character is another.
    Bent(prop::sample::Index, char),
    /// Signed, and then cut.
    Cut(prop::sample::Index),
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        // About now, as times in tokens are.
        (1_795_000_000_i64..1_797_000_000).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(&["RS256", "none", "JWT", "rsa-1", "atlas-cert-gateway", "a b"][..])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z#5]{0,8}", inner, 0..3).prop_map(|members| members
                .into_iter()
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

fn changes(names: &'static [&'static str]) -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    prop::collection::vec((prop::sample::select(names), any_json()), 0..3)
}

fn token(issuer: &Issuer) -> impl Strategy<Value = String> {
    let made = prop_oneof![
        Just(Made::Signed),
        Just(Made::Forged),
        (any::<prop::sample::Index>(), "[!-~]")
            .prop_map(|(at, sign)| { Made::Bent(at, sign.chars().next().unwrap()) }),
        any::<prop::sample::Index>().prop_map(Made::Cut),
    ];
    let issuer = issuer.clone();
    let parts = (changes(HEADER), changes(CLAIMS), made);
    parts.prop_map(move |(header, claims, made)| {
        let issuer = match made {
            Made::Forged => issuer.signing_with(TestKey::next_rsa().called("rsa-1")),
            Made::Signed | Made::Bent(..) | Made::Cut(_) => issuer.clone(),
        };
        let good = issuer.forge("payments-api", |all, body| {
            for (part, changes) in [(all, &header), (body, &claims)] {
                for (name, value) in changes {
                    part[*name] = value.clone();
                }
            }
        });
        match made {
            Made::Signed | Made::Forged => good,
            Made::Cut(at) => good.chars().take(at.index(good.len())).collect(),
            Made::Bent(at, sign) => {
                let mut signs: Vec<char> = good.chars().collect();
                *at.get_mut(&mut signs) = sign;
                signs.into_iter().collect()
            }
        }
    })
}

#[tokio::test]
async fn of_five_thousand_random_tokens_none_is_a_failure_of_ours() {
    let scene = Scene::new(&forgeries::published()).await;
    assert_eq!(
        scene.ask(&scene.issuer.token("payments-api")).await.status,
        200
    );
    let (strategy, mut chance) = (token(&scene.issuer), TestRunner::deterministic());
    let mut all = || strategy.new_tree(&mut chance).unwrap().current();
    let tokens: Vec<String> = (0..5_000).map(|_| all()).collect();
    let (mut accepted, mut refused) = (0, 0);
    for some in tokens.chunks(50) {
        let replies = join_all(some.iter().map(|token| scene.ask(token))).await;
        for (token, reply) in some.iter().zip(replies) {
            match reply.status {
                200 => accepted += 1,
                400 | 401 | 403 => refused += 1,
                other => panic!("{other} for {token}"),
            }
        }
    }
    // Chance has made both.
    assert!(accepted > 100 && refused > 2_000, "{accepted} {refused}");
    assert_eq!(scene.publisher.requests(), 2);
}

const HEADER: &[&str] = &[
    "alg", "kid", "typ", "crit", "jwk", "x5c", "cty", "zip", "other",
];
const CLAIMS: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "scope",
    "scp",
    "roles",
    "client_id",
    "azp",
    "cnf",
    "nonce",
    "other",
];
