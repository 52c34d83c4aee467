//! Search of the central trail: the same filters as of directories, and the same lines.
//!
//! Columns find the records, and the lines come from the batches. A line is shown only if it passes the filter as
//! one of a file would.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::audit::search::{Filter, Found, LineFilter, Order, ShownFetches};

use super::chain_end::{number, seq_of};
use super::conditions::Conditions;
use super::connection::Connection;
use super::error::DatabaseError;
use super::instant::Instant;
use super::lines::Lines;
use super::place::{PlacedLine, RecordPlace};

/// How far a chain has come.
#[derive(Clone, Debug, Serialize)]
pub struct ChainStatus {
    /// Its number in the database.
    #[serde(skip)]
    pub id: i32,
    /// Its id.
    pub chain: Uuid,
    /// Who writes it.
    pub replica: String,
    /// Its last record that the database has.
    pub seq: u64,
    /// When that was shipped.
    pub shipped: String,
}

/// Which records are wanted.
#[derive(Clone, Debug)]
pub struct CentralQuery {
    /// Those that pass.
    pub filter: Filter,
    /// Which of them comes first.
    pub order: Order,
    /// Only those behind this one.
    pub behind: Option<RecordPlace>,
}

/// The records of the database that pass, in their order; they are read a page at a time.
pub(super) struct CentralSearch<'a> {
    connection: &'a Connection,
    filter: LineFilter<'a>,
    conditions: Conditions,
    order: Order,
    /// Of the page that was read last.
    found: VecDeque<PlacedLine>,
    /// Behind which the next page begins.
    last: Option<RecordPlace>,
    /// How many rows the next page has at most; `None` where there is none.
    size: Option<usize>,
    /// Whether some lists cannot be told from what is left of their fetches.
    pub(super) is_unsure: bool,
    /// Records that have no line; `audit verify --database` says more.
    pub(super) without_line: u64,
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
    /// Of some chains only what had been `shipped` at a time. For a certificate, reads the fetches first.
    pub(super) async fn new(
        connection: &'a Connection,
        query: &'a CentralQuery,
        shipped: &HashMap<i32, u64>,
    ) -> Result<Self, DatabaseError> {
        let mut conditions = Conditions::of(&query.filter);
        conditions.only_shipped(shipped);
        let (mut is_unsure, mut without_line) = (false, 0);
        let filter = match query.filter.certificate {
            None => LineFilter::new(&query.filter),
            Some(certificate) => {
                let shown;
                (shown, without_line) = self::shown(connection, &query.filter, certificate).await?;
                is_unsure = shown.is_unsure();
                conditions.one_of(shown.fill_ids());
                shown.line_filter(&query.filter)
            }
        };
        Ok(Self {
            connection,
            filter,
            conditions,
            order: query.order,
            found: VecDeque::new(),
            last: query.behind,
            size: Some(FIRST_PAGE),
            is_unsure,
            without_line,
        })
    }

    /// Where the next record stands.
    pub(super) async fn peek(&mut self) -> Result<Option<RecordPlace>, DatabaseError> {
        while self.found.is_empty()
            && let Some(size) = self.size
        {
            self.read_page(size).await?;
        }
        Ok(self.found.front().map(|it| it.place))
    }

    /// The next record, once [`peek`](Self::peek) has found it.
    pub(super) fn take(&mut self) -> Option<PlacedLine> {
        self.found.pop_front()
    }

    async fn read_page(&mut self, size: usize) -> Result<(), DatabaseError> {
        let rows = self.page(self.last, size).await?;
        self.size = (rows.len() == size).then_some(PAGE);
        let (mut places, mut of_batches) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in &rows {
            let place = place(row)?;
            places.push(place);
            let has_line = row.try_get::<_, Option<&str>>(3)?.is_some();
            of_batches.extend((!has_line).then_some(place));
        }
        let mut lines = Lines::read(self.connection, &of_batches).await?;
        for (place, row) in places.iter().zip(&rows) {
            let own: Option<&str> = row.try_get(3)?;
            let Some(line) = own.or_else(|| lines.get(*place)) else {
                self.without_line += 1;
                continue;
            };
            if self.filter.passes(line) {
                let (place, line) = (*place, line.to_owned());
                self.found.push_back(PlacedLine { place, line });
            }
        }
        self.last = places.last().copied();
        Ok(())
    }

    async fn page(
        &self,
        start: Option<RecordPlace>,
        size: usize,
    ) -> Result<Vec<Row>, DatabaseError> {
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
        let end = format!("ORDER BY time {order}, chain {order}, seq {order} LIMIT {size}");
        let selects = self.conditions.each_sql();
        let selects = selects.iter().map(|conditions| {
            format!(
                "(SELECT time, chain, seq, line FROM audit.record WHERE {conditions}{behind} {end})"
            )
        });
        let select = selects.collect::<Vec<_>>().join(" UNION ALL ");
        let select = format!("SELECT * FROM ({select}) AS found {end}");
        Ok(self.connection.query(&select, &values).await?)
    }
}

/// The fetches that say something of a certificate, of all chains, and how many fetches have no line.
async fn shown(
    connection: &Connection,
    filter: &Filter,
    certificate: i64,
) -> Result<(ShownFetches, u64), DatabaseError> {
    let fetches = ShownFetches::wanted(filter);
    let mut shown = ShownFetches::of(certificate);
    let (mut last_chain, mut last_seq, mut without_line) = (0, 0, 0);
    loop {
        let mut conditions = Conditions::of(&fetches);
        let (chain, seq) = (conditions.place(last_chain), conditions.place(last_seq));
        conditions.and(&format!("(chain, seq) > (${chain}, ${seq})"));
        // With the kind, so that the index on what is no lookup can be used.
        let select = format!(
            "SELECT time, chain, seq FROM audit.record WHERE {} AND kind <> 'lookup' \
             ORDER BY chain, seq LIMIT {PAGE}",
            conditions.sql()
        );
        let values: Vec<_> = conditions.values().collect();
        let rows = connection.query(&select, &values).await?;
        let places: Vec<_> = rows.iter().map(place).collect::<Result<_, _>>()?;
        let mut lines = Lines::read(connection, &places).await?;
        for place in places {
            if place.chain != last_chain {
                shown.begin_chain();
            }
            (last_chain, last_seq) = (place.chain, number(place.seq));
            let seq = place.seq;
            match lines.get(place) {
                Some(line) => shown.add(&Found { line, seq }),
                None => without_line += 1,
            }
        }
        if rows.len() < PAGE {
            return Ok((shown, without_line));
        }
    }
}

fn place(row: &Row) -> Result<RecordPlace, DatabaseError> {
    let Instant(time) = row.try_get(0)?;
    Ok(RecordPlace {
        time,
        chain: row.try_get(1)?,
        seq: seq_of(row.try_get(2)?),
    })
}

/// Most searches end with it: it is one more than are shown as usual.
const FIRST_PAGE: usize = 101;
/// Rows that are asked for at a time from then on. Each may be of another batch, of some twenty kilobytes as it is
/// packed.
const PAGE: usize = 256;
