//! RFC 9113, sections 5.4, 6.5, 6.7, 6.8 and 7: `SETTINGS`, `PING` and `GOAWAY`, and codes that nobody knows.

use super::End::{Agreed, Closed, Connection, Pong, PongOrClosed};
use super::words::{Words, ping};
use super::{Case, case};
use crate::frames::{ACK, GOAWAY, PING, RST_STREAM, SETTINGS, frame};
use crate::http2::{FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, settings};

pub(super) fn cases(words: &Words) -> Vec<Case> {
    vec![
        case(
            "6.5/1",
            "SETTINGS that are agreed to with words",
            frame(SETTINGS, ACK, 0, &[0]),
            Connection(&[FRAME_SIZE_ERROR]),
        )
        .unspecific(),
        case(
            "6.5/2",
            "SETTINGS of a stream",
            frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.5/3",
            "SETTINGS of another size",
            frame(SETTINGS, 0, 0, &[0, 3, 0]),
            Connection(&[PROTOCOL_ERROR, FRAME_SIZE_ERROR]),
        ),
        case(
            "6.5.2/1",
            "ENABLE_PUSH of 2",
            settings(&[(2, 2)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.5.2/2",
            "INITIAL_WINDOW_SIZE that is too large",
            settings(&[(4, 0x8000_0000)]),
            Connection(&[FLOW_CONTROL_ERROR]),
        )
        .unspecific(),
        case(
            "6.5.2/3",
            "MAX_FRAME_SIZE that is too small",
            settings(&[(5, 16_383)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.5.2/4",
            "MAX_FRAME_SIZE that is too large",
            settings(&[(5, 1 << 24)]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.5.2/5",
            "a setting that nobody knows",
            [settings(&[(0xff, 1)]), ping(*b"question")].concat(),
            Pong(b"question"),
        ),
        case(
            "6.5.3/2",
            "SETTINGS that are to be agreed to",
            settings(&[(2, 0)]),
            Agreed,
        ),
        case("6.7/1", "PING", ping(*b"question"), Pong(b"question")),
        case(
            "6.7/2",
            "PING that is an answer",
            [frame(PING, ACK, 0, b"unasked!"), ping(*b"question")].concat(),
            Pong(b"question"),
        ),
        case(
            "6.7/3",
            "PING of a stream",
            frame(PING, 0, 1, &[0; 8]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "6.7/4",
            "PING of another size",
            frame(PING, 0, 0, &[0; 6]),
            Connection(&[FRAME_SIZE_ERROR]),
        )
        .unspecific(),
        case(
            "6.8/1",
            "GOAWAY of a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.4.1/1",
            "an error after which the connection closes",
            frame(PING, 0, 3, &[0; 8]),
            Closed,
        ),
        case(
            "5.4.1/2",
            "an error that is said first, which the suite calls strict",
            frame(PING, 0, 3, &[0; 8]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "7/1",
            "GOAWAY of an unknown code",
            [
                frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]),
                ping(*b"question"),
            ]
            .concat(),
            PongOrClosed(b"question"),
        ),
        case(
            "7/2",
            "RST_STREAM of an unknown code",
            [
                words.posted(),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 0xff]),
                ping(*b"question"),
            ]
            .concat(),
            Pong(b"question"),
        ),
    ]
}
