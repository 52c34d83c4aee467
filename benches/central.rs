//! The central audit trail: what shipping it takes, how late it is, what reading it takes, and what callers notice.
//!
//! `cargo bench --bench central` writes a million records of five chains over a month, by the gateway's own writer, and
//! has the gateway's own shipper bring them to a PostgreSQL that it starts itself (Debian: `postgresql`). Then it
//! reads them back, and asks two gateways in turn, of which one ships. `-- --records 10000000` does all but the last
//! with ten million as well, and says how much longer reading takes. `-- hits` or another word does only that part.
//! `-- --test` does everything small, and asserts that what is found is right.
//!
//! The server has PostgreSQL's own settings. On a machine that others use too, wall time means little: `psql` copies
//! the same rows into the same tables on the same server, for comparison.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a bench that cannot be set up has nothing to measure, and what it does is to read the time"
)]

#[path = "lookup/any_caller.rs"]
#[allow(dead_code, reason = "the benches of the cache need more of it")]
mod any_caller;
#[path = "central/hits.rs"]
mod hits;
#[path = "central/journals.rs"]
mod journals;
#[path = "central/lag.rs"]
mod lag;
#[path = "gateway/load.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod load;
#[path = "trail/month.rs"]
#[allow(dead_code, reason = "the bench of a month needs more of it")]
mod month;
#[path = "../tests/harness/postgres.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod postgres;
#[path = "gateway/process.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod process;
#[path = "central/questions.rs"]
mod questions;
#[path = "trail/reading.rs"]
#[allow(dead_code, reason = "the bench of a month needs more of it")]
mod reading;
#[path = "gateway/site.rs"]
#[allow(dead_code, reason = "the bench of the whole program needs more of it")]
mod serving;
#[path = "../tests/harness/servers.rs"]
#[allow(dead_code, reason = "the tests need other servers")]
mod servers;
#[path = "central/shipping.rs"]
mod shipping;
#[path = "trail/site.rs"]
mod site;
#[path = "../tests/harness/tokens.rs"]
mod tokens;

use std::cell::Cell;
use std::env;

use atlas_cert_gateway::audit::DatabaseConfig;
use atlas_cert_gateway::audit::database;
use postgres::Postgres;
use questions::Answers;
use tokio::runtime::{Builder, Runtime};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let mut behind = arguments.iter().skip_while(|it| *it != "--records");
    let records = behind.nth(1).map(|it| it.parse::<u64>().unwrap());
    let words = arguments.iter().filter(|it| PARTS.contains(&it.as_str()));
    let words: Vec<&String> = words.collect();
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| *word == part);
    let bench = Bench {
        runtime: Builder::new_multi_thread().enable_all().build().unwrap(),
        is_test,
        missed: Cell::new(0),
    };
    if bench.postgres().is_none() {
        println!("PostgreSQL is not here; Debian has it in the package postgresql");
        return;
    }
    if wanted("trail") {
        let first = bench.trail(if is_test { 12_000 } else { MILLION }, None);
        if let Some(records) = records.filter(|it| *it > MILLION) {
            bench.trail(records, Some(&first));
        }
    }
    if wanted("lag") {
        lag::measure(&bench);
    }
    if wanted("hits") {
        hits::measure(&bench);
    }
    assert_eq!(bench.missed.get(), 0, "targets were missed");
}

struct Bench {
    runtime: Runtime,
    is_test: bool,
    missed: Cell<u32>,
}

impl Bench {
    /// Ships so many records, and reads them back; `smaller` is what that took of fewer.
    fn trail(&self, records: u64, smaller: Option<&Answers>) -> Answers {
        let postgres = self.postgres().unwrap();
        let journals = journals::write(&self.runtime, records);
        println!(
            "\n{} records of {} chains over {} days, {} MB of journals",
            journals.records,
            journals.chains.len(),
            journals::DAYS,
            journals.bytes / MEGA
        );
        shipping::measure(self, &postgres, &journals);
        self.runtime
            .block_on(postgres.execute("VACUUM (ANALYZE, FREEZE) audit.record, audit.batch"));
        questions::measure(self, &postgres, &journals, smaller)
    }

    /// A server with the tables of the trail.
    fn postgres(&self) -> Option<Postgres> {
        self.runtime.block_on(async {
            let postgres = Postgres::start_with(&[]).await?;
            postgres.execute(&database::script()).await;
            postgres
                .execute("GRANT audit_shipper TO gateway_audit")
                .await;
            postgres.execute("GRANT audit_auditor TO auditor").await;
            Some(postgres)
        })
    }

    fn at_most(&self, name: &str, measured: f64, (goal, unit): (f64, &str), beside: &str) {
        self.show(
            name,
            measured,
            &format!("<= {goal} {unit}"),
            (measured > goal, beside),
        );
    }

    fn at_least(&self, name: &str, measured: f64, (goal, unit): (f64, &str), beside: &str) {
        self.show(
            name,
            measured,
            &format!(">= {goal} {unit}"),
            (measured < goal, beside),
        );
    }

    fn show(&self, name: &str, measured: f64, goal: &str, (is_missed, beside): (bool, &str)) {
        let is_missed = is_missed && !self.is_test;
        self.missed.update(|missed| missed + u32::from(is_missed));
        let missed = if is_missed { " MISSED" } else { "" };
        println!("{name:<40} {measured:>10.3}   (goal: {goal}){missed}  {beside}");
    }
}

/// `[audit.database]` of a user.
fn database_of(postgres: &Postgres, user: &str) -> DatabaseConfig {
    toml::from_str(&format!("url = \"{}\"", postgres.url(user))).unwrap()
}

/// Of sorted values.
fn percentile<T: Copy>(sorted: &[T], percent: usize) -> T {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

const PARTS: [&str; 3] = ["trail", "lag", "hits"];
const MILLION: u64 = 1_000_000;
const MEGA: u64 = 1_000_000;
