//! The settings under `[insight]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::atlas::ProjectId;
use crate::settings;
use crate::settings::{ConfigError, Ranges, Size};

/// What is written under `[insight]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How much memory may be taken by what is known of certificates' ends.
    pub(crate) max_size: Size,
    /// How often every user of the named projects is asked about; zero: never.
    #[serde(with = "settings::duration")]
    pub(crate) inventory: Duration,
    /// Projects whose metrics have a label of their own.
    pub(crate) projects: Vec<NamedProject>,
}

/// A project, and what it is called in metrics.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NamedProject {
    pub(crate) id: String,
    pub(crate) name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_size: Size::mebibytes(16),
            inventory: Duration::ZERO,
            projects: Vec::new(),
        }
    }
}

impl Config {
    /// What cannot be meant.
    pub(crate) fn config_errors(&self) -> Vec<ConfigError> {
        let mut config_errors = Vec::new();
        let mut ranges = Ranges::of("insight", &mut config_errors);
        let max_size = Size::mebibytes(1)..=Size::mebibytes(1 << 10);
        ranges.check(
            "max_size",
            self.max_size,
            max_size,
            Self::default().max_size,
        );
        let usual = Duration::from_hours(24);
        let inventory = Duration::from_hours(1)..=Duration::from_hours(30 * 24);
        ranges.check_or_off("inventory", self.inventory, inventory, usual);
        for (index, project) in self.projects.iter().enumerate() {
            let at = |key: &str, message: &str| {
                ConfigError::at(format!("insight.projects[{index}].{key}"), message)
            };
            if project.id.parse::<ProjectId>().is_err() {
                config_errors.push(at("id", "is no project: 24 lower-case hexadecimal digits"));
            }
            if project.name.is_empty() || project.name.len() > LONGEST_NAME {
                config_errors.push(at(
                    "name",
                    "must have 1 to 64 bytes: it is a label of metrics",
                ));
            }
            let earlier = self.projects.iter().take(index);
            if earlier.clone().any(|other| other.id == project.id) {
                config_errors.push(at("id", "is named twice"));
            }
            if earlier.clone().any(|other| other.name == project.name) {
                config_errors.push(at("name", "is given to two projects"));
            }
        }
        if self.projects.len() > MOST_PROJECTS {
            config_errors.push(ConfigError::at(
                "insight.projects",
                "are too many: each has series of its own, and 100 are enough for a dashboard",
            ));
        }
        config_errors
    }

    /// What is allowed and is seldom meant.
    pub(crate) fn warnings(&self) -> Vec<ConfigError> {
        let is_idle = !self.inventory.is_zero() && self.projects.is_empty();
        let warning = "is made of no project: name those that are meant in [[insight.projects]]";
        let warning = is_idle.then(|| ConfigError::at("insight.inventory", warning));
        warning.into_iter().collect()
    }

    /// The projects that have a name.
    pub(crate) fn named(&self) -> impl Iterator<Item = (ProjectId, &str)> {
        let named = self.projects.iter();
        named.filter_map(|project| Some((project.id.parse().ok()?, project.name.as_str())))
    }
}

const LONGEST_NAME: usize = 64;
const MOST_PROJECTS: usize = 100;
