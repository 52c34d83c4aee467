//! What is written goes in, one piece behind the other, into memory that is used again; it comes out as
//! one.

use std::fmt;

use super::Body;

/// Pieces that were written one behind the other.
///
/// Memory that has been written to stays as it is when the pieces are cleared: to fill it with zeros before
/// each piece, as a vector would, takes as many instructions as to hash a tenth of it.
#[derive(Default)]
pub(in crate::audit) struct Lines {
    bytes: Vec<u8>,
    /// How many of them are written.
    length: usize,
}

impl Lines {
    /// None yet.
    pub(in crate::audit) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            length: 0,
        }
    }

    /// Appends what `write` writes, which is not more than `most` bytes.
    #[inline]
    pub(in crate::audit) fn append(&mut self, most: usize, write: impl FnOnce(&mut Body<'_>)) {
        let room = self.length + most;
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let mut body = Body {
            line: self.bytes.get_mut(self.length..room).unwrap_or_default(),
            length: 0,
        };
        write(&mut body);
        self.length += body.length;
    }

    /// All that was written.
    pub(in crate::audit) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Forgets what was written.
    pub(in crate::audit) fn clear(&mut self) {
        self.length = 0;
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lines({})", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_left_out_whole() {
        let mut lines = Lines::default();
        lines.append(12, |body| {
            body.put(b"before");
            body.put(b"too long");
            body.decimal(12_345);
            body.word(b"", "too long");
            body.put(b"|after");
        });
        assert_eq!(lines.as_bytes(), b"before|after");
    }
}
