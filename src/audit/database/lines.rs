//! The lines of records, as they were written: what the batches hold.

use std::collections::HashMap;

use zstd::bulk::Decompressor;

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
    unpacker: Decompressor<'static>,
}

struct PackedBatch {
    first: u64,
    lines: Vec<u8>,
    bytes: i32,
}

struct OpenBatch {
    first: u64,
    lines: Vec<u8>,
}

impl Lines {
    /// Those in which the records at these places are.
    pub(super) async fn read(
        connection: &Connection,
        places: &[RecordPlace],
    ) -> Result<Self, DatabaseError> {
        let mut packed: HashMap<i32, Vec<PackedBatch>> = HashMap::new();
        let oldest = places.iter().map(|it| Instant(it.time)).min();
        let newest = places.iter().map(|it| Instant(it.time)).max();
        if let (Some(oldest), Some(newest)) = (oldest, newest) {
            let times: Vec<_> = places.iter().map(|it| Instant(it.time)).collect();
            let chains: Vec<_> = places.iter().map(|it| it.chain).collect();
            let numbers: Vec<_> = places.iter().map(|it| number(it.seq)).collect();
            let rows = connection
                .query(BATCHES, &[&times, &chains, &numbers, &oldest, &newest])
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
            unpacker: Decompressor::default(),
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
            let lines = unpack(&mut self.unpacker, &batch.lines, batch.bytes).ok()?;
            self.open.insert(chain, OpenBatch { first, lines });
        }
        // The records of a batch follow one another.
        let index = usize::try_from(seq - first).ok()?;
        let lines = &self.open.get(&chain)?.lines;
        let mut ends = memchr::memchr_iter(b'\n', lines);
        let start = match index.checked_sub(1) {
            None => 0,
            Some(before) => ends.nth(before)? + 1,
        };
        let line = lines.get(start..ends.next()?)?;
        let line = (chain::seq(line) == Some(seq)).then_some(line)?;
        str::from_utf8(line).ok()
    }
}

/// The lines of a batch, of which there are so many bytes.
pub(super) fn unpack(
    unpacker: &mut Decompressor<'_>,
    lines: &[u8],
    bytes: i32,
) -> Result<Vec<u8>, DatabaseError> {
    let bytes = usize::try_from(bytes).unwrap_or(0).min(LARGEST_BATCH);
    let whole = unpacker.decompress(lines, bytes);
    whole.map_err(|_| DatabaseError::Damaged)
}

/// The batches in which the records are: by time, chain and number, and by the oldest and the newest time, so that
/// the partitions of other days are left out of the plan.
const BATCHES: &str = "SELECT b.chain, b.first, b.lines, b.bytes FROM audit.batch b JOIN (\
     SELECT DISTINCT day, chain, (SELECT max(first) FROM audit.batch \
     WHERE batch.day = h.day AND batch.chain = h.chain AND batch.first <= h.seq \
     AND batch.day BETWEEN ($4::timestamptz AT TIME ZONE 'UTC')::date AND ($5::timestamptz AT TIME ZONE 'UTC')::date\
     ) AS first FROM (SELECT (time AT TIME ZONE 'UTC')::date AS day, chain, seq \
     FROM unnest($1::timestamptz[], $2::integer[], $3::bigint[]) AS r(time, chain, seq)) AS h) AS wanted \
     USING (day, chain, first) \
     WHERE b.day BETWEEN ($4::timestamptz AT TIME ZONE 'UTC')::date AND ($5::timestamptz AT TIME ZONE 'UTC')::date";
/// Far more than a batch has.
const LARGEST_BATCH: usize = 64 << 20;
