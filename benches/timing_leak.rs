//! Whether a caller who is denied can tell by the time its refusal takes what the gateway knows.
//!
//! `cargo bench --bench timing_leak`. Refusals for a list in memory, for a remembered absence and for a name
//! that was never asked for are timed in turn on one connection, two thousand of each, and compared by
//! the two-sample test of Kolmogorov and Smirnov. `p` is the chance to find them at least so far apart
//! although they are alike: below 0.01 in most runs would be a timing leak, an oracle (N23). The last line compares what
//! an allowed caller gets, which does differ, and shows that the comparison would see it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up has nothing to measure, and what it does is to read the time"
)]
#![expect(
    dead_code,
    reason = "what the tests share is more than a bench of refusals needs"
)]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::env;
use std::time::Instant;

use serde_json::json;

use harness::client::Connection;
use harness::world::{PROJECT, World, certs, token, token_of};

/// What is asked, again and again, and what is answered.
struct Ask {
    request: String,
    status: u16,
}

impl Ask {
    fn new(username: &str, token: &str, status: u16) -> Self {
        let target = certs(PROJECT, username);
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        Self { request, status }
    }

    /// How long it takes, in nanoseconds.
    async fn time(&self, connection: &mut Connection) -> u64 {
        let began = Instant::now();
        connection.send(self.request.as_bytes()).await;
        let reply = connection.reply(false).await;
        let took = began.elapsed();
        assert_eq!(reply.status, self.status);
        u64::try_from(took.as_nanos()).unwrap()
    }
}

fn main() {
    let short = env::args().any(|argument| argument == "--test");
    let (runs, samples) = if short { (1, 50) } else { (5, 2_000) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        assert_eq!(world.ask("app1").await.status, 200);
        assert_eq!(world.ask("app2").await.status, 404);
        let stranger = token_of(&json!({ "sub": "stranger" }));
        let denied = |username| Ask::new(username, &stranger, 403);
        let allowed = |username, status| Ask::new(username, &token(), status);
        for (what, one, other) in [
            ("denied: in memory, unknown", denied("app1"), denied("app3")),
            (
                "denied: an absence, unknown",
                denied("app2"),
                denied("app3"),
            ),
            (
                "allowed: a list, an absence",
                allowed("app1", 200),
                allowed("app2", 404),
            ),
        ] {
            for run in 1..=runs {
                let mut connection = Connection::open(world.address()).await;
                let (mut ones, mut others) = (Vec::new(), Vec::new());
                for _ in 0..samples {
                    ones.push(one.time(&mut connection).await);
                    others.push(other.time(&mut connection).await);
                }
                let (distance, p) = compare(&mut ones, &mut others);
                let median =
                    |sorted: &[u64]| sorted.get(sorted.len() / 2).copied().unwrap() / 1_000;
                let (one, other) = (median(&ones), median(&others));
                println!("{what}: run {run}: {one} and {other} µs, D {distance:.4}, p {p:.4}");
            }
        }
    });
}

/// The greatest distance between the two distributions, and the chance to see it by chance. Sorts both.
fn compare(ones: &mut [u64], others: &mut [u64]) -> (f64, f64) {
    ones.sort_unstable();
    others.sort_unstable();
    let share = |sorted: &[u64], bound: u64| {
        sorted.partition_point(|time| *time <= bound) as f64 / sorted.len() as f64
    };
    let distance = ones
        .iter()
        .chain(others.iter())
        .map(|bound| (share(ones, *bound) - share(others, *bound)).abs())
        .fold(0.0, f64::max);
    let (some, more) = (ones.len() as f64, others.len() as f64);
    let effective = (some * more / (some + more)).sqrt();
    let lambda = (effective + 0.12 + 0.11 / effective) * distance;
    // The sum alternates and falls fast; below this it has not begun to fall, and is 1.
    let p = if lambda < 0.2 {
        1.0
    } else {
        let term = |k: i32| {
            let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
            sign * (-2.0 * (f64::from(k) * lambda).powi(2)).exp()
        };
        (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
    };
    (distance, p)
}
