//! Where in the configuration something stands: serde's path goes in; a printed place, a value to take
//! out and a line number come out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_path_to_error::{Path, Segment};
use toml::Value;
use toml::de::{DeTable, DeValue};

/// What was taken out of lists, so that what stood behind it is still called by the place where it stands
/// in the file.
#[derive(Debug, Default)]
pub(super) struct TakenOut(BTreeMap<String, BTreeSet<usize>>);

impl TakenOut {
    /// Notes that the item at a place of the file is gone; what is no item of a list changes no place.
    fn note(&mut self, place: &str) {
        if let Some((list, at)) = place.strip_suffix(']').and_then(|it| it.rsplit_once('['))
            && let Ok(at) = at.parse()
        {
            self.0.entry(list.to_owned()).or_default().insert(at);
        }
    }

    /// The place in the file of what is at `place` in what is left of it.
    pub(super) fn in_the_file(&self, place: &str) -> String {
        let mut parts = place.split('[');
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (at, rest) = part.split_once(']').unwrap_or((part, ""));
            match at.parse::<usize>() {
                Ok(mut at) => {
                    for gone in self.0.get(&whole).into_iter().flatten() {
                        at += usize::from(*gone <= at);
                    }
                    // Writing to a string cannot fail.
                    let _ = write!(whole, "[{at}]{rest}");
                }
                Err(_) => drop(write!(whole, "[{part}")),
            }
        }
        whole
    }

    /// Whether a list has lost items: that it is empty is no mistake of the file.
    pub(super) fn is_from(&self, list: &str) -> bool {
        self.0.contains_key(list)
    }
}

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
pub(super) fn take_out(
    root: &mut Value,
    path: &Path,
    message: &str,
    taken_out: &mut TakenOut,
) -> bool {
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
            taken_out.note(&taken_out.in_the_file(&printed(path, "")));
            true
        }
        (Some(Value::Table(table)), Segment::Map { key } | Segment::Enum { variant: key }) => {
            table.remove(key).is_some()
        }
        (_, _) => false,
    }
}

/// What is wrong with a text that is no TOML, and where. Not the line itself: a secret may stand in it.
pub(super) fn of_syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let message = error.message();
    match before {
        Some(before) => {
            let line = before.matches('\n').count() + 1;
            let column = before
                .rsplit('\n')
                .next()
                .unwrap_or_default()
                .chars()
                .count()
                + 1;
            format!("line {line}, column {column}: {message}")
        }
        None => message.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_something_that_was_taken_out_keeps_its_place() {
        let mut taken_out = TakenOut::default();
        taken_out.note("a.b[1]");
        taken_out.note("a.b[2]");
        taken_out.note("a.b[3].c[0]");
        taken_out.note("a.d");
        for (left, whole) in [
            ("a.b[0].x", "a.b[0].x"),
            ("a.b[1].x", "a.b[3].x"),
            ("a.b[1].c[0]", "a.b[3].c[1]"),
            ("a.b[2].c[0]", "a.b[4].c[0]"),
            ("a.d[7]", "a.d[7]"),
            ("the file", "the file"),
        ] {
            assert_eq!(taken_out.in_the_file(left), whole);
        }
        assert!(taken_out.is_from("a.b") && !taken_out.is_from("a.d"));
    }
}
