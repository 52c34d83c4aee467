//! Messages about values that cannot be read. They show nothing of the value: a secret may well stand where
//! something else belongs.

use strsim::normalized_damerau_levenshtein;

pub(super) fn without_value(message: &str) -> String {
    if let Some(allowed) = allowed_after(message, "unknown field `") {
        return no_such_key(&allowed.key, &allowed.names);
    }
    if let Some(allowed) = allowed_after(message, "unknown variant `") {
        return format!("is none of {}", allowed.names.join(", "));
    }
    for (prefix, wrong) in [
        ("invalid type: ", true),
        ("invalid value: ", true),
        ("invalid length ", false),
    ] {
        let Some(rest) = message.strip_prefix(prefix) else {
            continue;
        };
        // The last one: the value itself may say anything.
        if let Some((found, expected)) = rest.rsplit_once(", expected ") {
            return match found.split_once(' ').map_or(found, |(kind, _)| kind) {
                kind if wrong && KINDS.contains(&kind) => {
                    format!("is of the wrong kind ({kind}); expected {expected}")
                }
                _ => format!("cannot be read; expected {expected}"),
            };
        }
    }
    message.to_owned()
}

pub(super) fn no_such_key(key: &str, known: &[String]) -> String {
    let renamed = RENAMED
        .iter()
        .find(|(old, new)| *old == key && known.iter().any(|it| it == new));
    if let Some((_, new)) = renamed {
        return format!("is now called `{new}`");
    }
    match nearest(key, known.iter().map(String::as_str)) {
        Some(near) => format!("there is no such key; is `{near}` meant?"),
        None if known.is_empty() => "there is no such key, nor any other here".to_owned(),
        None => format!("there is no such key; there are {}", known.join(", ")),
    }
}

pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let likeness = |name: &str| normalized_damerau_levenshtein(word, name);
    known
        .map(|name| (likeness(name), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name)
}

struct Allowed {
    key: String,
    names: Vec<String>,
}

/// The names between back quotes behind the first, which is that of what was found.
fn allowed_after(message: &str, prefix: &str) -> Option<Allowed> {
    let rest = message.strip_prefix(prefix)?;
    let (key, listed) = match rest.rsplit_once("`, expected ") {
        Some((key, listed)) => (key, listed),
        None => (rest.split('`').next()?, ""),
    };
    let names = listed.split('`').skip(1).step_by(2).map(str::to_owned);
    Some(Allowed {
        key: key.to_owned(),
        names: names.collect(),
    })
}

const KINDS: [&str; 7] = [
    "boolean", "floating", "integer", "map", "sequence", "string", "unit",
];
const ALIKE: f64 = 0.6;
/// Keys that had another name, and the name that they have now beside the same others.
const RENAMED: [(&str, &str); 1] = [("walk", "fetch")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_value_is_left() {
        for (message, expected) in [
            (
                "invalid type: string \"canary, expected x\", expected struct Limits",
                "is of the wrong kind (string); expected struct Limits",
            ),
            (
                "invalid type: integer `5`, expected a string",
                "is of the wrong kind (integer); expected a string",
            ),
            (
                "invalid value: string \"canary\", expected a path",
                "is of the wrong kind (string); expected a path",
            ),
            (
                "invalid length 3, expected fewer elements in array",
                "cannot be read; expected fewer elements in array",
            ),
            (
                "unknown variant `canary`, expected `json` or `text`",
                "is none of json, text",
            ),
            (
                "unknown field `ttll`, expected one of `ttl`, `max_size`",
                "there is no such key; is `ttl` meant?",
            ),
            (
                "unknown field `colour`, expected one of `ttl`, `max_size`",
                "there is no such key; there are ttl, max_size",
            ),
            (
                "unknown field `walk`, expected one of `page`, `fetch`",
                "is now called `fetch`",
            ),
            (
                "unknown field `colour`, there are no fields",
                "there is no such key, nor any other here",
            ),
            ("missing field `name`", "missing field `name`"),
        ] {
            assert_eq!(without_value(message), expected);
        }
    }
}
