//! RFC 9113, section 5: what may be said of a stream, idle, open, half-closed or closed.

use super::End::{Connection, Stream};
use super::words::{Words, filler};
use super::{Case, Step, case, dialogue};
use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW_SIZE, PRIORITY,
    RST_STREAM, WINDOW_UPDATE, WITH_PRIORITY, frame,
};
use crate::http2::{PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED, settings};

pub(super) fn cases(words: &Words) -> Vec<Case> {
    let asked = || words.asked(1);
    let data = || frame(DATA, END_STREAM, 1, b"test");
    let more = || frame(CONTINUATION, END_HEADERS, 1, &filler());
    let cancelled = |then: Vec<u8>| {
        let cancel = frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        [words.open(1), cancel, then].concat()
    };
    let closed = |then: Vec<u8>| vec![Step::Send(asked()), Step::Ended(1), Step::Send(then)];
    let on_itself = [0, 0, 0, 1, 255];
    vec![
        case(
            "5.1/1",
            "DATA of an idle stream",
            data(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1/2",
            "RST_STREAM of an idle stream",
            frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1/3",
            "WINDOW_UPDATE of an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 100]),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1/4",
            "CONTINUATION of an idle stream",
            frame(CONTINUATION, END_HEADERS, 1, &words.block()),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1/5",
            "DATA of a half-closed stream",
            [asked(), data()].concat(),
            Stream(&[STREAM_CLOSED]),
        )
        .unspecific(),
        case(
            "5.1/6",
            "HEADERS of a half-closed stream",
            [asked(), asked()].concat(),
            Stream(&[STREAM_CLOSED]),
        )
        .unspecific(),
        case(
            "5.1/7",
            "CONTINUATION of a half-closed stream",
            [asked(), more()].concat(),
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case(
            "5.1/8",
            "DATA behind RST_STREAM",
            cancelled(data()),
            Stream(&[STREAM_CLOSED]),
        ),
        case(
            "5.1/9",
            "HEADERS behind RST_STREAM",
            cancelled(asked()),
            Stream(&[STREAM_CLOSED]),
        )
        .unspecific(),
        case(
            "5.1/10",
            "CONTINUATION behind RST_STREAM",
            cancelled(more()),
            Stream(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        dialogue(
            "5.1/11",
            "DATA of a closed stream",
            closed(data()),
            Stream(&[STREAM_CLOSED]),
        ),
        dialogue(
            "5.1/12",
            "HEADERS of a closed stream",
            closed(asked()),
            Connection(&[STREAM_CLOSED]),
        )
        .unspecific(),
        dialogue(
            "5.1/13",
            "CONTINUATION of a closed stream",
            closed(more()),
            Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case(
            "5.1.1/1",
            "an even stream",
            words.asked(2),
            Connection(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.1.1/2",
            "a stream older than the last",
            [words.asked(5), words.asked(3)].concat(),
            Connection(&[PROTOCOL_ERROR]),
        ),
        dialogue(
            "5.1.2/1",
            "one stream too many",
            vec![
                Step::Send(settings(&[(INITIAL_WINDOW_SIZE, 0)])),
                Step::Agreed,
                Step::Send(
                    (0..=100)
                        .flat_map(|round| words.asked(round * 2 + 1))
                        .collect(),
                ),
            ],
            Stream(&[PROTOCOL_ERROR, REFUSED_STREAM]),
        ),
        case(
            "5.3.1/1",
            "HEADERS that depend on themselves",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&on_itself[..], &words.block()].concat(),
            ),
            Stream(&[PROTOCOL_ERROR]),
        ),
        case(
            "5.3.1/2",
            "PRIORITY that depends on itself",
            frame(PRIORITY, 0, 1, &on_itself),
            Stream(&[PROTOCOL_ERROR]),
        ),
    ]
}
