//! One certificate as Atlas lists it: who it names, until when, and its JSON form.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

/// A client certificate that Atlas has issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The X.509 serial number, 63 bits, which Atlas lists as `_id`.
    pub serial: i64,
    /// The start of its validity: one hour before it was made, as Atlas does it.
    pub created_at: SystemTime,
    /// The end of its validity.
    pub not_after: SystemTime,
    /// `CN=<name>`.
    pub subject: String,
}

impl Certificate {
    /// A certificate made at `made`, as Atlas would date it.
    pub fn issued(serial: i64, username: &str, made: SystemTime, not_after: SystemTime) -> Self {
        let created_at = made.checked_sub(BACKDATED).unwrap_or(made);
        Self {
            serial,
            created_at,
            not_after,
            subject: subject(username),
        }
    }

    /// When it was made.
    pub(crate) fn made_at(&self) -> SystemTime {
        self.created_at + BACKDATED
    }

    pub(crate) fn listed<'a>(&'a self, project: &'a str) -> Listed<'a> {
        Listed {
            id: self.serial,
            created_at: rfc3339(self.created_at),
            group_id: project,
            not_after: rfc3339(self.not_after),
            subject: &self.subject,
        }
    }
}

/// The members that recorded answers carry; there are no `links` in an item.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed<'a> {
    #[serde(rename = "_id")]
    id: i64,
    created_at: String,
    group_id: &'a str,
    not_after: String,
    subject: &'a str,
}

fn subject(username: &str) -> String {
    // Atlas: a managed name "must take the form CN=<username>"; a name written so is taken as it is.
    if username.starts_with("CN=") {
        username.to_owned()
    } else {
        format!("CN={username}")
    }
}

/// `2026-08-10T02:06:35Z`: whole seconds, as in recorded answers.
fn rfc3339(at: SystemTime) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    // A year above 9999 has no RFC 3339 form; X.509 ends there too.
    OffsetDateTime::from(at)
        .format(form)
        .unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned())
}

/// A certificate's validity begins one hour before it was made.
const BACKDATED: Duration = Duration::from_hours(1);
