//! Tells a day whose partition was dropped by hand from a batch or a row that was deleted.

use super::{CentralFaultKind, Wrong};
use crate::audit::database::chain_end::number;
use crate::audit::database::connection::Connection;
use crate::audit::database::error::DatabaseError;

/// Names what is missing for what it is.
pub(super) async fn named(
    connection: &Connection,
    chain: i32,
    (seq, kind): Wrong,
) -> Result<Wrong, DatabaseError> {
    let select = if [CentralFaultKind::Missing, CentralFaultKind::EndMissing].contains(&kind) {
        DAY_OF_BATCH
    } else if kind == CentralFaultKind::RowDiffers {
        DAY_OF_ROW
    } else {
        return Ok((seq, kind));
    };
    let at = number(seq);
    let row = connection.query_one(select, &[&chain, &at]).await?;
    let table: Option<String> = row.try_get(0)?;
    Ok((seq, table.map_or(kind, CentralFaultKind::DayDropped)))
}

/// The first day without a table on which a record of no batch may have been written: that of its row, or else those
/// between the batches around it. A chain's id begins with the time of its first record, and its row ends with that of the last.
const DAY_OF_BATCH: &str = "WITH chain AS (SELECT * FROM audit.chain WHERE id = $1), \
     own AS (SELECT (time AT TIME ZONE 'UTC')::date AS day FROM audit.record WHERE chain = $1 AND seq = $2), \
     around AS (SELECT (SELECT max(day) FROM audit.batch WHERE chain = $1 AND last < $2) AS before, \
                       (SELECT min(day) FROM audit.batch WHERE chain = $1 AND first > $2) AS behind, \
                       (recorded AT TIME ZONE 'UTC')::date AS ended, \
                       to_timestamp(('x' || left(translate(name::text, '-', ''), 12))::bit(48)::bigint / 1000)::date AS began \
                FROM chain WHERE NOT EXISTS (SELECT FROM audit.gap WHERE chain = $1 AND last = $2 - 1)), \
     days AS (SELECT day FROM own UNION ALL \
              SELECT generate_series(coalesce(before + 1, began), coalesce(behind - 1, ended), interval '1 day')::date \
              FROM around WHERE NOT EXISTS (SELECT FROM own)) \
     SELECT 'batch_' || to_char(min(day), 'YYYYMMDD') FROM days \
     WHERE to_regclass('audit.batch_' || to_char(day, 'YYYYMMDD')) IS NULL";
/// The day of its batch, if it has no table of rows.
const DAY_OF_ROW: &str = "SELECT 'record_' || to_char(min(day), 'YYYYMMDD') FROM audit.batch \
     WHERE chain = $1 AND $2 BETWEEN first AND last \
     AND to_regclass('audit.record_' || to_char(day, 'YYYYMMDD')) IS NULL";
