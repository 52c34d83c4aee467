//! How late records are in the database at a thousand a second, as another connection sees it.

use std::borrow::Cow;
use std::time::Duration;

use atlas_cert_gateway::atlas::Timestamp;
use atlas_cert_gateway::audit::{Arrival, Audit, CacheUse, Closing, Config, Outcome};
use atlas_cert_gateway::system::Clock;
use atlas_cert_gateway::telemetry::metrics::audit::AuditMetrics;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use crate::postgres::Postgres;
use crate::site::Site;
use crate::{Bench, database_of, percentile};

/// From when a record is written to when it can be found.
pub(crate) fn measure(bench: &Bench) {
    let postgres = bench.postgres().unwrap();
    let span = Duration::from_secs(if bench.is_test { 2 } else { 60 });
    let records = PER_SECOND * span.as_secs();
    let seen = bench.runtime.block_on(async {
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = Config {
            directory: place.path().join("audit"),
            database: Some(database_of(&postgres, "gateway_audit")),
            ..Config::default()
        };
        let clock = Clock::system();
        let audit = Audit::open(&config, "gateway-1", clock.clone(), AuditMetrics::default());
        let audit = audit.unwrap();
        let client = postgres.client("owner").await;
        let ((), seen) = tokio::join!(
            record(&audit, &clock, records),
            watch(&client, &clock, records)
        );
        audit.close().await;
        seen
    });
    let mut lags = bench.runtime.block_on(lags(&postgres, &seen));
    assert!(lags.len() as u64 >= records, "{} of {records}", lags.len());
    lags.sort_unstable();
    let seconds = |percent| percentile(&lags, percent).as_secs_f64();
    let beside = format!("p50 {:.2} s, most {:.2} s", seconds(50), seconds(100));
    println!(
        "\n{PER_SECOND} records a second for {} s, as they are configured as usual",
        span.as_secs()
    );
    bench.at_most("lag, p99", seconds(99), (2.0, "s"), &beside);
}

async fn record(audit: &Audit, clock: &Clock, records: u64) {
    let mut site = Site::new(1);
    let mut ticks = tokio::time::interval(EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..records / AT_A_TIME {
        ticks.tick().await;
        let mut tickets = Vec::new();
        for _ in 0..AT_A_TIME {
            let drawn = site.draw();
            let (asker, user) = site.pair(drawn);
            let (by, now) = (&site.askers[asker], clock.now());
            let mut entry = audit.entry(Arrival {
                request_id: Uuid::now_v7().into(),
                origin: Cow::Borrowed(&by.origin),
                at: now,
                caller_request_id: None,
            });
            entry.set_query(&site.users[user].query);
            entry.set_caller(&by.caller);
            entry.set_rule(Some(&by.rule));
            let closing = Closing {
                outcome: Outcome::Answered,
                status: 200,
                cache: CacheUse::Hit,
                certificates: Some(2),
                ..Closing::abandoned(now)
            };
            tickets.push(entry.submit(&closing).unwrap());
        }
        for ticket in tickets {
            ticket.await.unwrap();
        }
    }
}

/// Up to which record the database had come, and when, until it has so many.
async fn watch(
    client: &tokio_postgres::Client,
    clock: &Clock,
    records: u64,
) -> Vec<(i64, Timestamp)> {
    let mut seen: Vec<(i64, Timestamp)> = Vec::new();
    let end = "SELECT max(seq) FROM audit.chain";
    let (mut last, wanted) = (0, i64::try_from(records).unwrap());
    while last < wanted {
        let row = client.query_one(end, &[]).await.unwrap();
        let seq = row.get::<_, Option<i64>>(0).unwrap_or(0);
        if seq > last {
            seen.push((seq, clock.now().wall));
            last = seq;
        }
        clock.sleep(GLANCE).await;
    }
    seen
}

async fn lags(postgres: &Postgres, seen: &[(i64, Timestamp)]) -> Vec<Duration> {
    let client = postgres.client("owner").await;
    let times =
        "SELECT seq, (extract(epoch FROM time) * 1000000)::bigint FROM audit.record ORDER BY seq";
    let rows = client.query(times, &[]).await.unwrap();
    let lags = rows.iter().filter_map(|row| {
        let (seq, written): (i64, i64) = (row.get(0), row.get(1));
        let place = seen.partition_point(|(shipped, _)| *shipped < seq);
        let (_, shipped) = seen.get(place)?;
        Some(shipped.since(Timestamp::from_micros(written)))
    });
    lags.collect()
}

const PER_SECOND: u64 = 1_000;
const AT_A_TIME: u64 = 10;
const EACH: Duration = Duration::from_millis(10);
const GLANCE: Duration = Duration::from_millis(5);
