//! A directory goes in, the first record that is not as it was written comes out; or the proof that
//! there is none.
//!
//! # What it proves
//!
//! Every line is the line that was written, in its place: nobody has changed, removed, moved or put in
//! a record without working out every hash behind it anew.
//!
//! # What it cannot prove
//!
//! Somebody who can write to the directory can write a whole new chain, or cut off its end. Only what
//! lies elsewhere tells: a signed head, or the copy that a second sink sent away.

use std::io;
use std::io::BufRead;
use std::path::Path;
use std::path::PathBuf;

use super::chain;
use super::chain::Tip;
use super::directory;
use super::heads::HeadVerifier;
use super::heads::Heads;
use super::reading;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many files were read.
    pub files: u64,
    /// How many records are good, up to the end or to the fault.
    pub records: u64,
    /// The number of the first record; 0 if there is none.
    pub first: u64,
    /// The number of the last good record.
    pub last: u64,
    /// The last good record's hash. Compare it with one that was kept elsewhere.
    pub hash: String,
    /// How many signed heads agree with the records.
    pub heads: u64,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The number of the first record that is wrong or missing.
    pub seq: u64,
    /// In which file.
    pub file: PathBuf,
    /// On which line, counted from 1.
    pub line: u64,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// Its hash is not the hash of its text.
    #[error("was changed after it was written")]
    Changed,
    /// A signed head says that there was such a record.
    #[error("is missing at the end: a signed head names it")]
    EndMissing,
    /// The file ends in the middle of a line.
    #[error("is cut off; if the process was killed, a restart mends it")]
    CutOff,
    /// A line among the heads is no head, or not signed with the key that was given.
    #[error("has no answer: a head is not signed with this key")]
    HeadUnsigned,
    /// A signed head names another hash.
    #[error("is not the record that a signed head names: the chain was written anew")]
    Forged,
    /// Another record stands where it should be.
    #[error("is missing: a later record stands in its place")]
    Missing,
    /// The records before the first one are not there.
    #[error(
        "is missing, with all before the first record; if older files were archived, say from which record on to verify"
    )]
    MissingBeginning,
    /// It does not follow the record before it.
    #[error("does not follow the record before it")]
    NotNext,
    /// An earlier record stands where it should be.
    #[error("is out of its place: an earlier record stands here")]
    OutOfOrder,
    /// The packed file cannot be unpacked from here on.
    #[error("cannot be unpacked: its file was changed or cut off")]
    Packing,
    /// The line is no record.
    #[error("is not a record")]
    Unreadable,
}

/// Verifies every file of the journal in `directory`, of any size, in one pass. `from` is the first
/// record that has to be there: 1, or that of the oldest file that was kept. With `key`, the signed heads
/// are checked as well.
pub fn verify(directory: &Path, from: u64, key: Option<&HeadVerifier>) -> io::Result<Report> {
    let heads = match key {
        Some(key) => key.collect(directory)?,
        None => Heads::default(),
    };
    let mut walk = Walk {
        tip: Tip {
            seq: from.saturating_sub(1),
            ..Tip::START
        },
        anchored: from <= 1,
        report: Report {
            files: 0,
            records: 0,
            first: 0,
            last: 0,
            hash: String::new(),
            heads: 0,
            fault: None,
        },
        heads,
    };
    for segment in directory::segments(directory)? {
        let mut lines = reading::open(&segment)?;
        let mut line = Vec::new();
        let mut number = 0;
        walk.report.files += 1;
        loop {
            let step = match read_line(&mut *lines, &mut line) {
                Ok(false) => break,
                Ok(true) => {
                    number += 1;
                    walk.step(&line, segment.first, number)
                }
                // Not the disk, but what is on it.
                Err(error) if error.raw_os_error().is_none() => Err(walk.packing_fault()),
                Err(error) => return Err(directory::at(&segment.path, &error)),
            };
            if let Err((seq, kind)) = step {
                walk.report.fault = Some(Fault {
                    seq,
                    file: segment.path,
                    line: number,
                    kind,
                });
                return Ok(walk.report);
            }
        }
    }
    walk.report.fault = walk.missing_end(directory);
    Ok(walk.report)
}

struct Walk {
    tip: Tip,
    /// Whether the tip's hash is known, so that the next record must name it.
    anchored: bool,
    report: Report,
    heads: Heads,
}

impl Walk {
    /// What only heads can tell, once every record has been seen.
    fn missing_end(&self, directory: &Path) -> Option<Fault> {
        let missing = self
            .heads
            .signed
            .last_key_value()
            .filter(|(seq, _)| **seq > self.tip.seq)
            .map(|_| (self.tip.seq + 1, FaultKind::EndMissing));
        let unsigned =
            (self.heads.false_ones > 0).then_some((self.tip.seq, FaultKind::HeadUnsigned));
        missing.or(unsigned).map(|(seq, kind)| Fault {
            seq,
            file: directory.to_owned(),
            line: 0,
            kind,
        })
    }

    fn packing_fault(&self) -> (u64, FaultKind) {
        (self.tip.seq + 1, FaultKind::Packing)
    }

    fn step(&mut self, line: &[u8], first: u64, number: u64) -> Result<(), (u64, FaultKind)> {
        let expected = self.tip.seq + 1;
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err((expected, FaultKind::CutOff));
        };
        let Some(place) = chain::read(text) else {
            return Err((expected, FaultKind::Unreadable));
        };
        if place.seq < expected && !self.anchored && self.report.records == 0 {
            // Older than what is asked for.
            return Ok(());
        }
        if !place.genuine {
            return Err((expected, FaultKind::Changed));
        }
        if place.seq != expected {
            return Err((
                expected,
                match place.seq {
                    seq if seq < expected => FaultKind::OutOfOrder,
                    _ if self.report.records == 0 => FaultKind::MissingBeginning,
                    _ => FaultKind::Missing,
                },
            ));
        }
        if self.anchored && place.previous != self.tip.hash {
            return Err((expected, FaultKind::NotNext));
        }
        if number == 1 && place.seq != first {
            return Err((expected, FaultKind::OutOfOrder));
        }
        if let Some(signed) = self.heads.signed.get(&place.seq) {
            if *signed != place.hash {
                return Err((expected, FaultKind::Forged));
            }
            self.report.heads += 1;
        }
        self.tip = place.into();
        self.anchored = true;
        if self.report.records == 0 {
            self.report.first = place.seq;
        }
        self.report.records += 1;
        self.report.last = place.seq;
        self.report.hash = String::from_utf8_lossy(&place.hash).into_owned();
        Ok(())
    }
}

/// Reads one line, with its end if it has one, but no more than a line can have.
fn read_line(lines: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    use std::io::Read;
    line.clear();
    let limit = u64::try_from(super::record::LONGEST_LINE).unwrap_or_default() + 1;
    Ok(lines.take(limit).read_until(b'\n', line)? > 0)
}
