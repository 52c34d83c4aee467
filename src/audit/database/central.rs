//! The trail of all replicas: what the database has, and what directories have beyond that.

use std::collections::HashMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::atlas::Timestamp;
use crate::audit::search::{Filter, Found, Incomplete, Order, Search, UNSURE, search_until};
use crate::audit::usage::{GroupBy, Usage};
use crate::audit::{listing, repair};
use crate::system::{Clock, in_background};

use super::config::DatabaseConfig;
use super::connection::Connection;
use super::error::DatabaseError;
use super::place::RecordPlace;
use super::search::{CentralSearch, ChainStatus, chains};
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

/// What is wanted of it.
#[derive(Clone, Debug)]
pub struct CentralQuery {
    /// Which records.
    pub filter: Filter,
    /// Which of them comes first.
    pub order: Order,
    /// Only those behind this one.
    pub behind: Option<RecordPlace>,
    /// No more than so many are wanted.
    pub limit: usize,
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

/// Records of directories that the database did not have when it was asked.
#[derive(Default)]
struct Tails {
    records: Vec<(RecordPlace, String)>,
    /// What the database had of their chains.
    shipped: HashMap<i32, u64>,
    incomplete: Vec<Incomplete>,
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
        let tails = self.tails(query, &chains, is_over.clone()).await?;
        let mut waiting = tails.records.into_iter().peekable();
        let mut search = CentralSearch::new(connection, &query.filter, query.order).await?;
        let is_before = |one: RecordPlace, other: RecordPlace| match query.order {
            Order::NewestFirst => one > other,
            Order::OldestFirst => one < other,
        };
        let mut is_enough = false;
        let searched = search.run(query.behind, |found, place| {
            if tails
                .shipped
                .get(&place.chain)
                .is_some_and(|shipped| place.seq > *shipped)
            {
                // Shipped meanwhile: it is in the directory's part.
                return ControlFlow::Continue(());
            }
            while let Some((own, line)) = waiting.next_if(|(own, _)| is_before(*own, place)) {
                let record = Found {
                    line: &line,
                    seq: own.seq,
                };
                if see(&record, own).is_break() {
                    is_enough = true;
                    return ControlFlow::Break(());
                }
            }
            is_enough = is_over() || see(found, place).is_break();
            if is_enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        searched.await?;
        for (place, line) in waiting {
            let record = Found {
                line: &line,
                seq: place.seq,
            };
            if is_enough || see(&record, place).is_break() {
                break;
            }
        }
        let mut incomplete = tails.incomplete;
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
        let query = CentralQuery {
            filter: filter.clone(),
            order: Order::OldestFirst,
            behind: None,
            limit: usize::MAX,
        };
        let tails = self.tails(&query, &chains, || false).await?;
        // What is shipped from now on is in the tails.
        add_usage(&connection, filter, (by, &tails.shipped), usage).await?;
        for (_, line) in &tails.records {
            usage.add(line);
        }
        Ok(CentralCoverage {
            chains,
            incomplete: tails.incomplete,
        })
    }

    async fn tails(
        &self,
        query: &CentralQuery,
        chains: &[ChainStatus],
        is_over: impl Fn() -> bool + Clone + Send + 'static,
    ) -> Result<Tails, CentralError> {
        let mut all = Tails::default();
        for directory in &self.directories {
            let (directory, query, chains) = (directory.clone(), query.clone(), chains.to_vec());
            let is_over = is_over.clone();
            let read = in_background(move || tail(&directory, &query, &chains, &is_over));
            let read = read
                .await
                .ok_or_else(|| io::Error::other("it was not read"))??;
            all.records.extend(read.records);
            all.shipped.extend(read.shipped);
            all.incomplete.extend(read.incomplete);
        }
        all.records.sort_by_key(|(place, _)| *place);
        if query.order == Order::NewestFirst {
            all.records.reverse();
        }
        Ok(all)
    }
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

/// What a directory has beyond what the database has of its chain.
fn tail(
    directory: &Path,
    query: &CentralQuery,
    chains: &[ChainStatus],
    is_over: &dyn Fn() -> bool,
) -> io::Result<Tails> {
    let mut tail = Tails::default();
    let segments = listing::list(directory)?.segments;
    let name = repair::last_record(directory, &segments)?.and_then(|last| last.chain);
    let status = chains.iter().find(|it| Some(it.chain) == name);
    let (chain, shipped) = status.map_or((i32::MAX, 0), |it| (it.id, it.seq));
    tail.shipped.insert(chain, shipped);
    let mut filter = query.filter.clone();
    filter.after = Some(filter.after.unwrap_or(0).max(shipped));
    let directories = [directory.to_owned()];
    let search = Search {
        directories: &directories,
        filter: &filter,
        order: query.order,
    };
    tail.incomplete = search_until(&search, is_over, |found| {
        let place = RecordPlace {
            time: time(found.line),
            chain,
            seq: found.seq,
        };
        let is_behind = query.behind.is_none_or(|behind| match query.order {
            Order::NewestFirst => place < behind,
            Order::OldestFirst => place > behind,
        });
        if is_behind {
            tail.records.push((place, found.line.to_owned()));
        }
        if tail.records.len() < query.limit {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(tail)
}

/// `{"time":"…"`.
fn time(line: &str) -> Timestamp {
    let text = line.get(9..36).and_then(Timestamp::parse);
    text.unwrap_or_default()
}
