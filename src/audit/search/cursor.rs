//! A cursor on one journal: its files in order, the file that is open, and the matches of the present block.

use std::ops::ControlFlow;
use std::path::Path;
use std::{io, vec};

use super::filter::Filter;
use super::line_filter::{LineFilter, SLACK};
use super::packed::PackedLines;
use super::{Found, Incomplete, Match, Order, SearchBounds, TIME};
use crate::audit::listing::{Segment, SegmentFile};
use crate::audit::reading::{Backwards, Forwards};
use crate::audit::{chain, listing, reading};

pub(super) struct Cursor<'a> {
    directory: &'a Path,
    filter: &'a LineFilter<'a>,
    order: Order,
    bounds: SearchBounds<'a>,
    segments: vec::IntoIter<WantedSegment>,
    open: Option<OpenSegment>,
    block: Vec<u8>,
    /// Where the records in the block stand that pass, and their numbers; the next one last.
    matches: Vec<Match>,
    incomplete: Vec<Incomplete>,
    behind: u64,
    total: u64,
}

struct WantedSegment {
    segment: Segment,
    /// The number with which the segment behind it begins.
    next: Option<u64>,
}

struct OpenSegment {
    copy: SegmentFile,
    first: u64,
    next: Option<u64>,
    last: Option<u64>,
    lines: SegmentLines,
}

enum SegmentLines {
    Backwards(Backwards),
    Forwards(Forwards),
    Packed(PackedLines),
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
            matches: Vec::new(),
            incomplete,
            behind: 0,
        })
    }

    /// Reads on until there is a record that passes, or no more; says whether it has read.
    pub(super) fn fill(&mut self) -> bool {
        let mut has_read = false;
        while self.matches.is_empty() {
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

    pub(super) fn is_at_end(&self) -> bool {
        self.matches.is_empty()
    }

    /// The time of the next record, as it stands there.
    pub(super) fn time(&self) -> &[u8] {
        let line = self
            .matches
            .last()
            .and_then(|it| self.block.get(it.line.clone()));
        line.and_then(|line| line.get(TIME)).unwrap_or_default()
    }

    pub(super) fn show(
        &mut self,
        see: &mut impl FnMut(&Found<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let found = self.matches.pop().and_then(|Match { line, seq }| {
            let line = str::from_utf8(self.block.get(line)?).ok()?;
            Some(Found { line, seq })
        });
        found.map_or(ControlFlow::Continue(()), |found| see(&found))
    }

    pub(super) fn done(&self) -> u64 {
        let open = self.open.as_ref().map_or(0, |open| match &open.lines {
            SegmentLines::Backwards(lines) => lines.position(),
            SegmentLines::Forwards(lines) => lines.position(),
            SegmentLines::Packed(_) => 0,
        });
        self.behind + open
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn into_incomplete(self) -> Vec<Incomplete> {
        self.incomplete
    }

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

    fn open_segment(&self, wanted: &WantedSegment) -> io::Result<OpenSegment> {
        let (copy, lines) =
            reading::open_best(self.directory, &wanted.segment, wanted.next, |copy| {
                if self.order == Order::OldestFirst {
                    return Forwards::open(copy, self.bounds.window).map(SegmentLines::Forwards);
                }
                if let Some(lines) = Backwards::open(copy)? {
                    return Ok(SegmentLines::Backwards(lines));
                }
                PackedLines::open(copy, wanted.segment.first, wanted.next).map(SegmentLines::Packed)
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
        let (block, matches) = (&mut self.block, &mut self.matches);
        let has_read = match &mut open.lines {
            SegmentLines::Backwards(lines) => lines.next(block)?,
            SegmentLines::Forwards(lines) => lines.next(block)?,
            SegmentLines::Packed(lines) => {
                let (goes_on, read) = lines.next(self.filter, self.bounds, block, matches);
                if let Err(error) = read {
                    self.note(&open.copy, error.to_string());
                }
                return Ok(goes_on);
            }
        };
        if !has_read {
            reading::check_end(&open.copy, open.first, open.last, open.next)?;
            return Ok(ControlFlow::Break(()));
        }
        open.last = chain::last_seq(block).or(open.last);
        self.filter.matches(block, |line, seq| {
            matches.push(Match { line, seq });
            ControlFlow::Continue(())
        });
        if self.order == Order::OldestFirst {
            matches.reverse();
        }
        Ok(if self.filter.is_beyond(self.order, &self.block) {
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

/// The segments that may hold records that are wanted: their names say with which number and when they
/// begin.
fn wanted(segments: Vec<Segment>, filter: &Filter) -> Vec<WantedSegment> {
    let behind = segments.iter().skip(1).map(|it| Some((it.first, it.start)));
    let behind: Vec<_> = behind.chain([None]).collect();
    let Filter {
        since,
        until,
        after,
        before,
        ..
    } = filter;
    let wanted = segments.into_iter().zip(behind).filter(|(segment, next)| {
        let is_too_old = next.is_some_and(|(next, end)| {
            after.is_some_and(|after| next <= after.saturating_add(1))
                || since.is_some_and(|since| end.plus(SLACK) < since)
        });
        let is_too_new = before.is_some_and(|before| segment.first >= before)
            || until.is_some_and(|until| segment.start >= until.plus(SLACK));
        !is_too_old && !is_too_new
    });
    let wanted = wanted.map(|(segment, next)| WantedSegment {
        segment,
        next: next.map(|(next, _)| next),
    });
    wanted.collect()
}
