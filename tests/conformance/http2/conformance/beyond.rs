//! What the suite does not ask.

use super::End::{Answered, Closed, Connection, Pong};
use super::words::{Words, ping, whole};
use super::{Case, Step, case, dialogue};
use crate::frames::{
    END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PUSH_PROMISE, WINDOW_UPDATE,
    block, frame,
};
use crate::http2::{
    COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PREFACE, PROTOCOL_ERROR, settings,
};

pub(super) fn cases(words: &Words) -> Vec<Case> {
    let promise = [&[0, 0, 0, 2][..], &words.block()].concat();
    let path = format!("{}#x", words.fields("GET")[3].1);
    let mut fragment = words.fields("GET");
    fragment[3].1 = &path;
    let more = 0x7fff_0000_u32.to_be_bytes();
    let asked = |block: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    vec![
        case(
            "3.4",
            "the preface without settings",
            [PREFACE, &ping(*b"question")].concat(),
            Closed,
        )
        .without_greeting(),
        case(
            "6.6",
            "PUSH_PROMISE of an open stream",
            [words.open(1), frame(PUSH_PROMISE, END_HEADERS, 1, &promise)].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.8",
            "GOAWAY that says too little",
            frame(GOAWAY, 0, 0, &[0; 7]),
            Connection(&[FRAME_SIZE_ERROR]),
        )
        .unspecific(),
        case(
            "6.9",
            "window for a stream that is closed",
            [
                words.asked(1),
                words.asked(3),
                frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]).repeat(3),
                ping(*b"question"),
            ]
            .concat(),
            Pong(b"question"),
        ),
        dialogue(
            "6.9.2",
            "a setting that makes it too much",
            vec![
                Step::Send(settings(&[(INITIAL_WINDOW_SIZE, 0)])),
                Step::Agreed,
                Step::Send(
                    [
                        words.asked(1),
                        frame(WINDOW_UPDATE, 0, 1, &more),
                        settings(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]),
                    ]
                    .concat(),
                ),
            ],
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "8.1",
            "a pseudo-field in trailers, which are refused as every body is",
            [
                words.posted(),
                frame(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    1,
                    &block(&[(":method", "POST")]),
                ),
            ]
            .concat(),
            Answered(1),
        ),
        case(
            "8.2.1",
            "blanks around a value, which h2 lets pass",
            words.with(&[("x-test", " ok\t")]),
            Answered(1),
        ),
        case(
            "8.3.1",
            "a fragment, which h2 drops before anybody can refuse it",
            whole(&fragment),
            Answered(1),
        ),
        case(
            "RFC 7541, 5.1",
            "a number without end",
            asked(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            Connection(&[COMPRESSION_ERROR]),
        )
        .unspecific(),
        case(
            "RFC 7541, 5.2",
            "a text longer than its block",
            asked(b"\x82\x40\x09name"),
            Connection(&[COMPRESSION_ERROR]),
        )
        .unspecific(),
        case(
            "RFC 7541, 6.3",
            "a table larger than memory",
            asked(&[0x3f, 0xe1, 0xff, 0xff, 0xff, 0x07]),
            Connection(&[COMPRESSION_ERROR]),
        )
        .unspecific(),
    ]
}
