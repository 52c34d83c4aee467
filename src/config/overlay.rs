//! The environment laid over the file: `ATLAS_CERT_GATEWAY__CACHE__TTL=90s` becomes `cache.ttl`.

use std::collections::BTreeSet;

use serde_path_to_error::Path;
use toml::Table;
use toml::Value;

use super::place;
use crate::settings::Mistake;

/// What the gateway's environment variables begin with.
pub const ENVIRONMENT_PREFIX: &str = "ATLAS_CERT_GATEWAY__";

/// What the environment set.
pub(super) struct Laid {
    /// The places it set that have not yet been asked for as something else than text.
    as_text: BTreeSet<String>,
    /// Variables that name no key.
    pub(super) mistakes: Vec<Mistake>,
}

/// Sets every key that the environment names. Numbers in a name are places in a list.
pub(super) fn lay_over(
    root: &mut Value,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Laid {
    let mut variables: Vec<(String, String)> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect();
    // In order, so that `…__0` makes the list before `…__1` extends it.
    variables.sort();
    let mut laid = Laid {
        as_text: BTreeSet::new(),
        mistakes: Vec::new(),
    };
    for (name, text) in variables {
        let lower = name
            .trim_start_matches(ENVIRONMENT_PREFIX)
            .to_ascii_lowercase();
        let keys: Vec<&str> = lower.split("__").collect();
        if set(root, &keys, text) {
            laid.as_text.insert(place_of(&keys));
        } else {
            laid.mistakes.push(Mistake::at(
                name,
                "names no key; `cache.ttl` is ATLAS_CERT_GATEWAY__CACHE__TTL, and the first issuer's \
                 key is ATLAS_CERT_GATEWAY__IDENTITY__ISSUERS__0__ISSUER",
            ));
        }
    }
    laid
}

impl Laid {
    /// Where a text stands that the environment brought and something else is wanted, reads it as TOML.
    ///
    /// A variable is text first, so that a secret `0123456` stays what it is; only a key that refuses
    /// text gets it as a number, a list or a boolean. `false` if the value stays what it was.
    pub(super) fn retype(&mut self, root: &mut Value, path: &Path) -> bool {
        if !self.as_text.remove(&place::printed(path, "")) {
            return false;
        }
        let Some(value) = place::at_mut(root, path) else {
            return false;
        };
        let typed = value
            .as_str()
            .and_then(|text| format!("value = {text}").parse::<Table>().ok())
            .and_then(|mut table| table.remove("value"));
        match typed {
            Some(typed) => {
                *value = typed;
                true
            }
            None => false,
        }
    }
}

/// A secret may stand in the environment, but not in the text of the file.
pub(super) fn secrets_in_text(root: &Value) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    find_secrets(root, "", &mut mistakes);
    mistakes
}

fn set(value: &mut Value, keys: &[&str], text: String) -> bool {
    let Some((key, rest)) = keys.split_first() else {
        *value = Value::String(text);
        return true;
    };
    if key.is_empty() {
        return false;
    }
    let next = match (value, key.parse::<usize>()) {
        (Value::Array(items), Ok(at)) => {
            if at == items.len() {
                items.push(Value::Table(Table::new()));
            }
            items.get_mut(at)
        }
        (Value::Table(table), Err(_)) => {
            let wants_list = rest
                .first()
                .is_some_and(|next| next.parse::<usize>().is_ok());
            Some(table.entry(*key).or_insert_with(|| {
                if wants_list {
                    Value::Array(Vec::new())
                } else {
                    Value::Table(Table::new())
                }
            }))
        }
        (_, _) => None,
    };
    next.is_some_and(|next| set(next, rest, text))
}

fn find_secrets(value: &Value, place: &str, mistakes: &mut Vec<Mistake>) {
    match value {
        Value::Table(table) => {
            for (key, inner) in table {
                let place = if place.is_empty() {
                    key.clone()
                } else {
                    format!("{place}.{key}")
                };
                if SECRETS.iter().any(|secret| place.ends_with(secret)) {
                    let message = format!(
                        "a secret does not belong into this file; write `{key}_file` with the path of \
                         a file that holds it, or set it in the environment"
                    );
                    mistakes.push(Mistake::at(place, message));
                } else {
                    find_secrets(inner, &place, mistakes);
                }
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                find_secrets(inner, &format!("{place}[{at}]"), mistakes);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

fn place_of(keys: &[&str]) -> String {
    keys.iter()
        .fold(String::new(), |place, key| match key.parse::<usize>() {
            Ok(at) => format!("{place}[{at}]"),
            Err(_) if place.is_empty() => (*key).to_owned(),
            Err(_) => format!("{place}.{key}"),
        })
}

/// Keys that hold a secret itself, by the end of their place.
const SECRETS: [&str; 5] = [
    "service_account.client_secret",
    "api_key.private_key",
    "].hmac_secret",
    "].proxy_password",
    "atlas.proxy_password",
];
