//! The settings of the audit trail go in as TOML; defaults and mistakes come out.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::settings;
use crate::settings::Mistake;
use crate::settings::Size;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the journal lies; made if it is not there. One process at a time.
    pub directory: PathBuf,
    /// When a record counts as written.
    pub sync: Sync,
    /// How often `sync = "interval"` brings records to the disk.
    #[serde(with = "settings::duration")]
    pub sync_interval: Duration,
    /// A file that has grown to this is followed by a new one; so is one of an earlier UTC day.
    pub rotate_size: Size,
    /// Whose word counts when there is a second sink.
    pub require: Require,
}

/// When a record counts as written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// When it is on the disk: `fdatasync` before the answer.
    Always,
    /// When the kernel has it; on the disk within the interval. Survives the end of the process, and
    /// of the machine all but the last interval.
    #[default]
    Interval,
    /// When the kernel has it, which writes it when it likes.
    Never,
}

/// Whose word counts when there is a second sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// All of them have to take a record before its answer leaves.
    All,
    /// One is enough.
    #[default]
    Any,
}

impl Config {
    /// What cannot be meant.
    pub fn mistakes(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.directory.as_os_str().is_empty() {
            mistakes.push(Mistake::at(
                "audit.directory",
                "is empty; name a directory that only the gateway may write to",
            ));
        }
        if self.rotate_size < SMALLEST_FILE {
            mistakes.push(Mistake::at(
                "audit.rotate_size",
                format!(
                    "is smaller than {SMALLEST_FILE}, which would make a file of every few records"
                ),
            ));
        }
        if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&self.sync_interval) {
            mistakes.push(Mistake::at(
                "audit.sync_interval",
                "lies outside 100ms to 1m; use sync = \"always\" or \"never\" for less or more",
            ));
        }
        mistakes
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("audit"),
            sync: Sync::default(),
            sync_interval: Duration::from_secs(1),
            rotate_size: Size::mebibytes(64),
            require: Require::default(),
        }
    }
}

const SMALLEST_FILE: Size = Size::kibibytes(64);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_default_and_unknown_keys_are_refused() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        assert_eq!(Config::default().mistakes(), []);
        assert!(toml::from_str::<Config>("fsync = true").is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_its_place() {
        let config: Config =
            toml::from_str("directory = ''\nrotate_size = '1KiB'\nsync_interval = '10ms'").unwrap();
        let places: Vec<_> = config.mistakes().into_iter().map(|it| it.place).collect();
        assert_eq!(
            places,
            [
                "audit.directory",
                "audit.rotate_size",
                "audit.sync_interval"
            ]
        );
    }
}
