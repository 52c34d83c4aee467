//! What is written in one transaction: records that follow the end of their chain, each with its hash checked.

use std::collections::BTreeSet;
use std::io;

use zstd::bulk::Compressor;

use crate::atlas::Timestamp;
use crate::audit::chain;
use crate::audit::chain::{ChainLink, HexHash, Tip};

use super::copy::Rows;
use super::members::Members;

/// Rows that move the end of the chain from one record to another.
pub(super) struct Shipment {
    pub(super) chain: i32,
    pub(super) from: Tip,
    pub(super) to: Tip,
    pub(super) records: Rows,
    pub(super) batches: Rows,
    pub(super) count: u64,
    /// How much they take in the journal.
    pub(super) bytes: usize,
    /// The days of its records, as `2026-12-01`.
    pub(super) days: BTreeSet<String>,
    pub(super) gaps: Vec<Gap>,
    /// When its last record was written.
    pub(super) recorded: Timestamp,
    packer: Compressor<'static>,
}

/// Records that the journal does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first: u64,
    /// The last of them, by the word of the one behind it.
    pub(super) last: Tip,
}

/// A journal that does not continue what was shipped of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} {why}")]
pub(crate) struct Difference {
    /// The first record that was found to differ.
    pub(crate) seq: u64,
    /// In which way.
    pub(crate) why: DifferenceKind,
}

/// In which way a record differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DifferenceKind {
    /// There are more records in the database.
    #[error("is in the database and not in the journal, which was cut off or restored")]
    Ahead,
    /// Its hash is not that of its text.
    #[error("was changed in the journal after it was written")]
    Changed,
    /// It does not follow the one before it.
    #[error("does not follow the record that was shipped before it: the journal was written anew")]
    NotNext,
    /// It is another one than was shipped.
    #[error("is another one in the database: the journal was written anew")]
    Other,
    /// It is no record.
    #[error("is not a record")]
    Unreadable,
}

impl Shipment {
    /// Of no record yet.
    pub(super) fn new(chain: i32, from: Tip) -> io::Result<Self> {
        Ok(Self {
            chain,
            from,
            to: from,
            records: Rows::new(),
            batches: Rows::new(),
            count: 0,
            bytes: 0,
            days: BTreeSet::new(),
            gaps: Vec::new(),
            recorded: Timestamp::default(),
            packer: Compressor::new(LEVEL)?,
        })
    }

    /// Whether it need not be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a block of whole lines. What was shipped already is passed over, and its end compared.
    pub(super) fn add(&mut self, block: &[u8]) -> Result<(), Difference> {
        let mut part = Part::default();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', block) {
            let line = block.get(start..end).expect("line ends come in order");
            let at = start;
            start = end + 1;
            let Some(place) = self.check(line)? else {
                continue;
            };
            let text = str::from_utf8(line).ok();
            let record = text.and_then(|text| Some((Members::read(text)?, text)));
            let timed = record.and_then(|(it, text)| Some((it.time()?, it, text)));
            let (time, members, text) = timed.ok_or(Difference {
                seq: place.seq,
                why: DifferenceKind::Unreadable,
            })?;
            // As the record has it: `{"time":"2026-12-01T…`.
            let day = text.get(DAY).unwrap_or_default();
            if part.day != day || place.seq != self.to.seq + 1 {
                self.pack(&part, block);
                part = Part::begin(day, place.seq, at);
            }
            let own_line = members.has_own_line().then_some(text);
            members.add(&mut self.records, (self.chain, place.seq), own_line);
            part.end = start;
            part.time = time;
            self.to = place.into();
            self.count += 1;
            self.recorded = time;
        }
        self.pack(&part, block);
        Ok(())
    }

    /// Where a line stands; `None` if it was shipped before.
    fn check(&mut self, line: &[u8]) -> Result<Option<ChainLink>, Difference> {
        let expected = self.to.seq + 1;
        let differs = |seq, why| Difference { seq, why };
        let Some(place) = chain::read(line) else {
            return Err(differs(expected, DifferenceKind::Unreadable));
        };
        if place.seq < expected {
            let is_other = place.seq == self.to.seq && place.hash != self.to.hash;
            return if is_other {
                Err(differs(place.seq, DifferenceKind::Other))
            } else {
                Ok(None)
            };
        }
        if !place.genuine {
            return Err(differs(place.seq, DifferenceKind::Changed));
        }
        if place.seq > expected {
            self.gaps.push(Gap {
                first: expected,
                last: Tip {
                    seq: place.seq - 1,
                    hash: place.previous,
                },
            });
        } else if place.previous != self.to.hash {
            return Err(differs(place.seq, DifferenceKind::NotNext));
        }
        Ok(Some(place))
    }

    /// Adds the batch of a part of `block`: the lines of one day.
    fn pack(&mut self, part: &Part, block: &[u8]) {
        let lines = block.get(part.start..part.end).unwrap_or_default();
        if lines.is_empty() {
            return;
        }
        let packed = self.packer.compress(lines);
        let packed = packed.expect("the bound of what is packed is known");
        let rows = &mut self.batches;
        rows.begin(BATCH_COLUMNS);
        rows.int8(i64::try_from(part.first).ok());
        rows.int8(i64::try_from(self.to.seq).ok());
        rows.int4(Some(self.chain));
        rows.day(part.time);
        rows.int4(i32::try_from(lines.len()).ok());
        rows.bytes(&hash_bytes(&self.to.hash));
        rows.bytes(&packed);
        self.bytes += lines.len();
        self.days.insert(part.day.clone());
    }
}

/// The lines of a block that become one batch.
#[derive(Default)]
struct Part {
    day: String,
    first: u64,
    start: usize,
    end: usize,
    /// Of its last line.
    time: Timestamp,
}

impl Part {
    fn begin(day: &str, first: u64, start: usize) -> Self {
        Self {
            day: day.to_owned(),
            first,
            start,
            end: start,
            time: Timestamp::default(),
        }
    }
}

/// A hash as the database has it.
pub(super) fn hash_bytes(hash: &HexHash) -> [u8; 32] {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        _ => byte.wrapping_sub(b'a' - 10),
    };
    let (pairs, _) = hash.as_chunks();
    let mut bytes = [0; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (digit(*high) << 4) | (digit(*low) & 15);
    }
    bytes
}

/// The hash of a column of 32 bytes.
pub(super) fn hash_digits(bytes: &[u8]) -> Option<HexHash> {
    crate::audit::record::hex(bytes).try_into().ok()
}

pub(super) const COPY: &str =
    "COPY audit.batch (first, last, chain, day, bytes, hash, lines) FROM STDIN BINARY";
const BATCH_COLUMNS: usize = 7;
const DAY: std::ops::Range<usize> = 9..19;
/// As fast as the records are read, and a tenth of their size.
const LEVEL: i32 = 3;
