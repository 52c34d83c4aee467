//! Rules from the files that `access.include` names.
//!
//! An included file holds `[[rules]]` and nothing else. What is wrong in it is told with its path and line, as in
//! the file that includes it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Value;

use super::environment::Overlay;
use super::place::RemovedItems;
use super::{place, read_all};
use crate::policy::{self, Included, RuleConfig};
use crate::settings::ConfigError;
use crate::system::{WatchedFiles, read_owned, text_of};

pub(super) struct Includes {
    pub(super) config_errors: Vec<ConfigError>,
    texts: Vec<(PathBuf, String)>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    rules: Vec<RuleConfig>,
}

pub(super) fn read(
    directory: &Path,
    access: &mut policy::Config,
    watched: &mut WatchedFiles,
) -> Includes {
    let mut includes = Includes {
        config_errors: Vec::new(),
        texts: Vec::new(),
    };
    let (mut files, mut looked_at) = (Vec::new(), Vec::new());
    for (at, pattern) in access.include.iter().enumerate() {
        let pattern = directory.join(pattern);
        looked_at.extend(pattern.parent().map(Path::to_owned));
        match matching(&pattern) {
            Ok(found) => files.extend(found),
            Err(message) => {
                let place = format!("access.include[{at}]");
                includes.config_errors.push(ConfigError::at(place, message));
            }
        }
    }
    files.dedup();
    looked_at.extend(files.iter().cloned());
    // Before they are read, so that no change is missed.
    *watched = WatchedFiles::now(looked_at);
    for path in files {
        includes.add(path, access);
    }
    includes
}

impl Includes {
    fn add(&mut self, path: PathBuf, access: &mut policy::Config) {
        let mut wrong = |place: Option<&str>, message: String| {
            let file = path.display();
            let place = place.map_or_else(|| file.to_string(), |place| format!("{file}: {place}"));
            self.config_errors.push(ConfigError::at(place, message));
        };
        let text = match read_owned(&path, LARGEST_FILE).and_then(text_of) {
            Ok(text) => text,
            Err(error) => return wrong(None, format!("cannot be read: {error}")),
        };
        let root = match text.parse() {
            Ok(table) => Value::Table(table),
            Err(error) => {
                let error: toml::de::Error = error;
                return wrong(None, place::of_syntax(&text, &error));
            }
        };
        let (mut removed, mut config_errors) = (RemovedItems::default(), Vec::new());
        let file: Option<File> =
            read_all(root, &mut Overlay::none(), &mut removed, &mut config_errors);
        for config_error in config_errors {
            let line = place::line_of(&text, &config_error.place);
            let line = line.map_or_else(String::new, |line| format!(" (line {line})"));
            wrong(
                Some(&format!("{}{line}", config_error.place)),
                config_error.message,
            );
        }
        let mut rules = file.unwrap_or_default().rules;
        access.included.push(Included {
            path: path.clone(),
            rules: rules.len(),
        });
        access.rules.append(&mut rules);
        self.texts.push((path, text));
    }

    pub(super) fn with_line(&self, config_error: ConfigError) -> ConfigError {
        let line = self.texts.iter().find_map(|(path, text)| {
            let place = config_error
                .place
                .strip_prefix(&format!("{}: ", path.display()))?;
            place::line_of(text, place)
        });
        match line {
            Some(line) => ConfigError {
                place: format!("{} (line {line})", config_error.place),
                ..config_error
            },
            None => config_error,
        }
    }
}

fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().and_then(|name| name.to_str());
    let name =
        name.ok_or("must end with the name of a file, or with a pattern such as `*.toml`")?;
    if !name.contains('*') {
        return Ok(vec![pattern.to_owned()]);
    }
    let directory = match pattern.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let entries = fs::read_dir(directory);
    let entries =
        entries.map_err(|error| format!("{} cannot be read: {error}", directory.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|error| format!("{} cannot be read: {error}", directory.display()))?;
        let file_name = entry.file_name();
        let fits = file_name
            .to_str()
            .is_some_and(|file| policy::fits_pattern(name, file));
        // As of a shell, what is hidden is not meant: editors and file managers leave such files.
        if fits && (name.starts_with('.') || !file_name.as_encoded_bytes().starts_with(b".")) {
            found.push(pattern.with_file_name(&file_name));
        }
    }
    found.sort();
    Ok(found)
}

const LARGEST_FILE: u64 = 16 << 20;
