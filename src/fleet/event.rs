//! One thing that a replica tells the others.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What one replica tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct FleetEvent {
    /// The replica that tells it.
    pub(crate) replica: String,
    /// By whose request, of an operator.
    pub(crate) request_id: Option<Uuid>,
    /// What has happened.
    pub(crate) what: What,
    /// Of which project; of all, if of none.
    pub(crate) project: Option<String>,
    /// Of which user; of all of the project, if of none.
    pub(crate) username: Option<String>,
    /// Who is denied some of it by a rule: those lists stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operator: Option<Operator>,
}

/// An operator by what rules go by, so that each replica finds out what is denied to it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Operator {
    pub(crate) subject: Box<str>,
    pub(crate) issuer: Box<str>,
    pub(crate) client_id: Option<Box<str>>,
    pub(crate) scopes: Box<[Box<str>]>,
}

/// What has happened to lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) enum What {
    /// They are to be forgotten.
    Purged,
    /// Their fresh life has ended.
    SoftlyPurged,
    /// Atlas has another list than before, which this fetch has brought.
    Changed(Uuid),
}
