//! One line of the trail, written by `serde_json` in ASCII and of bounded length.
//!
//! A record begins with `time` and lacks `seq`, `previous` and `hash`, which only the writer thread knows:
//! [`chain::seal`](super::chain::seal) adds them. Members without a value are left out.
//!
//! Nothing that a caller sends can break out of its member: what is not printable ASCII is written as `\u`
//! and four digits, and each text is cut to its limit, so that a line stays below [`LONGEST_LINE`] (G19).

mod ascii;

use std::cell::RefCell;

use serde::Serialize;
use serde_json::Serializer;

use crate::atlas::{CertQuery, Timestamp};

use ascii::Ascii;

/// No line is longer than this, its line end included.
pub(super) const LONGEST_LINE: usize = 8 << 10;

/// How many bytes `{"time":"2026-08-10T02:06:35.000000Z",` has; `seq` is put in after them.
pub(super) const TIME_LENGTH: usize = 38;

/// A fetch's record names no more serial numbers than this that appeared, or that vanished.
pub(super) const MOST_SERIALS: usize = 64;
pub(super) const MOST_EXPIRED: usize = 16;

/// The bytes that each text may take, escaped. A username never needs more (1,024 bytes, times three).
pub(super) mod limits {
    pub(in crate::audit) const USERNAME: usize = 3_072;
    pub(in crate::audit) const SUBJECT: usize = 1_024;
    pub(in crate::audit) const PATH: usize = 1_024;
    pub(in crate::audit) const ISSUER: usize = 512;
    pub(in crate::audit) const NAME: usize = 256;
    pub(in crate::audit) const SHORT: usize = 128;
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// What was done to or by this gateway.
    Admin,
    Fetch,
    /// A question about all certificates of a project that end soon.
    Inventory,
    Lookup,
    /// Refusals that were folded.
    Refusals,
}

pub(super) struct Record<'b>(&'b mut Vec<u8>);

impl Record<'_> {
    /// Writes a record into this thread's buffer, and gives its bytes to `read`. `identity` are the members
    /// that every record of a gateway has.
    pub(super) fn compose<T>(
        kind: Kind,
        time: Timestamp,
        identity: &[u8],
        write: impl FnOnce(&mut Record<'_>),
        read: impl FnOnce(&[u8]) -> T,
    ) -> T {
        BUFFER.with_borrow_mut(|Buffer { line, second }| {
            line.clear();
            // RFC 3339 has four digits for a year, so that a clock beyond them is recorded as at the edge.
            let micros = time.micros().clamp(0, LAST_INSTANT);
            line.extend_from_slice(b"{\"time\":\"");
            line.extend_from_slice(second.text(Timestamp::from_micros(micros)));
            // With a digit before them, so that zeros stay.
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(1_000_000 + micros % 1_000_000);
            line.extend_from_slice(digits.as_bytes().split_at(1).1);
            line.extend_from_slice(b"Z\",\"kind\":\"");
            line.extend_from_slice(kind.word().as_bytes());
            line.push(b'"');
            line.extend_from_slice(identity);
            write(&mut Record(line));
            read(line)
        })
    }

    /// Members that are written once and put into many records.
    pub(super) fn members(write: impl FnOnce(&mut Record<'_>)) -> Box<[u8]> {
        let mut members = Vec::new();
        write(&mut Record(&mut members));
        members.into()
    }

    /// A number, or whatever else has a bounded length.
    pub(super) fn put(&mut self, name: &str, value: impl Serialize) {
        self.name(name, "");
        self.value(value);
    }

    pub(super) fn put_some(&mut self, name: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// One of our own words, an id, or what else is known to need no escapes.
    pub(super) fn word(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.name(name, "");
        self.0.push(b'"');
        self.0.extend_from_slice(value.as_ref());
        self.0.push(b'"');
    }

    /// A text from outside, or of the configuration, cut if it needs more than `limit` bytes.
    pub(super) fn text(&mut self, name: &str, value: &str, limit: usize) {
        let kept = fitting(value, limit);
        if needs_no_escapes(kept) {
            self.word(name, kept);
        } else {
            self.put(name, kept);
        }
        if kept.len() < value.len() {
            self.note(name, "_truncated", true);
        }
    }

    pub(super) fn text_some(&mut self, name: &str, value: Option<&str>, limit: usize) {
        if let Some(value) = value {
            self.text(name, value, limit);
        }
    }

    /// Bytes that should be text: as text if they are UTF-8, else in hexadecimal and flagged.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8], limit: usize) {
        if let Ok(text) = str::from_utf8(value) {
            return self.text(name, text, limit);
        }
        let kept = value.get(..limit / 2).unwrap_or(value);
        self.word(name, hex(kept));
        self.note(name, "_hex", true);
        if kept.len() < value.len() {
            self.note(name, "_truncated", true);
        }
    }

    /// Serial numbers, at most so many, and how many more there are.
    pub(super) fn serials(&mut self, name: &str, serials: &[i64], most: usize) {
        let (listed, more) = serials.split_at(serials.len().min(most));
        self.list(name, listed, more.len());
    }

    /// Texts from outside, each whole, as many as fit into `limit` bytes together, and how many more there are.
    pub(super) fn texts(&mut self, name: &str, texts: &[String], limit: usize) {
        let mut taken = 0;
        let fit = texts.iter().take_while(|text| {
            // With quotation marks and a comma.
            taken += text.chars().map(escaped_length).sum::<usize>() + 3;
            taken <= limit
        });
        let (listed, more) = texts.split_at(fit.count());
        self.list(name, listed, more.len());
    }

    pub(super) fn query(&mut self, query: &CertQuery) {
        self.word("group_id", query.project.digits());
        self.text("username", query.username.as_str(), limits::USERNAME);
    }

    /// As many of these usernames as fit into the space of the longest one; how many that are.
    pub(super) fn usernames(&mut self, names: &[&str]) -> usize {
        let mut taken = 0;
        let fit = names.iter().take_while(|name| {
            // With quotation marks and a comma.
            taken += name.chars().map(escaped_length).sum::<usize>() + 3;
            taken <= limits::USERNAME + 3
        });
        let count = fit.count();
        let (listed, _) = names.split_at(count);
        self.list("usernames", listed, 0);
        count
    }

    fn list(&mut self, name: &str, listed: &[impl Serialize], more: usize) {
        if listed.len() + more == 0 {
            return;
        }
        self.put(name, listed);
        if more > 0 {
            self.note(name, "_more", more);
        }
    }

    fn note(&mut self, name: &str, suffix: &str, value: impl Serialize) {
        self.name(name, suffix);
        self.value(value);
    }

    fn name(&mut self, name: &str, suffix: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(suffix.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn value(&mut self, value: impl Serialize) {
        let mut serializer = Serializer::with_formatter(&mut *self.0, Ascii);
        let written = value.serialize(&mut serializer);
        written.expect("a vector takes every byte, and no member has a key that is no text");
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Fetch => "fetch",
            Self::Inventory => "inventory",
            Self::Lookup => "lookup",
            Self::Refusals => "refusals",
        }
    }
}

/// `text` as it stands between quotation marks in a record, and whether all of it does.
pub(super) fn escaped(text: &str, limit: usize) -> (String, bool) {
    let kept = fitting(text, limit);
    let mut line = Vec::new();
    Record(&mut line).value(kept);
    let line = String::from_utf8(line).expect("records are ASCII");
    let inside = line
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let inside = inside.expect("a text stands between quotation marks");
    (inside.to_owned(), kept.len() == text.len())
}

pub(super) fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| hex_digits(*byte)).collect()
}

pub(super) fn hex_digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|value| {
        if value < 10 {
            b'0' + value
        } else {
            b'a' - 10 + value
        }
    })
}

/// Whether `text` stands in a record as it is. Nearly every text does, and serde would look at each of its bytes
/// in a table.
fn needs_no_escapes(text: &str) -> bool {
    let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    text.bytes().fold(true, |all, byte| all & is_plain(byte))
}

/// The longest beginning of `text` that takes at most `limit` bytes.
fn fitting(text: &str, limit: usize) -> &str {
    // No byte of UTF-8 takes more than six.
    if text.len().saturating_mul(6) <= limit {
        return text;
    }
    let mut taken = 0;
    let end = text.char_indices().find(|(_, character)| {
        taken += escaped_length(*character);
        taken > limit
    });
    end.map_or(text, |(at, _)| text.split_at(at).0)
}

fn escaped_length(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        ' '..='~' => 1,
        _ => 6 * character.len_utf16(),
    }
}

/// The buffer of a thread. The calendar is worked out once a second, not once a record.
#[derive(Default)]
struct Buffer {
    line: Vec<u8>,
    second: CalendarSecond,
}

#[derive(Default)]
struct CalendarSecond {
    number: i64,
    /// `2026-08-10T02:06:35.`.
    text: String,
}

impl CalendarSecond {
    fn text(&mut self, time: Timestamp) -> &[u8] {
        if self.text.is_empty() || self.number != time.seconds() {
            self.number = time.seconds();
            self.text = time.to_string();
            self.text.truncate("2026-08-10T02:06:35.".len());
        }
        self.text.as_bytes()
    }
}

thread_local! {
    static BUFFER: RefCell<Buffer> = RefCell::default();
}

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
            ("\"\"", r#"\"\""#),
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
        let line = |micros| {
            let time = Timestamp::from_micros(micros);
            Record::compose(
                Kind::Fetch,
                time,
                b"",
                |_| (),
                |line| {
                    assert_eq!(line.get(TIME_LENGTH..).unwrap(), b"\"kind\":\"fetch\"");
                    String::from_utf8(line.to_vec()).unwrap()
                },
            )
        };
        for micros in [0, 1, 1_786_327_595_000_001, LAST_INSTANT] {
            let time = Timestamp::from_micros(micros);
            assert!(line(micros).starts_with(&format!("{{\"time\":\"{time}\",")));
        }
        for (micros, year) in [(i64::MIN, "1970"), (i64::MAX, "9999")] {
            assert!(line(micros).starts_with(&format!("{{\"time\":\"{year}-")));
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back_as_itself_or_as_its_beginning(text in any::<String>(), limit in 0_usize..64) {
            let (inside, whole) = escaped(&text, limit);
            prop_assert!(inside.is_ascii() && inside.len() <= limit);
            let read: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
            prop_assert_eq!(whole, read == text);
            prop_assert!(text.starts_with(&read));
        }
    }
}
