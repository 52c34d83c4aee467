//! Packed files newest first: they can only be unpacked from their beginning.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::io::Seek;
use std::ops::{ControlFlow, Range};

use super::cursor::{SearchBounds, is_beyond};
use super::{LineFilter, Order};
use crate::audit::chain;
use crate::audit::listing::{Packing, SegmentFile};
use crate::audit::reading::Forwards;

/// A record that passes.
pub(super) struct Match {
    /// Where it stands in the block.
    pub(super) line: Range<usize>,
    pub(super) seq: u64,
}

/// The last records of a packed file that pass.
///
/// It is unpacked from its beginning, and only the last of what passes is kept. A caller who wants more
/// than fits has it unpacked once more, as far as the oldest that was shown; most have seen enough by then.
pub(super) struct LastRecords<'c> {
    copy: &'c SegmentFile,
    first: u64,
    /// The number with which the file behind it begins.
    next: Option<u64>,
    /// How many are still to be shown.
    left: usize,
    count: usize,
    held: usize,
    lines: VecDeque<KeptLine>,
}

struct KeptLine {
    line: Box<[u8]>,
    seq: u64,
}

impl<'c> LastRecords<'c> {
    pub(super) fn of(copy: &'c SegmentFile, first: u64, next: Option<u64>, left: usize) -> Self {
        Self {
            copy,
            first,
            next,
            left,
            count: 0,
            held: 0,
            lines: VecDeque::new(),
        }
    }

    pub(super) fn read(
        &mut self,
        mut file: &File,
        filter: &LineFilter<'_>,
        bounds: SearchBounds<'_>,
        block: &mut Vec<u8>,
    ) -> io::Result<()> {
        file.rewind()?;
        let mut file = Forwards::of(self.copy, file.try_clone()?, bounds.window)?;
        let mut last = None;
        while self.count < self.left && !(bounds.is_over)() {
            if !file.next(block)? {
                return check_end(self.copy, self.first, last, self.next);
            }
            last = last_number(block).or(last);
            filter.matches(block, |line, seq| {
                self.keep(block.get(line).unwrap_or_default(), seq, bounds.kept)
            });
            if is_beyond(filter.filter, Order::OldestFirst, block) {
                break;
            }
        }
        Ok(())
    }

    fn keep(&mut self, line: &[u8], seq: u64, most: usize) -> ControlFlow<()> {
        if self.count == self.left {
            return ControlFlow::Break(());
        }
        self.count += 1;
        self.held += line.len();
        self.lines.push_back(KeptLine {
            line: Box::from(line),
            seq,
        });
        while self.held > most && self.lines.len() > 1 {
            self.held -= self.lines.pop_front().map_or(0, |it| it.line.len());
        }
        ControlFlow::Continue(())
    }

    /// Gives what was kept; breaks if nothing is left after it.
    pub(super) fn give(
        self,
        block: &mut Vec<u8>,
        passed: &mut Vec<Match>,
        left: &mut usize,
    ) -> ControlFlow<()> {
        *left = self.count - self.lines.len();
        block.clear();
        for KeptLine { line, seq } in self.lines {
            let start = block.len();
            block.extend_from_slice(&line);
            let line = start..block.len();
            passed.push(Match { line, seq });
        }
        if *left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// A packed file that was cut off between two of its frames ends without an error, and one of an unknown
/// name may hold anything.
pub(super) fn check_end(
    copy: &SegmentFile,
    first: u64,
    last: Option<u64>,
    next: Option<u64>,
) -> io::Result<()> {
    let is_packed = !matches!(copy.packing, Packing::Plain | Packing::Renamed);
    let missing = match (last, next) {
        // One that was packed empty is followed by another that begins as it does.
        (None, next) => is_packed && next != Some(first),
        (Some(last), Some(next)) => is_packed && last.saturating_add(1) < next,
        (Some(_), None) => false,
    };
    if missing {
        return Err(io::Error::other("it ends before the last of its records"));
    }
    Ok(())
}

/// The number of the last record in a block of whole lines.
pub(super) fn last_number(block: &[u8]) -> Option<u64> {
    let block = block.strip_suffix(b"\n").unwrap_or(block);
    let start = memchr::memrchr(b'\n', block).map_or(0, |end| end + 1);
    chain::seq(block.get(start..)?)
}
