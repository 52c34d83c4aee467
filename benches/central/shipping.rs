//! What bringing the journals to the database takes, beside `psql` that copies the same rows.

use std::process::Command;
use std::time::{Duration, Instant};

use atlas_cert_gateway::audit::{Audit, Config};
use atlas_cert_gateway::system::Clock;
use atlas_cert_gateway::telemetry::metrics::audit::AuditMetrics;

use crate::journals::Journals;
use crate::postgres::Postgres;
use crate::{Bench, database_of};

/// Ships one chain after the other.
pub(crate) fn measure(bench: &Bench, postgres: &Postgres, journals: &Journals) {
    let mut took = Duration::ZERO;
    for (number, (config, records)) in journals.chains.iter().enumerate() {
        let config = Config {
            database: Some(database_of(postgres, "gateway_audit")),
            ..config.clone()
        };
        // And the first of the process that ships them.
        took += ship(bench, &config, (number, records + 1));
    }
    let number = |sql: &str| bench.runtime.block_on(postgres.number(sql));
    let records = number("SELECT count(*) FROM audit.record");
    let restarts = i64::try_from(journals.chains.len()).unwrap();
    assert_eq!(records, i64::try_from(journals.records).unwrap() + restarts);
    let in_batches = number("SELECT sum(last - first + 1)::bigint FROM audit.batch");
    assert_eq!(in_batches, records);
    assert_eq!(number("SELECT count(*) FROM audit.gap"), 0);

    let copied = copy(bench, postgres);
    let rate = |took: Duration| records as f64 / took.as_secs_f64();
    let beside = format!(
        "{:.2} x psql, which copies {:.0} a second",
        rate(took) / rate(copied),
        rate(copied)
    );
    bench.at_least("shipping", rate(took), (30_000.0, "records/s"), &beside);

    let of = |table: &str, size: &str| {
        let partitions = format!(
            "SELECT sum({size}(inhrelid))::bigint FROM pg_inherits WHERE inhparent = '{table}'::regclass"
        );
        number(&partitions) as f64 / journals.bytes as f64
    };
    let rows = of("audit.record", "pg_table_size");
    let indexes = of("audit.record", "pg_indexes_size");
    let batches = of("audit.batch", "pg_total_relation_size");
    let parts = format!("rows {rows:.2}, their indexes {indexes:.2}, packed lines {batches:.2}");
    let goal = (0.9, "x the journals");
    bench.at_most("database", rows + indexes + batches, goal, &parts);
}

/// From the start of a process to when the database has all of its records.
fn ship(bench: &Bench, config: &Config, (number, records): (usize, u64)) -> Duration {
    let metrics = AuditMetrics::default();
    let begun = Instant::now();
    bench.runtime.block_on(async {
        let (clock, replica) = (Clock::system(), format!("gateway-{number}"));
        let audit = Audit::open(config, &replica, clock.clone(), metrics.clone()).unwrap();
        while metrics.shipping.shipped.get() < records {
            clock.sleep(Duration::from_millis(1)).await;
        }
        let took = begun.elapsed();
        audit.close().await;
        took
    })
}

/// Copies all rows into another database of the same server.
fn copy(bench: &Bench, postgres: &Postgres) -> Duration {
    let files = ["record", "batch"].map(|table| {
        let file = postgres.directory().join(format!("{table}.copy"));
        (table, file.display().to_string())
    });
    bench.runtime.block_on(async {
        postgres
            .execute_in("postgres", "CREATE DATABASE copied")
            .await;
        let script = atlas_cert_gateway::audit::database::script();
        postgres.execute_in("copied", &script).await;
        let days = postgres.client("owner").await;
        let days = days.query("SELECT DISTINCT day::text FROM audit.batch", &[]);
        for day in days.await.unwrap() {
            let day: &str = day.get(0);
            let prepare = format!("SELECT audit.prepare_day('{day}')");
            postgres.execute_in("copied", &prepare).await;
        }
        for (table, file) in &files {
            let order = if *table == "record" {
                "chain, seq"
            } else {
                "chain, first"
            };
            let write = format!(
                "COPY (SELECT * FROM audit.{table} ORDER BY {order}) TO '{file}' (FORMAT binary)"
            );
            postgres.execute(&write).await;
        }
    });
    let begun = Instant::now();
    for (table, file) in &files {
        let read = format!("\\copy audit.{table} FROM '{file}' (FORMAT binary)");
        let copied = psql(postgres).args(["--command", &read]).status();
        assert!(copied.unwrap().success());
    }
    let took = begun.elapsed();
    for (_, file) in &files {
        std::fs::remove_file(file).unwrap();
    }
    let drop = postgres.execute_in("postgres", "DROP DATABASE copied");
    bench.runtime.block_on(drop);
    took
}

fn psql(postgres: &Postgres) -> Command {
    let mut psql = postgres.program("psql");
    psql.arg("--host").arg(postgres.directory());
    psql.args(["--username", "owner", "--dbname", "copied", "--quiet"]);
    psql.args(["--no-psqlrc", "--set", "ON_ERROR_STOP=1"]);
    psql
}
