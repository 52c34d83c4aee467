//! A record that was found goes in; its members come out, for a table or a spreadsheet.

use std::borrow::Cow;

use serde::Deserialize;

use super::Found;

/// The members of a record that a table or a spreadsheet shows. Absent where the record's kind has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Summary<'a> {
    /// `time`.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// `seq`.
    pub seq: u64,
    /// `kind`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// `replica`.
    #[serde(borrow)]
    pub replica: Option<Cow<'a, str>>,
    /// `request_id`.
    #[serde(borrow)]
    pub request_id: Option<Cow<'a, str>>,
    /// `action` of an operator's record.
    #[serde(borrow)]
    pub action: Option<Cow<'a, str>>,
    /// `count` of folded refusals.
    pub count: Option<u64>,
    /// `outcome`.
    #[serde(borrow)]
    pub outcome: Option<Cow<'a, str>>,
    /// `status`.
    pub status: Option<u16>,
    /// `error_code`.
    #[serde(borrow)]
    pub error_code: Option<Cow<'a, str>>,
    /// `subject`.
    #[serde(borrow)]
    pub subject: Option<Cow<'a, str>>,
    /// `issuer`.
    #[serde(borrow)]
    pub issuer: Option<Cow<'a, str>>,
    /// `client_id`.
    #[serde(borrow)]
    pub client_id: Option<Cow<'a, str>>,
    /// `token_id`.
    #[serde(borrow)]
    pub token_id: Option<Cow<'a, str>>,
    /// `rule`.
    #[serde(borrow)]
    pub rule: Option<Cow<'a, str>>,
    /// `peer`.
    #[serde(borrow)]
    pub peer: Option<Cow<'a, str>>,
    /// `group_id`.
    #[serde(borrow)]
    pub group_id: Option<Cow<'a, str>>,
    /// `username`.
    #[serde(borrow)]
    pub username: Option<Cow<'a, str>>,
    /// `cache`.
    #[serde(borrow)]
    pub cache: Option<Cow<'a, str>>,
    /// `fill_id`.
    #[serde(borrow)]
    pub fill_id: Option<Cow<'a, str>>,
    /// `age_ms`.
    pub age_ms: Option<u64>,
    /// `certificates`.
    pub certificates: Option<u64>,
    /// `list`.
    #[serde(borrow)]
    pub list: Option<Cow<'a, str>>,
    /// `upstream_calls`.
    pub upstream_calls: Option<u64>,
    /// `duration_us`.
    pub duration_us: Option<u64>,
}

impl<'a> Found<'a> {
    /// What a table or a spreadsheet shows of it.
    pub fn summary(&self) -> Summary<'a> {
        serde_json::from_str(self.line).unwrap_or_default()
    }
}
