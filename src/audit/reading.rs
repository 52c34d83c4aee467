//! A file of a journal goes in, its lines as they were written come out, packed or not, a block at a
//! time.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use super::directory::Packing;
use super::directory::Segment;
use super::directory::at;
use super::directory::private;

/// What reading may take.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'b> {
    /// Asked before each block: whether to end.
    pub(super) is_over: &'b dyn Fn() -> bool,
    /// What unpacking may hold, as a power of two.
    pub(super) window: u32,
}

/// Opens a file for reading from its beginning.
pub(super) fn open(segment: &Segment) -> io::Result<Box<dyn BufRead>> {
    Ok(Box::new(BufReader::with_capacity(
        BLOCK,
        unpack(segment, USUAL_WINDOW)?,
    )))
}

/// Shows the file's lines in blocks of whole ones, first to last. What the end of a file
/// lacks is shown as it is.
pub(super) fn forwards(
    segment: &Segment,
    bounds: Bounds<'_>,
    mut see: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut file = unpack(segment, bounds.window)?;
    let mut block = vec![0; BLOCK];
    let mut held = 0;
    loop {
        if (bounds.is_over)() {
            return Ok(ControlFlow::Break(()));
        }
        let room = block.get_mut(held..).unwrap_or_default();
        let read = file.read(room).map_err(|error| at(&segment.path, &error))?;
        let filled = block.get(..held + read).unwrap_or_default();
        if read == 0 {
            return Ok(see(filled));
        }
        let whole = memchr::memrchr(b'\n', filled).map_or(0, |end| end + 1);
        if whole > 0 && see(filled.get(..whole).unwrap_or_default()).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        held = filled.len() - whole;
        block.copy_within(whole..whole + held, 0);
        if held == block.len() {
            // Far longer than any line of ours; it is not one, and not kept.
            held = 0;
        }
    }
}

/// Whether the file can be read from its end. A packed one has to be unpacked from its beginning.
pub(super) fn has_an_end(segment: &Segment) -> bool {
    match segment.packing {
        Packing::Plain | Packing::Renamed => true,
        Packing::Gzip | Packing::Zstd => false,
    }
}

/// Shows the lines of a file that [has an end](has_an_end) in blocks of whole ones, last block first.
pub(super) fn backwards(
    segment: &Segment,
    bounds: Bounds<'_>,
    mut see: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let path = &segment.path;
    let file = private()
        .read(true)
        .open(path)
        .map_err(|error| at(path, &error))?;
    let mut position = file.metadata()?.len();
    let mut block = Vec::new();
    // The beginning of a line whose rest was in the block before.
    let mut rest = Vec::new();
    loop {
        if (bounds.is_over)() {
            return Ok(ControlFlow::Break(()));
        }
        let size = position.min(u64::try_from(BLOCK).unwrap_or(u64::MAX));
        position -= size;
        block.clear();
        block.resize(usize::try_from(size).unwrap_or(BLOCK), 0);
        file.read_exact_at(&mut block, position)
            .map_err(|error| at(path, &error))?;
        block.extend_from_slice(&rest);
        let start = if position == 0 {
            0
        } else {
            memchr::memchr(b'\n', &block).map_or(block.len(), |end| end + 1)
        };
        if see(block.get(start..).unwrap_or_default()).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if position == 0 {
            return Ok(ControlFlow::Continue(()));
        }
        rest.clear();
        rest.extend_from_slice(block.get(..start).unwrap_or_default());
        if rest.len() > BLOCK {
            rest.clear();
        }
    }
}

fn unpack(segment: &Segment, window: u32) -> io::Result<Box<dyn Read>> {
    let path = &segment.path;
    let file: File = private()
        .read(true)
        .open(path)
        .map_err(|error| at(path, &error))?;
    Ok(match segment.packing {
        Packing::Plain | Packing::Renamed => Box::new(file),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(file);
            let mut decoder = decoder.map_err(|error| at(path, &error))?;
            decoder.window_log_max(window)?;
            Box::new(decoder)
        }
    })
}

const BLOCK: usize = 256 << 10;
/// 128 MiB, as `zstd` itself has it: what `--long` wants, and `-22`.
pub(super) const USUAL_WINDOW: u32 = 27;
/// 8 MiB, which is enough for every level up to `-19`.
pub(super) const SMALL_WINDOW: u32 = 23;
