//! RFC 9113, sections 3 and 4, and the frames that open and close streams.

use super::End::{Answered, Begun, Closed, Connection, Pong, Stream};
use super::words::{Words, filler, ping};
use super::{Case, case, dialogue};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, frame,
};
use crate::http2::{COMPRESSION_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR};

pub(super) fn cases(words: &Words) -> Vec<Case> {
    [openings(words), frames(words)]
        .into_iter()
        .flatten()
        .collect()
}

const UNKNOWN: u8 = 0x16;

/// How connections begin, and what every frame has.
fn openings(words: &Words) -> Vec<Case> {
    let mut reserved = frame(PING, UNKNOWN, 0, b"question");
    reserved[5] |= 0x80;
    let unknown = || frame(UNKNOWN, 0, 0, &[0; 8]);
    let large = |length| frame(DATA, END_STREAM, 1, &vec![b'x'; length]);
    let heavy = [words.block(), filler().repeat(5)].concat();
    vec![
        dialogue("3.5/1", "the preface", vec![], Begun),
        case(
            "3.5/2",
            "another preface",
            b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec(),
            Closed,
        )
        .without_greeting(),
        case(
            "4.1/1",
            "an unknown type",
            [unknown(), ping(*b"question")].concat(),
            Pong(b"question"),
        ),
        case(
            "4.1/2",
            "unknown flags",
            frame(PING, UNKNOWN, 0, b"question"),
            Pong(b"question"),
        ),
        case("4.1/3", "the reserved bit", reserved, Pong(b"question")),
        case(
            "4.2/1",
            "DATA of 2^14 bytes",
            [words.posted(), large(16_384)].concat(),
            Answered(1),
        ),
        case(
            "4.2/2",
            "DATA that is too large",
            [words.posted(), large(16_385)].concat(),
            Stream(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.2/3",
            "HEADERS that are too large",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &heavy),
            Connection(&[FRAME_SIZE_ERROR]),
        ),
        case(
            "4.3/1",
            "no header block",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x40]),
            Connection(&[COMPRESSION_ERROR]),
        )
        .unspecific(),
        case(
            "4.3/2",
            "PRIORITY within a header block",
            interrupted(words, &frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 255])),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "4.3/3",
            "other HEADERS within a header block",
            interrupted(words, &words.asked(3)),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.5/1",
            "a frame of an extension",
            [unknown(), ping(*b"question")].concat(),
            Pong(b"question"),
        ),
        case(
            "5.5/2",
            "a frame of an extension within a header block",
            [words.begun(END_STREAM), unknown()].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
    ]
}

/// A header block with another frame in its midst.
fn interrupted(words: &Words, by: &[u8]) -> Vec<u8> {
    let rest = frame(CONTINUATION, END_HEADERS, 1, &filler());
    [&words.begun(0), by, &rest].concat()
}

/// `HEADERS`, `PRIORITY`, `RST_STREAM` and `CONTINUATION`.
fn frames(words: &Words) -> Vec<Case> {
    let whole = END_HEADERS | END_STREAM;
    let priority = [0, 0, 0, 0, 255];
    let block = words.block();
    let beyond = u8::try_from(block.len().min(254) + 1).unwrap();
    let more = |stream, flags| frame(CONTINUATION, flags, stream, &filler());
    let begun = || words.begun(END_STREAM);
    let data = frame(DATA, END_STREAM, 1, b"test");
    vec![
        case(
            "6.2/1",
            "HEADERS that go on with PRIORITY",
            interrupted(words, &frame(PRIORITY, 0, 1, &priority)),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2/2",
            "HEADERS that go on with those of another stream",
            interrupted(words, &words.asked(3)),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2/3",
            "HEADERS of no stream",
            frame(HEADERS, whole, 0, &block),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.2/4",
            "HEADERS of more padding than there is",
            frame(
                HEADERS,
                whole | PADDED,
                1,
                &[&[beyond], &block[..usize::from(beyond) - 1]].concat(),
            ),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.3/1",
            "PRIORITY of no stream",
            frame(PRIORITY, 0, 0, &priority),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.3/2",
            "PRIORITY of another size",
            [words.asked(1), frame(PRIORITY, 0, 1, &[0x80, 0, 0, 1])].concat(),
            Stream(&[FRAME_SIZE_ERROR]),
        )
        .unspecific(),
        case(
            "6.4/1",
            "RST_STREAM of no stream",
            frame(RST_STREAM, 0, 0, &[0, 0, 0, 8]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.4/2",
            "RST_STREAM of an idle stream",
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.4/3",
            "RST_STREAM of another size",
            [words.asked(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            Connection(&[FRAME_SIZE_ERROR]),
        )
        .unspecific(),
        case(
            "6.10/1",
            "CONTINUATION and CONTINUATION",
            [begun(), more(1, 0), more(1, END_HEADERS)].concat(),
            Answered(1),
        ),
        case(
            "6.10/2",
            "CONTINUATION that goes on with DATA",
            [words.begun(0), more(1, 0), data.clone()].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.10/3",
            "CONTINUATION of no stream",
            [begun(), more(0, END_HEADERS)].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.10/4",
            "CONTINUATION behind whole HEADERS",
            [words.asked(1), more(1, END_HEADERS)].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.10/5",
            "CONTINUATION behind the last one",
            [begun(), more(1, END_HEADERS), more(1, END_HEADERS)].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.10/6",
            "CONTINUATION behind DATA",
            [words.begun(0), data, more(1, 0), more(0, END_HEADERS)].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
    ]
}
