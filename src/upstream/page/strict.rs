//! Strict JSON: a member that is used stands there once, and nothing is nested too deep.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Deserialize)]
pub(super) struct JsonText<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Reads one object and nothing else, and calls `member` with the name and the text of each member.
pub(super) fn read_object<'a>(
    text: &'a str,
    member: impl FnMut(&[u8], &'a RawValue) -> Result<(), &'static str>,
) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.deserialize_map(ObjectVisitor(member))?;
    deserializer.end()
}

struct ObjectVisitor<F>(F);

impl<'de, F> Visitor<'de> for ObjectVisitor<F>
where
    F: FnMut(&[u8], &'de RawValue) -> Result<(), &'static str>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(MemberName(name)) = map.next_key()? {
            (self.0)(&name, map.next_value()?).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// A member's name, which need not be Unicode: `"\ud800"` is a name that we do not know.
struct MemberName<'a>(Cow<'a, [u8]>);

impl<'de> Deserialize<'de> for MemberName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = MemberName<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_bytes<E: Error>(self, name: &'de [u8]) -> Result<MemberName<'de>, E> {
        Ok(MemberName(Cow::Borrowed(name)))
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<MemberName<'de>, E> {
        Ok(MemberName(Cow::Owned(name.to_owned())))
    }
}

/// Two readers may take a member differently that stands there twice.
pub(super) fn set_once<T>(member: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match member.replace(value) {
        Some(_) => Err("a member that stands there twice"),
        None => Ok(()),
    }
}

/// A value that is nested at most so deep.
pub(super) fn shallow(value: &RawValue, deepest: usize) -> Result<&RawValue, &'static str> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in value.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        if depth > deepest {
            return Err("nested too deep");
        }
    }
    Ok(value)
}
