//! Shows records as they were written, as a table, or as CSV.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::io::Write;

use clap::ValueEnum;
use serde_json::Value;

use crate::audit::search::Found;

use super::spreadsheet::Spreadsheet;
use crate::commands::table::{Holds, Table, TableColumn, terminal};
use crate::system::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::commands) enum OutputFormat {
    /// For people. On a terminal it is as wide as that: columns are left out and names shortened.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets, by RFC 4180; what would be a formula has an apostrophe before it.
    Csv,
}

pub(super) enum Records {
    Csv(Spreadsheet),
    /// The buffer of a line and its end.
    Json(Vec<u8>),
    Table(Table),
}

impl Records {
    /// None yet; what stands above them is written.
    pub(super) fn begin(format: OutputFormat, out: &mut dyn Write) -> io::Result<Self> {
        Ok(match format {
            OutputFormat::Csv => {
                let sheet = Spreadsheet::new();
                sheet.row(out, &MEMBERS.map(Cow::Borrowed))?;
                Self::Csv(sheet)
            }
            OutputFormat::Json => Self::Json(Vec::new()),
            OutputFormat::Table => Self::Table(Table::new(columns(), terminal())),
        })
    }

    pub(super) fn show(&mut self, out: &mut dyn Write, found: &Found<'_>) -> io::Result<()> {
        match self {
            Self::Csv(sheet) => {
                let record = found.members();
                let cell = |name| Cow::Owned(text(&record, name).unwrap_or_default());
                sheet.row(out, &MEMBERS.map(cell))
            }
            Self::Json(line) => {
                line.clear();
                line.extend_from_slice(found.line.as_bytes());
                line.push(b'\n');
                // As one, so that what ends the program ends no line in its middle.
                out.write_all(line)
            }
            Self::Table(table) => table.row(out, row(&found.members())),
        }
    }

    /// Brings all that was shown to where it is read.
    pub(super) fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if let Self::Table(table) = self {
            table.flush(out)?;
        }
        out.flush()
    }
}

fn columns() -> Vec<TableColumn> {
    let column = |name, holds, rank, usual| TableColumn {
        name,
        holds,
        rank,
        usual,
    };
    vec![
        column("TIME", Holds::Words, 0, 27),
        column("SEQ", Holds::Numbers, 5, 6),
        column("KIND", Holds::Words, 4, 6),
        column("OUTCOME", Holds::Words, 0, 8),
        column("STATUS", Holds::Numbers, 1, 6),
        column("CACHE", Holds::Words, 3, 5),
        column("AGE MS", Holds::Numbers, 7, 6),
        column("REQUEST ID", Holds::Words, 6, 36),
        column("SUBJECT", Holds::Names, 0, 7),
        column("GROUP ID", Holds::Words, 2, 24),
        column("USERNAME", Holds::Names, 0, 8),
    ]
}

fn row(record: &BTreeMap<&str, Value>) -> Vec<String> {
    let cell = |name| text(record, name).map(|text| printable(&text));
    // What an operator did, and how many refusals there were, stand for an outcome.
    let outcome = ["outcome", "action", "count"].into_iter().find_map(cell);
    let before = ["time", "seq", "kind"].map(cell);
    let after = [
        "status",
        "cache",
        "age_ms",
        "request_id",
        "subject",
        "group_id",
        "username",
    ];
    let cells = before.into_iter().chain([outcome]).chain(after.map(cell));
    cells
        .map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
        .collect()
}

/// The value of a member; `None` where the record has no such member, or one without a value.
fn text(record: &BTreeMap<&str, Value>, name: &str) -> Option<String> {
    match record.get(name)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value @ (Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            Some(value.to_string())
        }
    }
}

const MEMBERS: [&str; 23] = [
    "time",
    "seq",
    "kind",
    "replica",
    "request_id",
    "outcome",
    "status",
    "error_code",
    "subject",
    "issuer",
    "client_id",
    "token_id",
    "rule",
    "peer",
    "group_id",
    "username",
    "cache",
    "fill_id",
    "age_ms",
    "certificates",
    "list",
    "upstream_calls",
    "duration_us",
];

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = concat!(
        r#"{"time":"2026-08-10T02:06:35.000000Z","seq":2,"kind":"lookup","replica":"gateway-1","#,
        r#""request_id":"0198a3f0-0000-7000-8000-000000000000","outcome":"answered","status":200,"#,
        r#""error_code":null,"subject":"=cmd","issuer":"https://idp.internal.example","#,
        r#""client_id":null,"token_id":"token-1","rule":"reads","peer":"192.0.2.7:50123","#,
        r#""group_id":"32b6e34b3d91647abb20e7b8","username":"M\u00fcller\u001b","cache":"hit","#,
        r#""fill_id":null,"age_ms":1500,"certificates":2,"list":"\"abc\"","upstream_calls":0,"#,
        r#""duration_us":37}"#,
    );

    fn shown(format: OutputFormat) -> String {
        let mut out = Vec::new();
        let mut records = Records::begin(format, &mut out).unwrap();
        let found = Found { line: LINE, seq: 2 };
        records.show(&mut out, &found).unwrap();
        records.flush(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_shown_whole_in_every_format() {
        assert_eq!(shown(OutputFormat::Json), format!("{LINE}\n"));
        let sheet = shown(OutputFormat::Csv);
        let (names, cells) = sheet.split_once("\r\n").unwrap();
        assert_eq!(names.split(',').count(), MEMBERS.len());
        assert_eq!(
            cells,
            "2026-08-10T02:06:35.000000Z,2,lookup,gateway-1,0198a3f0-0000-7000-8000-000000000000,\
             answered,200,,'=cmd,https://idp.internal.example,,token-1,reads,192.0.2.7:50123,\
             32b6e34b3d91647abb20e7b8,Müller\u{1b},hit,,1500,2,\"\"\"abc\"\"\",0,37\r\n"
        );
        let table = shown(OutputFormat::Table);
        let (names, row) = table.split_once('\n').unwrap();
        assert!(names.starts_with("TIME ") && names.ends_with("  USERNAME"));
        assert!(
            row.ends_with("  32b6e34b3d91647abb20e7b8  Müller\\u{1b}\n"),
            "{row}"
        );
    }
}
