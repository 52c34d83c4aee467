//! Records that were found go in; they come out as they were written, as a table, or as CSV.

use std::borrow::Cow;
use std::io;
use std::io::Write;

use clap::ValueEnum;

use crate::audit::search::{Found, Summary};

use super::spreadsheet::Spreadsheet;
use super::table::{Column, Holds, Table, printable, terminal};

/// How something is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people. On a terminal it is as wide as that: columns are left out and names shortened.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets, by RFC 4180; what would be a formula has an apostrophe before it.
    Csv,
}

/// Records that are being shown.
pub(super) enum Records {
    Csv(Spreadsheet),
    /// With room for a line and its end.
    Json(Vec<u8>),
    Table(Table),
}

impl Records {
    /// None yet; what stands above them is written.
    pub(super) fn begin(format: Format, out: &mut dyn Write) -> io::Result<Self> {
        Ok(match format {
            Format::Csv => {
                let sheet = Spreadsheet::new();
                let names: Vec<_> = CELLS.iter().map(|(name, _)| Cow::Borrowed(*name)).collect();
                sheet.row(out, &names)?;
                Self::Csv(sheet)
            }
            Format::Json => Self::Json(Vec::new()),
            Format::Table => Self::Table(Table::new(columns(), terminal())),
        })
    }

    /// Shows one more.
    pub(super) fn show(&mut self, out: &mut dyn Write, found: &Found<'_>) -> io::Result<()> {
        match self {
            Self::Csv(sheet) => {
                let record = found.summary();
                let cells: Vec<_> = CELLS.iter().map(|(_, cell)| cell(&record)).collect();
                sheet.row(out, &cells)
            }
            Self::Json(line) => {
                line.clear();
                line.extend_from_slice(found.line.as_bytes());
                line.push(b'\n');
                // As one, so that what ends the program ends no line in its middle.
                out.write_all(line)
            }
            Self::Table(table) => table.row(out, row(&found.summary())),
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

fn columns() -> Vec<Column> {
    let column = |name, holds, rank, usual| Column {
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

/// The cells of [`columns`].
fn row(record: &Summary<'_>) -> Vec<String> {
    let text = |text: &Option<Cow<'_, str>>| text.as_deref().map_or_else(absent, printable);
    let number = |number: Option<u64>| number.map_or_else(absent, |it| it.to_string());
    // What an operator did, and how many refusals there were, stand for an outcome.
    let outcome = record.outcome.as_ref().or(record.action.as_ref());
    vec![
        printable(&record.time),
        record.seq.to_string(),
        printable(&record.kind),
        outcome.map_or_else(|| number(record.count), |it| printable(it)),
        number(record.status.map(u64::from)),
        text(&record.cache),
        number(record.age_ms),
        text(&record.request_id),
        text(&record.subject),
        text(&record.group_id),
        text(&record.username),
    ]
}

fn absent() -> String {
    "-".to_owned()
}

/// A cell of CSV, empty where the record has no such member.
type Cell = for<'s> fn(&'s Summary<'_>) -> Cow<'s, str>;

/// The columns of CSV, by the names of their members.
const CELLS: [(&str, Cell); 23] = [
    ("time", |it| Cow::Borrowed(&it.time)),
    ("seq", |it| it.seq.to_string().into()),
    ("kind", |it| Cow::Borrowed(&it.kind)),
    ("replica", |it| text(it.replica.as_deref())),
    ("request_id", |it| text(it.request_id.as_deref())),
    ("outcome", |it| text(it.outcome.as_deref())),
    ("status", |it| number(it.status.map(u64::from))),
    ("error_code", |it| text(it.error_code.as_deref())),
    ("subject", |it| text(it.subject.as_deref())),
    ("issuer", |it| text(it.issuer.as_deref())),
    ("client_id", |it| text(it.client_id.as_deref())),
    ("token_id", |it| text(it.token_id.as_deref())),
    ("rule", |it| text(it.rule.as_deref())),
    ("peer", |it| text(it.peer.as_deref())),
    ("group_id", |it| text(it.group_id.as_deref())),
    ("username", |it| text(it.username.as_deref())),
    ("cache", |it| text(it.cache.as_deref())),
    ("fill_id", |it| text(it.fill_id.as_deref())),
    ("age_ms", |it| number(it.age_ms)),
    ("certificates", |it| number(it.certificates)),
    ("list", |it| text(it.list.as_deref())),
    ("upstream_calls", |it| number(it.upstream_calls)),
    ("duration_us", |it| number(it.duration_us)),
];

fn text(text: Option<&str>) -> Cow<'_, str> {
    Cow::Borrowed(text.unwrap_or_default())
}

fn number(number: Option<u64>) -> Cow<'static, str> {
    Cow::Owned(number.map_or_else(String::new, |it| it.to_string()))
}

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

    fn shown(format: Format) -> String {
        let mut out = Vec::new();
        let mut records = Records::begin(format, &mut out).unwrap();
        let found = Found { line: LINE, seq: 2 };
        records.show(&mut out, &found).unwrap();
        records.flush(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_shown_whole_in_every_format() {
        assert_eq!(shown(Format::Json), format!("{LINE}\n"));
        let sheet = shown(Format::Csv);
        let (names, cells) = sheet.split_once("\r\n").unwrap();
        assert_eq!(names.split(',').count(), CELLS.len());
        assert_eq!(
            cells,
            "2026-08-10T02:06:35.000000Z,2,lookup,gateway-1,0198a3f0-0000-7000-8000-000000000000,\
             answered,200,,'=cmd,https://idp.internal.example,,token-1,reads,192.0.2.7:50123,\
             32b6e34b3d91647abb20e7b8,Müller\u{1b},hit,,1500,2,\"\"\"abc\"\"\",0,37\r\n"
        );
        let table = shown(Format::Table);
        let (names, row) = table.split_once('\n').unwrap();
        assert!(names.starts_with("TIME ") && names.ends_with("  USERNAME"));
        assert!(
            row.ends_with("  32b6e34b3d91647abb20e7b8  Müller\\u{1b}\n"),
            "{row}"
        );
    }
}
