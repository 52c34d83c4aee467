//! The end of a chain as the database knows it, and the transaction that moves it.

use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::audit::chain::Tip;

use super::connection::Connection;
use super::error::DatabaseError;
use super::instant::Instant;
use super::members::column_names;
use super::shipment::{COPY, Gap, Shipment, hash_bytes, hash_digits};

/// A chain in the database.
#[derive(Clone, Debug)]
pub(super) struct ChainEnd {
    /// Its number there.
    pub(super) id: i32,
    pub(super) tip: Tip,
    /// When its last record was written.
    pub(super) recorded: Option<Timestamp>,
}

impl ChainEnd {
    /// Finds the chain of this name, or makes it, and notes who writes it.
    pub(super) async fn find(
        connection: &Connection,
        name: Uuid,
        replica: &str,
    ) -> Result<Self, DatabaseError> {
        // A row that is not there is asked for first: a conflict would use up a number at each connection.
        let insert = "INSERT INTO audit.chain (name, replica) SELECT $1, $2 \
                      WHERE NOT EXISTS (SELECT FROM audit.chain WHERE name = $1) ON CONFLICT DO NOTHING";
        connection.execute(insert, &[&name, &replica]).await?;
        let update = "UPDATE audit.chain SET replica = $2 WHERE name = $1 AND replica <> $2";
        connection.execute(update, &[&name, &replica]).await?;
        let select = "SELECT id, seq, hash, recorded FROM audit.chain WHERE name = $1";
        let row = connection.query_one(select, &[&name]).await?;
        let recorded: Option<Instant> = row.try_get(3)?;
        Ok(Self {
            id: row.try_get(0)?,
            tip: tip(row.try_get(1)?, row.try_get(2)?),
            recorded: recorded.map(|Instant(time)| time),
        })
    }
}

/// Writes a shipment and the new end of its chain, as a whole or not at all; `false` where the chain ends elsewhere
/// than the shipment begins.
pub(super) async fn write(
    connection: &mut Connection,
    shipment: Shipment,
) -> Result<bool, DatabaseError> {
    let Shipment {
        chain,
        from,
        to,
        records,
        batches,
        gaps,
        recorded,
        ..
    } = shipment;
    let transaction = connection.transaction().await?;
    let lock = "SELECT seq, hash FROM audit.chain WHERE id = $1 FOR UPDATE";
    let row = transaction.query_one(lock, &[&chain]).await?;
    if tip(row.try_get(0)?, row.try_get(1)?) != from {
        return Ok(false);
    }
    let copy = format!("COPY audit.record ({}) FROM STDIN BINARY", column_names());
    records.send(&transaction, &copy).await?;
    batches.send(&transaction, COPY).await?;
    for gap in gaps {
        write_gap(&transaction, chain, gap).await?;
    }
    let update =
        "UPDATE audit.chain SET seq = $2, hash = $3, recorded = $4, shipped = now() WHERE id = $1";
    let (seq, hash) = (number(to.seq), hash_bytes(&to.hash));
    transaction
        .execute(
            update,
            &[&chain, &seq, &hash.as_slice(), &Instant(recorded)],
        )
        .await?;
    transaction.commit().await?;
    Ok(true)
}

async fn write_gap(
    transaction: &Transaction<'_>,
    chain: i32,
    gap: Gap,
) -> Result<(), DatabaseError> {
    let Gap { first, last } = gap;
    if first == 1 {
        tracing::info!(
            last = last.seq,
            "older audit records are not in the directory and were not shipped"
        );
    } else {
        tracing::error!(
            first,
            last = last.seq,
            "audit records are missing in the journal and were not shipped"
        );
    }
    let insert = "INSERT INTO audit.gap (chain, first, last, hash, reason) VALUES ($1, $2, $3, $4, 'missing')";
    let hash = hash_bytes(&last.hash);
    let values = (number(first), number(last.seq));
    transaction
        .execute(insert, &[&chain, &values.0, &values.1, &hash.as_slice()])
        .await?;
    Ok(())
}

fn tip(seq: i64, hash: &[u8]) -> Tip {
    Tip {
        seq: u64::try_from(seq).expect("the table checks that no number is negative"),
        hash: hash_digits(hash).expect("the table checks that a hash has 32 bytes"),
    }
}

/// A record's number as a column has it.
pub(super) fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// A number as a column has it, which is never negative.
pub(super) fn seq_of(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
