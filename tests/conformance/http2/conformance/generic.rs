//! Generic cases: what every endpoint has to take.

use super::End::{Agreed, Answered, Begun, Closed, Data, Pong, PongOrClosed};
use super::words::{Words, ping, whole};
use super::{Case, Step, case, dialogue};
use crate::frames;
use crate::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, PADDED, PRIORITY,
    RST_STREAM, WINDOW_UPDATE, WITH_PRIORITY, block, frame,
};
use crate::http2::settings;

pub(super) fn cases(words: &Words) -> Vec<Case> {
    let asked = || words.asked(1);
    let both = END_HEADERS | END_STREAM;
    let priority = |stream, exclusive: u8, on: u8, weight: u8| {
        frame(PRIORITY, 0, stream, &[exclusive, 0, 0, on, weight])
    };
    let cancel = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    let more_window = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
    let data = |flags| frame(frames::DATA, flags, 1, b"test");
    let full = words.block();
    let (first, rest) = full.split_at(5);
    let (second, third) = rest.split_at(5);
    // A stream that is not answered to its end, because it has no window.
    let half_closed = |more: Vec<u8>| {
        vec![
            Step::Send(settings(&[(INITIAL_WINDOW_SIZE, 0)])),
            Step::Agreed,
            Step::Send([asked(), more].concat()),
        ]
    };
    let closed = |more: Vec<u8>| vec![Step::Send(asked()), Step::Ended(1), Step::Send(more)];
    vec![
        dialogue("1/1", "the preface", vec![], Begun),
        case(
            "2/1",
            "PRIORITY of an idle stream",
            [priority(1, 0, 0, 255), ping(*b"question")].concat(),
            Pong(b"question"),
        ),
        dialogue(
            "2/2",
            "WINDOW_UPDATE of a half-closed stream",
            half_closed(more_window.clone()),
            Data(1),
        ),
        dialogue(
            "2/3",
            "PRIORITY of a half-closed stream",
            half_closed([priority(1, 0, 0, 255), more_window.clone()].concat()),
            Data(1),
        ),
        case(
            "2/4",
            "RST_STREAM of a half-closed stream",
            [asked(), cancel.clone(), ping(*b"question")].concat(),
            PongOrClosed(b"question"),
        ),
        dialogue(
            "2/5",
            "PRIORITY of a closed stream",
            closed([priority(1, 0, 0, 255), ping(*b"question")].concat()),
            Pong(b"question"),
        ),
        case(
            "3.1/1",
            "DATA",
            [words.posted(), data(END_STREAM)].concat(),
            Answered(1),
        ),
        case(
            "3.1/2",
            "DATA and DATA",
            [words.posted(), data(0), data(END_STREAM)].concat(),
            Answered(1),
        ),
        case(
            "3.1/3",
            "DATA with padding",
            [
                words.posted(),
                frame(
                    frames::DATA,
                    END_STREAM | PADDED,
                    1,
                    b"\x06test\0\0\0\0\0\0",
                ),
            ]
            .concat(),
            Answered(1),
        ),
        case("3.2/1", "HEADERS", asked(), Answered(1)),
        case(
            "3.2/2",
            "HEADERS with padding",
            frame(
                HEADERS,
                both | PADDED,
                1,
                &[&[8], &full[..], &[0; 8]].concat(),
            ),
            Answered(1),
        ),
        case(
            "3.2/3",
            "HEADERS with a priority",
            frame(
                HEADERS,
                both | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 0, 255], &full[..]].concat(),
            ),
            Answered(1),
        ),
        case(
            "3.3/1",
            "PRIORITY of weight 1",
            [priority(1, 0, 0, 0), asked()].concat(),
            Answered(1),
        ),
        case(
            "3.3/2",
            "PRIORITY of weight 256",
            [priority(1, 0, 0, 255), asked()].concat(),
            Answered(1),
        ),
        case(
            "3.3/3",
            "PRIORITY that depends on a stream",
            [priority(3, 0, 1, 0), asked()].concat(),
            Answered(1),
        ),
        case(
            "3.3/4",
            "PRIORITY that is exclusive",
            [priority(1, 0x80, 0, 0), asked()].concat(),
            Answered(1),
        ),
        case(
            "3.3/5",
            "PRIORITY of an idle stream, then HEADERS of an older one",
            [priority(3, 0, 0, 255), asked()].concat(),
            Answered(1),
        ),
        case(
            "3.4/1",
            "RST_STREAM",
            [words.open(1), cancel, ping(*b"question")].concat(),
            PongOrClosed(b"question"),
        ),
        case(
            "3.5/1",
            "SETTINGS",
            settings(&[
                (1, 4_096),
                (2, 1),
                (3, 100),
                (4, 65_535),
                (5, 16_384),
                (6, 100),
            ]),
            Agreed,
        ),
        case("3.7/1", "PING", ping(*b"question"), Pong(b"question")),
        case("3.8/1", "GOAWAY", frame(GOAWAY, 0, 0, &[0; 8]), Closed),
        case(
            "3.9/1",
            "WINDOW_UPDATE of the connection",
            [
                frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
                ping(*b"question"),
            ]
            .concat(),
            Pong(b"question"),
        ),
        case(
            "3.9/2",
            "WINDOW_UPDATE of a stream",
            [asked(), more_window].concat(),
            Answered(1),
        ),
        case(
            "3.10/1",
            "CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, END_HEADERS, 1, rest),
            ]
            .concat(),
            Answered(1),
        ),
        case(
            "3.10/2",
            "CONTINUATION and CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, first),
                frame(CONTINUATION, 0, 1, second),
                frame(CONTINUATION, END_HEADERS, 1, third),
            ]
            .concat(),
            Answered(1),
        ),
        case("4/1", "GET", asked(), Answered(1)),
        case("4/2", "HEAD", whole(&words.fields("HEAD")), Answered(1)),
        case(
            "4/3",
            "POST",
            [words.posted(), data(END_STREAM)].concat(),
            Answered(1),
        ),
        case(
            "4/4",
            "POST with trailers",
            [
                frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &block(&[words.fields("POST"), vec![("trailer", "x-test")]].concat()),
                ),
                data(0),
                frame(HEADERS, both, 1, &block(&[("x-test", "ok")])),
            ]
            .concat(),
            Answered(1),
        ),
    ]
}
