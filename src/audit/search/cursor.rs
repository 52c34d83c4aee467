//! One journal that is being searched: its files in order, the file that is open, and the records of the
//! present block that pass.

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use std::{io, vec};

use super::packed::{LastRecords, Match, check_end, last_number};
use super::{Filter, Found, Incomplete, LineFilter, Order, TIME};
use crate::atlas::Timestamp;
use crate::audit::listing::{Segment, SegmentFile};
use crate::audit::reading::{Backwards, Forwards};
use crate::audit::{chain, listing, reading};

/// What a search may take.
#[derive(Clone, Copy)]
pub(super) struct SearchBounds<'b> {
    /// Asked before each block: whether to end.
    pub(super) is_over: &'b dyn Fn() -> bool,
    /// What unpacking may hold, as a power of two.
    pub(super) window: u32,
    /// Bytes of lines that may be held of a packed file that is read newest first.
    pub(super) kept: usize,
}

pub(super) struct Cursor<'a> {
    directory: &'a Path,
    filter: &'a LineFilter<'a>,
    order: Order,
    bounds: SearchBounds<'a>,
    segments: vec::IntoIter<Wanted>,
    open: Option<OpenSegment>,
    block: Vec<u8>,
    /// Where the records in the block stand that pass, and their numbers; the next one last.
    passed: Vec<Match>,
    incomplete: Vec<Incomplete>,
    /// Bytes of the files that are behind.
    behind: u64,
    total: u64,
}

/// A segment that may hold records that pass.
struct Wanted {
    segment: Segment,
    /// The number with which the segment behind it begins.
    next: Option<u64>,
}

struct OpenSegment {
    copy: SegmentFile,
    /// The number with which it begins.
    first: u64,
    next: Option<u64>,
    /// The last record that was read.
    last: Option<u64>,
    lines: Lines,
}

enum Lines {
    Backwards(Backwards),
    Forwards(Forwards),
    /// A packed file, newest first, which is held open: it may be renamed before it is unpacked.
    Packed {
        file: File,
        /// How many of the records that pass are still to be shown.
        left: usize,
    },
}

impl<'a> Cursor<'a> {
    pub(super) fn open(
        directory: &'a Path,
        filter: &'a LineFilter<'a>,
        order: Order,
        bounds: SearchBounds<'a>,
    ) -> io::Result<Self> {
        let listing = listing::list(directory)?;
        let foreign = listing.foreign.into_iter().map(|path| Incomplete {
            path,
            problem: "is not one of the journal's files and was not searched".to_owned(),
        });
        let incomplete = foreign.collect();
        let mut segments = wanted(listing.segments, filter.filter);
        if order == Order::NewestFirst {
            segments.reverse();
        }
        Ok(Self {
            directory,
            filter,
            order,
            bounds,
            total: segments.iter().map(|it| it.segment.best.size).sum(),
            segments: segments.into_iter(),
            open: None,
            block: Vec::new(),
            passed: Vec::new(),
            incomplete,
            behind: 0,
        })
    }

    /// Reads on until there is a record that passes, or no more; says whether it has read.
    pub(super) fn fill(&mut self) -> bool {
        let mut has_read = false;
        while self.passed.is_empty() {
            if (self.bounds.is_over)() {
                self.segments = Vec::new().into_iter();
                self.open = None;
            }
            let Some(mut open) = self.open.take().or_else(|| self.next_file()) else {
                break;
            };
            has_read = true;
            match self.read_block(&mut open) {
                Ok(ControlFlow::Continue(())) => self.open = Some(open),
                Ok(ControlFlow::Break(())) => self.behind += open.copy.size,
                Err(error) => {
                    self.behind += open.copy.size;
                    self.note(&open.copy, error.to_string());
                }
            }
        }
        has_read
    }

    /// Whether there is no record left.
    pub(super) fn is_at_end(&self) -> bool {
        self.passed.is_empty()
    }

    /// The time of the next record, as it stands there.
    pub(super) fn time(&self) -> &[u8] {
        let line = self
            .passed
            .last()
            .and_then(|it| self.block.get(it.line.clone()));
        line.and_then(|line| line.get(TIME)).unwrap_or_default()
    }

    /// Shows the next record and goes on to the one after it.
    pub(super) fn show(
        &mut self,
        see: &mut impl FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let found = self.passed.pop().and_then(|Match { line, seq }| {
            let line = str::from_utf8(self.block.get(line)?).ok()?;
            Some(Found { line, seq })
        });
        found.map_or(ControlFlow::Continue(()), |found| see(&found))
    }

    /// How many bytes of files are behind.
    pub(super) fn done(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| match &open.lines {
            Lines::Backwards(lines) => lines.position(),
            Lines::Forwards(lines) => lines.position(),
            Lines::Packed { .. } => 0,
        });
        self.behind + open
    }

    /// How many bytes of files there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn into_incomplete(self) -> Vec<Incomplete> {
        self.incomplete
    }

    /// Opens the next file that can be opened.
    fn next_file(&mut self) -> Option<OpenSegment> {
        loop {
            let wanted = self.segments.next()?;
            match self.open_segment(&wanted) {
                Ok(open) => return Some(open),
                Err(error) => {
                    self.behind += wanted.segment.best.size;
                    if !reading::held_nothing(self.directory, &wanted.segment) {
                        self.note(&wanted.segment.best, error.to_string());
                    }
                }
            }
        }
    }

    fn open_segment(&self, wanted: &Wanted) -> io::Result<OpenSegment> {
        let (copy, lines) =
            reading::open_best(self.directory, &wanted.segment, wanted.next, |copy| {
                if self.order == Order::OldestFirst {
                    return Forwards::open(copy, self.bounds.window).map(Lines::Forwards);
                }
                Ok(match Backwards::open(copy)? {
                    Some(lines) => Lines::Backwards(lines),
                    None => Lines::Packed {
                        file: copy.open()?,
                        left: usize::MAX,
                    },
                })
            })?;
        Ok(OpenSegment {
            copy,
            first: wanted.segment.first,
            next: wanted.next,
            last: None,
            lines,
        })
    }

    /// Reads a block of an open file and what passes in it; breaks if it was the last that matters.
    fn read_block(&mut self, open: &mut OpenSegment) -> io::Result<ControlFlow<()>> {
        let (block, passed) = (&mut self.block, &mut self.passed);
        let has_read = match &mut open.lines {
            Lines::Backwards(lines) => lines.next(block)?,
            Lines::Forwards(lines) => lines.next(block)?,
            Lines::Packed { file, left } => {
                let mut last = LastRecords::of(&open.copy, open.first, open.next, *left);
                let read = last.read(file, self.filter, self.bounds, block);
                let goes_on = last.give(block, passed, left);
                if let Err(error) = read {
                    self.note(&open.copy, error.to_string());
                }
                return Ok(goes_on);
            }
        };
        if !has_read {
            check_end(&open.copy, open.first, open.last, open.next)?;
            return Ok(ControlFlow::Break(()));
        }
        open.last = last_number(block).or(open.last);
        self.filter.matches(block, |line, seq| {
            passed.push(Match { line, seq });
            ControlFlow::Continue(())
        });
        if self.order == Order::OldestFirst {
            passed.reverse();
        }
        Ok(if is_beyond(self.filter.filter, self.order, &self.block) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    fn note(&mut self, copy: &SegmentFile, problem: String) {
        if self.incomplete.iter().all(|it| it.path != copy.path) {
            let path = copy.path.clone();
            self.incomplete.push(Incomplete { path, problem });
        }
    }
}

/// Whether what follows `block` in the order of reading is too old, or too new, to pass.
pub(super) fn is_beyond(filter: &Filter, order: Order, block: &[u8]) -> bool {
    let mut lines = block
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let text = |instant: Option<Timestamp>| instant.map(|it| it.to_string());
    match order {
        Order::NewestFirst => {
            let Some(first) = lines.next() else {
                return false;
            };
            let since = text(filter.since.map(|since| since.minus(SLACK)));
            let is_old = |since: String| first.get(TIME).is_some_and(|it| it < since.as_bytes());
            since.is_some_and(is_old)
                || filter
                    .after
                    .is_some_and(|after| chain::seq(first).is_some_and(|it| it <= after))
        }
        Order::OldestFirst => {
            let Some(last) = lines.next_back() else {
                return false;
            };
            let until = text(filter.until.map(|until| until.plus(SLACK)));
            let is_new = |until: String| last.get(TIME).is_some_and(|it| it > until.as_bytes());
            until.is_some_and(is_new)
                || filter
                    .before
                    .is_some_and(|before| chain::seq(last).is_some_and(|it| it >= before))
        }
    }
}

/// The segments that may hold records that are wanted: their names say with which number and when they
/// begin.
fn wanted(segments: Vec<Segment>, filter: &Filter) -> Vec<Wanted> {
    let follows: Vec<_> = segments
        .iter()
        .skip(1)
        .map(|it| (it.first, it.start))
        .collect();
    let mut follows = follows.into_iter().map(Some);
    let mut wanted = Vec::new();
    for segment in segments {
        let next = follows.next().flatten();
        let (first, start) = (segment.first, segment.start);
        let is_too_old = next.is_some_and(|(next, end)| {
            filter
                .after
                .is_some_and(|after| next <= after.saturating_add(1))
                || filter.since.is_some_and(|since| end.plus(SLACK) < since)
        });
        let is_too_new = filter.before.is_some_and(|before| first >= before)
            || filter.until.is_some_and(|until| start >= until.plus(SLACK));
        if !is_too_old && !is_too_new {
            wanted.push(Wanted {
                segment,
                next: next.map(|(next, _)| next),
            });
        }
    }
    wanted
}

/// How far the times of records may be from those in the names of files: a record waits for a second at
/// most, and clocks are set.
const SLACK: Duration = Duration::from_mins(1);
