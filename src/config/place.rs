//! Places in the configuration: as they are printed, the value that stands there, and its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_path_to_error::{Path, Segment};
use toml::Value;
use toml::de::{DeTable, DeValue};

/// The items that were removed from lists, so that those behind them are still called by the place where they
/// stand in the file.
#[derive(Debug, Default)]
pub(super) struct RemovedItems(BTreeMap<String, BTreeSet<usize>>);

impl RemovedItems {
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
        let mut whole = String::new();
        for step in steps(place) {
            match step {
                PlaceStep::Key(key) => push_key(&mut whole, key),
                PlaceStep::Index(mut at) => {
                    for gone in self.0.get(&whole).into_iter().flatten() {
                        at += usize::from(*gone <= at);
                    }
                    push_index(&mut whole, at);
                }
            }
        }
        whole
    }

    /// Whether a list has lost items: that it is empty is no mistake of the file.
    pub(super) fn is_from(&self, list: &str) -> bool {
        self.0.contains_key(list)
    }
}

pub(super) fn printed(path: &Path, message: &str) -> String {
    let mut place = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push_index(&mut place, *index),
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
pub(super) fn remove(
    root: &mut Value,
    path: &Path,
    message: &str,
    removed: &mut RemovedItems,
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
            removed.note(&removed.in_the_file(&printed(path, "")));
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
    let message = error.message();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return message.to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
    format!("line {line}, column {column}: {message}")
}

/// The line, from 1, on which a place stands in the text; of its nearest parent that stands there.
pub(super) fn line_of(text: &str, place: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let (mut table, mut list) = (Some(document.get_ref()), None);
    let mut found = None;
    for step in steps(place) {
        let value = match step {
            PlaceStep::Key(key) => table.and_then(|table: &DeTable<'_>| table.get(key)),
            PlaceStep::Index(at) => list.and_then(|list: &toml::de::DeArray<'_>| list.get(at)),
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

enum PlaceStep<'p> {
    Key(&'p str),
    Index(usize),
}

fn steps(place: &str) -> impl Iterator<Item = PlaceStep<'_>> {
    place
        .split(['.', '['])
        .map(|part| match part.strip_suffix(']').map(str::parse) {
            Some(Ok(at)) => PlaceStep::Index(at),
            Some(Err(_)) | None => PlaceStep::Key(part),
        })
}

fn push_index(place: &mut String, at: usize) {
    write!(place, "[{at}]").expect("a string takes all that is written");
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
        let mut removed = RemovedItems::default();
        removed.note("a.b[1]");
        removed.note("a.b[2]");
        removed.note("a.b[3].c[0]");
        removed.note("a.d");
        for (left, whole) in [
            ("a.b[0].x", "a.b[0].x"),
            ("a.b[1].x", "a.b[3].x"),
            ("a.b[1].c[0]", "a.b[3].c[1]"),
            ("a.b[2].c[0]", "a.b[4].c[0]"),
            ("a.d[7]", "a.d[7]"),
            ("the file", "the file"),
        ] {
            assert_eq!(removed.in_the_file(left), whole);
        }
        assert!(removed.is_from("a.b") && !removed.is_from("a.d"));
    }
}
