//! The environment laid over the file: `ATLAS_CERT_GATEWAY__CACHE__TTL=90s` becomes `cache.ttl`.

use std::collections::{BTreeMap, BTreeSet};

use serde_path_to_error::Path;
use toml::{Table, Value};

use super::message::nearest;
use super::place;
use crate::settings::ConfigError;

pub(crate) const ENVIRONMENT_PREFIX: &str = "ATLAS_CERT_GATEWAY__";

pub(super) struct Overlay {
    /// The places it set that have not yet been asked for as something else than text.
    as_text: BTreeSet<String>,
    variables: BTreeMap<String, String>,
    pub(super) config_errors: Vec<ConfigError>,
}

/// Sets every key that the environment names. Numbers in a name are places in a list. `known` are the places of
/// keys, among which a variable that names none may have meant one.
pub(super) fn apply_environment(
    root: &mut Value,
    environment: impl IntoIterator<Item = (String, String)>,
    known: &[String],
) -> Overlay {
    let mut overlay = Overlay::none();
    let mut variables: Vec<Variable> = Vec::new();
    for (name, text) in environment {
        if let Some(rest) = name.strip_prefix(ENVIRONMENT_PREFIX) {
            let lower = rest.to_ascii_lowercase();
            let steps = lower.split("__").map(NamePart::of).collect();
            variables.push(Variable { steps, name, text });
        } else if is_nearly_ours(&name) {
            overlay.config_errors.push(names_no_key(name, known));
        }
    }
    // In order, so that `…__0` makes the list before `…__1` extends it, and `…__10` comes after `…__9`.
    variables.sort();
    for Variable { steps, name, text } in variables {
        let place = place_of(&steps);
        if set(root, &steps, text) {
            overlay.as_text.insert(place.clone());
            overlay.variables.insert(place, name);
        } else {
            overlay.config_errors.push(names_no_key(name, known));
        }
    }
    overlay
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Variable {
    steps: Vec<NamePart>,
    name: String,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum NamePart {
    Index(usize),
    Key(String),
}

impl NamePart {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(at) => Self::Index(at),
            Err(_) => Self::Key(text.to_owned()),
        }
    }
}

/// Whether a variable is meant for the gateway and is not written as one is. What Kubernetes and Docker set for
/// a service of the gateway's name is not.
fn is_nearly_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("ATLAS_CERT_GATEWAY_") else {
        return false;
    };
    let of_a_service = rest == "PORT"
        || rest == "NAME"
        || ["PORT_", "SERVICE_HOST", "SERVICE_PORT", "ENV_"]
            .iter()
            .any(|begin| rest.starts_with(begin));
    rest != "CONFIG" && !of_a_service
}

fn names_no_key(name: String, known: &[String]) -> ConfigError {
    let variable = |place: &str| {
        let place = place.replace('[', "__").replace(']', "").replace('.', "__");
        format!("{ENVIRONMENT_PREFIX}{}", place.to_ascii_uppercase())
    };
    let variables: Vec<String> = known.iter().map(|place| variable(place)).collect();
    let message = match nearest(&name, variables.iter().map(String::as_str)) {
        Some(near) => format!("names no key; is {near} meant?"),
        None => "names no key; `cache.ttl` is ATLAS_CERT_GATEWAY__CACHE__TTL, and the first issuer's key \
                 is ATLAS_CERT_GATEWAY__IDENTITY__ISSUERS__0__ISSUER"
            .to_owned(),
    };
    ConfigError::at(name, message)
}

impl Overlay {
    pub(super) fn none() -> Self {
        Self {
            as_text: BTreeSet::new(),
            variables: BTreeMap::new(),
            config_errors: Vec::new(),
        }
    }

    /// The variable that set what stands at `place`, or what it is a part of.
    pub(super) fn variable(&self, place: &str) -> Option<&str> {
        let mut inside = place;
        loop {
            if let Some(name) = self.variables.get(inside) {
                return Some(name);
            }
            let end = inside.rfind(['.', '['])?;
            inside = inside.get(..end)?;
        }
    }

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
pub(super) fn secrets_in_text(root: &Value) -> Vec<ConfigError> {
    let mut config_errors = Vec::new();
    find_secrets(root, "", &mut config_errors);
    config_errors
}

fn set(value: &mut Value, steps: &[NamePart], text: String) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        *value = Value::String(text);
        return true;
    };
    let next = match (value, step) {
        (Value::Array(items), NamePart::Index(at)) => {
            if *at == items.len() {
                items.push(Value::Table(Table::new()));
            }
            items.get_mut(*at)
        }
        (Value::Table(table), NamePart::Key(key)) if !key.is_empty() => {
            let wants_list = matches!(rest.first(), Some(NamePart::Index(_)));
            Some(table.entry(key).or_insert_with(|| {
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

fn find_secrets(value: &Value, place: &str, config_errors: &mut Vec<ConfigError>) {
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
                    config_errors.push(ConfigError::at(place, message));
                } else {
                    find_secrets(inner, &place, config_errors);
                }
            }
        }
        Value::Array(items) => {
            for (at, inner) in items.iter().enumerate() {
                find_secrets(inner, &format!("{place}[{at}]"), config_errors);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => {}
    }
}

fn place_of(steps: &[NamePart]) -> String {
    steps.iter().fold(String::new(), |place, step| match step {
        NamePart::Index(at) => format!("{place}[{at}]"),
        NamePart::Key(key) if place.is_empty() => key.clone(),
        NamePart::Key(key) => format!("{place}.{key}"),
    })
}

/// Keys that hold a secret itself, by the end of their place.
const SECRETS: [&str; 7] = [
    "service_account.client_secret",
    "api_key.private_key",
    "].hmac_secret",
    "].proxy_password",
    "atlas.proxy_password",
    "audit.database.password",
    "fleet.password",
];
