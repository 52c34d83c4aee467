//! What chance makes of a conversation.

use crate::http2::{CONTINUATION, Frame, HEADERS, PREFACE, frame, settings};

/// A frame that may lie about its length.
#[derive(Clone)]
pub(super) struct Piece {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
    length: Option<u32>,
}

impl Piece {
    pub(super) fn new((kind, flags, stream, payload): Frame) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload,
            length: None,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = frame(self.kind, self.flags, self.stream, &self.payload);
        if let Some(length) = self.length {
            bytes[..3].copy_from_slice(&length.to_be_bytes()[1..]);
        }
        bytes
    }
}

/// Splitmix: the same seed gives the same frames.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let at = self.below(bytes.len());
            bytes[at] ^= 1 << self.below(8);
        }
    }

    /// A number at the edge of something.
    fn edge(&mut self) -> u32 {
        *self.one(&[
            0,
            1,
            2,
            3,
            5,
            127,
            128,
            201,
            16_383,
            16_384,
            16_385,
            65_535,
            (1 << 24) - 1,
            1 << 30,
            u32::MAX >> 1,
            1 << 31,
            u32::MAX,
        ])
    }

    /// Fields as RFC 7541 writes them, more or less.
    fn block(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        for _ in 0..self.below(24) {
            match self.below(6) {
                // An entry of either table, a size of the second one.
                0 | 1 => block.push(0x80 | self.byte()),
                2 => block.push(0x20 | self.byte() & 0x1f),
                // A literal with a name from a table or of its own, in either code.
                _ => {
                    let kind = *self.one(&[0x00, 0x10, 0x40]);
                    let texts = if self.below(2) == 0 {
                        block.push(kind | self.byte() & 0x0f);
                        1
                    } else {
                        block.push(kind);
                        2
                    };
                    for _ in 0..texts {
                        let length = self.byte() & 0x0f;
                        block.push(length | *self.one(&[0, 0, 0x80]));
                        block.extend((0..length).map(|_| self.byte()));
                    }
                }
            }
        }
        block
    }

    /// Changes a conversation in one place.
    fn change(&mut self, said: &mut Vec<Piece>, others: &[Vec<Piece>]) {
        if said.is_empty() {
            return;
        }
        let at = self.below(said.len());
        let other = self.below(said.len());
        let piece = &mut said[at];
        match self.below(14) {
            0 | 1 => self.flip(&mut piece.payload),
            2 => piece.kind = u8::try_from(self.below(12)).unwrap(),
            3 => piece.flags ^= 1 << self.below(8),
            4 => piece.stream = self.edge(),
            5 => piece.stream = u32::from(self.byte() & 7),
            6 => piece.payload.truncate(self.below(piece.payload.len())),
            7 => piece.length = Some(self.edge()),
            8 => drop(said.remove(at)),
            9 => said.insert(other, said[at].clone()),
            10 => said.swap(at, other),
            11 => {
                let words = self.one(others);
                if !words.is_empty() {
                    said.insert(at, self.one(words).clone());
                }
            }
            12 if matches!(piece.kind, HEADERS | CONTINUATION) => {
                let more = self.block();
                let keep = *self.one(&[0, piece.payload.len()]);
                piece.payload.truncate(keep);
                piece.payload.extend(more);
            }
            _ => {
                let number = self.edge().to_be_bytes();
                let length = piece.payload.len();
                if let Some(from) = length.checked_sub(number.len()) {
                    let from = self.below(from + 1);
                    piece.payload[from..from + number.len()].copy_from_slice(&number);
                }
            }
        }
    }

    /// A conversation that was right, as it goes over the wire.
    pub(super) fn conversation(&mut self, all: &[Vec<Piece>]) -> Vec<u8> {
        let mut said = Vec::new();
        for turn in 0..=u32::try_from(self.below(4)).unwrap() {
            let words = self.one(all).iter().cloned();
            said.extend(words.map(|mut piece| {
                // Each has streams of its own.
                piece.stream += u32::from(piece.stream > 0) * turn * 300;
                piece
            }));
        }
        for _ in 0..=self.below(6) {
            self.change(&mut said, all);
        }
        let mut bytes: Vec<u8> = said.iter().flat_map(Piece::bytes).collect();
        match self.below(8) {
            0 => bytes.truncate(self.below(bytes.len())),
            1 => self.flip(&mut bytes),
            _ => {}
        }
        let mut greeting = [PREFACE, &settings(&[])].concat();
        if self.below(32) == 0 {
            self.flip(&mut greeting);
        }
        [greeting, bytes].concat()
    }
}
