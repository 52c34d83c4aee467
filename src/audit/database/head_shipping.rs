//! Brings the signed heads of a chain to the database, so that they lie beyond the reach of who writes the journal.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atlas::Timestamp;
use crate::audit::heads::HeadPlace;
use crate::audit::{heads, listing, reading};
use crate::system::{Clock, in_background};

use super::chain_end::number;
use super::connection::Connection;
use super::error::DatabaseError;
use super::instant::Instant;

pub(super) struct HeadShipping {
    directory: PathBuf,
    chain: i32,
    /// When the last one was signed that the database has; `None` until it was asked.
    last: Option<Timestamp>,
    /// By the clock's `elapsed`.
    next: Duration,
}

struct HeadLine {
    place: HeadPlace,
    line: String,
}

impl HeadShipping {
    pub(super) fn new(directory: &Path, chain: i32) -> Self {
        Self {
            directory: directory.to_owned(),
            chain,
            last: None,
            next: Duration::ZERO,
        }
    }

    pub(super) fn is_due(&self, clock: &Clock) -> bool {
        clock.elapsed() >= self.next
    }

    /// Ships what was signed of the records up to `seq`, at most once in a while.
    pub(super) async fn ship(
        &mut self,
        connection: &Connection,
        seq: u64,
        clock: &Clock,
    ) -> Result<(), DatabaseError> {
        if !self.is_due(clock) {
            return Ok(());
        }
        self.next = clock.elapsed() + PERIOD;
        let last = match self.last {
            Some(last) => last,
            None => last_head(connection, self.chain).await?,
        };
        let directory = self.directory.clone();
        let read = in_background(move || read(&directory, last)).await;
        let mut found = match read {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                tracing::warn!(%error, "the signed heads of the audit trail cannot be read");
                return Ok(());
            }
            None => return Ok(()),
        };
        found.retain(|head| head.place.seq <= seq);
        for head in &found {
            let insert = "INSERT INTO audit.head (chain, seq, time, line) VALUES ($1, $2, $3, $4) \
                          ON CONFLICT DO NOTHING";
            let (seq, time) = (number(head.place.seq), Instant(head.place.time));
            connection
                .execute(insert, &[&self.chain, &seq, &time, &head.line])
                .await?;
        }
        self.last = Some(found.last().map_or(last, |head| head.place.time));
        Ok(())
    }
}

async fn last_head(connection: &Connection, chain: i32) -> Result<Timestamp, DatabaseError> {
    let newest = "SELECT max(time) FROM audit.head WHERE chain = $1";
    let row = connection.query_one(newest, &[&chain]).await?;
    let time: Option<Instant> = row.try_get(0)?;
    Ok(time.map_or_else(Timestamp::default, |Instant(time)| time))
}

/// The heads that were signed after `last`, oldest first.
fn read(directory: &Path, last: Timestamp) -> io::Result<Vec<HeadLine>> {
    let segments = listing::list_heads(directory)?.segments;
    let behind = segments.iter().skip(1).map(|it| Some(it.start));
    let mut found = Vec::new();
    for (segment, next) in segments.iter().zip(behind.chain([None])) {
        // The last head of a file is signed a moment after the next file was begun.
        if next.is_some_and(|next| next.plus(SLACK) < last) {
            continue;
        }
        let (_, mut lines) = reading::open_best(directory, segment, None, reading::open)?;
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let text = line.trim_end();
            let place = heads::place(text).filter(|place| place.time > last);
            found.extend(place.map(|place| HeadLine {
                place,
                line: text.to_owned(),
            }));
            line.clear();
        }
    }
    found.sort_by_key(|head| head.place.time);
    Ok(found)
}

/// Heads are signed once a minute.
const PERIOD: Duration = Duration::from_secs(20);
const SLACK: Duration = Duration::from_mins(10);
