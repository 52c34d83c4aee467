//! RFC 9113, section 8: what a request may be.

use super::End::{Connection, Stream};
use super::words::{Words, whole};
use super::{Case, case};
use crate::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PUSH_PROMISE, block, frame};
use crate::http2::PROTOCOL_ERROR;

pub(super) fn cases(words: &Words) -> Vec<Case> {
    let usual = words.fields("GET");
    let without = |name: &str| {
        let mut fields = usual.clone();
        fields.retain(|(known, _)| *known != name);
        whole(&fields)
    };
    let twice = |name: &str| {
        let again = usual.iter().filter(|(known, _)| *known == name);
        words.with(&again.copied().collect::<Vec<_>>())
    };
    let mut pathless = usual.clone();
    pathless[3].1 = "";
    let mut late = vec![("x-test", "ok")];
    late.extend(&usual);
    let data = |flags| frame(DATA, flags, 1, b"test");
    let with_trailers = |flags, trailers| {
        let trailers = frame(HEADERS, END_HEADERS | flags, 1, &block(trailers));
        [words.posted(), data(0), trailers].concat()
    };
    let of_one = [words.fields("POST"), vec![("content-length", "1")]].concat();
    let of_one = frame(HEADERS, END_HEADERS, 1, &block(&of_one));
    let malformed = [
        (
            "8.1/1",
            "trailers that do not end the stream",
            with_trailers(0, &[("x-test", "ok")]),
        ),
        ("8.1.2/1", "upper case", words.with(&[("X-TEST", "ok")])),
        (
            "8.1.2.1/1",
            "a pseudo-field that nobody knows",
            words.with(&[(":test", "ok")]),
        ),
        (
            "8.1.2.1/2",
            "a pseudo-field of answers",
            words.with(&[(":status", "200")]),
        ),
        (
            "8.1.2.1/3",
            "a pseudo-field in trailers",
            with_trailers(0, &[(":method", "POST")]),
        ),
        ("8.1.2.1/4", "a pseudo-field behind a field", whole(&late)),
        (
            "8.1.2.2/1",
            "connection",
            words.with(&[("connection", "keep-alive")]),
        ),
        (
            "8.1.2.2/2",
            "te of more than trailers",
            words.with(&[("trailers", "test"), ("te", "trailers, deflate")]),
        ),
        ("8.1.2.3/1", "an empty :path", whole(&pathless)),
        ("8.1.2.3/2", "no :method", without(":method")),
        ("8.1.2.3/3", "no :scheme", without(":scheme")),
        ("8.1.2.3/4", "no :path", without(":path")),
        ("8.1.2.3/5", "two :method", twice(":method")),
        ("8.1.2.3/6", "two :scheme", twice(":scheme")),
        ("8.1.2.3/7", "two :path", twice(":path")),
        (
            "8.1.2.6/1",
            "more DATA than content-length",
            [of_one.clone(), data(END_STREAM)].concat(),
        ),
        (
            "8.1.2.6/2",
            "more DATA in two frames than content-length",
            [of_one, data(0), data(END_STREAM)].concat(),
        ),
    ];
    let promise = [&[0, 0, 0, 3][..], &words.block()].concat();
    let push = frame(PUSH_PROMISE, END_HEADERS, 1, &promise);
    malformed
        .into_iter()
        .map(|(id, what, sent)| case(id, what, sent, Stream(&[PROTOCOL_ERROR])))
        .chain([case(
            "8.2/1",
            "PUSH_PROMISE",
            push,
            Connection(&[PROTOCOL_ERROR]),
        )])
        .collect()
}
