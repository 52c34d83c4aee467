//! Indents compact JSON as Atlas does, piece by piece.
//!
//! It works on the text: no number is read, so none can change (G4).

/// Indents valid JSON by two spaces, with `"key" : value` as Atlas writes it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Indenter {
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

/// Indented JSON: as much as is wanted, or only its length.
#[derive(Debug)]
pub(super) struct Indented {
    /// `None` where only the length is wanted.
    bytes: Option<Vec<u8>>,
    length: usize,
    capacity: usize,
}

impl Indenter {
    /// Behind a certificate of a list.
    pub(super) fn behind_result() -> Self {
        Self {
            depth: 2,
            within: Within::Nothing,
        }
    }

    /// Takes from `json` until it is empty or `out` has enough.
    pub(super) fn feed(&mut self, json: &mut &[u8], out: &mut Indented) {
        while out.length < out.capacity
            && let all = *json
            && let Some((byte, rest)) = all.split_first()
        {
            match self.within {
                Within::Text => {
                    let most = all.get(..out.capacity - out.length).unwrap_or(all);
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
                    out.line(self.depth);
                    self.token(*byte, out);
                }
                Within::Nothing => self.token(*byte, out),
            }
            *json = rest;
        }
    }

    fn token(&mut self, byte: u8, out: &mut Indented) {
        self.within = match byte {
            b'"' => Within::Text,
            b'{' | b'[' => Within::Opened,
            _ => Within::Nothing,
        };
        match byte {
            b'}' | b']' => {
                self.depth -= 1;
                out.line(self.depth);
                out.put(&[byte]);
            }
            b',' => {
                out.put(b",");
                out.line(self.depth);
            }
            b':' => out.put(b" : "),
            byte => out.put(&[byte]),
        }
    }
}

impl Indented {
    /// Takes `capacity` bytes, and what comes with the last of them.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Some(Vec::with_capacity(capacity + LONGEST_STEP)),
            length: 0,
            capacity,
        }
    }

    pub(super) fn counted() -> Self {
        Self {
            bytes: None,
            length: 0,
            capacity: usize::MAX,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes.expect("it is not only counted")
    }

    fn put(&mut self, text: &[u8]) {
        self.length += text.len();
        if let Some(bytes) = &mut self.bytes {
            bytes.extend_from_slice(text);
        }
    }

    fn line(&mut self, depth: usize) {
        self.put(b"\n");
        for _ in 0..depth {
            self.put(b"  ");
        }
    }
}

/// The most that one byte becomes: a comma, a line's end and blanks; JSON from Atlas is at most 32 deep.
pub(super) const LONGEST_STEP: usize = 2 + 2 * 32;

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
                let mut made = Indented {
                    bytes: Some(Vec::new()),
                    length: 0,
                    capacity: wanted,
                };
                indenter.feed(&mut piece, &mut made);
                let bytes = made.into_bytes();
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
            let (mut length, mut rest) = (Indented::counted(), &compact[..]);
            Indenter::default().feed(&mut rest, &mut length);
            prop_assert_eq!(length.len(), whole.len());
        }
    }
}
