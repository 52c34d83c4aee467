//! What expires as a sheet: RFC 4180, in UTF-8, with a head line.

use csv::{Terminator, WriterBuilder};

use crate::atlas::ProjectId;
use crate::gateway::FoundExpirations;

pub(super) fn write(found: &FoundExpirations, project: ProjectId) -> Vec<u8> {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(Vec::new());
    let now = found.expirations.as_of;
    let rows = found.expirations.endings.iter().map(|ending| {
        [
            project.as_str().to_owned(),
            plain(ending.username.as_str()),
            ending.id.to_string(),
            plain(ending.subject.as_deref().unwrap_or("")),
            ending.not_after.in_seconds(),
            ending.seconds_left(now).to_string(),
            ending.answered_at.in_seconds(),
        ]
    });
    let head = COLUMNS.map(str::to_owned);
    for row in std::iter::once(head).chain(rows) {
        writer.write_record(row).expect("a vector takes all");
    }
    writer.into_inner().expect("a vector takes all")
}

/// A cell that a spreadsheet does not take for a formula.
fn plain(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mark = if is_formula { "'" } else { "" };
    format!("{mark}{text}")
}

const COLUMNS: [&str; 7] = [
    "group_id",
    "username",
    "certificate_id",
    "subject",
    "not_after",
    "seconds_left",
    "answered_at",
];
