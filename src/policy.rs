//! May they: a [`Caller`](crate::identity::Caller) and a question go in, a [`Permit`] comes out.

use std::sync::Arc;

use crate::atlas::Question;

/// Proof that a caller may ask a question. The cache accepts nothing else.
#[derive(Clone, Debug)]
pub struct Permit {
    question: Question,
    rule: Arc<str>,
    force_refresh: bool,
}

impl Permit {
    /// What may be asked.
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// The name of the rule that granted it.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    /// Whether the caller may ask Atlas anew before an entry's time.
    pub fn may_force_refresh(&self) -> bool {
        self.force_refresh
    }
}
