//! Reads a copy of a segment in blocks of whole lines, packed or not, from either end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{io, mem};

use super::directory::at;
use super::listing::{Packing, Segment, SegmentFile};
use super::{chain, listing};

/// Opens with `open` the copy of `segment` that holds all of it, or most. `next` is the number with which
/// the segment behind it begins.
///
/// Packers and rotations rename and remove files meanwhile: one that is gone is looked for again.
pub(super) fn open_best<T>(
    directory: &Path,
    segment: &Segment,
    next: Option<u64>,
    open: impl Fn(&SegmentFile) -> io::Result<T>,
) -> io::Result<(SegmentFile, T)> {
    let mut listed = segment.clone();
    for _ in 0..MOST_ATTEMPTS {
        let best = choose(&listed, next);
        match open(best) {
            Ok(opened) => return Ok((best.clone(), opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(error),
        }
        match listing::list_again(directory, segment)? {
            Some(again) => listed = again,
            None => break,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!(
            "{}: was removed before it was read",
            segment.best.path.display()
        ),
    ))
}

/// Whether a segment that is gone was empty, and the gateway began with the same record once more.
pub(super) fn held_nothing(directory: &Path, segment: &Segment) -> bool {
    let listing = listing::list(directory).unwrap_or_default();
    let same = listing
        .segments
        .iter()
        .filter(|it| it.first == segment.first);
    let starts: Vec<_> = same.map(|it| it.start).collect();
    !starts.is_empty() && !starts.contains(&segment.start)
}

pub(super) fn open(copy: &SegmentFile) -> io::Result<Box<dyn BufRead + Send>> {
    let lines = unpack(copy, copy.open()?, USUAL_WINDOW)?;
    Ok(Box::new(BufReader::with_capacity(BLOCK, lines)))
}

/// The copy that holds all of a segment. There is more than one while it is packed, or unpacked by hand, and
/// one of them may be half of the other.
fn choose(segment: &Segment, next: Option<u64>) -> &SegmentFile {
    if segment.others.is_empty() {
        return &segment.best;
    }
    let is_whole = |copy: &&SegmentFile| match (copy.packing, next) {
        // The gateway is writing it, or nothing tells.
        (Packing::Plain | Packing::Renamed, None) => true,
        (Packing::Unknown, None) => false,
        (Packing::Plain | Packing::Renamed | Packing::Unknown, Some(next)) => {
            last_number(copy).is_ok_and(|last| last.is_some_and(|last| last + 1 == next))
        }
        (Packing::Gzip | Packing::Zstd, _) => unpacked_size(copy).is_ok_and(|size| size > 0),
    };
    segment.copies().find(is_whole).unwrap_or(&segment.best)
}

/// What a second file of a segment is to the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Copy,
    /// It holds something else, after so many equal lines.
    Differs {
        lines: u64,
    },
    Gone,
    /// It holds the beginning of it, or cannot be unpacked to its end.
    Part,
}

pub(super) fn compare(copy: &SegmentFile, other: &SegmentFile) -> io::Result<Comparison> {
    let mut theirs = match open(other) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Comparison::Gone),
        opened => opened?,
    };
    let mut ours = match open(copy) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Comparison::Gone),
        opened => opened?,
    };
    let mut lines = 0;
    loop {
        let (a, b) = match (ours.fill_buf(), theirs.fill_buf()) {
            (Ok(a), Ok(b)) => (a, b),
            // One that is being packed, or was left half packed.
            (Ok(_), Err(error)) if error.raw_os_error().is_none() => return Ok(Comparison::Part),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let length = a.len().min(b.len());
        let (a, b) = (a.split_at(length).0, b.split_at(length).0);
        if a.is_empty() && b.is_empty() {
            let ends = (ours.fill_buf()?.is_empty(), theirs.fill_buf()?.is_empty());
            return Ok(match ends {
                (true, true) => Comparison::Copy,
                (_, true) => Comparison::Part,
                // It goes on where the file that was read ends.
                (_, false) => Comparison::Differs { lines },
            });
        }
        let equal = if a == b {
            length
        } else {
            a.iter().zip(b).take_while(|(a, b)| a == b).count()
        };
        let is_text = |byte: &u8| *byte != 0;
        let ends = memchr::memchr_iter(b'\n', a.split_at(equal).0).count();
        lines += u64::try_from(ends).expect("a block has few lines");
        if equal < length {
            // Zeros that were reserved for a copy and never written.
            let is_room = !b.iter().skip(equal).any(is_text);
            return Ok(if is_room {
                Comparison::Part
            } else {
                Comparison::Differs { lines }
            });
        }
        ours.consume(length);
        theirs.consume(length);
    }
}

pub(super) struct Forwards {
    file: Box<dyn Read + Send>,
    /// The beginning of a line whose rest comes with the next block.
    rest: Vec<u8>,
    /// The same file as it lies on the disk, with the position up to which it was read.
    packed: File,
}

impl Forwards {
    /// `window` is what unpacking may hold, as a power of two.
    pub(super) fn open(copy: &SegmentFile, window: u32) -> io::Result<Self> {
        Self::of(copy, copy.open()?, window)
    }

    /// Of the copy's file, which may have another name by now.
    pub(super) fn of(copy: &SegmentFile, file: File, window: u32) -> io::Result<Self> {
        Ok(Self {
            packed: file.try_clone()?,
            file: unpack(copy, file, window)?,
            rest: Vec::new(),
        })
    }

    /// Reads the next lines into `block`, which may be none where one is far too long; says whether the end
    /// is not reached. What the end of a file lacks is given as it is.
    pub(super) fn next(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        block.clear();
        block.append(&mut self.rest);
        loop {
            let held = block.len();
            block.resize(held + BLOCK, 0);
            let read = self.file.read(block.split_at_mut(held).1);
            block.truncate(held + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                return Ok(!block.is_empty());
            }
            if let Some(end) = memchr::memrchr(b'\n', block) {
                self.rest = block.split_off(end + 1);
                return Ok(true);
            }
            if block.len() > LONGEST_KEPT {
                // Far longer than any line of ours; it is not one.
                block.clear();
                return Ok(true);
            }
        }
    }

    pub(super) fn position(&self) -> u64 {
        (&self.packed).stream_position().unwrap_or(0)
    }
}

/// The lines of a copy that is not packed from its end.
pub(super) struct Backwards {
    file: File,
    length: u64,
    position: u64,
    /// The end of a line whose beginning comes with the next block.
    rest: Vec<u8>,
}

impl Backwards {
    /// `None` for a packed one, which has to be unpacked from its beginning.
    pub(super) fn open(copy: &SegmentFile) -> io::Result<Option<Self>> {
        match copy.packing {
            Packing::Plain | Packing::Renamed | Packing::Unknown => {
                let file = copy.open()?;
                let length = file.metadata()?.len();
                Ok(Some(Self {
                    file,
                    length,
                    position: length,
                    rest: Vec::new(),
                }))
            }
            Packing::Gzip | Packing::Zstd => Ok(None),
        }
    }

    /// Reads the lines before those that were read into `block`, which may be none where one is far too
    /// long; says whether the beginning was not reached before.
    pub(super) fn next(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        block.clear();
        if self.position == 0 {
            return Ok(false);
        }
        let size = self.position.min(BLOCK_LENGTH);
        self.position -= size;
        block.resize(usize::try_from(size).expect("a block is small"), 0);
        self.file.read_exact_at(block, self.position)?;
        block.append(&mut self.rest);
        if self.position > 0 {
            let start = memchr::memchr(b'\n', block).map_or(block.len(), |end| end + 1);
            let lines = block.split_off(start);
            self.rest = mem::replace(block, lines);
            if self.rest.len() > LONGEST_KEPT {
                self.rest.clear();
            }
        }
        Ok(true)
    }

    pub(super) fn position(&self) -> u64 {
        self.length.saturating_sub(self.position)
    }
}

/// The number of the last whole line of a copy that is not packed.
pub(super) fn last_number(copy: &SegmentFile) -> io::Result<Option<u64>> {
    let mut block = Vec::new();
    let Some(mut lines) = Backwards::open(copy)? else {
        return Ok(None);
    };
    lines.next(&mut block)?;
    let whole = block.ends_with(b"\n");
    Ok(whole.then(|| chain::last_seq(&block)).flatten())
}

/// Finds what a packed file lacks that was cut off between two of its frames, which unpacks without an error,
/// and one of an unknown name, which may hold anything. `first` is its first number, `last` the last that was
/// read, `next` the first of the file behind it.
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

/// How many bytes a packed copy has; an error where it is half of one.
fn unpacked_size(copy: &SegmentFile) -> io::Result<u64> {
    io::copy(
        &mut unpack(copy, copy.open()?, USUAL_WINDOW)?,
        &mut io::sink(),
    )
}

fn unpack(
    copy: &SegmentFile,
    file: impl Read + Send + 'static,
    window: u32,
) -> io::Result<Box<dyn Read + Send>> {
    Ok(match copy.packing {
        Packing::Plain | Packing::Renamed | Packing::Unknown => Box::new(file),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(file);
            let mut decoder = decoder.map_err(|error| at(&copy.path, &error))?;
            decoder.window_log_max(window)?;
            Box::new(decoder)
        }
    })
}

/// How often a file that has another name by now is looked for.
const MOST_ATTEMPTS: usize = 5;
const BLOCK: usize = 256 << 10;
const BLOCK_LENGTH: u64 = 256 << 10;
/// What is kept of a line that does not end.
const LONGEST_KEPT: usize = 256 << 10;
/// 128 MiB, as `zstd` itself has it: what `--long` wants, and `-22`.
pub(super) const USUAL_WINDOW: u32 = 27;
/// 8 MiB, which is enough for every level up to `-19`.
pub(super) const SMALL_WINDOW: u32 = 23;
