//! Strict JSON: what two readers could take differently, or what would cost too much, is refused.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

/// The names of an object's members. Two readers may take a doubled one differently.
#[derive(Default)]
pub(super) struct Names<'a>(Vec<Cow<'a, str>>);

impl<'a> Names<'a> {
    pub(super) fn add<E: serde::de::Error>(&mut self, name: Cow<'a, str>) -> Result<(), E> {
        // The bound also keeps the comparison of all with all small.
        if self.0.len() == MOST_MEMBERS || self.0.contains(&name) {
            return Err(E::custom("a member that stands there twice, or too many"));
        }
        if self.0.is_empty() {
            self.0.reserve(8);
        }
        self.0.push(name);
        Ok(())
    }
}

/// Text, borrowed where it holds no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Any value whose nesting is at most this deep; it is read to its end, and nothing is kept.
#[derive(Clone, Copy)]
pub(super) struct Bounded(pub(super) u8);

impl<'de> DeserializeSeed<'de> for Bounded {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Bounded {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.0.checked_sub(1);
        depth.map(Self).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while map.next_key::<Text<'de>>()?.is_some() {
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

const MOST_MEMBERS: usize = 64;
