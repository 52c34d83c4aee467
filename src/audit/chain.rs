//! The hash chain: each line holds its own hash and that of the line before.
//!
//! `hash` is the SHA-256 of the line without it: of every byte from `{` to the closing quote of
//! `previous`, and `}`. `previous` is the hash of the line before, so that no line can be changed,
//! removed, moved or put in without changing every line behind it. The first line's `previous` is 64
//! zeros. Without this program:
//!
//! ```text
//! head -1 FILE | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum
//! ```

use aws_lc_rs::digest;
use memchr::memmem;
use uuid::Uuid;

use super::record::{TIME_LENGTH, hex_digits};

/// A hash as it stands in a line: 64 lower-case hexadecimal digits.
pub(super) type HexHash = [u8; 64];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    /// The last line's number; 0 before the first.
    pub(super) seq: u64,
    pub(super) hash: HexHash,
}

/// What a line says about its own place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainLink {
    pub(super) seq: u64,
    pub(super) previous: HexHash,
    pub(super) hash: HexHash,
    pub(super) genuine: bool,
}

impl Tip {
    pub(super) const START: Self = Self {
        seq: 0,
        hash: [b'0'; 64],
    };
}

/// Appends `body` to `out` as the line after `tip`, and moves the tip.
pub(super) fn seal(out: &mut Vec<u8>, body: &[u8], tip: &mut Tip) {
    tip.seq += 1;
    let start = out.len();
    let (time, rest) = body.split_at(TIME_LENGTH.min(body.len()));
    out.extend_from_slice(time);
    out.extend_from_slice(b"\"seq\":");
    out.extend_from_slice(itoa::Buffer::new().format(tip.seq).as_bytes());
    out.push(b',');
    out.extend_from_slice(rest);
    out.extend_from_slice(PREVIOUS);
    out.extend_from_slice(&tip.hash);
    out.extend_from_slice(COVERED_END);
    let (_, covered) = out.split_at(start);
    tip.hash = hash(digest::digest(&digest::SHA256, covered));
    // The end of what is covered becomes the line's.
    out.pop();
    out.extend_from_slice(HASH);
    out.extend_from_slice(&tip.hash);
    out.extend_from_slice(b"\"}\n");
}

/// Reads a line, without its line end; `None` if it is no line of a journal.
pub(super) fn read(line: &[u8]) -> Option<ChainLink> {
    let Outline {
        seq,
        covered,
        previous,
        hash,
    } = outline(line)?;
    if !is_hex(previous) || !is_hex(hash) {
        return None;
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(covered);
    context.update(COVERED_END);
    let genuine = self::hash(context.finish()) == *hash;
    Some(ChainLink {
        seq,
        previous: *previous,
        hash: *hash,
        genuine,
    })
}

/// The number of a line that looks like one of a journal, whether or not it is what was written.
pub(super) fn seq(line: &[u8]) -> Option<u64> {
    Some(outline(line)?.seq)
}

/// The number of the last line in a block of whole ones.
pub(super) fn last_seq(block: &[u8]) -> Option<u64> {
    let block = block.strip_suffix(b"\n").unwrap_or(block);
    seq(block.rsplit(|byte| *byte == b'\n').next()?)
}

/// The id of the chain that a line belongs to; earlier versions wrote none.
pub(super) fn id(line: &[u8]) -> Option<Uuid> {
    let start = memmem::find(line, ID)? + ID.len();
    Uuid::try_parse_ascii(line.get(start..)?.get(..36)?).ok()
}

struct Outline<'a> {
    seq: u64,
    /// What the hash covers, but for the last two bytes.
    covered: &'a [u8],
    previous: &'a HexHash,
    hash: &'a HexHash,
}

fn outline(line: &[u8]) -> Option<Outline<'_>> {
    let (head, tail) = line.split_at_checked(line.len().checked_sub(TAIL_LENGTH)?)?;
    let tail = tail.strip_prefix(PREVIOUS.as_slice())?;
    let (previous, tail) = tail.split_first_chunk::<64>()?;
    let tail = tail.strip_prefix(b"\"")?.strip_prefix(HASH.as_slice())?;
    let (hash, tail) = tail.split_first_chunk::<64>()?;
    if tail != b"\"}" {
        return None;
    }
    let (time, rest) = head.split_at_checked(TIME_LENGTH)?;
    if !time.starts_with(b"{\"time\":\"") || !time.ends_with(b"Z\",") {
        return None;
    }
    let rest = rest.strip_prefix(b"\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at_checked(digits)?;
    if !rest.starts_with(b",\"kind\":\"") {
        return None;
    }
    Some(Outline {
        seq: str::from_utf8(digits).ok()?.parse().ok()?,
        covered: line.get(..head.len() + PREVIOUS.len() + 64)?,
        previous,
        hash,
    })
}

impl From<ChainLink> for Tip {
    fn from(link: ChainLink) -> Self {
        Self {
            seq: link.seq,
            hash: link.hash,
        }
    }
}

fn hash(digest: digest::Digest) -> HexHash {
    let mut text = [0; 64];
    let (pairs, _) = text.as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(digest.as_ref()) {
        *pair = hex_digits(*byte);
    }
    text
}

fn is_hex(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

const ID: &[u8] = b",\"chain\":\"";
const PREVIOUS: &[u8; 13] = b",\"previous\":\"";
const HASH: &[u8; 9] = b",\"hash\":\"";
/// Ends what a hash covers.
const COVERED_END: &[u8; 2] = b"\"}";
/// `,"previous":"…","hash":"…"}`.
const TAIL_LENGTH: usize = PREVIOUS.len() + 64 + 1 + HASH.len() + 64 + 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::Timestamp;
    use crate::audit::record::{Kind, Record};

    fn line(tip: &mut Tip) -> Vec<u8> {
        let mut out = Vec::new();
        let time = Timestamp::from_seconds(1_786_327_595);
        let write = |record: &mut Record<'_>| record.word("outcome", "answered");
        Record::compose(Kind::Lookup, time, b"", write, |body| {
            seal(&mut out, body, tip);
        });
        out
    }

    #[test]
    fn a_line_is_valid_json_whose_hash_covers_everything_else() {
        let mut tip = Tip::START;
        let first = line(&mut tip);
        let second = line(&mut tip);
        let text = str::from_utf8(&second).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(parsed["seq"], 2);
        let place = read(first.strip_suffix(b"\n").unwrap()).unwrap();
        assert_eq!(parsed["previous"], str::from_utf8(&place.hash).unwrap());
        let without = format!("{}}}", text.split(",\"hash\"").next().unwrap());
        let hash = digest::digest(&digest::SHA256, without.as_bytes());
        assert_eq!(super::hash(hash), tip.hash);
        assert_eq!(parsed["hash"], str::from_utf8(&tip.hash).unwrap());
    }

    #[test]
    fn every_change_of_a_byte_makes_a_line_unreadable_or_false() {
        let mut tip = Tip::START;
        let line = line(&mut tip);
        let line = line.strip_suffix(b"\n").unwrap();
        assert!(read(line).unwrap().genuine);
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut changed = line.to_vec();
                changed[at] ^= 1 << bit;
                assert!(
                    read(&changed).is_none_or(|place| !place.genuine),
                    "byte {at}, bit {bit}"
                );
            }
        }
    }
}
