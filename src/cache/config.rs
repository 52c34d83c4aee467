//! The settings under `[cache]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::settings;
use crate::settings::{ConfigError, Ranges, Size};

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
        config_errors
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
             min_refresh_interval = \"5s\"\nmax_size = \"256MiB\"\n"
        );
    }

    #[test]
    fn everything_can_be_switched_off_and_every_mistake_is_named() {
        let off = "ttl = \"0s\"\nstale_if_error = \"0s\"\nnegative_ttl = \"0s\"\n\
                   refresh_ahead = false\nmin_refresh_interval = \"0s\"\nmax_size = 0";
        let config: Config = toml::from_str(off).unwrap();
        assert_eq!(config.config_errors(), []);

        let wrong = "ttl = \"2d\"\nstale_if_error = \"8d\"\nnegative_ttl = \"2h\"\n\
                     min_refresh_interval = \"2h\"\nmax_size = \"1KiB\"";
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
                "cache.max_size"
            ]
        );
        assert!(toml::from_str::<Config>("tll = \"1s\"").is_err());
    }
}
