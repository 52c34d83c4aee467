//! One finding of `check --online`: a line, and what to do about it.

use std::fmt;

use serde::Serialize;

use crate::commands::{complain, say};

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) well: bool,
    #[serde(skip)]
    pub(super) notable: bool,
    pub(super) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn good(what: String, found: String) -> Self {
        Self {
            what,
            well: true,
            notable: false,
            found,
            advice: None,
        }
    }

    pub(super) fn bad(what: String, found: String, advice: Option<String>) -> Self {
        Self {
            what,
            well: false,
            notable: true,
            found,
            advice,
        }
    }

    /// Nothing is wrong, and something should be known.
    pub(super) fn warning(what: String, found: String, advice: String) -> Self {
        Self {
            well: true,
            ..Self::bad(what, found, Some(advice))
        }
    }

    pub(super) fn tell(&self) -> bool {
        if !self.notable {
            return say(&format_args!("# {self}"));
        }
        complain(self);
        if let Some(advice) = &self.advice {
            complain(&format_args!("  {advice}"));
        }
        true
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.found)
    }
}
