//! Text from outside goes in; what may stand between the quotation marks of a record comes out: ASCII
//! that can be printed, and no more of it than there is room for.

use super::digits::hex_digits;
use super::{Body, Lines};

/// Appends `text` as the inside of a JSON string, using `room` bytes at most; says whether all of it
/// had room.
#[inline]
pub(super) fn escape(body: &mut Body<'_>, text: &str, room: usize) -> bool {
    if text.len() <= room && all_plain(text.as_bytes()) {
        body.put(text.as_bytes());
        return true;
    }
    escape_slowly(body, text, room)
}

#[cold]
fn escape_slowly(body: &mut Body<'_>, text: &str, room: usize) -> bool {
    let limit = body.length + room;
    for character in text.chars() {
        let before = body.length;
        match u8::try_from(character) {
            Ok(byte) if is_plain(byte) => body.put(&[byte]),
            Ok(byte @ (b'"' | b'\\')) => body.put(&[b'\\', byte]),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let digits = hex_digits(&unit.to_be_bytes());
                    body.put(b"\\u");
                    body.put(digits.as_flattened());
                }
            }
        }
        if body.length > limit {
            body.length = before;
            return false;
        }
    }
    true
}

impl Body<'_> {
    /// Texts from outside, each whole, as many as have `room` bytes together, and how many more there are;
    /// absent where there are none.
    pub(in crate::audit) fn texts<const N: usize>(
        &mut self,
        name: &[u8; N],
        texts: &[String],
        room: usize,
    ) {
        if texts.is_empty() {
            return;
        }
        self.put(name);
        self.put(b"[");
        let limit = self.length + room;
        let mut listed = 0;
        for text in texts {
            let before = self.length;
            self.put(if listed == 0 { b"\"" } else { b",\"" });
            let left = limit.saturating_sub(self.length);
            if !escape(self, text, left) {
                self.length = before;
                break;
            }
            self.put(b"\"");
            listed += 1;
        }
        self.put(b"]");
        let more = u64::try_from(texts.len() - listed).unwrap_or(u64::MAX);
        if more > 0 {
            self.flag(name, b"_more\":");
            self.decimal(more);
        }
    }
}

/// `text` as it stands in a record, and whether all of it does.
pub(in crate::audit) fn escaped(text: &str, room: usize) -> (String, bool) {
    let (mut line, mut whole) = (Lines::default(), true);
    // One character may be written beyond the room before it is taken back.
    line.append(room + 12, |body| {
        whole = escape(body, text, room);
    });
    let line = str::from_utf8(line.as_bytes()).unwrap_or_default();
    (line.to_owned(), whole)
}

/// Whether every byte stands for itself in JSON, eight at a time; what is left at the end is looked at
/// together with bytes before it.
#[inline]
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
#[inline]
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
