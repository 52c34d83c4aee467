//! What expires as a calendar (RFC 5545): an event at the end of each certificate, with an alarm two weeks before.

use crate::atlas::{ProjectId, Timestamp};
use crate::gateway::FoundExpirations;
use crate::insight::Ending;

pub(super) fn write(found: &FoundExpirations, project: ProjectId) -> Vec<u8> {
    let mut calendar = Calendar::default();
    for line in [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//atlas-cert-gateway//expirations//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
    ] {
        calendar.line(line);
    }
    for ending in &found.expirations.endings {
        calendar.event(ending, project.as_str());
    }
    calendar.line("END:VCALENDAR");
    calendar.0
}

#[derive(Default)]
struct Calendar(Vec<u8>);

impl Calendar {
    fn event(&mut self, ending: &Ending, project: &str) {
        let username = escaped(ending.username.as_str());
        let subject = escaped(ending.subject.as_deref().unwrap_or("without a subject"));
        let lines = [
            "BEGIN:VEVENT".to_owned(),
            format!("UID:{}@{project}.atlas-cert-gateway", ending.id),
            format!("DTSTAMP:{}", instant(ending.answered_at)),
            format!("DTSTART:{}", instant(ending.not_after)),
            "TRANSP:TRANSPARENT".to_owned(),
            format!("SUMMARY:Certificate of {username} ends"),
            format!(
                "DESCRIPTION:{subject}\\, number {}\\, of database user {username} in project {project}",
                ending.id
            ),
            "BEGIN:VALARM".to_owned(),
            "ACTION:DISPLAY".to_owned(),
            "TRIGGER:-P14D".to_owned(),
            format!("DESCRIPTION:Certificate of {username} ends in two weeks"),
            "END:VALARM".to_owned(),
            "END:VEVENT".to_owned(),
        ];
        for line in lines {
            self.line(&line);
        }
    }

    /// Folded after 75 octets, between characters (section 3.1).
    fn line(&mut self, line: &str) {
        let mut taken = 0;
        let mut bytes = [0; 4];
        for character in line.chars() {
            let character = character.encode_utf8(&mut bytes).as_bytes();
            if taken + character.len() > LONGEST_LINE {
                self.0.extend_from_slice(b"\r\n ");
                taken = 1;
            }
            self.0.extend_from_slice(character);
            taken += character.len();
        }
        self.0.extend_from_slice(b"\r\n");
    }
}

/// A TEXT (section 3.3.11), which has no control characters but the tab.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | ';' | ',' => escaped.extend(['\\', character]),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push(character),
            _ if character.is_control() => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// `20261204T101500Z`.
fn instant(time: Timestamp) -> String {
    time.in_seconds().replace(['-', ':'], "")
}

const LONGEST_LINE: usize = 75;
