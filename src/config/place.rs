//! Where in the configuration something stands: serde's path goes in; a printed place, a value to take
//! out and a line number come out.

use std::fmt::Write;

use serde_path_to_error::Path;
use serde_path_to_error::Segment;
use toml::Value;
use toml::de::DeTable;
use toml::de::DeValue;

/// The place as it is written in messages: `identity.issuers[0].audiences`.
pub(super) fn printed(path: &Path, message: &str) -> String {
    let mut place = String::new();
    for segment in path {
        match segment {
            // Writing to a string cannot fail.
            Segment::Seq { index } => drop(write!(place, "[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => push_key(&mut place, key),
            Segment::Unknown => {}
        }
    }
    if let Some(key) = unknown_field(message)
        && place.rsplit('.').next() != Some(key)
    {
        push_key(&mut place, key);
    }
    if place.is_empty() {
        "the file".to_owned()
    } else {
        place
    }
}

/// The value at a path.
pub(super) fn at_mut<'v>(root: &'v mut Value, path: &Path) -> Option<&'v mut Value> {
    path.iter()
        .try_fold(root, |value, segment| match (segment, value) {
            (Segment::Seq { index }, Value::Array(items)) => items.get_mut(*index),
            (Segment::Map { key }, Value::Table(table)) => table.get_mut(key),
            (Segment::Enum { .. } | Segment::Unknown, value) => Some(value),
            (_, _) => None,
        })
}

/// Removes what the message complains of, so that the rest can be read. `false` if it is not there.
pub(super) fn take_out(root: &mut Value, path: &Path, message: &str) -> bool {
    if let Some(key) = unknown_field(message)
        && let Some(Value::Table(table)) = at_mut(root, path)
        && table.remove(key).is_some()
    {
        return true;
    }
    let keys: Vec<&Segment> = path
        .iter()
        .filter(|segment| !matches!(segment, Segment::Unknown))
        .collect();
    let Some((last, parents)) = keys.split_last() else {
        return false;
    };
    let parent = parents
        .iter()
        .try_fold(root, |value, segment| match (segment, value) {
            (Segment::Seq { index }, Value::Array(items)) => items.get_mut(*index),
            (Segment::Map { key } | Segment::Enum { variant: key }, Value::Table(table)) => {
                table.get_mut(key)
            }
            (_, _) => None,
        });
    match (parent, last) {
        (Some(Value::Array(items)), Segment::Seq { index }) if *index < items.len() => {
            items.remove(*index);
            true
        }
        (Some(Value::Table(table)), Segment::Map { key } | Segment::Enum { variant: key }) => {
            table.remove(key).is_some()
        }
        (_, _) => false,
    }
}

/// The line, from 1, on which a place stands in the text; of its nearest parent that stands there.
pub(super) fn line_of(text: &str, place: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut list) = (Some(document.get_ref()), None);
    let mut found = None;
    for step in steps(place) {
        let value = match step {
            Step::Key(key) => table.and_then(|table: &DeTable<'_>| table.get(key)),
            Step::Index(at) => list.and_then(|list: &toml::de::DeArray<'_>| list.get(at)),
        };
        let Some(value) = value else { break };
        found = Some(value.span().start);
        (table, list) = match value.get_ref() {
            DeValue::Table(inner) => (Some(inner), None),
            DeValue::Array(inner) => (None, Some(inner)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => (None, None),
        };
    }
    let before = text.get(..found?)?;
    Some(before.matches('\n').count() + 1)
}

enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

fn steps(place: &str) -> impl Iterator<Item = Step<'_>> {
    place
        .split(['.', '['])
        .map(|part| match part.strip_suffix(']').map(str::parse) {
            Some(Ok(at)) => Step::Index(at),
            Some(Err(_)) | None => Step::Key(part),
        })
}

fn push_key(place: &mut String, key: &str) {
    if !place.is_empty() {
        place.push('.');
    }
    place.push_str(key);
}

/// serde names the key that it does not know only in its message.
fn unknown_field(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}
