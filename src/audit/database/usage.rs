//! Usage of all replicas: summed up by the database, with what directories have beyond it.

use std::collections::HashMap;

use tokio_postgres::Row;

use crate::audit::record::escaped;
use crate::audit::search::Filter;
use crate::audit::usage::{GroupBy, Usage, UsageCounts};

use super::chain_end::seq_of;
use super::conditions::Conditions;
use super::connection::Connection;
use super::error::DatabaseError;
use super::instant::Instant;

/// Adds what the database has within the times of `filter`, lookups and folded refusals; of some chains only what
/// it had when it was asked before.
pub(super) async fn add_usage(
    connection: &Connection,
    filter: &Filter,
    (by, shipped): (GroupBy, &HashMap<i32, u64>),
    usage: &mut Usage,
) -> Result<(), DatabaseError> {
    let mut conditions = Conditions::of(filter);
    conditions.and("kind = 'lookup'");
    conditions.only_shipped(shipped);
    let keys = keys(by);
    let key_count = by.members().len();
    let numbers: Vec<String> = (1..=key_count).map(|it| it.to_string()).collect();
    let select = format!(
        "SELECT {keys}, {SUMS} FROM (SELECT *, {COST} AS cost, {SPENT} AS spent FROM audit.record WHERE {}) AS lookups \
         GROUP BY {}",
        conditions.sql(),
        numbers.join(", ")
    );
    let values: Vec<_> = conditions.values().collect();
    connection.batch_execute(MEMORY).await?;
    for row in connection.query(&select, &values).await? {
        let mut key = Vec::with_capacity(key_count);
        for column in 0..key_count {
            key.push(json(row.try_get(column)?));
        }
        usage.add_row(key.join(","), counts(&row, key_count)?);
    }
    add_refusals(connection, filter, shipped, usage).await
}

async fn add_refusals(
    connection: &Connection,
    filter: &Filter,
    shipped: &HashMap<i32, u64>,
    usage: &mut Usage,
) -> Result<(), DatabaseError> {
    let mut conditions = Conditions::of(filter);
    conditions.and("kind = 'refusals'");
    conditions.only_shipped(shipped);
    let select = format!(
        "SELECT line FROM audit.record WHERE {} AND kind <> 'lookup'",
        conditions.sql()
    );
    let values: Vec<_> = conditions.values().collect();
    for row in connection.query(&select, &values).await? {
        usage.add(row.try_get(0)?);
    }
    Ok(())
}

fn keys(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Day => "to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
        GroupBy::Project => "group_id",
        GroupBy::Rule => "rule",
        GroupBy::Subject => "subject, issuer",
        GroupBy::Username => "group_id, username",
    }
}

fn counts(row: &Row, from: usize) -> Result<UsageCounts, DatabaseError> {
    let sum = |at: usize| Ok::<_, DatabaseError>(seq_of(row.try_get(from + at)?));
    let (answered, denied, lookups) = (sum(1)?, sum(2)?, sum(0)?);
    let (Instant(first), Instant(last)) = (row.try_get(from + 6)?, row.try_get(from + 7)?);
    Ok(UsageCounts {
        lookups,
        answered,
        denied,
        failed: lookups - answered - denied,
        would_have_cost: sum(3)?,
        spent: sum(4)?,
        saved: sum(5)?,
        first,
        last,
    })
}

/// A value as a record has it.
fn json(value: Option<String>) -> String {
    value.map_or_else(
        || "null".to_owned(),
        |text| format!("\"{}\"", escaped(&text, usize::MAX).0),
    )
}

const SUMS: &str = "count(*), count(*) FILTER (WHERE outcome = 'answered'), \
     count(*) FILTER (WHERE outcome = 'denied'), sum(cost), sum(spent), sum(greatest(cost - spent, 0)), \
     min(time), max(time)";
/// As [`would_have_cost`](crate::audit::usage::would_have_cost) has it: an integer, of which the sum costs less than of a
/// bigint.
const COST: &str = "CASE WHEN outcome = 'answered' \
     THEN greatest((coalesce(certificates, 0) + 499) / 500, 1) ELSE 0 END";
const SPENT: &str = "coalesce(upstream_calls, 0)";
/// Enough for a row of each user: a month that is sorted on the disk takes half as long again.
const MEMORY: &str = "SET work_mem = '64MB'";
