//! The settings under `[cache]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::atlas::{CertQuery, ProjectId};
use crate::policy::fits_pattern;
use crate::settings;
use crate::settings::{ConfigError, Ranges, Size};
use crate::system::impossible_directory;

/// What is written under `[cache]`. `0s` and `0B` switch a thing off.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a list is served without asking Atlas, give or take a tenth.
    #[serde(with = "settings::duration")]
    pub ttl: Duration,
    /// How long after that a list is still served while Atlas cannot answer.
    #[serde(with = "settings::duration")]
    pub(crate) stale_if_error: Duration,
    /// How long it is remembered that a user or a project does not exist.
    #[serde(with = "settings::duration")]
    pub(crate) negative_ttl: Duration,
    /// Whether a list in use is fetched anew before its time, so that no caller waits for it.
    pub refresh_ahead: bool,
    /// How often at most callers may force one list to be fetched anew.
    #[serde(with = "settings::duration")]
    pub(crate) min_refresh_interval: Duration,
    /// How much memory the lists may take, with all that is kept about them.
    pub(crate) max_size: Size,
    /// The directory in which the lists are kept for the next process; without it they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<PathBuf>,
    /// How often they are written.
    #[serde(with = "settings::duration")]
    pub(crate) snapshot_interval: Duration,
    /// Which of the lists that the last process had are fetched after a start: project, `/` and username, with `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warm: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ttl: Duration::from_mins(5),
            stale_if_error: Duration::from_hours(1),
            negative_ttl: Duration::from_secs(30),
            refresh_ahead: true,
            min_refresh_interval: Duration::from_secs(5),
            max_size: Size::mebibytes(256),
            snapshot: None,
            snapshot_interval: Duration::from_mins(1),
            warm: Vec::new(),
        }
    }
}

impl Config {
    /// What cannot be meant.
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let usual = Self::default();
        let mut config_errors = Vec::new();
        let mut ranges = Ranges::of("cache", &mut config_errors);
        // An older list would be trusted by no operator.
        for (key, span, longest, example) in [
            ("ttl", self.ttl, DAY, usual.ttl),
            (
                "stale_if_error",
                self.stale_if_error,
                WEEK,
                usual.stale_if_error,
            ),
            ("negative_ttl", self.negative_ttl, HOUR, usual.negative_ttl),
            (
                "min_refresh_interval",
                self.min_refresh_interval,
                HOUR,
                usual.min_refresh_interval,
            ),
        ] {
            ranges.check(key, span, Duration::ZERO..=longest, example);
        }
        // Less holds hardly a list.
        let max_size = Size::mebibytes(1)..=Size::mebibytes(1 << 20);
        ranges.check_or_off("max_size", self.max_size, max_size, usual.max_size);
        let interval = (self.snapshot_interval, usual.snapshot_interval);
        let spans = Duration::from_secs(1)..=HOUR;
        ranges.check("snapshot_interval", interval.0, spans, interval.1);
        config_errors.extend(self.snapshot_errors());
        config_errors
    }

    fn snapshot_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        let snapshot = self.snapshot.as_deref();
        if let Some(why) = snapshot.and_then(impossible_directory) {
            config_errors.push(ConfigError::at("cache.snapshot", why));
        }
        if snapshot.is_none() && !self.warm.is_empty() {
            let message = "needs cache.snapshot, from which the names are known";
            config_errors.push(ConfigError::at("cache.warm", message));
        }
        for (at, pattern) in self.warm.iter().enumerate() {
            let is_project = |text: &str| text.contains('*') || text.parse::<ProjectId>().is_ok();
            let parts = pattern.split_once('/');
            if !parts.is_some_and(|(project, name)| is_project(project) && !name.is_empty()) {
                let message = "must be a project, \"/\" and a username, such as \
                               \"32b6e34b3d91647abb20e7b8/payments-*\"";
                config_errors.push(ConfigError::at(format!("cache.warm[{at}]"), message));
            }
        }
        config_errors
    }

    /// Whether a list is fetched after a start.
    pub(crate) fn warms(&self, query: &CertQuery) -> bool {
        let fits = |(project, name): (&str, &str)| {
            fits_pattern(project, query.project.as_str())
                && fits_pattern(name, query.username.as_str())
        };
        let mut patterns = self
            .warm
            .iter()
            .filter_map(|pattern| pattern.split_once('/'));
        patterns.any(fits)
    }

    /// What all replicas of a fleet should have in common.
    pub(crate) fn common(&self) -> Self {
        let Self {
            snapshot,
            snapshot_interval,
            warm,
            ..
        } = Self::default();
        Self {
            snapshot,
            snapshot_interval,
            warm,
            ..self.clone()
        }
    }
}

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(168);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_documentation_and_hold_no_mistake() {
        let config: Config = toml::from_str("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.config_errors(), []);
        assert_eq!(
            toml::to_string(&config).unwrap(),
            "ttl = \"5m\"\nstale_if_error = \"1h\"\nnegative_ttl = \"30s\"\nrefresh_ahead = true\n\
             min_refresh_interval = \"5s\"\nmax_size = \"256MiB\"\nsnapshot_interval = \"1m\"\n"
        );
    }

    #[test]
    fn everything_can_be_switched_off_and_every_mistake_is_named() {
        let off = "ttl = \"0s\"\nstale_if_error = \"0s\"\nnegative_ttl = \"0s\"\n\
                   refresh_ahead = false\nmin_refresh_interval = \"0s\"\nmax_size = 0";
        let config: Config = toml::from_str(off).unwrap();
        assert_eq!(config.config_errors(), []);

        let wrong = "ttl = \"2d\"\nstale_if_error = \"8d\"\nnegative_ttl = \"2h\"\n\
                     min_refresh_interval = \"2h\"\nmax_size = \"1KiB\"\n\
                     snapshot = \"/dev/null\"\nsnapshot_interval = \"2h\"\nwarm = [\"payments-*\"]";
        let config: Config = toml::from_str(wrong).unwrap();
        let places: Vec<String> = config
            .config_errors()
            .into_iter()
            .map(|it| it.place)
            .collect();
        assert_eq!(
            places,
            [
                "cache.ttl",
                "cache.stale_if_error",
                "cache.negative_ttl",
                "cache.min_refresh_interval",
                "cache.max_size",
                "cache.snapshot_interval",
                "cache.snapshot",
                "cache.warm[0]"
            ]
        );
        let without = Config {
            warm: vec!["*/app".to_owned()],
            ..Config::default()
        };
        assert_eq!(without.config_errors()[0].place, "cache.warm");
        assert!(toml::from_str::<Config>("tll = \"1s\"").is_err());
    }

    #[test]
    fn a_list_is_warmed_if_its_project_and_its_name_fit_one_pattern() {
        let project = "32b6e34b3d91647abb20e7b8";
        let query = |username: &str| CertQuery {
            project: project.parse().unwrap(),
            username: username.parse().unwrap(),
        };
        for (pattern, username, expected) in [
            (format!("{project}/payments-*"), "payments-api", true),
            (format!("{project}/payments-*"), "billing-api", false),
            ("*/CN=a/b*".to_owned(), "CN=a/b,O=c", true),
            ("5f*/*".to_owned(), "payments-api", false),
        ] {
            let config = Config {
                warm: vec!["*/nothing".to_owned(), pattern.clone()],
                ..Config::default()
            };
            assert_eq!(config.warms(&query(username)), expected, "{pattern}");
        }
    }
}
