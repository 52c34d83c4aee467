//! Recovery of the newest file after a crash: a torn tail is cut off, and the chain goes on after the last whole
//! line.
//!
//! A line that was cut off while it was written was never acknowledged, so nothing is lost by taking
//! it out of the file; it is kept beside it, as `<file>.torn`. Whole lines are never touched: if one of
//! them is false, it stays for the verifier to name, and the journal goes on in a new file.
//!
//! After a loss of power, a file may be longer than what the disk has of it, and then zeros stand where
//! the rest should be. No line holds a zero, so that the first one tells where the disk fell behind the
//! journal; what comes after it was never brought to the disk, is no chain, and goes aside as well.
//! An attacker who could put zeros there could as well cut the file off: a signed head shows both.

use std::fs::File;
use std::io;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::chain::{ChainLink, Tip};
use super::directory::{at, private};
use super::listing::Segment;
use super::record::LONGEST_LINE;
use super::{chain, reading};

#[derive(Debug)]
pub(super) struct Repaired {
    pub(super) last: Option<LastRecord>,
    pub(super) size: u64,
    pub(super) torn: u64,
    /// Whether it ends in something that no crash leaves, so that nothing may be appended to it.
    pub(super) damaged: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct LastRecord {
    pub(super) tip: Tip,
    pub(super) chain: Option<Uuid>,
}

/// Cuts off a plain file what never became part of the chain.
pub(super) fn repair(path: &Path) -> io::Result<Repaired> {
    let mut file = private()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| at(path, &error))?;
    let length = file.metadata()?.len();
    let sound = first_zero(&mut file)?.unwrap_or(length);
    let start = sound.saturating_sub(WINDOW);
    let mut window = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    (&file).take(sound - start).read_to_end(&mut window)?;
    let end = read_tail(&window, start == 0);
    let size = if end.damaged {
        length
    } else {
        sound - length_of(window.split_at(end.length).1)
    };
    if size < length {
        file.seek(SeekFrom::Start(size))?;
        keep_aside(path, &mut file)?;
        file.set_len(size)?;
        file.sync_all()?;
    }
    Ok(Repaired {
        last: end.last,
        size,
        torn: length - size,
        damaged: end.damaged,
    })
}

fn first_zero(file: &mut File) -> io::Result<Option<u64>> {
    let mut lines = BufReader::with_capacity(BLOCK, file);
    let mut position = 0;
    loop {
        let block = lines.fill_buf()?;
        if block.is_empty() {
            return Ok(None);
        }
        if let Some(place) = memchr::memchr(0, block) {
            return Ok(Some(position + length_of(block.split_at(place).0)));
        }
        let read = block.len();
        position += length_of(block);
        lines.consume(read);
    }
}

/// The last record of the newest file among `segments` that has one, and the id of its chain.
pub(super) fn last_record(
    directory: &Path,
    segments: &[Segment],
) -> io::Result<Option<LastRecord>> {
    for segment in segments.iter().rev() {
        let mut last = None;
        let (_, lines) = reading::open_best(directory, segment, None, reading::open)?;
        for line in lines.split(b'\n') {
            let line = line?;
            if let Some(found) = chain::read(&line) {
                last = Some(last_record_of(&line, found));
            }
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

fn last_record_of(line: &[u8], found: ChainLink) -> LastRecord {
    LastRecord {
        tip: found.into(),
        chain: chain::id(line),
    }
}

/// What the last bytes of a file say.
struct FileTail {
    last: Option<LastRecord>,
    /// Where in the window the last whole line ends.
    length: usize,
    damaged: bool,
}

/// Reads the last bytes of a file, which are `whole` if they are all of it.
fn read_tail(window: &[u8], whole: bool) -> FileTail {
    let mut last = None;
    let mut damaged = false;
    let mut length = 0;
    for (index, line) in window.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(text) = line.strip_suffix(b"\n") else {
            continue;
        };
        length += line.len();
        match chain::read(text) {
            Some(found) => {
                last = Some(last_record_of(text, found));
                damaged |= !found.genuine;
            }
            // The window may begin in the middle of a line.
            None => damaged |= whole || index > 0,
        }
    }
    // Longer than any line: no crash of ours left this.
    let torn = window.len() - length;
    damaged |= torn > LONGEST_LINE || (!whole && last.is_none());
    FileTail {
        last,
        length,
        damaged,
    }
}

fn keep_aside(path: &Path, file: &mut File) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".torn");
    let name = PathBuf::from(name);
    // Appended, should the same file be torn twice.
    let mut aside: File = private()
        .create(true)
        .append(true)
        .open(&name)
        .map_err(|error| at(&name, &error))?;
    io::copy(file, &mut aside)?;
    aside.write_all(b"\n")?;
    aside.sync_all()
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("memory has less than 2^64 bytes")
}

/// How much of a file's end is looked at; several times the longest line.
const WINDOW: u64 = 64 << 10;
const BLOCK: usize = 256 << 10;
