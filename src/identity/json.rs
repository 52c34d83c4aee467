//! JSON without surprises: bytes go in, an [`Object`] comes out in which no member occurs twice.
//!
//! Two readers of one text must not see two things (RFC 8725, section 3.4 and RFC 7515, section 4), so
//! a duplicate member is refused at every level. Depth and width are bounded before anything is built of
//! them.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// The members of an object, in their order.
#[derive(Debug, PartialEq)]
pub(super) struct Object<'a>(Vec<Member<'a>>);

type Member<'a> = (Cow<'a, str>, Value<'a>);

/// Anything that JSON can say, as far as a token needs it.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number, written without a point or an exponent.
    Integer(i128),
    /// `[...]`
    List(Vec<Self>),
    /// `null`
    Null,
    /// `{...}`
    Object(Object<'a>),
    /// Any other number, which is finite.
    Real(f64),
    /// `"..."`
    Text(Cow<'a, str>),
}

/// Not one JSON object, or one that is too deep, too wide, or names a member twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object with each member once")]
pub(super) struct NotStrict;

/// A member is there, but it is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mistyped;

impl<'a> Object<'a> {
    /// Reads `bytes`, which must hold one object and nothing else.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, NotStrict> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = Strict { depth: 0 }
            .deserialize(&mut deserializer)
            .map_err(|_| NotStrict)?;
        deserializer.end().map_err(|_| NotStrict)?;
        match value {
            Value::Object(object) => Ok(object),
            Value::Flag(_)
            | Value::Integer(_)
            | Value::List(_)
            | Value::Null
            | Value::Real(_)
            | Value::Text(_) => Err(NotStrict),
        }
    }

    /// The member `name`, if there is one.
    pub(super) fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0
            .iter()
            .find(|(member, _)| member == name)
            .map(|(_, value)| value)
    }

    /// What stands behind `steps` of members, from the outside in; `None` if a member is missing.
    pub(super) fn at<'s>(
        &self,
        mut steps: impl Iterator<Item = &'s str>,
    ) -> Result<Option<&Value<'a>>, Mistyped> {
        let mut value = steps.next().and_then(|step| self.get(step));
        for step in steps {
            value = match value {
                None => return Ok(None),
                Some(Value::Object(object)) => object.get(step),
                Some(_) => return Err(Mistyped),
            };
        }
        Ok(value)
    }

    /// The member `name`, if it is the only one.
    pub(super) fn only(&self, name: &str) -> Option<&Value<'a>> {
        self.get(name).filter(|_| self.0.len() == 1)
    }

    /// The names of the members.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// Whether there is a member `name`, whatever it holds.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The text of the member `name`, if there is one.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Mistyped> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Mistyped),
        }
    }
}

impl Value<'_> {
    /// One text, or a list of nothing but texts.
    pub(super) fn texts(&self) -> Result<Vec<&str>, Mistyped> {
        match self {
            Self::Text(text) => Ok(vec![text]),
            Self::List(list) => {
                let texts = list.iter().map(Self::as_text);
                texts.collect::<Option<_>>().ok_or(Mistyped)
            }
            Self::Flag(_) | Self::Integer(_) | Self::Null | Self::Object(_) | Self::Real(_) => {
                Err(Mistyped)
            }
        }
    }

    /// The text, if it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Flag(_)
            | Self::Integer(_)
            | Self::List(_)
            | Self::Null
            | Self::Object(_)
            | Self::Real(_) => None,
        }
    }
}

/// Reads one value at a depth.
struct Strict {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value<'de>, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Real(number))
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inside()?)? {
            if list.len() == WIDEST_LIST {
                return Err(A::Error::custom("too many items"));
            }
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let mut members: Vec<Member<'de>> = Vec::new();
        while let Some(name) = entries.next_key_seed(Name)? {
            if members.len() == WIDEST_OBJECT {
                return Err(A::Error::custom("too many members"));
            }
            if members.iter().any(|(earlier, _)| *earlier == name) {
                return Err(A::Error::custom("a member occurs twice"));
            }
            members.push((name, entries.next_value_seed(self.inside()?)?));
        }
        Ok(Value::Object(Object(members)))
    }
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

/// Reads a member's name without copying it where it holds no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Identity providers nest roles three or four deep.
const DEEPEST: u8 = 16;

/// Wide enough for any key set's own limit; each item costs at most a few dozen bytes.
const WIDEST_LIST: usize = 1_024;

/// Members are compared with each other, so this bounds the time as well: 8,128 short comparisons.
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
            assert_eq!(Object::read(text.as_bytes()), Err(NotStrict), "{text}");
        }
        assert_eq!(Object::read(b"{\"a\":\"\xff\"}"), Err(NotStrict));
    }
}
