//! A record's members go in; the body of one line of JSON comes out, in ASCII and bounded.
//!
//! A body begins with `time` and lacks `seq`, `previous` and `hash`, which only the journal can know:
//! [`chain::seal`](super::chain::seal) makes it a line. It is written by hand, straight into a buffer
//! that is used again: an intermediate value would cost more than the rest of the record.
//!
//! Nothing that a caller sends can break out of its member: what is not printable ASCII leaves as
//! `\uXXXX`, and every text has its room, so that the whole line stays below [`LONGEST_LINE`] (G19).

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;

use uuid::Uuid;

use crate::atlas::Timestamp;

/// No line is longer than this, its line end included.
pub(super) const LONGEST_LINE: usize = 8 << 10;

/// How many bytes `{"time":"2026-08-10T02:06:35.000000Z",` has; `seq` is put in after them.
pub(super) const TIME_LENGTH: usize = 38;

/// The bytes that each text may take after escaping. Together with the names and the numbers they
/// stay below [`LONGEST_LINE`]; a username never needs more than this (1,024 bytes, times three).
pub(super) mod room {
    pub(in crate::audit) const USERNAME: usize = 3_072;
    pub(in crate::audit) const SUBJECT: usize = 1_024;
    pub(in crate::audit) const PATH: usize = 1_024;
    pub(in crate::audit) const ISSUER: usize = 512;
    pub(in crate::audit) const NAME: usize = 256;
    pub(in crate::audit) const SHORT: usize = 128;
}

/// A member's name as it stands in a line, with what is around it: one append instead of three, and of a
/// length that the compiler knows. Made by `name!` alone.
#[derive(Clone, Copy)]
pub(super) struct Name(pub(super) &'static str);

macro_rules! name {
    ($name:literal) => {
        crate::audit::record::Name(concat!(",\"", $name, "\":"))
    };
}
pub(super) use name;

/// One body being written. A record is some forty small appends, so that what each of them costs counts:
/// the methods are small enough to be inlined where their names are known.
pub(super) struct Body<'a>(&'a mut Vec<u8>);

impl Body<'_> {
    /// Writes a body with `write` and hands its bytes to `read`. No allocation after the first few.
    pub(super) fn compose<T>(
        time: Timestamp,
        kind: &'static str,
        write: impl FnOnce(&mut Body<'_>),
        read: impl FnOnce(&[u8]) -> T,
    ) -> T {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.begin(time);
            scratch.line.extend_from_slice(b"\"kind\":\"");
            scratch.line.extend_from_slice(kind.as_bytes());
            scratch.line.push(b'"');
            write(&mut Body(&mut scratch.line));
            read(&scratch.line)
        })
    }

    /// A text from outside, or one that configuration gave: escaped, and cut if it needs more than
    /// `room` bytes.
    #[inline]
    pub(super) fn text(&mut self, name: Name, value: &str, room: usize) {
        self.append(name.0);
        self.0.push(b'"');
        let whole = escape(self.0, value, room);
        self.0.push(b'"');
        if !whole {
            self.flag(name, "_truncated\":true");
        }
    }

    /// A text that may be absent.
    #[inline]
    pub(super) fn text_or_null(&mut self, name: Name, value: Option<&str>, room: usize) {
        match value {
            Some(value) => self.text(name, value, room),
            None => self.null(name),
        }
    }

    /// Bytes that should be text: as text if they are UTF-8, else in hexadecimal and flagged.
    pub(super) fn bytes(&mut self, name: Name, value: &[u8], room: usize) {
        if let Ok(text) = str::from_utf8(value) {
            return self.text(name, text, room);
        }
        self.append(name.0);
        self.0.push(b'"');
        let shown = value.get(..room / 2).unwrap_or(value);
        push_hex(self.0, shown);
        self.0.push(b'"');
        self.flag(name, "_hex\":true");
        if shown.len() < value.len() {
            self.flag(name, "_truncated\":true");
        }
    }

    /// One of our own words, or a text that was checked to be as plain as one.
    #[inline]
    pub(super) fn word(&mut self, name: Name, value: &str) {
        self.append(name.0);
        self.0.push(b'"');
        self.append(value);
        self.0.push(b'"');
    }

    /// A whole number.
    #[inline]
    pub(super) fn number(&mut self, name: Name, value: u64) {
        self.append(name.0);
        push_number(self.0, value);
    }

    /// A number that may be absent.
    #[inline]
    pub(super) fn number_or_null(&mut self, name: Name, value: Option<u64>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.null(name),
        }
    }

    /// An id that may be absent.
    #[inline]
    pub(super) fn id_or_null(&mut self, name: Name, value: Option<&Uuid>) {
        match value {
            Some(value) => {
                self.append(name.0);
                let mut text = [b'"'; 38];
                if let Some(inside) = text.get_mut(1..37) {
                    value.hyphenated().encode_lower(inside);
                }
                self.0.extend_from_slice(&text);
            }
            None => self.null(name),
        }
    }

    /// An address and its port.
    #[inline]
    pub(super) fn peer(&mut self, name: Name, value: &SocketAddr) {
        self.append(name.0);
        push_address(self.0, value);
    }

    /// `true`; absent otherwise.
    pub(super) fn truth(&mut self, name: Name) {
        self.append(name.0);
        self.append("true");
    }

    /// A member without a value.
    #[inline]
    pub(super) fn null(&mut self, name: Name) {
        self.append(name.0);
        self.append("null");
    }

    #[inline]
    fn append(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A member that says something of the member `name`.
    #[cold]
    fn flag(&mut self, name: Name, rest: &'static str) {
        self.append(name.0.strip_suffix("\":").unwrap_or(name.0));
        self.append(rest);
    }
}

fn push_address(out: &mut Vec<u8>, address: &SocketAddr) {
    // The longest is `"255.255.255.255:65535"`.
    let mut text = [b'"'; 23];
    let mut length = 1;
    let mut push = |bytes: &[u8]| {
        if let Some(place) = text.get_mut(length..length + bytes.len()) {
            place.copy_from_slice(bytes);
            length += bytes.len();
        }
    };
    match address {
        SocketAddr::V4(address) => {
            let mut number = itoa::Buffer::new();
            for (index, octet) in address.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    push(b".");
                }
                push(number.format(octet).as_bytes());
            }
            push(b":");
            push(number.format(address.port()).as_bytes());
            push(b"\"");
            out.extend_from_slice(text.get(..length).unwrap_or_default());
        }
        SocketAddr::V6(address) => {
            // Writing to a vector cannot fail. A scope is a number, so nothing needs escaping.
            let _ = write!(out, "\"{address}\"");
        }
    }
}

/// The buffer of a thread, and the text of the second that it wrote last: the calendar is worked out
/// once a second, not once a record.
struct Scratch {
    line: Vec<u8>,
    second: i64,
    calendar: [u8; CALENDAR_LENGTH],
}

impl Scratch {
    fn begin(&mut self, time: Timestamp) {
        // RFC 3339 has four digits for a year; a clock beyond them is set wrong, and a record that
        // says so at the edge is better than one that cannot be read.
        let micros = time.micros().clamp(0, LAST_INSTANT);
        let time = Timestamp::from_micros(micros);
        if time.seconds() != self.second {
            let text = time.to_string();
            if let Some(Ok(calendar)) = text
                .as_bytes()
                .get(..CALENDAR_LENGTH)
                .map(TryInto::try_into)
            {
                self.calendar = calendar;
                self.second = time.seconds();
            }
        }
        let mut head = *b"{\"time\":\"1970-01-01T00:00:00.000000Z\",";
        let (_, rest) = head.split_at_mut(9);
        let (calendar, rest) = rest.split_at_mut(CALENDAR_LENGTH);
        calendar.copy_from_slice(&self.calendar);
        let mut decimals = micros.rem_euclid(1_000_000);
        for digit in rest.iter_mut().skip(1).take(6).rev() {
            *digit = b'0' + u8::try_from(decimals % 10).unwrap_or_default();
            decimals /= 10;
        }
        self.line.clear();
        self.line.extend_from_slice(&head);
    }
}

/// Appends `bytes` in lower-case hexadecimal.
pub(super) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.extend_from_slice(&hex_digits(*byte));
    }
}

/// The two lower-case hexadecimal digits of a byte.
pub(super) fn hex_digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| {
        if digit < 10 {
            b'0' + digit
        } else {
            b'a' - 10 + digit
        }
    })
}

/// Appends a number in decimal.
pub(super) fn push_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `text` as the inside of a JSON string, using `room` bytes at most; says whether all of it
/// had room.
fn escape(out: &mut Vec<u8>, text: &str, room: usize) -> bool {
    if text.len() <= room && all_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return true;
    }
    escape_slowly(out, text, room)
}

#[cold]
fn escape_slowly(out: &mut Vec<u8>, text: &str, room: usize) -> bool {
    let limit = out.len() + room;
    for character in text.chars() {
        let before = out.len();
        match u8::try_from(character) {
            Ok(byte) if is_plain(byte) => out.push(byte),
            Ok(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(b"\\u");
                    push_hex(out, &unit.to_be_bytes());
                }
            }
        }
        if out.len() > limit {
            out.truncate(before);
            return false;
        }
    }
    true
}

/// `text` as it stands in a record, and whether all of it does.
pub(super) fn escaped(text: &str, room: usize) -> (String, bool) {
    let mut out = Vec::new();
    let whole = escape(&mut out, text, room);
    (String::from_utf8(out).unwrap_or_default(), whole)
}

/// Whether every byte stands for itself in JSON, eight at a time; what is left at the end is looked at
/// together with bytes before it.
fn all_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        return text.iter().all(|byte| is_plain(*byte));
    };
    let (words, _) = text.as_chunks::<8>();
    let odd = words
        .iter()
        .fold(odd_bytes(*last), |odd, word| odd | odd_bytes(*word));
    odd & (EACH << 7) == 0
}

/// Has the highest bit of some byte set if one of them is below a blank, above a tilde, a quotation mark
/// or a backslash. Which byte it was is not told: a borrow may reach its neighbour.
fn odd_bytes(word: [u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(word);
    word | word.wrapping_sub(EACH * 0x20)
        | word.wrapping_add(EACH)
        | (word ^ (EACH * 0x22)).wrapping_sub(EACH)
        | (word ^ (EACH * 0x5c)).wrapping_sub(EACH)
}

/// 1 in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { line: Vec::new(), second: i64::MIN, calendar: *b"1970-01-01T00:00:00" })
    };
}

const CALENDAR_LENGTH: usize = "1970-01-01T00:00:00".len();
/// 9999-12-31T23:59:59.999999Z.
const LAST_INSTANT: i64 = 253_402_300_799_999_999;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_printable_ascii_is_escaped() {
        for (text, expected) in [
            ("payments-1", "payments-1"),
            ("x\"}\n{", r#"x\"}\u000a{"#),
            ("\\", r"\\"),
            ("\u{1b}[31m", r"\u001b[31m"),
            ("\u{7f}\u{85}", r"\u007f\u0085"),
            ("\u{2028}\u{2029}\u{202e}", r"\u2028\u2029\u202e"),
            ("\u{1f600}", r"\ud83d\ude00"),
        ] {
            assert_eq!(escaped(text, 100), (expected.to_owned(), true), "{text:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters_and_never_inside_an_escape() {
        assert_eq!(escaped("abcdef", 4), ("abcd".to_owned(), false));
        assert_eq!(escaped("ab\u{1f600}", 13), ("ab".to_owned(), false));
        assert_eq!(escaped("ab\"", 3), ("ab".to_owned(), false));
        assert_eq!(escaped("abc", 3), ("abc".to_owned(), true));
    }

    #[test]
    fn a_time_is_printed_as_timestamps_print_themselves() {
        for micros in [
            0,
            1,
            1_786_327_595_000_001,
            1_786_327_595_999_999,
            LAST_INSTANT,
        ] {
            let time = Timestamp::from_micros(micros);
            let body = Body::compose(time, "lookup", |_| (), <[u8]>::to_vec);
            assert_eq!(
                String::from_utf8(body).unwrap(),
                format!("{{\"time\":\"{time}\",\"kind\":\"lookup\"")
            );
        }
        for (micros, year) in [(i64::MIN, "1970"), (i64::MAX, "9999")] {
            let time = Timestamp::from_micros(micros);
            let body = Body::compose(time, "lookup", |_| (), <[u8]>::to_vec);
            assert_eq!(str::from_utf8(&body[9..13]).unwrap(), year);
            assert_eq!(body.get(TIME_LENGTH), Some(&b'"'));
        }
    }

    proptest! {
        #[test]
        fn bytes_are_judged_eight_at_a_time_as_one_by_one(text in "[ -~\\x00-\\x1f\\x7f-\\xff]{0,40}|[ -!#-\\[\\]-~]{0,40}") {
            let text = text.as_bytes();
            prop_assert_eq!(all_plain(text), text.iter().all(|byte| is_plain(*byte)));
        }

        #[test]
        fn any_text_reads_back_as_itself_or_as_its_beginning(text in any::<String>(), room in 0_usize..64) {
            let (inside, whole) = escaped(&text, room);
            prop_assert!(inside.is_ascii() && inside.len() <= room);
            let read: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
            prop_assert_eq!(whole, read == text);
            prop_assert!(text.starts_with(&read));
        }
    }
}
