//! Strict JSON: one object in which no member occurs twice, of bounded depth and width.
//!
//! Two readers of one text must not see two things (RFC 8725, section 3.4 and RFC 7515, section 4), so
//! a duplicate member is refused at every level.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The members of an object.
pub(crate) type Object = Map<String, Value>;

/// Not one JSON object, or one that is too deep, too wide, or names a member twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object with each member once")]
pub(crate) struct NotStrict;

/// A member is there, but it is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mistyped;

/// Reads `bytes`, which must hold one object and nothing else.
pub(crate) fn read_object(bytes: &[u8]) -> Result<Object, NotStrict> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut deserializer);
    match (value, deserializer.end()) {
        (Ok(Value::Object(object)), Ok(())) => Ok(object),
        _ => Err(NotStrict),
    }
}

/// The text of the member `name`, if there is one.
pub(crate) fn text<'o>(object: &'o Object, name: &str) -> Result<Option<&'o str>, Mistyped> {
    let value = object.get(name);
    value
        .map(|value| value.as_str().ok_or(Mistyped))
        .transpose()
}

/// One text, or a list of nothing but texts.
pub(crate) fn texts(value: &Value) -> Result<Vec<&str>, Mistyped> {
    let texts = match value.as_array() {
        Some(list) => list.iter().map(Value::as_str).collect(),
        None => value.as_str().map(|text| vec![text]),
    };
    texts.ok_or(Mistyped)
}

/// Reads one value at a depth.
struct Strict {
    depth: u8,
}

impl Strict {
    fn inside<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth == DEEPEST {
            return Err(E::custom("too deep"));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inside()?)? {
            if list.len() == WIDEST_LIST {
                return Err(A::Error::custom("too many items"));
            }
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.len() == WIDEST_OBJECT {
                return Err(A::Error::custom("too many members"));
            }
            let value = members.next_value_seed(self.inside()?)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(object.into())
    }
}

/// Identity providers nest roles three or four deep.
const DEEPEST: u8 = 16;

/// Wide enough for any key set's own limit.
const WIDEST_LIST: usize = 1_024;
const WIDEST_OBJECT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let wide = format!(
            "{{{}}}",
            (0..129)
                .map(|n| format!("\"{n}\":0"))
                .collect::<Vec<_>>()
                .join(",")
        );
        let long = format!("{{\"a\":[{}]}}", vec!["0"; 1_025].join(","));
        let utf16 = String::from_utf16(&[0xfeff, u16::from(b'{')]).unwrap();
        for text in [
            r#"{"alg":"HS256","alg":"RS256"}"#,
            r#"{"alg":"HS256","\u0061lg":"RS256"}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":[{"b":1,"b":1}]}"#,
            r#"{"a":NaN}"#,
            r#"{"a":1} x"#,
            r#"{"a":1}{"a":1}"#,
            "\u{feff}{}",
            "[]",
            "null",
            "\"x\"",
            "",
            "{\"a\":\"\\ud800\"}",
            &deep,
            &wide,
            &long,
            &utf16,
        ] {
            assert_eq!(read_object(text.as_bytes()), Err(NotStrict), "{text}");
        }
        assert_eq!(read_object(b"{\"a\":\"\xff\"}"), Err(NotStrict));
    }
}
