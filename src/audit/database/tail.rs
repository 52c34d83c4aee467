//! What a directory has beyond what the database has of its chain.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::atlas::Timestamp;
use crate::audit::search::{Incomplete, Search, search_until};
use crate::audit::{listing, repair};
use crate::system::in_background;

use super::place::{PlacedLine, RecordPlace};
use super::search::{CentralQuery, ChainStatus};

/// The records of one directory that were not shipped yet, in their order. They are read as they are taken, a few
/// ahead.
pub(super) struct Tail {
    next: Option<PlacedLine>,
    records: mpsc::Receiver<PlacedLine>,
    search: JoinHandle<Option<Searched>>,
}

/// What could not be searched.
type Searched = io::Result<Vec<Incomplete>>;

/// A directory, and how far its chain was shipped.
pub(super) struct TailStart {
    directory: PathBuf,
    /// Its chain's number in the database, where no chain that is not there comes before another.
    pub(super) chain: i32,
    pub(super) shipped: u64,
}

impl TailStart {
    /// Reads which chain it is that a directory holds.
    pub(super) async fn find(directory: &Path, chains: &[ChainStatus]) -> io::Result<Self> {
        let path = directory.to_owned();
        let name = in_background(move || chain_of(&path)).await;
        let name = name.ok_or_else(unread)??;
        let status = chains.iter().find(|it| Some(it.chain) == name);
        Ok(Self {
            directory: directory.to_owned(),
            chain: status.map_or(i32::MAX, |it| it.id),
            shipped: status.map_or(0, |it| it.seq),
        })
    }

    /// Begins to read. Ends early once it `is_over`, or is not wanted any more.
    pub(super) fn read(
        self,
        mut query: CentralQuery,
        is_over: impl Fn() -> bool + Send + 'static,
    ) -> Tail {
        let (sender, records) = mpsc::channel(READ_AHEAD);
        let after = query.filter.after.unwrap_or(0).max(self.shipped);
        query.filter.after = Some(after);
        let search = in_background(move || {
            let search = Search {
                directories: &[self.directory],
                filter: &query.filter,
                order: query.order,
            };
            let is_over = || is_over() || sender.is_closed();
            search_until(&search, &is_over, |found| {
                let place = RecordPlace {
                    time: time(found.line),
                    chain: self.chain,
                    seq: found.seq,
                };
                let is_seen = |behind: RecordPlace| !behind.is_before(place, query.order);
                if query.behind.is_some_and(is_seen) {
                    return ControlFlow::Continue(());
                }
                let line = found.line.to_owned();
                match sender.blocking_send(PlacedLine { place, line }) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
        });
        Tail {
            next: None,
            records,
            search: tokio::spawn(search),
        }
    }
}

impl Tail {
    /// Where the next record stands.
    pub(super) async fn peek(&mut self) -> Option<RecordPlace> {
        if self.next.is_none() {
            self.next = self.records.recv().await;
        }
        self.next.as_ref().map(|it| it.place)
    }

    /// The next record, once [`peek`](Self::peek) has found it.
    pub(super) fn take(&mut self) -> Option<PlacedLine> {
        self.next.take()
    }

    /// Ends the search; what could not be searched.
    pub(super) async fn end(self) -> Searched {
        drop(self.records);
        let searched = self.search.await.ok().flatten();
        searched.unwrap_or_else(|| Err(unread()))
    }
}

fn chain_of(directory: &Path) -> io::Result<Option<Uuid>> {
    let segments = listing::list(directory)?.segments;
    let last = repair::last_record(directory, &segments)?;
    Ok(last.and_then(|last| last.chain))
}

/// `{"time":"…"`.
fn time(line: &str) -> Timestamp {
    let text = line.get(9..36).and_then(Timestamp::parse);
    text.unwrap_or_default()
}

fn unread() -> io::Error {
    io::Error::other("it was not read")
}

const READ_AHEAD: usize = 64;
