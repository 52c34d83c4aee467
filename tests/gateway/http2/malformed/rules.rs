//! The rules of the protocol, one by one: a rule, what breaks it and what comes of that.

use crate::http2::COMPRESSION_ERROR;
use crate::http2::CONTINUATION;
use crate::http2::DATA;
use crate::http2::END_HEADERS;
use crate::http2::END_STREAM;
use crate::http2::FLOW_CONTROL_ERROR;
use crate::http2::FRAME_SIZE_ERROR;
use crate::http2::GOAWAY;
use crate::http2::HEADERS;
use crate::http2::PADDED;
use crate::http2::PING;
use crate::http2::PRIORITY;
use crate::http2::PROTOCOL_ERROR;
use crate::http2::PUSH_PROMISE;
use crate::http2::RST_STREAM;
use crate::http2::SETTINGS;
use crate::http2::STREAM_CLOSED;
use crate::http2::WINDOW_UPDATE;
use crate::http2::WITH_PRIORITY;
use crate::http2::block;
use crate::http2::frame;
use crate::http2::get;
use crate::world::PROJECT;
use crate::world::certs;
use crate::world::token;

/// What may come of a row.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// An error of the connection.
    Connection(u32),
    /// An error of the stream, or of the connection.
    Stream(u32),
    /// Nothing: it is ignored, and the connection goes on.
    Ignored,
}

/// A rule, what breaks it, and what comes of that.
pub(super) type Rule = (&'static str, Vec<u8>, End);

/// Every rule of RFC 9113 and RFC 7541 that a caller can break in a few frames: what the conformance
/// suite `h2spec` asks, strict mode included, as far as a caller without bodies can be asked.
pub(super) fn rules() -> Vec<Rule> {
    use End::Connection;
    use End::Ignored;
    use End::Stream;
    let (path, authorization) = (certs(PROJECT, "app1"), format!("Bearer {}", token()));
    let usual = block(&get(&path, &authorization));
    let open = |stream| frame(HEADERS, END_HEADERS, stream, &usual);
    let asked = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &usual);
    let begun = |stream| frame(HEADERS, END_STREAM, stream, &usual);
    let raw = |bytes: &[u8]| frame(HEADERS, END_HEADERS | END_STREAM, 1, bytes);
    let setting = |id: u16, value: u32| {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        frame(SETTINGS, 0, 0, &payload)
    };
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let depends_on = |stream: u32| [&stream.to_be_bytes()[..], &[1]].concat();
    vec![
        ("4.1 unknown type", frame(0x16, 0, 0, &[0; 8]), Ignored),
        ("4.1 unknown flags", frame(PING, 0x16, 0, &[0; 8]), Ignored),
        (
            "4.2 DATA too large",
            [open(1), frame(DATA, 0, 1, &[0; 16_385])].concat(),
            Stream(FRAME_SIZE_ERROR),
        ),
        (
            "4.2 HEADERS too large",
            frame(HEADERS, END_HEADERS, 1, &[0; 16_385]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "4.3 no header block",
            raw(&[0x40]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "4.3 PRIORITY within headers",
            [begun(1), frame(PRIORITY, 0, 1, &depends_on(0))].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "4.3 other HEADERS within headers",
            [begun(1), asked(3)].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 DATA when idle",
            frame(DATA, END_STREAM, 1, &[0]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 RST_STREAM when idle",
            frame(RST_STREAM, 0, 1, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 WINDOW_UPDATE when idle",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 CONTINUATION when idle",
            frame(CONTINUATION, END_HEADERS, 1, &usual),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 DATA when half closed",
            [asked(1), frame(DATA, END_STREAM, 1, &[0])].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1 HEADERS when half closed",
            [asked(1), asked(1)].concat(),
            Stream(STREAM_CLOSED),
        ),
        (
            "5.1 CONTINUATION when half closed",
            [asked(1), frame(CONTINUATION, END_HEADERS, 1, &usual)].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.1 DATA when reset",
            [
                open(1),
                frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
                frame(DATA, 0, 1, &[0]),
            ]
            .concat(),
            Ignored,
        ),
        ("5.1.1 even stream", asked(2), Connection(PROTOCOL_ERROR)),
        (
            "5.1.1 older stream",
            [asked(5), asked(3)].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "5.5 unknown type within headers",
            [begun(1), frame(0x16, 0, 0, &[0; 8])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.1 DATA on no stream",
            frame(DATA, END_STREAM, 0, &[0]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.1 padding longer than DATA",
            [open(1), frame(DATA, END_STREAM | PADDED, 1, &[9, 0])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.2 HEADERS on no stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, &usual),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.2 padding longer than HEADERS",
            frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 1, &[200, 0x82]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.3 PRIORITY on no stream",
            frame(PRIORITY, 0, 0, &depends_on(0)),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.3 PRIORITY of another size",
            frame(PRIORITY, 0, 1, &[0; 4]),
            Stream(FRAME_SIZE_ERROR),
        ),
        (
            "6.3 HEADERS that depend on themselves",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | WITH_PRIORITY,
                1,
                &[&depends_on(1)[..], &usual].concat(),
            ),
            Ignored,
        ),
        (
            "6.4 RST_STREAM on no stream",
            frame(RST_STREAM, 0, 0, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.4 RST_STREAM of another size",
            [open(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5 SETTINGS agreed to with words",
            frame(SETTINGS, 1, 0, &[0; 6]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5 SETTINGS on a stream",
            frame(SETTINGS, 0, 1, &[0; 6]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5 SETTINGS of another size",
            frame(SETTINGS, 0, 0, &[0; 3]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.5.2 ENABLE_PUSH of 2",
            setting(2, 2),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5.2 too large a window",
            setting(4, 0x8000_0000),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "6.5.2 too small frames",
            setting(5, 16_383),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.5.2 too large frames",
            setting(5, 1 << 24),
            Connection(PROTOCOL_ERROR),
        ),
        ("6.5.2 unknown setting", setting(0xff, 1), Ignored),
        (
            "6.6 PUSH_PROMISE",
            [
                open(1),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2][..], &usual].concat(),
                ),
            ]
            .concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.7 PING on a stream",
            frame(PING, 0, 1, &[0; 8]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.7 PING of another size",
            frame(PING, 0, 0, &[0; 6]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.8 GOAWAY on a stream",
            frame(GOAWAY, 0, 1, &[0; 8]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.9 no more window",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.9 no more window of a stream",
            [open(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Stream(PROTOCOL_ERROR),
        ),
        (
            "6.9 WINDOW_UPDATE of another size",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
            Connection(FRAME_SIZE_ERROR),
        ),
        (
            "6.9.1 too much window",
            frame(WINDOW_UPDATE, 0, 0, &most).repeat(2),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.1 too much window of a stream",
            [open(1), frame(WINDOW_UPDATE, 0, 1, &most).repeat(2)].concat(),
            Stream(FLOW_CONTROL_ERROR),
        ),
        (
            "6.9.2 a setting that makes it too much",
            [
                open(1),
                frame(WINDOW_UPDATE, 0, 1, &0x7fff_0000_u32.to_be_bytes()),
                setting(4, 0x7fff_ffff),
            ]
            .concat(),
            Connection(FLOW_CONTROL_ERROR),
        ),
        (
            "6.10 CONTINUATION on no stream",
            [begun(1), frame(CONTINUATION, END_HEADERS, 0, &[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.10 CONTINUATION of another stream",
            [begun(1), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "6.10 CONTINUATION behind the end",
            [asked(1), frame(CONTINUATION, END_HEADERS, 1, &[])].concat(),
            Connection(PROTOCOL_ERROR),
        ),
        (
            "RFC 7541, 2.3.3 no such entry",
            raw(&[0xc6]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "RFC 7541, 6.1 entry 0",
            raw(&[0x80]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "RFC 7541, 6.3 table beyond its size",
            raw(&[0x3f, 0xe1, 0xff, 0x03]),
            Connection(COMPRESSION_ERROR),
        ),
        (
            "RFC 7541, 5.2 a code of more than padding",
            raw(&[0x00, 0x82, 0xff, 0xff, 0x01, b'x']),
            Connection(COMPRESSION_ERROR),
        ),
    ]
}
