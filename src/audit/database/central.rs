//! The trail of all replicas: what the database has, and what directories have beyond that.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use crate::audit::search::{Filter, Found, Incomplete, Order, UNSURE};
use crate::audit::usage::{GroupBy, Usage};
use crate::system::Clock;

use super::config::DatabaseConfig;
use super::connection::Connection;
use super::error::DatabaseError;
use super::place::{PlacedLine, RecordPlace};
use super::search::{CentralQuery, CentralSearch, ChainStatus, chains};
use super::tail::{Tail, TailStart};
use super::usage::add_usage;

/// Where the trail of all replicas is read.
#[derive(Clone, Debug)]
pub struct CentralTrail {
    /// The database.
    pub database: DatabaseConfig,
    /// Directories whose records may not all have been shipped yet.
    pub directories: Vec<PathBuf>,
    /// For deadlines.
    pub clock: Clock,
}

/// What a search found out besides records.
#[derive(Debug, Default)]
pub struct CentralCoverage {
    /// How far each chain has come.
    pub chains: Vec<ChainStatus>,
    /// What could not be searched.
    pub incomplete: Vec<Incomplete>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CentralError {
    /// The database.
    #[error("the database cannot be used")]
    Database(#[from] DatabaseError),
    /// A directory.
    #[error("a directory cannot be read")]
    Directory(#[from] io::Error),
}

impl CentralTrail {
    /// Shows the records that pass, those of the directories among them, until `see` has seen enough. Ends early
    /// once it `is_over`.
    pub(crate) async fn search(
        &self,
        query: &CentralQuery,
        is_over: impl Fn() -> bool + Clone + Send + 'static,
        see: impl FnMut(&Found<'_>, RecordPlace) -> ControlFlow<()>,
    ) -> Result<CentralCoverage, CentralError> {
        let connection = Connection::open(&self.database, &self.clock).await?;
        self.search_over(&connection, query, is_over, see).await
    }

    /// The same over a connection that is there.
    pub async fn search_over(
        &self,
        connection: &Connection,
        query: &CentralQuery,
        is_over: impl Fn() -> bool + Clone + Send + 'static,
        mut see: impl FnMut(&Found<'_>, RecordPlace) -> ControlFlow<()>,
    ) -> Result<CentralCoverage, CentralError> {
        let chains = chains(connection).await?;
        let starts = self.tail_starts(&chains).await?;
        let mut search = CentralSearch::new(connection, query, &shipped(&starts)).await?;
        let mut tails = Vec::new();
        for start in starts {
            tails.push(start.read(query.clone(), is_over.clone()));
        }
        while let Some(PlacedLine { place, line }) =
            next(&mut search, &mut tails, query.order).await?
        {
            let found = Found {
                line: &line,
                seq: place.seq,
            };
            if is_over() || see(&found, place).is_break() {
                break;
            }
        }
        let mut incomplete = Vec::new();
        for tail in tails {
            incomplete.extend(tail.end().await?);
        }
        incomplete.extend(missing(&search));
        Ok(CentralCoverage { chains, incomplete })
    }

    /// Adds up who asked how often, by the times of `filter`.
    pub async fn add_usage(
        &self,
        filter: &Filter,
        by: GroupBy,
        usage: &mut Usage,
    ) -> Result<CentralCoverage, CentralError> {
        let connection = Connection::open(&self.database, &self.clock).await?;
        let chains = chains(&connection).await?;
        let starts = self.tail_starts(&chains).await?;
        add_usage(&connection, filter, (by, &shipped(&starts)), usage).await?;
        let query = CentralQuery {
            filter: filter.clone(),
            order: Order::OldestFirst,
            behind: None,
        };
        let mut incomplete = Vec::new();
        for start in starts {
            let mut tail = start.read(query.clone(), || false);
            while tail.peek().await.is_some() {
                usage.add(&tail.take().expect("it is there").line);
            }
            incomplete.extend(tail.end().await?);
        }
        Ok(CentralCoverage { chains, incomplete })
    }

    async fn tail_starts(&self, chains: &[ChainStatus]) -> io::Result<Vec<TailStart>> {
        let mut starts = Vec::new();
        for directory in &self.directories {
            starts.push(TailStart::find(directory, chains).await?);
        }
        Ok(starts)
    }
}

/// What the database is asked for of these chains: what is shipped from now on comes from their directories.
fn shipped(starts: &[TailStart]) -> HashMap<i32, u64> {
    starts.iter().map(|it| (it.chain, it.shipped)).collect()
}

/// The record that comes first, of the database and the directories.
async fn next(
    search: &mut CentralSearch<'_>,
    tails: &mut [Tail],
    order: Order,
) -> Result<Option<PlacedLine>, DatabaseError> {
    let mut first = search.peek().await?;
    let mut of_tail = None;
    for tail in tails {
        let Some(place) = tail.peek().await else {
            continue;
        };
        if first.is_none_or(|first| place.is_before(first, order)) {
            first = Some(place);
            of_tail = Some(tail);
        }
    }
    Ok(of_tail.map_or_else(|| search.take(), Tail::take))
}

/// What a search of the database may not have found.
fn missing(search: &CentralSearch<'_>) -> Vec<Incomplete> {
    let unsure = search.is_unsure.then(|| UNSURE.to_owned());
    let without_line = (search.without_line > 0).then(|| {
        let lines = search.without_line;
        format!("the lines of {lines} records are missing; `audit verify --database` says more")
    });
    let problems = unsure.into_iter().chain(without_line);
    let incomplete = problems.map(|problem| Incomplete {
        path: PathBuf::from("the database"),
        problem,
    });
    incomplete.collect()
}
