use super::super::bytes::all_between;
use super::*;

const LIMITS: HeadLimits = HeadLimits {
    size: 16 << 10,
    headers: 64,
    bodies: false,
    patience: Duration::ZERO,
};

fn whole(head: &str, limits: HeadLimits) -> HeadProgress {
    Scan::default().advance(head.as_bytes(), limits)
}

#[test]
fn a_head_says_the_same_in_one_piece_and_byte_by_byte() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "BREW /a?b=c%20d HTTP/1.1\r\nX-\u{e9}: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 3\r\ncontent-LENGTH: 3\r\n\r\n",
    ] {
        let at_once = whole(head, LIMITS);
        let mut scan = Scan::default();
        let bytes = head.as_bytes();
        let in_pieces = (1..=bytes.len())
            .map(|count| scan.advance(&bytes[..count], LIMITS))
            .find(|progress| *progress != HeadProgress::Partial);
        assert_eq!(Some(at_once), in_pieces, "{head:?}");
    }
}

#[test]
fn what_comes_behind_a_head_is_known_from_the_head() {
    let operators = HeadLimits {
        bodies: true,
        ..LIMITS
    };
    for (head, callers, of_operators) in [
        (
            "GET / HTTP/1.1\r\n\r\n",
            Some(BehindHead::Head(0)),
            Some(BehindHead::Head(0)),
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            Some(BehindHead::Head(0)),
            Some(BehindHead::Head(0)),
        ),
        (
            "GET / HTTP/1.1\r\nContent-Length: 12\r\n\r\n",
            Some(BehindHead::Nothing),
            Some(BehindHead::Head(12)),
        ),
        (
            "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n",
            Some(BehindHead::Nothing),
            Some(BehindHead::Head(12)),
        ),
        (
            "POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n",
            None,
            Some(BehindHead::Head(12)),
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n",
            None,
            Some(BehindHead::Chunks),
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            None,
            None,
        ),
        (
            "CONNECT h:443 HTTP/1.1\r\n\r\n",
            Some(BehindHead::Nothing),
            Some(BehindHead::Nothing),
        ),
    ] {
        for (limits, expected) in [(LIMITS, callers), (operators, of_operators)] {
            let next = match whole(head, limits) {
                HeadProgress::Whole { length, next } => {
                    assert_eq!(length, head.len());
                    Some(next)
                }
                HeadProgress::Bad(_) | HeadProgress::Partial => None,
            };
            assert_eq!(next, expected, "{head:?}");
        }
    }
}

#[test]
fn a_body_that_will_not_be_read_is_whole_malformed_or_too_long_to_look_at() {
    let post = |headers: &str, body: &str| format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n{body}");
    let chunked = "Transfer-Encoding: chunked";
    let long = "x".repeat(16 << 10);
    for (headers, body, expected) in [
        ("Content-Length: 5", "hello", Some(true)),
        ("Content-Length: 5", "hello!", Some(true)),
        ("Content-Length: 5", "hell", None),
        (chunked, "5\r\nhello\r\n0\r\n\r\n", Some(true)),
        (chunked, "5\r\nhello\r\n0\r\n", None),
        (chunked, "0x5\r\nhello\r\n0\r\n\r\n", Some(false)),
        ("Content-Length: 99999", &long, Some(true)),
        (chunked, &format!("ffff\r\n{long}"), Some(true)),
    ] {
        let head = post(headers, "").len();
        let whole = HeadProgress::Whole {
            length: head,
            next: BehindHead::Nothing,
        };
        let progress = match expected {
            Some(true) => whole,
            Some(false) => HeadProgress::Bad(HeadFault::Chunk),
            None => HeadProgress::Partial,
        };
        let text = post(headers, body);
        assert_eq!(self::whole(&text, LIMITS), progress, "{headers} {body:.20}");
        let mut scan = Scan::default();
        let in_pieces = (1..=text.len())
            .map(|count| scan.advance(&text.as_bytes()[..count], LIMITS))
            .find(|progress| *progress != HeadProgress::Partial);
        let in_pieces = in_pieces.unwrap_or(HeadProgress::Partial);
        assert_eq!(in_pieces, progress, "{headers} {body:.20}");
    }
}

#[test]
fn each_synthetic_request_is_read_as_its_fault_and_none_can_be_sent() {
    for &fault in HeadFault::ALL {
        let head = std::str::from_utf8(fault.synthetic_request()).unwrap();
        assert_eq!(
            whole(head, LIMITS),
            HeadProgress::Bad(HeadFault::RequestLine)
        );
        let target = head.split(' ').nth(1).unwrap();
        let request = http::Request::builder().method("!").uri(target).body(());
        assert_eq!(HeadFault::of_synthetic(&request.unwrap()), Some(fault));
    }
}

#[test]
fn every_byte_is_looked_at_however_many_there_are() {
    for length in 0..70 {
        let mut text = vec![b'm'; length];
        assert!(all_between(&text, b'a', b'z'));
        for at in 0..length {
            for byte in [0, b'`', b'{', 0x80, 0xff] {
                text[at] = byte;
                assert!(!all_between(&text, b'a', b'z'), "{at} of {length}");
            }
            text[at] = b'm';
        }
    }
}

#[test]
fn what_is_usual_in_targets_is_so_for_hyper() {
    for byte in (0..=u8::MAX).filter(|byte| is_usual(*byte)) {
        let target = [b'/', byte, b'?', byte];
        assert!(http::Uri::try_from(&target[..]).is_ok(), "{byte:#x}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(4_096))]

    /// Whatever passes here is one request for hyper's own parser too, of the same length.
    #[test]
    fn what_passes_is_one_head_of_the_same_length_for_hyper(
        head in concat!(
            "(GET|get|B!EW|G E) (/[a-z%?#\\\\<\"]{0,4}|\\*|h:1) HTTP/1.[019](\r\n|\r\n|\r\n|\n)",
            "([a-zA-Z-]{0,5}[: ]{1,2}[ -~\t\r\u{0}]{0,3}(\r\n|\r\n|\r\n|\n)){0,3}\r\n"
        )
    ) {
        if let HeadProgress::Whole { length, .. } = whole(&head, LIMITS) {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            proptest::prop_assert_eq!(
                request.parse(head.as_bytes()),
                Ok(httparse::Status::Complete(length))
            );
        }
    }
}
