//! Search: the records that pass a filter, as they were written.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::{fmt, io};

use serde::Deserialize;

use super::reading;

use cursor::{Bounds, Cursor};
use shown::Shown;

mod cursor;
mod filter;
mod packed;
mod shown;

pub use filter::{BadFilter, Filter, LineFilter, Peer, instant_by_now, order};

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

/// The members of a record that a table or a spreadsheet shows. Absent where the record's kind has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Summary<'a> {
    /// `time`.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// `seq`.
    pub seq: u64,
    /// `kind`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// `replica`.
    #[serde(borrow)]
    pub replica: Option<Cow<'a, str>>,
    /// `request_id`.
    #[serde(borrow)]
    pub request_id: Option<Cow<'a, str>>,
    /// `action` of an operator's record.
    #[serde(borrow)]
    pub action: Option<Cow<'a, str>>,
    /// `count` of folded refusals.
    pub count: Option<u64>,
    /// `outcome`.
    #[serde(borrow)]
    pub outcome: Option<Cow<'a, str>>,
    /// `status`.
    pub status: Option<u16>,
    /// `error_code`.
    #[serde(borrow)]
    pub error_code: Option<Cow<'a, str>>,
    /// `subject`.
    #[serde(borrow)]
    pub subject: Option<Cow<'a, str>>,
    /// `issuer`.
    #[serde(borrow)]
    pub issuer: Option<Cow<'a, str>>,
    /// `client_id`.
    #[serde(borrow)]
    pub client_id: Option<Cow<'a, str>>,
    /// `token_id`.
    #[serde(borrow)]
    pub token_id: Option<Cow<'a, str>>,
    /// `rule`.
    #[serde(borrow)]
    pub rule: Option<Cow<'a, str>>,
    /// `peer`.
    #[serde(borrow)]
    pub peer: Option<Cow<'a, str>>,
    /// `group_id`.
    #[serde(borrow)]
    pub group_id: Option<Cow<'a, str>>,
    /// `username`.
    #[serde(borrow)]
    pub username: Option<Cow<'a, str>>,
    /// `cache`.
    #[serde(borrow)]
    pub cache: Option<Cow<'a, str>>,
    /// `fill_id`.
    #[serde(borrow)]
    pub fill_id: Option<Cow<'a, str>>,
    /// `age_ms`.
    pub age_ms: Option<u64>,
    /// `certificates`.
    pub certificates: Option<u64>,
    /// `list`.
    #[serde(borrow)]
    pub list: Option<Cow<'a, str>>,
    /// `upstream_calls`.
    pub upstream_calls: Option<u64>,
    /// `duration_us`.
    pub duration_us: Option<u64>,
}

impl<'a> Found<'a> {
    /// What a table or a spreadsheet shows of it.
    pub fn summary(&self) -> Summary<'a> {
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

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
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
    progress: &dyn Fn(Progress),
    see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let bounds = Bounds {
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
    let bounds = Bounds {
        is_over,
        window: reading::SMALL_WINDOW,
        kept: FEW_KEPT,
    };
    search_within(bounds, search, &|_| (), see)
}

fn search_within(
    bounds: Bounds<'_>,
    search: &Search<'_>,
    progress: &dyn Fn(Progress),
    mut see: impl FnMut(&Found<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Incomplete>> {
    let mut incomplete = Vec::new();
    let mut filter = LineFilter::new(search.filter);
    if let Some(certificate) = search.filter.certificate {
        let fetches = search.filter;
        let directories = search.directories;
        let shown = Shown::read(directories, certificate, fetches, bounds, &mut incomplete)?;
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
            progress(Progress { done, total });
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
