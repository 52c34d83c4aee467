//! Compact JSON goes in, piece by piece; the same values, indented as Atlas indents them, come out.
//!
//! It works on the text: no number is read, so none can change (G4). No piece is larger than its reader
//! has room for, so that a long document is never there as a whole.

/// Indents valid JSON by two spaces, with `"key" : value` as Atlas writes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Indenter {
    depth: usize,
    within: Within,
}

/// What the last byte has left open.
#[derive(Clone, Copy, Debug, Default)]
enum Within {
    #[default]
    Nothing,
    /// An object or array, of which it is not known whether it is empty.
    Opened,
    Text,
    /// A text, behind a backslash.
    Escape,
}

/// Where indented JSON goes.
pub trait Sink {
    /// How much more is wanted; a little more may come.
    fn room(&self) -> usize;
    /// Takes some.
    fn put(&mut self, bytes: &[u8]);
    /// Takes blanks.
    fn blanks(&mut self, count: usize);
}

/// A piece of a document, of a certain size.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    size: usize,
}

/// Only counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Length(pub usize);

impl Indenter {
    /// Behind an element of an array that is itself an element's value, such as `results` in a list.
    pub fn behind_result() -> Self {
        Self {
            depth: 2,
            within: Within::Nothing,
        }
    }

    /// Takes from `json` until it is empty or `out` has enough.
    pub fn feed(&mut self, json: &mut &[u8], out: &mut impl Sink) {
        while out.room() > 0
            && let all = *json
            && let Some((byte, rest)) = all.split_first()
        {
            match self.within {
                Within::Text => {
                    let most = all.get(..out.room()).unwrap_or(all);
                    let end = memchr::memchr2(b'"', b'\\', most);
                    let (text, rest) = all.split_at(end.map_or(most.len(), |at| at + 1));
                    out.put(text);
                    *json = rest;
                    self.within = match end.and_then(|_| text.last()) {
                        Some(b'"') => Within::Nothing,
                        Some(_) => Within::Escape,
                        None => Within::Text,
                    };
                    continue;
                }
                Within::Escape => {
                    out.put(&[*byte]);
                    self.within = Within::Text;
                }
                Within::Nothing | Within::Opened if byte.is_ascii_whitespace() => {}
                Within::Opened if matches!(byte, b'}' | b']') => {
                    out.put(&[*byte]);
                    self.within = Within::Nothing;
                }
                Within::Opened => {
                    self.depth += 1;
                    self.line(out);
                    self.token(*byte, out);
                }
                Within::Nothing => self.token(*byte, out),
            }
            *json = rest;
        }
    }

    fn token(&mut self, byte: u8, out: &mut impl Sink) {
        self.within = match byte {
            b'"' => Within::Text,
            b'{' | b'[' => Within::Opened,
            _ => Within::Nothing,
        };
        match byte {
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.line(out);
                out.put(&[byte]);
            }
            b',' => {
                out.put(b",");
                self.line(out);
            }
            b':' => out.put(b" : "),
            byte => out.put(&[byte]),
        }
    }

    fn line(self, out: &mut impl Sink) {
        out.put(b"\n");
        out.blanks(self.depth * 2);
    }
}

impl Chunk {
    /// Room for `size` bytes, and for what comes with the last of them.
    pub fn new(size: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(size + LONGEST_STEP),
            size,
        }
    }

    /// What was put there.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Sink for Chunk {
    fn room(&self) -> usize {
        self.size.saturating_sub(self.bytes.len())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn blanks(&mut self, count: usize) {
        self.bytes.extend(std::iter::repeat_n(b' ', count));
    }
}

impl Sink for Length {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn blanks(&mut self, count: usize) {
        self.0 += count;
    }
}

/// The most that one byte becomes: a comma, a line's end and blanks; JSON from Atlas is at most 32 deep.
pub const LONGEST_STEP: usize = 2 + 2 * 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn indented(json: &[u8]) -> Vec<u8> {
        in_chunks(json, json.len(), usize::MAX)
    }

    /// Fed with and asked for pieces of these sizes.
    fn in_chunks(json: &[u8], fed: usize, wanted: usize) -> Vec<u8> {
        let (mut indenter, mut out) = (Indenter::default(), Vec::new());
        for mut piece in json.chunks(fed.max(1)) {
            while !piece.is_empty() {
                let mut chunk = Chunk {
                    bytes: Vec::new(),
                    size: wanted,
                };
                indenter.feed(&mut piece, &mut chunk);
                let bytes = chunk.into_bytes();
                assert!(bytes.len() <= wanted.saturating_add(LONGEST_STEP));
                out.extend(bytes);
            }
        }
        out
    }

    #[test]
    fn json_is_indented_and_no_value_changes() {
        let compact =
            br#"{"links":[],"results":[{"_id":2558523591213958694,"x":"a\":{,"}],"n":1e3}"#;
        let pretty = String::from_utf8(indented(compact)).unwrap();
        assert_eq!(
            pretty,
            "{\n  \"links\" : [],\n  \"results\" : [\n    {\n      \"_id\" : 2558523591213958694,\n      \
             \"x\" : \"a\\\":{,\"\n    }\n  ],\n  \"n\" : 1e3\n}"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_indented_parses_to_the_same(
            text in "\\PC*",
            number in any::<i64>(),
            fed in 1..20_usize,
            wanted in 1..20_usize,
        ) {
            let value = serde_json::json!({ "a": [text.clone(), number, {}, []], text: null });
            let compact = serde_json::to_vec(&value).unwrap();
            let whole = indented(&compact);
            let again: serde_json::Value = serde_json::from_slice(&whole).unwrap();
            prop_assert_eq!(again, value);
            prop_assert_eq!(&in_chunks(&compact, fed, wanted), &whole);
            let (mut length, mut rest) = (Length::default(), &compact[..]);
            Indenter::default().feed(&mut rest, &mut length);
            prop_assert_eq!(length.0, whole.len());
        }
    }
}
