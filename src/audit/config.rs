//! `[audit]`: the settings of the audit trail, their defaults and their bounds.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use rustix::system::uname;
use serde::{Deserialize, Serialize};

use crate::settings;
use crate::settings::{ConfigError, Ranges, Size};

use super::database::DatabaseConfig;

mod second;

use second::{DEFAULT_QUEUE, SMALLEST_QUEUE};
pub use second::{Destination, InvalidDestination, SinkConfig, SinkFormat};

/// `[audit]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the journal lies; made if it is not there. One process at a time.
    pub directory: PathBuf,
    /// Who writes the records: a name that stays the same over restarts. Without it the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// When a record counts as written.
    pub sync: Sync,
    /// How often `sync = "interval"` brings records to the disk.
    #[serde(with = "settings::duration")]
    pub sync_interval: Duration,
    /// A file that has grown to this is followed by a new one; so is one of an earlier UTC day.
    pub rotate_size: Size,
    /// Whether the journal and the second sink both have to have a record.
    pub require: Require,
    /// Where every record goes as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<SinkConfig>,
    /// A key that signs the end of the chain every minute and at each new file: an Ed25519 private key
    /// in PEM, or at least 32 characters for HMAC-SHA256. Without it the cutting off of the newest
    /// records cannot be found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_key_file: Option<PathBuf>,
    /// Whether finished files are packed, as `.zst`.
    pub compress: bool,
    /// How long after they were finished, so that agents which follow them are done.
    #[serde(with = "settings::duration")]
    pub compress_after: Duration,
    /// How long after they were finished files are removed. Without it no age is a reason.
    #[serde(
        with = "settings::duration_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub keep: Option<Duration>,
    /// How much all files may take before the oldest is removed. Without it no size is a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_size: Option<Size>,
    /// So much of the disk is kept for records of callers who were let in: while less is free, no refusal
    /// has a record of its own.
    pub reserve: Size,
    /// How many refusals of one source, or of one caller, have records of their own within a minute. What
    /// is beyond is folded into one.
    #[serde(deserialize_with = "settings::whole")]
    pub refusals_per_minute: u32,
    /// The trail of all replicas, in PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseConfig>,
    /// A file that says how many bytes of the disk are free, in place of the kernel: for tests.
    #[serde(skip)]
    pub disk_free: Option<PathBuf>,
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

/// Which of the journal and the second sink have to have a record before its answer leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Require {
    /// All of them have to take a record before its answer leaves.
    All,
    /// One is enough: the journal, or a second sink that acknowledges.
    #[default]
    Any,
}

impl Config {
    /// The name of this gateway in its records.
    pub fn replica(&self) -> Cow<'_, str> {
        match &self.replica {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(uname().nodename().to_string_lossy().into_owned()),
        }
    }

    /// What cannot be meant.
    pub fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        if self.directory.as_os_str().is_empty() {
            config_errors.push(ConfigError::at(
                "audit.directory",
                "is empty; name a directory that only the gateway may write to",
            ));
        }
        let is_name = |name: &str| {
            (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|it| it.is_ascii_graphic())
        };
        if self.replica.as_deref().is_some_and(|name| !is_name(name)) {
            config_errors.push(ConfigError::at(
                "audit.replica",
                "is no name; take 1 to 128 letters, digits and signs of ASCII, without blanks",
            ));
        }
        self.check_ranges(&mut Ranges::of("audit", &mut config_errors));
        if let Some(database) = &self.database {
            database.check(&mut Ranges::of("audit.database", &mut config_errors));
        }
        if self.second.is_none() && self.require == Require::All {
            config_errors.push(ConfigError::at(
                "audit.require",
                "is \"all\", but there is no second sink; name one under audit.second",
            ));
        }
        config_errors
    }

    fn check_ranges(&self, ranges: &mut Ranges<'_>) {
        let usual = Self::default();
        // Smaller ones would make a file of every few records, and drop records at every burst.
        let rotate_size = SMALLEST_FILE..=Size::mebibytes(1 << 20);
        ranges.check(
            "rotate_size",
            self.rotate_size,
            rotate_size,
            usual.rotate_size,
        );
        ranges.check(
            "refusals_per_minute",
            self.refusals_per_minute,
            0..=1_000_000,
            usual.refusals_per_minute,
        );
        let reserve = Size::mebibytes(0)..=Size::mebibytes(1 << 20);
        ranges.check("reserve", self.reserve, reserve, usual.reserve);
        ranges.check(
            "sync_interval",
            self.sync_interval,
            SHORTEST_INTERVAL..=LONGEST_INTERVAL,
            usual.sync_interval,
        );
        let compress_after = Duration::ZERO..=LONGEST_KEPT;
        ranges.check(
            "compress_after",
            self.compress_after,
            compress_after,
            usual.compress_after,
        );
        if let Some(keep) = self.keep {
            ranges.check("keep", keep, SHORTEST_KEPT..=LONGEST_KEPT, USUALLY_KEPT);
        }
        if let Some(keep_size) = self.keep_size {
            // The file that is written to and a finished one.
            let least = Size(self.rotate_size.0.saturating_mul(2)).min(MOST_KEPT);
            ranges.check("keep_size", keep_size, least..=MOST_KEPT, USUAL_KEPT_SIZE);
        }
        if let Some(second) = &self.second {
            let queue = SMALLEST_QUEUE..=Size::mebibytes(1_024);
            ranges.check("second.queue", second.queue, queue, DEFAULT_QUEUE);
            if second.format == SinkFormat::Relp && second.to == Destination::Stdout {
                ranges.wrong(
                    "second.format",
                    "is \"relp\", which needs a receiver that answers; with \"stdout\" take \"json\" or \"rfc5424\"",
                );
            }
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("audit"),
            replica: None,
            sync: Sync::default(),
            sync_interval: Duration::from_secs(1),
            rotate_size: Size::mebibytes(64),
            require: Require::default(),
            second: None,
            head_key_file: None,
            compress: true,
            compress_after: Duration::from_hours(1),
            keep: None,
            keep_size: None,
            reserve: Size::mebibytes(256),
            refusals_per_minute: 120,
            database: None,
            disk_free: None,
        }
    }
}

/// Less than syslog's HOSTNAME may have (RFC 5424: 255).
const LONGEST_NAME: usize = 128;
const SMALLEST_FILE: Size = Size::kibibytes(64);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_mins(1);
const SHORTEST_KEPT: Duration = Duration::from_hours(1);
const LONGEST_KEPT: Duration = Duration::from_hours(24 * 36_525);
const USUALLY_KEPT: Duration = Duration::from_hours(24 * 400);
const MOST_KEPT: Size = Size::mebibytes(1 << 30);
const USUAL_KEPT_SIZE: Size = Size::mebibytes(100 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_default_and_unknown_keys_are_refused() {
        let empty: Config = toml::from_str("").unwrap();
        let text = |config: &Config| toml::to_string(config).unwrap();
        assert_eq!(text(&empty), text(&Config::default()));
        assert_eq!(Config::default().config_errors(), []);
        assert!(toml::from_str::<Config>("fsync = true").is_err());
    }

    #[test]
    fn what_cannot_be_meant_is_named_with_its_place() {
        let config: Config = toml::from_str(
            "directory = ''\nreplica = 'a b'\nrotate_size = '1KiB'\nsync_interval = '10ms'\n\
             require = 'all'",
        )
        .unwrap();
        let relp = "second = { to = 'stdout', format = 'relp' }";
        let relp: Config = toml::from_str(relp).unwrap();
        assert_eq!(relp.config_errors().remove(0).place, "audit.second.format");
        let places: Vec<_> = config
            .config_errors()
            .into_iter()
            .map(|it| it.place)
            .collect();
        assert_eq!(
            places,
            [
                "audit.directory",
                "audit.replica",
                "audit.rotate_size",
                "audit.sync_interval",
                "audit.require"
            ]
        );
    }
}
