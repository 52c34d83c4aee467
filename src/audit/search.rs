//! Search: the records that pass a filter, as they were written.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::{fmt, io};

use serde_json::Value;

use super::reading;

use cursor::Cursor;

mod cursor;
mod filter;
mod line_filter;
mod packed;
mod shown;

pub use filter::{BadFilter, Filter, Peer, instant_by_now, order};
pub use line_filter::LineFilter;
pub(super) use shown::{ShownFetches, UNSURE};

/// Which record comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    NewestFirst,
    /// The oldest.
    OldestFirst,
}

/// One record that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The line as it was written, without its end.
    pub line: &'a str,
    /// Its number.
    pub seq: u64,
}

impl<'a> Found<'a> {
    /// Its members; none of a line that is torn.
    pub fn members(&self) -> BTreeMap<&'a str, Value> {
        serde_json::from_str(self.line).unwrap_or_default()
    }
}

/// What is searched, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Directories of journals; what is found in them is merged by time.
    pub directories: &'a [PathBuf],
    /// Which records are wanted.
    pub filter: &'a Filter,
    /// Which of them comes first.
    pub order: Order,
}

#[derive(Clone, Copy)]
struct SearchBounds<'b> {
    /// Asked before each block: whether to end.
    is_over: &'b dyn Fn() -> bool,
    /// What unpacking may hold, as a power of two.
    window: u32,
    /// Bytes of lines that may be held of a packed file that is read newest first.
    kept: usize,
}

struct Match {
    line: Range<usize>,
    seq: u64,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadProgress {
    /// Bytes of files that were read, as they lie on the disk.
    pub done: u64,
    /// Of all that are to be read.
    pub total: u64,
}

/// A file that could not be searched, or not as a whole: there may be records in it that were not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub problem: String,
}

/// Shows every record that passes the filter to `see`, until it has seen enough. Gives back what could
/// not be read; the rest was searched all the same.
///
/// Blocking: to be called off the runtime. Files are read in blocks, so what it holds does not depend on
/// how large they are, nor on how they are packed.
pub fn search(
    search: &Search<'_>,
    progress: &dyn Fn(ReadProgress),
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let bounds = SearchBounds {
        is_over: &|| false,
        window: reading::USUAL_WINDOW,
        kept: USUALLY_KEPT,
    };
    search_within(bounds, search, progress, see)
}

/// The same inside of a process that has other things to do: ends before the next block once it `is_over`,
/// and does not read a file that needs more than 8 MiB to be unpacked.
pub fn search_until(
    search: &Search<'_>,
    is_over: &dyn Fn() -> bool,
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let bounds = SearchBounds {
        is_over,
        window: reading::SMALL_WINDOW,
        kept: FEW_KEPT,
    };
    search_within(bounds, search, &|_| (), see)
}

fn search_within(
    bounds: SearchBounds<'_>,
    search: &Search<'_>,
    progress: &dyn Fn(ReadProgress),
    mut see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let mut incomplete = Vec::new();
    let mut filter = LineFilter::new(search.filter);
    if let Some(certificate) = search.filter.certificate {
        let shown = shown::read(search, certificate, bounds, &mut incomplete)?;
        filter.shown = Some(shown);
    }
    let mut cursors = Vec::new();
    for directory in search.directories {
        cursors.push(Cursor::open(directory, &filter, search.order, bounds)?);
    }
    let total = cursors.iter().map(Cursor::total).sum();
    loop {
        let mut has_read = false;
        for cursor in &mut cursors {
            has_read |= cursor.fill();
        }
        if has_read {
            let done = cursors.iter().map(Cursor::done).sum();
            progress(ReadProgress { done, total });
        }
        let waiting = cursors.iter_mut().filter(|cursor| !cursor.is_at_end());
        let next = match search.order {
            Order::NewestFirst => waiting.max_by(|a, b| a.time().cmp(b.time())),
            Order::OldestFirst => waiting.min_by(|a, b| a.time().cmp(b.time())),
        };
        let Some(cursor) = next else { break };
        if cursor.show(&mut see).is_break() {
            break;
        }
    }
    for found in cursors.into_iter().flat_map(Cursor::into_incomplete) {
        if !incomplete.contains(&found) {
            incomplete.push(found);
        }
    }
    Ok(incomplete)
}

impl Incomplete {
    /// The file's name and what is wrong with it.
    pub fn of_name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        format!("{}: {}", name.display(), self.problem)
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

/// `2026-08-10T02:06:35.000000Z` in `{"time":"…"`.
const TIME: Range<usize> = 9..36;
/// All of a packed file of the usual size, so that none is unpacked twice.
const USUALLY_KEPT: usize = 64 << 20;
/// Beside callers who wait for answers.
const FEW_KEPT: usize = 4 << 20;
