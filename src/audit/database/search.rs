//! Search of the central trail: the same filters as of directories, and the same lines.
//!
//! Columns find the records, and the lines come from the batches. A line is shown only if it passes the filter as
//! one of a file would.

use std::collections::HashMap;
use std::ops::ControlFlow;

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::audit::search::{Filter, Found, LineFilter, Order, ShownFetches};

use super::chain_end::number;
use super::conditions::Conditions;
use super::connection::Connection;
use super::error::DatabaseError;
use super::instant::Instant;

/// Where a record stands among those of all chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordPlace {
    /// When it was recorded.
    pub(crate) time: Timestamp,
    /// The number of its chain in the database.
    pub(crate) chain: i32,
    /// Its number in the chain.
    pub(crate) seq: u64,
}

/// How far a chain has come.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ChainStatus {
    /// Its number in the database.
    #[serde(skip)]
    pub(crate) id: i32,
    /// Its id.
    pub(crate) chain: Uuid,
    /// Who writes it.
    pub(crate) replica: String,
    /// Its last record that the database has.
    pub(crate) seq: u64,
    /// When that was shipped.
    pub(crate) shipped: String,
}

/// What is searched for.
pub(crate) struct CentralSearch<'a> {
    connection: &'a Connection,
    filter: LineFilter<'a>,
    conditions: Conditions,
    order: Order,
    /// Whether some lists cannot be told from what is left of their fetches.
    pub(crate) is_unsure: bool,
}

/// All chains that the database has.
pub(crate) async fn chains(connection: &Connection) -> Result<Vec<ChainStatus>, DatabaseError> {
    let select = "SELECT id, name, replica, seq, shipped FROM audit.chain ORDER BY replica, id";
    let rows = connection.query(select, &[]).await?;
    let chains = rows.iter().map(|row| {
        let Instant(shipped) = row.try_get(4)?;
        Ok(ChainStatus {
            id: row.try_get(0)?,
            chain: row.try_get(1)?,
            replica: row.try_get(2)?,
            seq: seq_of(row.try_get(3)?),
            shipped: shipped.to_string(),
        })
    });
    chains.collect()
}

impl<'a> CentralSearch<'a> {
    /// For a certificate, reads the fetches first.
    pub(crate) async fn new(
        connection: &'a Connection,
        filter: &'a Filter,
        order: Order,
    ) -> Result<Self, DatabaseError> {
        let mut conditions = Conditions::of(filter);
        let mut is_unsure = false;
        let filter = match filter.certificate {
            None => LineFilter::new(filter),
            Some(certificate) => {
                let shown = shown(connection, filter, certificate).await?;
                is_unsure = shown.is_unsure();
                conditions.one_of(shown.fill_ids());
                shown.line_filter(filter)
            }
        };
        Ok(Self {
            connection,
            filter,
            conditions,
            order,
            is_unsure,
        })
    }

    /// Shows the records behind `start`, or all of them, until `see` has seen enough.
    pub(crate) async fn run(
        &mut self,
        mut start: Option<RecordPlace>,
        mut see: impl FnMut(&Found<'_>, RecordPlace) -> ControlFlow<()>,
    ) -> Result<(), DatabaseError> {
        loop {
            let rows = self.page(start).await?;
            let is_last = rows.len() < PAGE;
            let mut places = Vec::with_capacity(rows.len());
            for row in &rows {
                places.push(place(row)?);
            }
            let lines = Lines::read(self.connection, &places, &rows).await?;
            for (place, row) in places.iter().zip(&rows) {
                let own: Option<&str> = row.try_get(3)?;
                let line = own
                    .or_else(|| lines.get(*place))
                    .ok_or(DatabaseError::Damaged)?;
                let found = Found {
                    line,
                    seq: place.seq,
                };
                if self.filter.passes(line) && see(&found, *place).is_break() {
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
            start = places.last().copied();
        }
    }

    async fn page(&self, start: Option<RecordPlace>) -> Result<Vec<Row>, DatabaseError> {
        let (than, order) = match self.order {
            Order::NewestFirst => ("<", "DESC"),
            Order::OldestFirst => (">", "ASC"),
        };
        let mut values: Vec<&(dyn ToSql + Sync)> = self.conditions.values().collect();
        let next = values.len() + 1;
        let place = start.map(|it| (Instant(it.time), it.chain, number(it.seq)));
        let behind = match &place {
            None => String::new(),
            Some((time, chain, seq)) => {
                let place: [&(dyn ToSql + Sync); 3] = [time, chain, seq];
                values.extend(place);
                // The first condition is for the index.
                format!(
                    " AND time {than}= ${next} AND (time, chain, seq) {than} (${next}, ${}, ${})",
                    next + 1,
                    next + 2
                )
            }
        };
        let conditions = self.conditions.sql();
        let select = format!(
            "SELECT time, chain, seq, line FROM audit.record WHERE {conditions}{behind} \
             ORDER BY time {order}, chain {order}, seq {order} LIMIT {PAGE}"
        );
        Ok(self.connection.query(&select, &values).await?)
    }
}

/// The fetches that say something of a certificate, of all chains.
async fn shown(
    connection: &Connection,
    filter: &Filter,
    certificate: i64,
) -> Result<ShownFetches, DatabaseError> {
    let fetches = ShownFetches::wanted(filter);
    let conditions = Conditions::of(&fetches);
    // So that the index on what is no lookup can be used.
    let select = format!(
        "SELECT chain, seq, line FROM audit.record WHERE {} AND kind <> 'lookup' ORDER BY chain, seq",
        conditions.sql()
    );
    let values: Vec<_> = conditions.values().collect();
    let mut shown = ShownFetches::of(certificate);
    let mut last = None;
    for row in connection.query(&select, &values).await? {
        let chain: i32 = row.try_get(0)?;
        if last.replace(chain) != Some(chain) {
            shown.begin_chain();
        }
        let seq = seq_of(row.try_get(1)?);
        if let Some(line) = row.try_get(2)? {
            shown.add(&Found { line, seq });
        }
    }
    Ok(shown)
}

/// Lines of batches, unpacked.
struct Lines(HashMap<i32, Vec<Unpacked>>);

struct Unpacked {
    first: u64,
    lines: String,
    ends: Vec<usize>,
}

impl Lines {
    /// Those in which the records are whose rows have no line.
    async fn read(
        connection: &Connection,
        places: &[RecordPlace],
        rows: &[Row],
    ) -> Result<Self, DatabaseError> {
        let (mut days, mut chains, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        for (place, row) in places.iter().zip(rows) {
            if row.try_get::<_, Option<&str>>(3)?.is_none() {
                days.push(Instant(place.time));
                chains.push(place.chain);
                numbers.push(number(place.seq));
            }
        }
        let mut unpacked: HashMap<i32, Vec<Unpacked>> = HashMap::new();
        if numbers.is_empty() {
            return Ok(Self(unpacked));
        }
        for row in connection
            .query(BATCHES, &[&days, &chains, &numbers])
            .await?
        {
            let (chain, first): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            let lines = unpack(row.try_get(2)?, row.try_get(3)?)?;
            let ends = memchr::memchr_iter(b'\n', lines.as_bytes()).collect();
            unpacked.entry(chain).or_default().push(Unpacked {
                first: seq_of(first),
                lines,
                ends,
            });
        }
        Ok(Self(unpacked))
    }

    fn get(&self, place: RecordPlace) -> Option<&str> {
        let batches = self.0.get(&place.chain)?.iter();
        let batch = batches
            .filter(|it| it.first <= place.seq)
            .max_by_key(|it| it.first)?;
        // The records of a batch follow one another.
        let index = usize::try_from(place.seq - batch.first).ok()?;
        let start = match index.checked_sub(1) {
            Some(before) => batch.ends.get(before)? + 1,
            None => 0,
        };
        batch.lines.get(start..*batch.ends.get(index)?)
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

fn place(row: &Row) -> Result<RecordPlace, DatabaseError> {
    let Instant(time) = row.try_get(0)?;
    Ok(RecordPlace {
        time,
        chain: row.try_get(1)?,
        seq: seq_of(row.try_get(2)?),
    })
}

/// A number as a column has it, which is never negative.
pub(super) fn seq_of(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The batches in which the records are: by time, chain and number.
const BATCHES: &str = "SELECT b.chain, b.first, b.lines, b.bytes FROM audit.batch b JOIN (\
     SELECT DISTINCT day, chain, (SELECT max(first) FROM audit.batch \
     WHERE batch.day = h.day AND batch.chain = h.chain AND batch.first <= h.seq) AS first \
     FROM (SELECT (time AT TIME ZONE 'UTC')::date AS day, chain, seq \
     FROM unnest($1::timestamptz[], $2::integer[], $3::bigint[]) AS r(time, chain, seq)) AS h) AS wanted \
     USING (day, chain, first)";
/// Rows that are asked for at a time.
const PAGE: usize = 500;
/// Far more than a batch has.
const LARGEST_BATCH: usize = 64 << 20;
