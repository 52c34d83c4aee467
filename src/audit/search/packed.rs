//! The newest matches of a packed file, which can only be unpacked from its beginning.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::ops::ControlFlow;

use super::line_filter::LineFilter;
use super::{Match, Order, SearchBounds};
use crate::audit::chain;
use crate::audit::listing::SegmentFile;
use crate::audit::reading::{Forwards, check_end};

/// A packed file that is read newest first.
///
/// Only the last of what passes is kept. Where more is wanted than that, the file is unpacked once more, as far
/// as the oldest match that was shown; most callers have seen enough by then.
pub(super) struct PackedLines {
    copy: SegmentFile,
    first: u64,
    next: Option<u64>,
    /// Held open: it may be renamed before it is unpacked.
    file: File,
    /// The last match that was given; those before it are still to come.
    before: u64,
}

impl PackedLines {
    pub(super) fn open(copy: &SegmentFile, first: u64, next: Option<u64>) -> io::Result<Self> {
        Ok(Self {
            copy: copy.clone(),
            first,
            next,
            file: copy.open()?,
            before: u64::MAX,
        })
    }

    /// Gives the newest matches that were not given yet, oldest first, with their lines in `block`; breaks if
    /// none are left after them. After an error there may be others.
    pub(super) fn next(
        &mut self,
        filter: &LineFilter<'_>,
        bounds: SearchBounds<'_>,
        block: &mut Vec<u8>,
        matches: &mut Vec<Match>,
    ) -> (ControlFlow<()>, io::Result<()>) {
        let mut kept = VecDeque::<(Box<[u8]>, u64)>::new();
        let (mut held, mut end) = (0, ControlFlow::Break(()));
        let read = self.read(filter, bounds, block, |line, seq| {
            held += line.len();
            kept.push_back((Box::from(line), seq));
            while held > bounds.kept && kept.len() > 1 {
                held -= kept.pop_front().map_or(0, |(line, _)| line.len());
                end = ControlFlow::Continue(());
            }
        });
        block.clear();
        for (line, seq) in kept {
            let start = block.len();
            block.extend_from_slice(&line);
            let line = start..block.len();
            matches.push(Match { line, seq });
        }
        self.before = matches.first().map_or(0, |oldest| oldest.seq);
        (end, read)
    }

    fn read(
        &self,
        filter: &LineFilter<'_>,
        bounds: SearchBounds<'_>,
        block: &mut Vec<u8>,
        mut see: impl FnMut(&[u8], u64),
    ) -> io::Result<()> {
        (&self.file).rewind()?;
        let mut lines = Forwards::of(&self.copy, self.file.try_clone()?, bounds.window)?;
        let mut last = None;
        while !(bounds.is_over)() {
            if !lines.next(block)? {
                return check_end(&self.copy, self.first, last, self.next);
            }
            last = chain::last_seq(block).or(last);
            filter.matches(block, |line, seq| {
                if seq >= self.before {
                    return ControlFlow::Break(());
                }
                see(block.get(line).expect("a match is in its block"), seq);
                ControlFlow::Continue(())
            });
            if last.is_some_and(|last| last >= self.before)
                || filter.is_beyond(Order::OldestFirst, block)
            {
                break;
            }
        }
        Ok(())
    }
}
