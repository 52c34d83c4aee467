//! CSV (RFC 4180) in which no cell is a formula.

use std::borrow::Cow;
use std::io;
use std::io::{IsTerminal, Write};

use csv::{Terminator, WriterBuilder};

use crate::system::printable;

pub(in crate::commands) struct Spreadsheet {
    /// A terminal must not obey what is in a name; a spreadsheet gets it as it is.
    is_seen: bool,
}

impl Spreadsheet {
    pub(in crate::commands) fn new() -> Self {
        Self {
            is_seen: io::stdout().is_terminal(),
        }
    }

    pub(in crate::commands) fn row(
        &self,
        out: &mut dyn Write,
        cells: &[Cow<'_, str>],
    ) -> io::Result<()> {
        let mut line = WriterBuilder::new()
            .terminator(Terminator::CRLF)
            .from_writer(Vec::new());
        for cell in cells {
            let cell = harmless(cell);
            let cell = if self.is_seen {
                printable(&cell).into()
            } else {
                cell
            };
            line.write_field(&*cell)?;
        }
        line.write_record(None::<&[u8]>)?;
        let line = line.into_inner().map_err(csv::IntoInnerError::into_error)?;
        // As one, so that what ends the program ends no line in its middle.
        out.write_all(&line)
    }
}

/// A cell that a spreadsheet would take for a formula has an apostrophe before it, which makes it a text.
fn harmless(cell: &str) -> Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: &[&str], is_seen: bool) -> String {
        let mut out = Vec::new();
        let cells: Vec<_> = cells.iter().map(|cell| Cow::Borrowed(*cell)).collect();
        Spreadsheet { is_seen }.row(&mut out, &cells).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_is_quoted_where_it_has_to_be_and_ends_as_rfc_4180_has_it() {
        let cells = ["CN=app,OU=x", "say \"no\"", "two\r\nlines", "", "Müller"];
        let row = "\"CN=app,OU=x\",\"say \"\"no\"\"\",\"two\r\nlines\",,Müller\r\n";
        assert_eq!(written(&cells, false), row);
        assert_eq!(written(&["\u{1b}[31m"], true), "\\u{1b}[31m\r\n");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            let row = written(&[formula, "1-1"], false);
            let row = row.trim_start_matches('"');
            assert!(row.starts_with(&format!("'{formula}")), "{row}");
            assert!(row.ends_with(",1-1\r\n"), "{row}");
        }
    }
}
