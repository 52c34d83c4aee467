//! Compact JSON goes in; the same values, indented as Atlas indents them, come out.
//!
//! It works on the text: no number is read, so none can change (G4).

/// Indents valid JSON by two spaces, with `"key" : value` as Atlas writes it.
pub fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth: usize = 0;
    let mut bytes = json.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                out.push(byte);
                copy_string(&mut bytes, &mut out);
            }
            b'{' | b'[' => {
                out.push(byte);
                while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
                if let Some(end) = bytes.next_if(|next| matches!(next, b'}' | b']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b" : "),
            byte if byte.is_ascii_whitespace() => {}
            byte => out.push(byte),
        }
    }
    out
}

fn copy_string(bytes: &mut impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    while let Some(byte) = bytes.next() {
        out.push(byte);
        match byte {
            b'"' => return,
            b'\\' => out.extend(bytes.next()),
            _ => {}
        }
    }
}

fn line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', depth * 2));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        fn whatever_is_indented_parses_to_the_same(text in "\\PC*", number in any::<i64>()) {
            let value = serde_json::json!({ "a": [text.clone(), number, {}, []], text: null });
            let compact = serde_json::to_vec(&value).unwrap();
            let again: serde_json::Value = serde_json::from_slice(&indented(&compact)).unwrap();
            prop_assert_eq!(again, value);
        }
    }
}
