//! Generic cases: every representation of RFC 7541, section 6, behind or before a request's own.

use super::End::Answered;
use super::words::Words;
use super::{Case, case};
use crate::frames::{END_HEADERS, END_STREAM, HEADERS, block, frame};

pub(super) fn cases(words: &Words) -> Vec<Case> {
    let plain = |kind: u8, name: &str, value: &str| {
        let mut field = block(&[(name, value)]);
        field[0] = kind;
        field
    };
    // Section 5.2: the same texts in Huffman's code.
    let packed = |kind: u8, name: &[u8]| {
        let value = b"\x84\x9c\x48\xac\xa4";
        [&[kind], name, value].concat()
    };
    let agent = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93";
    let test = b"\x85\xf2\xb2\x4a\x84\xff";
    // An index, its name from the static table: `user-agent` is entry 58.
    let behind = [
        ("5/1", "an indexed field", b"\xba".to_vec()),
        (
            "5/2",
            "a field to be indexed, in Huffman's code",
            packed(0x40, agent),
        ),
        (
            "5/3",
            "a field to be indexed",
            plain(0x40, "user-agent", "h2spec"),
        ),
        (
            "5/4",
            "a new field to be indexed",
            plain(0x40, "x-test", "h2spec"),
        ),
        (
            "5/5",
            "a new field to be indexed, in Huffman's code",
            packed(0x40, test),
        ),
        (
            "5/6",
            "a field not to be indexed",
            plain(0x00, "user-agent", "h2spec"),
        ),
        (
            "5/7",
            "a field not to be indexed, in Huffman's code",
            packed(0x00, agent),
        ),
        (
            "5/8",
            "a new field not to be indexed",
            plain(0x00, "x-test", "h2spec"),
        ),
        (
            "5/9",
            "a new field not to be indexed, in Huffman's code",
            packed(0x00, test),
        ),
        (
            "5/10",
            "a field never to be indexed",
            plain(0x10, "user-agent", "h2spec"),
        ),
        (
            "5/11",
            "a field never to be indexed, in Huffman's code",
            packed(0x10, agent),
        ),
        (
            "5/12",
            "a new field never to be indexed",
            plain(0x10, "x-test", "h2spec"),
        ),
        (
            "5/13",
            "a new field never to be indexed, in Huffman's code",
            packed(0x10, test),
        ),
    ];
    let before = [
        ("5/14", "a size of the table", &b"\x20"[..]),
        ("5/15", "two sizes of the table", b"\x20\x3f\xe1\x1f"),
    ];
    let asked = |block: Vec<u8>| frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    behind
        .into_iter()
        .map(|(id, what, field)| case(id, what, words.before(&field), Answered(1)))
        .chain(before.into_iter().map(|(id, what, size)| {
            case(
                id,
                what,
                asked([size, &words.block()].concat()),
                Answered(1),
            )
        }))
        .collect()
}
