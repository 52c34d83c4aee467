//! A record's members go in; the body of one line of JSON comes out, in ASCII and bounded.
//!
//! A body begins with `time` and lacks `seq`, `previous` and `hash`, which only the journal can know:
//! [`chain::seal`](super::chain::seal) makes it a line. It is written by hand, straight into a buffer
//! that is used again: an intermediate value would cost more than the rest of the record.
//!
//! Nothing that a caller sends can break out of its member: what is not printable ASCII leaves as
//! `\u` and four digits, and every text has its room, so that the whole line stays below [`LONGEST_LINE`] (G19).

use std::io::Write;
use std::mem;
use std::net::SocketAddr;

use uuid::Uuid;

use crate::atlas::Timestamp;

use digits::{Decimal, hex_digits, hyphenated};
use text::escape;

pub(super) use lines::Lines;

pub(super) mod digits;
mod lines;
mod scratch;
pub(super) mod text;

/// No line is longer than this, its line end included.
pub(super) const LONGEST_LINE: usize = 8 << 10;

/// How many bytes `{"time":"2026-08-10T02:06:35.000000Z",` has; `seq` is put in after them.
pub(super) const TIME_LENGTH: usize = 38;

/// A fetch's record names no more serial numbers than this that appeared, or that vanished.
pub(super) const MOST_SERIALS: usize = 64;
/// And no more than this that expired.
pub(super) const MOST_EXPIRED: usize = 16;

/// The bytes that each text may take after escaping. Together with the names and the numbers they
/// stay below [`LONGEST_LINE`]; a username never needs more than this (1,024 bytes, times three).
pub(super) mod room {
    pub(in crate::audit) const USERNAME: usize = 3_072;
    pub(in crate::audit) const SUBJECT: usize = 1_024;
    pub(in crate::audit) const PATH: usize = 1_024;
    pub(in crate::audit) const ISSUER: usize = 512;
    pub(in crate::audit) const NAME: usize = 256;
    pub(in crate::audit) const SHORT: usize = 128;
    /// Of the digits of a serial number of 63 bits, and a comma.
    pub(in crate::audit) const SERIAL: usize = 20;
}

/// A member's name as it stands in a line, with what is around it: one append instead of three, and of a
/// length that the compiler knows, which makes it a move or two.
macro_rules! name {
    ($name:literal) => {{
        const TEXT: &str = concat!(",\"", $name, "\":");
        const NAME: [u8; TEXT.len()] = match TEXT.as_bytes().first_chunk() {
            Some(name) => *name,
            None => [0; TEXT.len()],
        };
        &NAME
    }};
}
pub(super) use name;

/// What a record is of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Something that was done to or by this gateway.
    Admin,
    /// A walk through Atlas's pages.
    Fetch,
    /// A question.
    Lookup,
    /// Refusals that were folded.
    Refusals,
}

impl Kind {
    #[inline]
    fn write(self, body: &mut Body<'_>) {
        match self {
            Self::Admin => body.put(b"\"kind\":\"admin\""),
            Self::Fetch => body.put(b"\"kind\":\"fetch\""),
            Self::Lookup => body.put(b"\"kind\":\"lookup\""),
            Self::Refusals => body.put(b"\"kind\":\"refusals\""),
        }
    }
}

/// One body being written. A record is some forty small appends, so that what each of them costs counts:
/// the methods are small enough to be inlined where their names are known.
pub(super) struct Body<'a> {
    /// As long as a line may be.
    line: &'a mut [u8],
    /// How much of it is written.
    length: usize,
}

impl Body<'_> {
    /// Writes a body with `write` and hands its bytes to `read`.
    pub(super) fn compose<T>(
        time: Timestamp,
        kind: Kind,
        write: impl FnOnce(&mut Body<'_>),
        read: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let write = |body: &mut Body<'_>| {
            kind.write(body);
            write(body);
        };
        scratch::with_body(time, write, read)
    }

    /// Members that were written once, to be put into many records.
    pub(super) fn members(write: impl FnOnce(&mut Body<'_>)) -> Box<[u8]> {
        let mut members = Lines::default();
        members.append(LONGEST_LINE, write);
        Box::from(members.as_bytes())
    }

    /// What is written so far and, behind it, an end that only whoever looks now sees.
    #[inline]
    pub(super) fn ended_by<const N: usize>(&mut self, end: &[u8; N]) -> &[u8] {
        let before = self.length;
        self.put(end);
        let after = mem::replace(&mut self.length, before);
        self.line.get(..after).unwrap_or_default()
    }

    /// What `write` has written.
    #[inline]
    pub(super) fn written(&mut self, write: impl FnOnce(&mut Self)) -> &[u8] {
        let before = self.length;
        write(self);
        self.line.get(before..self.length).unwrap_or_default()
    }

    /// A text from outside, or one that configuration gave: escaped, and cut if it needs more than
    /// `room` bytes.
    #[inline]
    pub(super) fn text<const N: usize>(&mut self, name: &[u8; N], value: &str, room: usize) {
        self.open(name);
        let whole = escape(self, value, room);
        self.put(b"\"");
        if !whole {
            self.flag(name, b"_truncated\":true");
        }
    }

    /// A text that may be absent.
    #[inline]
    pub(super) fn text_or_null<const N: usize>(
        &mut self,
        name: &[u8; N],
        value: Option<&str>,
        room: usize,
    ) {
        match value {
            Some(value) => self.text(name, value, room),
            None => self.null(name),
        }
    }

    /// Bytes that should be text: as text if they are UTF-8, else in hexadecimal and flagged.
    pub(super) fn bytes<const N: usize>(&mut self, name: &[u8; N], value: &[u8], room: usize) {
        if let Ok(text) = str::from_utf8(value) {
            return self.text(name, text, room);
        }
        let shown = value.get(..room / 2).unwrap_or(value);
        self.put(name);
        self.put(b"\"");
        for byte in shown {
            self.put(hex_digits(&[*byte]).as_flattened());
        }
        self.put(b"\"");
        self.flag(name, b"_hex\":true");
        if shown.len() < value.len() {
            self.flag(name, b"_truncated\":true");
        }
    }

    /// One of our own words, or a text that was checked to be as plain as one.
    #[inline]
    pub(super) fn word<const N: usize>(&mut self, name: &[u8; N], value: &str) {
        self.quoted(name, value.as_bytes());
    }

    /// Digits, as many as the compiler knows.
    #[inline]
    pub(super) fn digits<const N: usize, const D: usize>(
        &mut self,
        name: &[u8; N],
        value: &[u8; D],
    ) {
        self.quoted(name, value);
    }

    /// A whole number.
    #[inline]
    pub(super) fn number<const N: usize>(&mut self, name: &[u8; N], value: u64) {
        self.put(name);
        self.decimal(value);
    }

    /// A number that may be absent.
    #[inline]
    pub(super) fn number_or_null<const N: usize>(&mut self, name: &[u8; N], value: Option<u64>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.null(name),
        }
    }

    /// An id that may be absent.
    #[inline]
    pub(super) fn id_or_null<const N: usize>(&mut self, name: &[u8; N], value: Option<&Uuid>) {
        match value {
            Some(value) => self.digits(name, &hyphenated(*value)),
            None => self.null(name),
        }
    }

    /// An address and its port.
    #[inline]
    pub(super) fn peer<const N: usize>(&mut self, name: &[u8; N], value: &SocketAddr) {
        self.put(name);
        self.address(value);
    }

    /// How often each of our own words was counted, as an object.
    pub(super) fn counts<'w, const N: usize>(
        &mut self,
        name: &[u8; N],
        counts: impl Iterator<Item = (&'w str, u64)>,
    ) {
        self.put(name);
        self.put(b"{");
        for (place, (word, count)) in counts.enumerate() {
            self.put(if place == 0 { b"\"" } else { b",\"" });
            self.put(word.as_bytes());
            self.put(b"\":");
            self.decimal(count);
        }
        self.put(b"}");
    }

    /// Serial numbers, at most so many and as many as have room, and how many more there are; absent where
    /// there are none.
    pub(super) fn serials<const N: usize>(&mut self, name: &[u8; N], serials: &[i64], most: usize) {
        if serials.is_empty() {
            return;
        }
        self.put(name);
        self.put(b"[");
        let room = self.length + most * room::SERIAL;
        let mut listed = 0;
        for serial in serials.iter().take(most) {
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(*serial);
            if self.length + 1 + digits.len() > room {
                break;
            }
            if listed > 0 {
                self.put(b",");
            }
            self.put(digits.as_bytes());
            listed += 1;
        }
        self.put(b"]");
        let more = u64::try_from(serials.len() - listed).unwrap_or(u64::MAX);
        if more > 0 {
            self.flag(name, b"_more\":");
            self.decimal(more);
        }
    }

    /// `true`; absent otherwise.
    pub(super) fn truth<const N: usize>(&mut self, name: &[u8; N]) {
        self.put(name);
        self.put(b"true");
    }

    /// A member without a value.
    #[inline]
    pub(super) fn null<const N: usize>(&mut self, name: &[u8; N]) {
        self.put(name);
        self.put(b"null");
    }

    /// A member that says something of the member `name`.
    #[cold]
    fn flag(&mut self, name: &[u8], rest: &[u8]) {
        self.put(name.strip_suffix(b"\":").unwrap_or(name));
        self.put(rest);
    }

    /// The digits of a number.
    #[inline]
    pub(super) fn decimal(&mut self, value: u64) {
        if let Ok(digit @ 0..=9) = u8::try_from(value) {
            return self.put(&[b'0' + digit]);
        }
        let Some(Decimal { digits, length }) = Decimal::of(value) else {
            return self.put(itoa::Buffer::new().format(value).as_bytes());
        };
        // To move all eight is quicker than to copy so many; what comes next is written over the others.
        let end = self.length + length;
        self.put(&digits);
        self.length = self.length.min(end);
    }

    fn address(&mut self, address: &SocketAddr) {
        self.put(b"\"");
        match address {
            SocketAddr::V4(address) => {
                let [first, rest @ ..] = &address.ip().octets();
                self.decimal((*first).into());
                for octet in rest {
                    self.put(b".");
                    self.decimal((*octet).into());
                }
                self.put(b":");
                self.decimal(address.port().into());
            }
            SocketAddr::V6(address) => {
                let mut text = Vec::new();
                // Writing to a vector cannot fail. A scope is a number, so nothing needs escaping.
                let _ = write!(text, "{address}");
                self.put(&text);
            }
        }
        self.put(b"\"");
    }

    /// Appends a member's name and the quotation mark before its value, in one step.
    #[inline]
    fn open<const N: usize>(&mut self, name: &[u8; N]) {
        let place = self.advance(N + 1).unwrap_or_default();
        if let Some((mark, place)) = place.split_last_mut() {
            place.copy_from_slice(name);
            *mark = b'"';
        }
    }

    /// Appends a name and its value in quotation marks, in one step.
    #[inline]
    fn quoted<const N: usize>(&mut self, name: &[u8; N], value: &[u8]) {
        let place = self.advance(N + value.len() + 2).unwrap_or_default();
        if let Some((before, place)) = place.split_first_chunk_mut()
            && let [opening, place @ .., closing] = place
        {
            *before = *name;
            *opening = b'"';
            place.copy_from_slice(value);
            *closing = b'"';
        }
    }

    /// Appends bytes. Of what is written out where it is called the compiler knows the length, which makes
    /// it a move or two.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.advance(bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// The place of the next `length` bytes.
    #[inline]
    fn advance(&mut self, length: usize) -> Option<&mut [u8]> {
        // There is always room: every text has its own, and together they leave enough for the rest.
        let end = self.length.checked_add(length)?;
        let place = self.line.get_mut(self.length..end)?;
        self.length = end;
        Some(place)
    }
}
