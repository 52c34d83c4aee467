//! Verifies the central trail: every chain from its batches, against the signed heads, the rows that are searched,
//! and directories.

use std::collections::HashMap;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use zstd::bulk::Decompressor;

use crate::audit::chain;
use crate::audit::chain::{HexHash, Tip};
use crate::audit::heads::{HeadVerifier, Heads};
use crate::audit::verify::removal;
use crate::system::Clock;

use super::chain_end::{number, seq_of};
use super::checkpoint::Checkpoints;
use super::config::DatabaseConfig;
use super::connection::Connection;
use super::copy::Rows;
use super::error::DatabaseError;
use super::lines::unpack;
use super::members::{Members, columns_without_line};
use super::search::{ChainStatus, chains};
use super::shipment::hash_digits;

mod directories;
mod dropped;
mod report;

pub(crate) use report::{CentralFault, CentralFaultKind, CentralReport, CentralVerdict};

type Wrong = (u64, CentralFaultKind);

/// Verifies every chain. `directories` are compared with theirs.
pub(crate) async fn verify(
    database: &DatabaseConfig,
    clock: &Clock,
    directories: &[PathBuf],
    keys: &[HeadVerifier],
) -> Result<CentralVerdict, DatabaseError> {
    let connection = Connection::open(database, clock).await?;
    let mut reports = Vec::new();
    let checkpoints = Checkpoints::read(&connection, keys).await?;
    for chain in chains(&connection).await? {
        let mut verification = Verification::new(&connection, chain, keys).await?;
        verification.mark(&checkpoints);
        if let Err(wrong) = verification.run(&connection).await? {
            let id = verification.report.chain.id;
            let (seq, kind) = dropped::named(&connection, id, wrong).await?;
            verification.report.fault = Some(CentralFault { seq, kind });
        } else {
            for directory in directories {
                verification.compare(&connection, directory).await?;
            }
        }
        reports.push(verification.report);
    }
    for row in connection.query(WITHOUT_ROW, &[]).await? {
        let (id, first): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
        reports.push(CentralReport::without_row(id, seq_of(first)));
    }
    Ok(CentralVerdict {
        chains: reports,
        checkpoints: checkpoints.count,
        broken_checkpoint: checkpoints.broken,
    })
}

struct Verification {
    report: CentralReport,
    tip: Tip,
    end: Tip,
    signed: Heads,
    gaps: HashMap<u64, GapRow>,
    /// Holes for which a later record of the chain may give the reason.
    unexplained: Vec<(u64, Tip)>,
    /// What checkpoints say of its records.
    marked: HashMap<u64, HexHash>,
    /// The ends of all batches.
    ends: HashMap<u64, HexHash>,
}

struct GapRow {
    last: Tip,
    is_dropped: bool,
}

struct Batch {
    first: u64,
    last: u64,
    hash: Option<HexHash>,
    lines: String,
}

impl Verification {
    async fn new(
        connection: &Connection,
        chain: ChainStatus,
        keys: &[HeadVerifier],
    ) -> Result<Self, DatabaseError> {
        let id = chain.id;
        // Before the end: each head was shipped after its record.
        let mut signed = Heads::default();
        let select = "SELECT line FROM audit.head WHERE chain = $1";
        let lines = if keys.is_empty() {
            Vec::new()
        } else {
            connection.query(select, &[&id]).await?
        };
        for row in lines {
            let line: String = row.try_get(0)?;
            signed.add_line(line.as_bytes(), keys);
        }
        let end = "SELECT seq, hash FROM audit.chain WHERE id = $1";
        let end = tip(&connection.query_one(end, &[&id]).await?)?;
        let mut gaps = HashMap::new();
        let select = "SELECT last, hash, first, reason = 'dropped' FROM audit.gap WHERE chain = $1";
        for row in connection.query(select, &[&id]).await? {
            let gap = GapRow {
                last: tip(&row)?,
                is_dropped: row.try_get(3)?,
            };
            gaps.insert(seq_of(row.try_get(2)?), gap);
        }
        Ok(Self {
            report: CentralReport::new(chain),
            tip: Tip::START,
            end,
            signed,
            gaps,
            unexplained: Vec::new(),
            marked: HashMap::new(),
            ends: HashMap::new(),
        })
    }

    fn mark(&mut self, checkpoints: &Checkpoints) {
        let own = |chain| chain == self.report.chain.chain;
        let marked = checkpoints.marked.iter();
        let marked = marked.filter(|((chain, _), _)| own(*chain));
        self.marked = marked.map(|((_, seq), hash)| (*seq, *hash)).collect();
    }

    async fn run(&mut self, connection: &Connection) -> Result<Result<(), Wrong>, DatabaseError> {
        let id = self.report.chain.id;
        let mut first = 0;
        loop {
            let select = "SELECT first, last, hash, lines, bytes FROM audit.batch \
                          WHERE chain = $1 AND first > $2 AND last <= $3 ORDER BY first LIMIT 20";
            let values = (number(first), number(self.end.seq));
            let rows = connection
                .query(select, &[&id, &values.0, &values.1])
                .await?;
            let is_last = rows.is_empty();
            for row in rows {
                let batch = Batch::read(&row)?;
                let Some(batch) = batch else {
                    return Ok(Err((self.tip.seq + 1, CentralFaultKind::Changed)));
                };
                first = batch.first;
                if let Err(wrong) = self.step(&batch) {
                    return Ok(Err(wrong));
                }
                if let Err(wrong) = self.compare_rows(connection, &batch).await? {
                    return Ok(Err(wrong));
                }
            }
            if is_last {
                let end = self.check_end();
                return match self.row_alone(connection).await? {
                    Some(seq) if end.is_ok() => Ok(Err((seq, CentralFaultKind::RowAlone))),
                    _ => Ok(end),
                };
            }
        }
    }

    fn step(&mut self, batch: &Batch) -> Result<(), Wrong> {
        if batch.first != self.tip.seq + 1 {
            self.pass_gaps(batch)?;
        }
        for line in batch.lines.lines() {
            let expected = self.tip.seq + 1;
            let link = chain::read(line.as_bytes()).filter(|link| link.genuine);
            let link = link.ok_or((expected, CentralFaultKind::Changed))?;
            if link.seq != expected || link.previous != self.tip.hash {
                return Err((expected, CentralFaultKind::NotNext));
            }
            if chain::id(line.as_bytes()).is_some_and(|id| id != self.report.chain.chain) {
                return Err((link.seq, CentralFaultKind::Foreign));
            }
            if let Some(signed) = self.signed.signed.get(&link.seq) {
                if *signed != link.hash {
                    return Err((link.seq, CentralFaultKind::Forged));
                }
                self.report.heads += 1;
            }
            if self
                .marked
                .get(&link.seq)
                .is_some_and(|it| *it != link.hash)
            {
                return Err((link.seq, CentralFaultKind::CheckpointDiffers));
            }
            if let Some(removal) = removal(line.as_bytes()) {
                self.unexplained
                    .retain(|(_, last)| !removal.explains(*last));
            }
            self.tip = link.into();
            self.report.records += 1;
        }
        if batch.last != self.tip.seq || batch.hash != Some(self.tip.hash) {
            return Err((self.tip.seq, CentralFaultKind::Changed));
        }
        self.ends.insert(self.tip.seq, self.tip.hash);
        Ok(())
    }

    /// Goes on behind the gaps that lead to this batch, each of which is noted.
    fn pass_gaps(&mut self, batch: &Batch) -> Result<(), Wrong> {
        while self.tip.seq + 1 < batch.first {
            let first = self.tip.seq + 1;
            let gap = self
                .gaps
                .get(&first)
                .filter(|gap| gap.last.seq < batch.first);
            let gap = gap.ok_or((first, CentralFaultKind::Missing))?;
            if gap.is_dropped {
                self.report.dropped += gap.last.seq + 1 - first;
            } else {
                self.unexplained.push((first, gap.last));
            }
            self.tip = gap.last;
        }
        if batch.first <= self.tip.seq {
            return Err((batch.first, CentralFaultKind::NotNext));
        }
        Ok(())
    }

    fn check_end(&mut self) -> Result<(), Wrong> {
        while let Some(gap) = self
            .gaps
            .get(&(self.tip.seq + 1))
            .filter(|it| it.is_dropped)
        {
            self.report.dropped += gap.last.seq - self.tip.seq;
            self.tip = gap.last;
        }
        let last_marked = self.marked.keys().max().copied().unwrap_or(0);
        if self.tip != self.end || last_marked > self.tip.seq {
            return Err((self.tip.seq + 1, CentralFaultKind::EndMissing));
        }
        let newest = self.signed.signed.last_key_value();
        if newest.is_some_and(|(seq, _)| *seq > self.tip.seq) {
            return Err((self.tip.seq + 1, CentralFaultKind::HeadBeyond));
        }
        if let Some((first, _)) = self.unexplained.first() {
            return Err((*first, CentralFaultKind::NotShipped));
        }
        if self.signed.false_ones > 0 || !self.signed.unknown_keys.is_empty() {
            return Err((self.tip.seq, CentralFaultKind::HeadUnsigned));
        }
        Ok(())
    }

    /// The rows of a batch are what its lines make, byte for byte.
    async fn compare_rows(
        &self,
        connection: &Connection,
        batch: &Batch,
    ) -> Result<Result<(), Wrong>, DatabaseError> {
        let id = self.report.chain.id;
        let (mut expected, mut ends) = (Rows::new(), Vec::new());
        for (line, seq) in batch.lines.lines().zip(batch.first..) {
            if let Some(members) = Members::read(line) {
                members.add(&mut expected, (id, seq), None);
            }
            ends.push((expected.len(), seq));
        }
        let expected = expected.into_bytes();
        // COPY takes no parameters; these are numbers.
        let select = format!(
            "COPY (SELECT {} FROM audit.record WHERE chain = {id} AND seq BETWEEN {} AND {} ORDER BY seq) \
             TO STDOUT BINARY",
            columns_without_line(),
            batch.first,
            batch.last
        );
        let parts: Vec<Bytes> = connection.copy_out(&select).await?.try_collect().await?;
        let found = parts.concat();
        if found == *expected {
            return compare_own_lines(connection, id, batch).await;
        }
        let same = found
            .iter()
            .zip(expected.iter())
            .take_while(|(a, b)| a == b);
        let same = same.count();
        let seq = ends
            .iter()
            .find(|(end, _)| *end > same)
            .map(|(_, seq)| *seq);
        let seq = seq.unwrap_or(batch.last);
        Ok(Err((seq, CentralFaultKind::RowDiffers)))
    }

    /// The first row for which no batch of its day has a line. They are counted first, which is fast.
    async fn row_alone(&self, connection: &Connection) -> Result<Option<u64>, DatabaseError> {
        let values = (self.report.chain.id, number(self.end.seq));
        let count = connection.query_one(ROWS, &[&values.0, &values.1]).await?;
        if seq_of(count.try_get(0)?) == self.report.records {
            return Ok(None);
        }
        let row = connection
            .query_one(ROW_ALONE, &[&values.0, &values.1])
            .await?;
        let seq: Option<i64> = row.try_get(0)?;
        Ok(seq.map(seq_of))
    }
}

impl Batch {
    /// `None` where its lines cannot be unpacked.
    fn read(row: &Row) -> Result<Option<Self>, DatabaseError> {
        let mut unpacker = Decompressor::default();
        let lines = unpack(&mut unpacker, row.try_get(3)?, row.try_get(4)?);
        let Some(lines) = lines.ok().and_then(|it| String::from_utf8(it).ok()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            first: seq_of(row.try_get(0)?),
            last: seq_of(row.try_get(1)?),
            hash: hash_digits(row.try_get(2)?),
            lines,
        }))
    }
}

/// The lines that rows have of their own are those of the batch.
async fn compare_own_lines(
    connection: &Connection,
    chain: i32,
    batch: &Batch,
) -> Result<Result<(), Wrong>, DatabaseError> {
    let (first, last) = (number(batch.first), number(batch.last));
    let rows = connection
        .query(OWN_LINES, &[&chain, &first, &last])
        .await?;
    let mut lines = batch.lines.lines().zip(batch.first..);
    for row in rows {
        let (seq, own): (u64, &str) = (seq_of(row.try_get(0)?), row.try_get(1)?);
        let line = lines.find(|(_, it)| *it == seq);
        if line.is_none_or(|(line, _)| line != own) {
            return Ok(Err((seq, CentralFaultKind::RowDiffers)));
        }
    }
    Ok(Ok(()))
}

/// Of a row that begins with a number and a hash.
fn tip(row: &Row) -> Result<Tip, DatabaseError> {
    Ok(Tip {
        seq: seq_of(row.try_get(0)?),
        hash: hash_digits(row.try_get(1)?).ok_or(DatabaseError::Damaged)?,
    })
}

const OWN_LINES: &str = "SELECT seq, line FROM audit.record \
     WHERE chain = $1 AND seq BETWEEN $2 AND $3 AND line IS NOT NULL ORDER BY seq";
const ROWS: &str = "SELECT count(*) FROM audit.record WHERE chain = $1 AND seq <= $2";
const ROW_ALONE: &str = "SELECT min(seq) FROM audit.record WHERE chain = $1 AND seq <= $2 AND NOT EXISTS (\
     SELECT FROM audit.batch WHERE batch.chain = record.chain AND record.seq BETWEEN batch.first AND batch.last \
     AND batch.day = (record.time AT TIME ZONE 'UTC')::date)";
const WITHOUT_ROW: &str = "SELECT chain, min(first) FROM audit.batch \
     WHERE chain NOT IN (SELECT id FROM audit.chain) GROUP BY chain ORDER BY chain";
