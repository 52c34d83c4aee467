//! Verification of the hash chain: finds the first record that is not as it was written.
//!
//! It proves that no record was changed, removed, moved or put in without every hash behind it being worked out
//! anew. It cannot prove more: an attacker who can write to the directory can write a whole new chain, or cut
//! off its end. Only what lies elsewhere shows that: a signed head, or the copy that a second sink sent away.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::{io, thread};

use memchr::memmem;
use serde::Deserialize;

use super::chain::{ChainLink, Tip};
use super::heads::{HeadVerifier, Heads};
use super::listing::{Listing, Packing, Segment, SegmentFile};
use super::reading::Comparison;
use super::search::{Incomplete, ReadProgress};
use super::{chain, directory, listing, reading};

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
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
    /// Up to which record the trail says itself that older ones were removed; 0 if it does not.
    pub removed: u64,
    /// How many signed heads agree with the records.
    pub heads: u64,
    /// The ids of keys that signed heads and were not given.
    pub unknown_keys: Vec<String>,
    /// Files that are copies of others, whole or in part.
    pub copies: Vec<PathBuf>,
    /// Files that were passed over, and why.
    pub passed_over: Vec<Incomplete>,
    /// The first thing that is wrong.
    pub fault: Option<ChainFault>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFault {
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
    /// A copy of its file says something else.
    #[error("stands otherwise in a copy of its file")]
    CopyDiffers,
    /// A signed head says that there was such a record.
    #[error("is missing at the end: a signed head names it")]
    EndMissing,
    /// The file ends in the middle of a line.
    #[error("is cut off; if the process was killed, a restart mends it")]
    CutOff,
    /// A line among the heads is no head, or not signed with a key that was given.
    #[error("is the last, and is not proven to be: a head is not signed with a key that was given")]
    HeadUnsigned,
    /// A signed head names another hash.
    #[error("is not the record that a signed head names: the chain was written anew")]
    Forged,
    /// Another record stands where it should be.
    #[error("is missing: a later record stands in its place")]
    Missing,
    /// The records before the first one are not there, and no record says that they were removed.
    #[error(
        "is missing, with all before the first record, and no record says that they were removed; \
         if older files were archived, say from which record on to verify"
    )]
    MissingBeginning,
    /// It does not follow the record before it.
    #[error("does not follow the record before it")]
    NotNext,
    /// An earlier record stands where it should be.
    #[error("is out of its place: an earlier record stands here")]
    OutOfOrder,
    /// The packed file cannot be unpacked from here on, and there is no other copy.
    #[error("cannot be read: its file is half of a packed one, and there is no other copy")]
    Packing,
    /// The line is no record.
    #[error("is not a record")]
    Unreadable,
}

/// Verifies every file of the journal in `directory`, of any size, in one pass. `from` is the first
/// record that has to be there; with 1 the chain may also begin where a record says that older ones were
/// removed. With `keys`, the signed heads are checked as well.
///
/// The journal may be written, packed and rotated meanwhile.
pub fn verify(directory: &Path, from: u64, keys: &[HeadVerifier]) -> io::Result<VerifyReport> {
    verify_showing(directory, from, keys, &|_| ())
}

/// The same, showing how far it has come.
pub fn verify_showing(
    directory: &Path,
    from: u64,
    keys: &[HeadVerifier],
    progress: &dyn Fn(ReadProgress),
) -> io::Result<VerifyReport> {
    let mut listing = listing::list(directory)?;
    for _ in 0..MOST_ATTEMPTS {
        let mut verification = JournalVerification::new(directory, from, keys)?;
        let outcome = verification.read(&listing, progress);
        let report = outcome.map(|()| verification.report);
        let is_well = report.as_ref().is_ok_and(|report| report.fault.is_none());
        // What looks like a fault may be a file that was packed, renamed or removed meanwhile.
        let now = listing::list(directory)?;
        if is_well || now.has_the_files_of(&listing) {
            return report;
        }
        listing = now;
    }
    Err(io::Error::other(
        "the files change faster than they can be verified",
    ))
}

struct JournalVerification<'a> {
    directory: &'a Path,
    tip: Tip,
    /// What the first record follows, as long as no record has said that all before it was removed.
    beginning: Option<Tip>,
    /// Whether the tip's hash is known, so that the next record must name it.
    anchored: bool,
    from: u64,
    report: VerifyReport,
    heads: Heads,
}

type FaultAt = (u64, FaultKind);

impl<'a> JournalVerification<'a> {
    fn new(directory: &'a Path, from: u64, keys: &[HeadVerifier]) -> io::Result<Self> {
        let mut report = VerifyReport::default();
        let heads = Heads::collect(directory, keys, &mut report.passed_over)?;
        report.unknown_keys = heads.unknown_keys.iter().cloned().collect();
        Ok(Self {
            directory,
            tip: Tip {
                seq: from.saturating_sub(1),
                ..Tip::START
            },
            beginning: None,
            anchored: from <= 1,
            from,
            report,
            heads,
        })
    }

    fn read(&mut self, listing: &Listing, progress: &dyn Fn(ReadProgress)) -> io::Result<()> {
        for path in &listing.foreign {
            let problem = FOREIGN.to_owned();
            let path = path.clone();
            self.report.passed_over.push(Incomplete { path, problem });
        }
        let total = listing.segments.iter().map(|it| it.best.size).sum();
        let mut done = 0;
        let next = listing.segments.iter().skip(1).map(|it| Some(it.first));
        for (segment, next) in listing.segments.iter().zip(next.chain([None])) {
            self.read_segment(segment, next)?;
            if self.report.fault.is_some() {
                return Ok(());
            }
            done += segment.best.size;
            progress(ReadProgress { done, total });
        }
        self.report.fault = self.missing_end();
        if self.beginning.is_some() && self.report.fault.is_none() {
            let file = listing.segments.first().map(|it| it.best.path.clone());
            self.report.fault = Some(ChainFault {
                seq: 1,
                file: file.unwrap_or_default(),
                line: 1,
                kind: FaultKind::MissingBeginning,
            });
        }
        Ok(())
    }

    fn read_segment(&mut self, segment: &Segment, next: Option<u64>) -> io::Result<()> {
        let (copy, mut lines) = reading::open_best(self.directory, segment, next, reading::open)?;
        self.report.files += 1;
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            let step = match read_line(&mut *lines, &mut line) {
                Ok(false) => break,
                Ok(true) => {
                    number += 1;
                    self.step(&line, segment.first, number)
                }
                // Not the disk, but what is on it.
                Err(error) if error.raw_os_error().is_none() => {
                    Err((self.tip.seq + 1, FaultKind::Packing))
                }
                Err(error) => return Err(directory::at(&copy.path, &error)),
            };
            if let Err((seq, kind)) = step {
                self.report.fault = Some(ChainFault {
                    seq,
                    file: copy.path,
                    line: number,
                    kind,
                });
                return Ok(());
            }
        }
        for other in segment.copies().filter(|other| other.path != copy.path) {
            self.compare(segment, &copy, other)?;
        }
        Ok(())
    }

    /// What is listed beside the copy that was read holds the same, or less of it.
    fn compare(
        &mut self,
        segment: &Segment,
        copy: &SegmentFile,
        other: &SegmentFile,
    ) -> io::Result<()> {
        let mut pass_over = |problem: &str| {
            self.report.passed_over.push(Incomplete {
                path: other.path.clone(),
                problem: problem.to_owned(),
            });
        };
        if other.packing == Packing::Unknown {
            pass_over(FOREIGN);
            return Ok(());
        }
        match reading::compare(copy, other)? {
            Comparison::Gone => (),
            Comparison::Copy => self.report.copies.push(other.path.clone()),
            Comparison::Part => pass_over("is a part of a copy of another file"),
            Comparison::Differs { lines } => {
                self.report.fault = Some(ChainFault {
                    seq: segment.first + lines,
                    file: other.path.clone(),
                    line: lines + 1,
                    kind: FaultKind::CopyDiffers,
                });
            }
        }
        Ok(())
    }

    /// What only heads can tell, once every record has been seen.
    fn missing_end(&self) -> Option<ChainFault> {
        let signed = self.heads.signed.last_key_value();
        let missing = signed
            .filter(|(seq, _)| **seq > self.tip.seq)
            .map(|_| (self.tip.seq + 1, FaultKind::EndMissing));
        let is_unsigned = self.heads.false_ones > 0 || !self.heads.unknown_keys.is_empty();
        let unsigned = is_unsigned.then_some((self.tip.seq, FaultKind::HeadUnsigned));
        missing.or(unsigned).map(|(seq, kind)| ChainFault {
            seq,
            file: self.directory.to_owned(),
            line: 0,
            kind,
        })
    }

    fn step(&mut self, line: &[u8], first: u64, number: u64) -> Result<(), FaultAt> {
        let expected = self.tip.seq + 1;
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err((expected, FaultKind::CutOff));
        };
        let Some(found) = chain::read(text) else {
            return Err((expected, FaultKind::Unreadable));
        };
        if found.seq < expected && !self.anchored && self.report.records == 0 {
            // Older than what is asked for.
            return Ok(());
        }
        if !found.genuine {
            return Err((expected, FaultKind::Changed));
        }
        if self.report.records == 0 && self.from <= 1 && first > 1 {
            // Until a record says why those before it are not there.
            self.tip = Tip {
                seq: first - 1,
                hash: found.previous,
            };
            self.beginning = Some(self.tip);
        }
        self.check_link(found)?;
        if number == 1 && found.seq != first {
            return Err((found.seq, FaultKind::OutOfOrder));
        }
        if let Some(signed) = self.heads.signed.get(&found.seq) {
            if *signed != found.hash {
                return Err((found.seq, FaultKind::Forged));
            }
            self.report.heads += 1;
        }
        self.note_removal(text);
        self.tip = found.into();
        self.anchored = true;
        if self.report.records == 0 {
            self.report.first = found.seq;
        }
        self.report.records += 1;
        self.report.last = found.seq;
        self.report.hash = String::from_utf8_lossy(&found.hash).into_owned();
        Ok(())
    }

    fn check_link(&self, found: ChainLink) -> Result<(), FaultAt> {
        let expected = self.tip.seq + 1;
        if found.seq != expected {
            let kind = match found.seq {
                seq if seq < expected => FaultKind::OutOfOrder,
                _ if self.report.records == 0 => FaultKind::MissingBeginning,
                _ => FaultKind::Missing,
            };
            return Err((expected, kind));
        }
        if self.anchored && found.previous != self.tip.hash {
            return Err((expected, FaultKind::NotNext));
        }
        Ok(())
    }

    /// A record that older ones were removed proves that the chain may begin where it does.
    fn note_removal(&mut self, line: &[u8]) {
        let Some(removal) = removal(line) else { return };
        self.report.removed = self.report.removed.max(removal.last_seq);
        self.beginning = self.beginning.filter(|before| {
            // Files go one by one, and the process may end in between.
            let is_up_to_here = removal.last_seq == before.seq
                && removal.last_hash.as_bytes() == before.hash.as_slice();
            !is_up_to_here && removal.last_seq <= before.seq
        });
    }
}

#[derive(Deserialize)]
pub(super) struct RemovalRecord<'a> {
    last_seq: u64,
    last_hash: &'a str,
}

impl RemovalRecord<'_> {
    /// Whether it says that the records up to this one were removed.
    pub(super) fn explains(&self, last: Tip) -> bool {
        self.last_seq > last.seq
            || (self.last_seq == last.seq && self.last_hash.as_bytes() == last.hash.as_slice())
    }
}

pub(super) fn removal(line: &[u8]) -> Option<RemovalRecord<'_>> {
    memmem::find(line, REMOVED)?;
    serde_json::from_slice(line).ok()
}

/// Reads one line, with its end if it has one, but no more than a line can have.
fn read_line(lines: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    for _ in 0..MOST_LOOKS {
        let left = LONGEST.saturating_sub(line.len());
        let left = u64::try_from(left).expect("a line is short");
        io::Read::take(&mut *lines, left).read_until(b'\n', line)?;
        if line.is_empty() || line.ends_with(b"\n") || line.len() >= LONGEST {
            break;
        }
        // The gateway may be writing it at this moment.
        thread::yield_now();
    }
    Ok(!line.is_empty())
}

const FOREIGN: &str = "is not one of the journal's files";
const REMOVED: &[u8] = b",\"action\":\"removed\",";
const LONGEST: usize = super::record::LONGEST_LINE + 1;
/// How often the rest of a line is looked for: some hundredths of a second, for what takes microseconds.
const MOST_LOOKS: usize = 20_000;
/// How often it is begun anew where the files have changed.
const MOST_ATTEMPTS: usize = 10;
