//! The compressions of an answer, and a document as it lies in memory.

use std::io;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// A compression of large answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 7932. Level 4: about as small as gzip's 6 for twice the time, so it is made only where the caller
    /// prefers it. For one answer: level 1.
    Brotli,
    /// RFC 1952. Level 6; for one answer: level 1.
    Gzip,
    /// RFC 8878. Level 1, which is smaller here than gzip's 6 and six times as fast.
    Zstd,
}

/// A document, as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// In one piece.
    Whole(Bytes),
    /// What stands before a list, the list, which is shared, and what stands behind it.
    Spliced(Box<[Bytes; 3]>),
}

impl Encoding {
    /// As it stands in `Content-Encoding`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Compresses quickly what `feed` writes, for one answer. `None` if that failed.
    pub(crate) fn compress(
        self,
        feed: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Option<Vec<u8>> {
        let out = Vec::new();
        match self {
            Self::Brotli => {
                let mut encoder =
                    brotli::CompressorWriter::new(out, BROTLI_BUFFER, 1, BROTLI_WINDOW);
                feed(&mut encoder).ok()?;
                Some(encoder.into_inner())
            }
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::new(1));
                feed(&mut encoder).ok()?;
                encoder.finish().ok()
            }
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(out, 1).ok()?;
                feed(&mut encoder).ok()?;
                encoder.finish().ok()
            }
        }
    }
}

impl Text {
    pub(super) fn spliced(head: impl Into<Bytes>, list: Bytes, tail: impl Into<Bytes>) -> Self {
        Self::Spliced(Box::new([head.into(), list, tail.into()]))
    }

    /// Its parts, in their order; they can be empty.
    pub(crate) fn texts(&self) -> &[Bytes] {
        match self {
            Self::Whole(bytes) => std::slice::from_ref(bytes),
            Self::Spliced(texts) => &**texts,
        }
    }

    /// The same, to be changed.
    pub(crate) fn texts_mut(&mut self) -> &mut [Bytes] {
        match self {
            Self::Whole(bytes) => std::slice::from_mut(bytes),
            Self::Spliced(texts) => &mut **texts,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.texts().iter().map(Bytes::len).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy in one piece.
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.texts().concat()
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

const BROTLI_BUFFER: usize = 4_096;
/// A window of 4 MiB, the largest list's size.
const BROTLI_WINDOW: u32 = 22;
