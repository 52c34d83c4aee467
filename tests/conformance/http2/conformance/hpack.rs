//! RFC 7541: header blocks that cannot be unpacked.

use super::End::Connection;
use super::words::Words;
use super::{Case, case};
use crate::frames::{END_HEADERS, END_STREAM, HEADERS, frame};
use crate::http2::COMPRESSION_ERROR;

pub(super) fn cases(words: &Words) -> Vec<Case> {
    let sized = [&b"\x3f\xe2\x1f"[..], &words.block()].concat();
    // `x-test` in Huffman's code, and a value.
    let packed = |value: &[u8]| words.before(&[b"\x00\x85\xf2\xb2\x4a\x84\xff", value].concat());
    [
        (
            "2.3.3/1",
            "an entry that is not there",
            words.before(b"\xc6"),
        ),
        (
            "2.3.3/2",
            "the name of an entry that is not there",
            words.before(b"\x7f\x07\x00"),
        ),
        (
            "4.2/1",
            "a size of the table behind the fields",
            words.before(b"\x21"),
        ),
        (
            "5.2/1",
            "more than seven bits of padding",
            packed(b"\x84\x49\x50\x9f\xff"),
        ),
        ("5.2/2", "padding of noughts", packed(b"\x83\x49\x50\x90")),
        (
            "5.2/3",
            "the code of the end",
            packed(b"\x87\xff\xff\xff\xfd\x25\x42\x7f"),
        ),
        ("6.1/1", "entry 0", words.before(b"\x80")),
        (
            "6.3/1",
            "a table larger than allowed",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &sized),
        ),
    ]
    .into_iter()
    .map(|(id, what, sent)| case(id, what, sent, Connection(&[COMPRESSION_ERROR])).unspecific())
    .collect()
}
