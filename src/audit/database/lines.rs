//! The lines of records, as they were written: what the batches hold.

use std::collections::HashMap;

use crate::audit::chain;

use super::chain_end::{number, seq_of};
use super::connection::Connection;
use super::error::DatabaseError;
use super::instant::Instant;
use super::place::RecordPlace;

/// The batches in which some records are. Of each chain only the one that was used last is unpacked: a page of
/// records may be of as many batches, of which few are shown.
pub(super) struct Lines {
    packed: HashMap<i32, Vec<PackedBatch>>,
    open: HashMap<i32, OpenBatch>,
}

struct PackedBatch {
    first: u64,
    lines: Vec<u8>,
    bytes: i32,
}

struct OpenBatch {
    first: u64,
    lines: String,
}

impl Lines {
    /// Those in which the records at these places are.
    pub(super) async fn read(
        connection: &Connection,
        places: &[RecordPlace],
    ) -> Result<Self, DatabaseError> {
        let mut packed: HashMap<i32, Vec<PackedBatch>> = HashMap::new();
        if !places.is_empty() {
            let times: Vec<_> = places.iter().map(|it| Instant(it.time)).collect();
            let chains: Vec<_> = places.iter().map(|it| it.chain).collect();
            let numbers: Vec<_> = places.iter().map(|it| number(it.seq)).collect();
            let rows = connection
                .query(BATCHES, &[&times, &chains, &numbers])
                .await?;
            for row in rows {
                packed
                    .entry(row.try_get(0)?)
                    .or_default()
                    .push(PackedBatch {
                        first: seq_of(row.try_get(1)?),
                        lines: row.try_get(2)?,
                        bytes: row.try_get(3)?,
                    });
            }
        }
        Ok(Self {
            packed,
            open: HashMap::new(),
        })
    }

    /// The line of the record at this place; `None` where the batches have it not, or have another.
    pub(super) fn get(&mut self, place: RecordPlace) -> Option<&str> {
        let RecordPlace { chain, seq, .. } = place;
        let batches = self.packed.get(&chain)?.iter();
        let batch = batches
            .filter(|it| it.first <= seq)
            .max_by_key(|it| it.first)?;
        let first = batch.first;
        if self.open.get(&chain).is_none_or(|open| open.first != first) {
            let lines = unpack(&batch.lines, batch.bytes).ok()?;
            self.open.insert(chain, OpenBatch { first, lines });
        }
        // The records of a batch follow one another.
        let index = usize::try_from(seq - first).ok()?;
        let line = self.open.get(&chain)?.lines.lines().nth(index)?;
        (chain::seq(line.as_bytes()) == Some(seq)).then_some(line)
    }
}

/// The lines of a batch, of which there are so many bytes.
pub(super) fn unpack(lines: &[u8], bytes: i32) -> Result<String, DatabaseError> {
    let bytes = usize::try_from(bytes).unwrap_or(0).min(LARGEST_BATCH);
    let unpacked = zstd::bulk::decompress(lines, bytes);
    let text = unpacked
        .ok()
        .and_then(|lines| String::from_utf8(lines).ok());
    text.ok_or(DatabaseError::Damaged)
}

/// The batches in which the records are: by time, chain and number.
const BATCHES: &str = "SELECT b.chain, b.first, b.lines, b.bytes FROM audit.batch b JOIN (\
     SELECT DISTINCT day, chain, (SELECT max(first) FROM audit.batch \
     WHERE batch.day = h.day AND batch.chain = h.chain AND batch.first <= h.seq) AS first \
     FROM (SELECT (time AT TIME ZONE 'UTC')::date AS day, chain, seq \
     FROM unnest($1::timestamptz[], $2::integer[], $3::bigint[]) AS r(time, chain, seq)) AS h) AS wanted \
     USING (day, chain, first)";
/// Far more than a batch has.
const LARGEST_BATCH: usize = 64 << 20;
