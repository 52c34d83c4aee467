//! Strict JSON: a member that is used stands there once, and nothing is nested too deep.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Text, borrowed where it holds no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// A member's name, which need not be Unicode: `"\ud800"` is a name that we do not know.
pub(super) struct Name<'a>(pub(super) Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_bytes<E: Error>(self, name: &'de [u8]) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

/// Two readers may take a member differently that stands there twice.
pub(super) fn set_once<T, E: Error>(member: &mut Option<T>, value: T) -> Result<(), E> {
    if member.replace(value).is_some() {
        return Err(E::custom("a member that stands there twice"));
    }
    Ok(())
}

/// Passes over a value that is nested at most so deep, and returns its text.
pub(super) fn skip<'de, A: MapAccess<'de>>(
    map: &mut A,
    deepest: u8,
) -> Result<&'de RawValue, A::Error> {
    let value: &RawValue = map.next_value()?;
    if is_deeper(value.get(), deepest) {
        return Err(A::Error::custom("nested too deep"));
    }
    Ok(value)
}

fn is_deeper(value: &str, deepest: u8) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in value.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > usize::from(deepest) {
            return true;
        }
    }
    false
}
