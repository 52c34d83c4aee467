//! Project ids, usernames and the [`CertQuery`] made of both.
//!
//! A username is decoded once, here, and never rewritten: what policy judges, what keys the cache,
//! what is asked of Atlas and what the audit trail shows are the same bytes (G3).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Which certificates are asked for: one database user of one project.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertQuery {
    /// The project, Atlas's `groupId`.
    pub project: ProjectId,
    /// The database user's name.
    pub username: Username,
}

/// A project's id: 24 lower-case hexadecimal digits, as Atlas's specification has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProjectId([u8; 24]);

/// The text is not 24 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a group ID is 24 lower-case hexadecimal digits")]
pub struct InvalidProjectId;

/// A database user's name, decoded once, opaque from then on.
///
/// Between 1 and 1,024 bytes of UTF-8 without control characters, without a dot-segment and without
/// anything that could be decoded a second time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(Arc<str>);

/// Why a path segment is no username.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUsername {
    /// `.`, `..`, or one of them between separators, which a proxy on the way could resolve.
    #[error("holds a dot-segment")]
    DotSegment,
    /// A percent sign followed by two hexadecimal digits after decoding.
    #[error("is percent-encoded twice")]
    EncodedTwice,
    /// C0, DEL or C1.
    #[error("holds a control character")]
    ControlCharacter,
    /// No bytes at all.
    #[error("is empty")]
    Empty,
    /// A percent sign that is not followed by two hexadecimal digits.
    #[error("is not percent-encoded correctly")]
    Encoding,
    /// The decoded bytes are not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// More than 1,024 bytes after decoding.
    #[error("is longer than 1024 bytes")]
    TooLong,
}

impl ProjectId {
    /// The 24 digits.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("digits are ASCII")
    }

    /// The 24 digits one by one.
    pub fn digits(&self) -> &[u8; 24] {
        &self.0
    }

    /// Reads a path segment, which may carry its digits percent-encoded.
    pub(crate) fn from_path_segment(segment: &str) -> Result<Self, InvalidProjectId> {
        // Nearly always there is nothing to decode, and then what the caller sent are the digits.
        segment.parse().or_else(|InvalidProjectId| {
            let decoded = decode(segment).map_err(|_| InvalidProjectId)?;
            decoded.parse()
        })
    }
}

impl FromStr for ProjectId {
    type Err = InvalidProjectId;

    fn from_str(text: &str) -> Result<Self, InvalidProjectId> {
        let digits: [u8; 24] = text.as_bytes().try_into().map_err(|_| InvalidProjectId)?;
        let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if digits.iter().fold(true, |all, digit| all & is_digit(digit)) {
            Ok(Self(digits))
        } else {
            Err(InvalidProjectId)
        }
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProjectId({self})")
    }
}

impl Username {
    /// Reads one path segment as it arrived, percent-encoded.
    pub(crate) fn from_path_segment(segment: &str) -> Result<Self, InvalidUsername> {
        match Self::plain(segment) {
            Some(name) => Ok(name),
            None => decode(segment)?.parse(),
        }
    }

    /// The name that `text` is, if it is a plain one, as nearly all are.
    fn plain(text: &str) -> Option<Self> {
        let fits = (1..=LONGEST_USERNAME).contains(&text.len());
        (fits && is_plain(text)).then(|| Self(Arc::from(text)))
    }

    /// The decoded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one path segment: everything but RFC 3986's unreserved characters is encoded, so
    /// that no proxy between here and Atlas finds anything to rewrite.
    pub fn to_path_segment(&self) -> impl fmt::Display + Iterator<Item = &str> {
        utf8_percent_encode(&self.0, RESERVED)
    }
}

impl FromStr for Username {
    type Err = InvalidUsername;

    fn from_str(name: &str) -> Result<Self, InvalidUsername> {
        if let Some(name) = Self::plain(name) {
            return Ok(name);
        }
        if name.is_empty() {
            return Err(InvalidUsername::Empty);
        }
        if name.len() > LONGEST_USERNAME {
            return Err(InvalidUsername::TooLong);
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidUsername::ControlCharacter);
        }
        if name
            .split(['/', '\\'])
            .any(|part| matches!(part, "." | ".."))
        {
            return Err(InvalidUsername::DotSegment);
        }
        if percent_signs(name.as_bytes()).any(|digits| digits.is_some()) {
            return Err(InvalidUsername::EncodedTwice);
        }
        Ok(Self(Arc::from(name)))
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a name has nothing to be decoded, refused or rewritten: printable ASCII without percent signs and
/// separators, and no dot-segment.
///
/// Every byte is looked at, so that the compiler looks at many at a time: the exact checks take ten times
/// as long, on each request.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') & !matches!(byte, b'%' | b'/' | b'\\');
    name.bytes().fold(true, |all, byte| all & plain(byte)) && !matches!(name, "." | "..")
}

fn decode(segment: &str) -> Result<Cow<'_, str>, InvalidUsername> {
    if percent_signs(segment.as_bytes()).any(|digits| digits.is_none()) {
        return Err(InvalidUsername::Encoding);
    }
    match percent_encoding::percent_decode_str(segment).decode_utf8() {
        Ok(decoded) => Ok(decoded),
        Err(_) => Err(InvalidUsername::NotUtf8),
    }
}

/// For each percent sign the two hexadecimal digits behind it, or `None` where they are missing.
fn percent_signs(text: &[u8]) -> impl Iterator<Item = Option<[u8; 2]>> {
    text.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .map(|(at, _)| {
            let digits: [u8; 2] = text.get(at + 1..at + 3)?.try_into().ok()?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)
        })
}

/// Everything that is not unreserved in RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The longest name that Atlas's documentation allows, in bytes.
const LONGEST_USERNAME: usize = 1_024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_short_way_takes_no_name_that_the_long_way_refuses_or_decodes() {
        let names = (0..=127).map(|byte| format!("a{}b", char::from(byte)));
        let odd = ["a\u{e9}", "a\u{85}b", ".", "..", "a/../b", "a\\..", "%41"];
        let dotted = ["...", "a..b", "..a", ".a", "a."];
        for name in names.chain(odd.into_iter().chain(dotted).map(str::to_owned)) {
            let refusable = name.contains(|letter: char| !matches!(letter, ' '..='~'))
                || name.contains(['/', '\\', '%'])
                || [".", ".."].contains(&&*name);
            assert_eq!(is_plain(&name), !refusable, "{name:?}");
        }
    }

    #[test]
    fn a_project_id_is_24_lower_case_hex_digits_however_they_are_encoded() {
        let id = "32b6e34b3d91647abb20e7b8";
        assert_eq!(ProjectId::from_path_segment(id).unwrap().as_str(), id);
        assert_eq!(
            ProjectId::from_path_segment("%33%32b6e34b3d91647abb20e7b8")
                .unwrap()
                .as_str(),
            id
        );
        for wrong in [
            "",
            "..",
            "*",
            "32B6E34B3D91647ABB20E7B8",
            "32b6e34b3d91647abb20e7b",
            "zz",
        ] {
            assert_eq!(
                ProjectId::from_path_segment(wrong),
                Err(InvalidProjectId),
                "{wrong}"
            );
        }
    }

    #[test]
    fn names_that_a_proxy_on_the_way_could_rewrite_are_refused() {
        use InvalidUsername as No;
        for (segment, expected) in [
            ("", No::Empty),
            ("%2e%2E", No::DotSegment),
            (".", No::DotSegment),
            ("a%2F..%2Fb", No::DotSegment),
            ("a%5C..%5Cb", No::DotSegment),
            ("%252e%252e%252f", No::EncodedTwice),
            ("a%00b", No::ControlCharacter),
            ("%09..", No::ControlCharacter),
            ("a%7f", No::ControlCharacter),
            ("%c2%85", No::ControlCharacter),
            ("%c0%af", No::NotUtf8),
            ("%ed%a0%80", No::NotUtf8),
            ("%", No::Encoding),
            ("%4", No::Encoding),
            ("%zz", No::Encoding),
            ("%u002f", No::Encoding),
        ] {
            assert_eq!(
                Username::from_path_segment(segment),
                Err(expected),
                "{segment}"
            );
        }
        assert_eq!("x".repeat(1_025).parse::<Username>(), Err(No::TooLong));
    }

    #[test]
    fn legal_names_are_taken_byte_for_byte() {
        for (segment, name, upstream) in [
            ("a%2Fb", "a/b", "a%2Fb"),
            ("100%25", "100%", "100%25"),
            ("a+b", "a+b", "a%2Bb"),
            ("CN=app1", "CN=app1", "CN%3Dapp1"),
            ("CN%3Dapp1", "CN=app1", "CN%3Dapp1"),
            ("%20a%20", " a ", "%20a%20"),
            ("..;", "..;", "..%3B"),
            ("%EF%BC%8E%EF%BC%8E", "．．", "%EF%BC%8E%EF%BC%8E"),
        ] {
            let username = Username::from_path_segment(segment).unwrap();
            assert_eq!(username.as_str(), name);
            assert_eq!(username.to_path_segment().to_string(), upstream);
        }
    }

    proptest! {
        #[test]
        fn a_name_survives_the_way_to_atlas(name in "\\PC{1,64}") {
            if let Ok(username) = name.parse::<Username>() {
                let segment = username.to_path_segment().to_string();
                prop_assert_eq!(Username::from_path_segment(&segment), Ok(username));
            }
        }
    }
}
