//! RFC 9113, sections 6.1 and 6.9: data, and the windows that it goes through.

use super::End::{Connection, Data, Stream};
use super::words::Words;
use super::{Case, Step, case, dialogue};
use crate::frames;
use crate::frames::{
    END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PADDED, WINDOW_UPDATE, block, frame,
};
use crate::http2::{FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, settings};

pub(super) fn cases(words: &Words) -> Vec<Case> {
    let window = |sizes: &[u32]| {
        let sizes: Vec<(u16, u32)> = sizes
            .iter()
            .map(|size| (INITIAL_WINDOW_SIZE, *size))
            .collect();
        Step::Send(settings(&sizes))
    };
    let more = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let most = (1 << 31) - 1;
    let data = |stream| frame(frames::DATA, END_STREAM, stream, b"test");
    let of_four = [words.fields("POST"), vec![("content-length", "4")]].concat();
    let posted = block(&words.fields("POST"));
    vec![
        case(
            "6.1/1",
            "DATA of no stream",
            data(0),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.1/2",
            "DATA of a stream that is not open",
            [
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &posted),
                data(1),
            ]
            .concat(),
            Stream(&[STREAM_CLOSED]),
        )
        .unspecific(),
        case(
            "6.1/3",
            "DATA of more padding than there is",
            [
                frame(HEADERS, END_HEADERS, 1, &block(&of_four)),
                frame(frames::DATA, END_STREAM | PADDED, 1, b"\x06test"),
            ]
            .concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        dialogue(
            "6.5.3/1",
            "two sizes of windows in one frame, of which the second holds",
            vec![window(&[100, 1]), Step::Agreed, Step::Send(words.asked(1))],
            Data(1),
        ),
        case(
            "6.9/1",
            "no more window for the connection",
            more(0, 0),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.9/2",
            "no more window for a stream",
            [words.open(1), more(1, 0)].concat(),
            Stream(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.9/3",
            "WINDOW_UPDATE of another size",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
            Connection(&[FRAME_SIZE_ERROR]),
        )
        .unspecific(),
        dialogue(
            "6.9.1/1",
            "a window of one byte",
            vec![window(&[1]), Step::Agreed, Step::Send(words.asked(1))],
            Data(1),
        ),
        case(
            "6.9.1/2",
            "too much window for the connection",
            more(0, most).repeat(2),
            Connection(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "6.9.1/3",
            "too much window for a stream",
            [words.open(1), more(1, most).repeat(2)].concat(),
            Stream(&[FLOW_CONTROL_ERROR]),
        ),
        dialogue(
            "6.9.2/1",
            "a window that opens after the request",
            vec![
                window(&[0]),
                Step::Agreed,
                Step::Send(words.asked(1)),
                window(&[1]),
                Step::Agreed,
            ],
            Data(1),
        ),
        dialogue(
            "6.9.2/2",
            "a window of less than nothing",
            vec![
                window(&[3]),
                Step::Agreed,
                Step::Send(words.asked(1)),
                Step::Data,
                window(&[2]),
                Step::Agreed,
                Step::Send(more(1, 2)),
                Step::Data,
            ],
            Data(1),
        ),
        dialogue(
            "6.9.2/3",
            "windows that are too large",
            vec![window(&[1 << 31])],
            Connection(&[FLOW_CONTROL_ERROR]),
        )
        .unspecific(),
    ]
}
