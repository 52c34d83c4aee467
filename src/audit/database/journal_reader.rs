//! Reads the journal's files from a record on, in blocks of whole lines, while they are written, packed, renamed
//! and removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::atlas::Timestamp;
use crate::audit::listing::{Packing, Segment, SegmentFile};
use crate::audit::reading::Forwards;
use crate::audit::{chain, listing, reading};

/// Waits for the disk: to be used on a thread that may.
pub(super) struct JournalReader {
    directory: PathBuf,
    /// The record with which the caller goes on.
    from: u64,
    open: Option<OpenFile>,
}

struct OpenFile {
    first: u64,
    start: Timestamp,
    lines: Lines,
    /// There is one behind it, so that nothing is written to it any more.
    is_final: bool,
}

enum Lines {
    Packed(Forwards),
    /// Up to `offset` it has been read.
    Plain {
        file: File,
        offset: u64,
    },
}

/// A segment, and the number with which the one behind it begins.
type FollowedSegment = (Segment, Option<u64>);

/// What came of reading on in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing is left.
    End,
    /// What is left is later than what is wanted.
    Later,
    Lines,
}

impl JournalReader {
    /// From the file on that holds the record `from`, or would.
    pub(super) fn new(directory: &Path, from: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            from,
            open: None,
        }
    }

    /// Reads the next lines up to the record `last` into `block`; whether there are any. They may begin before
    /// those that are wanted.
    pub(super) fn next(&mut self, block: &mut Vec<u8>, last: u64) -> io::Result<bool> {
        block.clear();
        loop {
            let Some(mut open) = self
                .open
                .take()
                .map_or_else(|| self.open_first(), |it| Ok(Some(it)))?
            else {
                return Ok(false);
            };
            match open.lines.next(block, last)? {
                Step::End => {}
                step @ (Step::Later | Step::Lines) => {
                    self.open = Some(open);
                    return Ok(step == Step::Lines);
                }
            }
            let Some((behind, next)) = self.behind(&open)? else {
                self.open = Some(open);
                return Ok(false);
            };
            if open.is_final {
                self.open = Some(self.open_file(&behind, next)?);
            } else {
                // What was written before the one behind it was begun.
                open.is_final = true;
                self.open = Some(open);
            }
        }
    }

    fn open_first(&self) -> io::Result<Option<OpenFile>> {
        let segments = listing::list(&self.directory)?.segments;
        let place = segments.iter().rposition(|it| it.first <= self.from);
        let place = place.unwrap_or(0);
        let Some(segment) = segments.get(place) else {
            return Ok(None);
        };
        let next = segments.get(place + 1).map(|next| next.first);
        self.open_file(segment, next).map(Some)
    }

    /// The segment behind the open one, and the number with which the one behind that begins.
    fn behind(&self, open: &OpenFile) -> io::Result<Option<FollowedSegment>> {
        let segments = listing::list(&self.directory)?.segments;
        let mut behind = segments
            .into_iter()
            .skip_while(|it| (it.first, it.start) <= (open.first, open.start));
        let next = behind.next();
        Ok(next.map(|next| (next, behind.next().map(|it| it.first))))
    }

    fn open_file(&self, segment: &Segment, next: Option<u64>) -> io::Result<OpenFile> {
        let (_, lines) = reading::open_best(&self.directory, segment, next, Lines::open)?;
        Ok(OpenFile {
            first: segment.first,
            start: segment.start,
            lines,
            is_final: false,
        })
    }
}

impl Lines {
    fn open(copy: &SegmentFile) -> io::Result<Self> {
        match copy.packing {
            Packing::Plain | Packing::Renamed | Packing::Unknown => Ok(Self::Plain {
                file: copy.open()?,
                offset: 0,
            }),
            Packing::Gzip | Packing::Zstd => {
                Forwards::open(copy, reading::SMALL_WINDOW).map(Self::Packed)
            }
        }
    }

    fn next(&mut self, block: &mut Vec<u8>, last: u64) -> io::Result<Step> {
        match self {
            Self::Packed(lines) => {
                let has_read = lines.next(block)?;
                Ok(if has_read { Step::Lines } else { Step::End })
            }
            Self::Plain { file, offset } => {
                block.resize(BLOCK, 0);
                let read = file.read_at(block, *offset)?;
                block.truncate(read);
                // The rest of the last line is being written; one that is far too long is no line.
                let end = memchr::memrchr(b'\n', block).map_or(0, |end| end + 1);
                if end > 0 || read < BLOCK {
                    block.truncate(end);
                }
                let was_empty = block.is_empty();
                leave_out_later(block, last);
                *offset += u64::try_from(block.len()).expect("a block is small");
                Ok(match (was_empty, block.is_empty()) {
                    (true, _) => Step::End,
                    (false, true) => Step::Later,
                    (false, false) => Step::Lines,
                })
            }
        }
    }
}

/// Cuts the lines off that are later than the record `last`.
fn leave_out_later(block: &mut Vec<u8>, last: u64) {
    while chain::last_seq(block).is_some_and(|seq| seq > last) {
        let without_end = block.len() - 1;
        let lines = block.get(..without_end).unwrap_or_default();
        let start = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
        block.truncate(start);
    }
}

/// What becomes one packed batch: some two hundred records.
const BLOCK: usize = 128 << 10;
