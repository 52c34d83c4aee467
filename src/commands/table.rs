//! A table of text, as wide as what it shows or, on a terminal, as that is. It is never coloured.

use std::io;
use std::io::{IsTerminal, Write};

use rustix::termios::tcgetwinsize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub(in crate::commands) struct TableColumn {
    pub(in crate::commands) name: &'static str,
    pub(in crate::commands) holds: Holds,
    /// On a narrow terminal the column with the highest rank goes first; with 0 it stays.
    pub(in crate::commands) rank: u8,
    /// How wide it usually is, for rows that are not known yet when the first is written.
    pub(in crate::commands) usual: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::commands) enum Holds {
    /// Names, which are shortened where they do not fit.
    Names,
    /// Numbers, which stand at the right.
    Numbers,
    /// Words of ours, which are always whole.
    Words,
}

pub(in crate::commands) struct Table {
    columns: Vec<TableColumn>,
    terminal: Option<usize>,
    /// Rows that are waited with until the widths are known.
    held: Vec<Vec<String>>,
    /// How wide each column is; `None` for what is left out. Empty as long as they are not known.
    widths: Vec<Option<usize>>,
}

impl Table {
    pub(in crate::commands) fn new(columns: Vec<TableColumn>, terminal: Option<usize>) -> Self {
        Self {
            columns,
            terminal,
            held: Vec::new(),
            widths: Vec::new(),
        }
    }

    /// Adds a row. It is written at once if the widths are known.
    pub(in crate::commands) fn row(
        &mut self,
        out: &mut dyn Write,
        cells: Vec<String>,
    ) -> io::Result<()> {
        if !self.widths.is_empty() {
            return self.write(out, &cells);
        }
        self.held.push(cells);
        if self.held.len() < HELD {
            return Ok(());
        }
        self.flush(out)
    }

    /// Writes what is held; the widths are those of these rows.
    pub(in crate::commands) fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.widths.is_empty() {
            let names = self.columns.iter().map(|it| it.name.to_owned()).collect();
            self.held.insert(0, names);
            self.widths = self.fit();
        }
        for row in std::mem::take(&mut self.held) {
            self.write(out, &row)?;
        }
        Ok(())
    }

    /// The widths with which the held rows fit the terminal.
    fn fit(&self) -> Vec<Option<usize>> {
        let widest = |place: usize| {
            let cells = self.held.iter().filter_map(|row| row.get(place));
            cells.map(|cell| cell.width()).max().unwrap_or_default()
        };
        let columns = self.columns.iter().enumerate();
        let mut widths: Vec<_> = columns
            .map(|(place, column)| Some(widest(place).max(column.usual)))
            .collect();
        let Some(terminal) = self.terminal else {
            return widths;
        };
        // Columns are left out for names up to a width; beyond it names are shortened.
        while self.taken(&widths, |width| width.min(NAME)) > terminal {
            let ranked = self.columns.iter().zip(&mut widths);
            let shown = ranked.filter(|(column, width)| column.rank > 0 && width.is_some());
            let Some((_, width)) = shown.max_by_key(|(column, _)| column.rank) else {
                break;
            };
            *width = None;
        }
        let mut space = terminal.saturating_sub(self.taken(&widths, |_| 0));
        let columns = self.columns.iter().zip(&mut widths);
        let mut names: Vec<_> = columns
            .filter(|(column, _)| column.holds == Holds::Names)
            .filter_map(|(_, width)| width.as_mut())
            .collect();
        // Narrow ones leave what they do not need to the others.
        names.sort_unstable();
        let mut left = names.len();
        for width in names {
            *width = (*width).min(space / left).max(1);
            space = space.saturating_sub(*width);
            left -= 1;
        }
        widths
    }

    /// How wide a row is in which names are as wide as `name` says.
    fn taken(&self, widths: &[Option<usize>], name: impl Fn(usize) -> usize) -> usize {
        let shown = self.columns.iter().zip(widths);
        let shown = shown.filter_map(|(column, width)| match column.holds {
            Holds::Names => width.map(&name),
            Holds::Numbers | Holds::Words => *width,
        });
        let (count, sum) = shown.fold((0, 0), |(count, sum), width| (count + 1, sum + width));
        sum + GAP.len() * usize::saturating_sub(count, 1)
    }

    fn write(&self, out: &mut dyn Write, cells: &[String]) -> io::Result<()> {
        let mut line = String::new();
        let columns = self.columns.iter().zip(&self.widths).zip(cells);
        let shown = columns.filter_map(|((column, width), cell)| Some((column, (*width)?, cell)));
        for (place, (column, width, cell)) in shown.enumerate() {
            if place > 0 {
                line.push_str(GAP);
            }
            let is_cut = self.terminal.is_some() && column.holds == Holds::Names;
            let cell = if is_cut {
                shortened(cell, width)
            } else {
                cell.clone()
            };
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            match column.holds {
                Holds::Numbers => line.extend([padding, cell]),
                Holds::Names | Holds::Words => line.extend([cell, padding]),
            }
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        // As one, so that what ends the program ends no line in its middle.
        out.write_all(line.as_bytes())
    }
}

/// How wide the terminal is that standard output is, if it is one.
pub(in crate::commands) fn terminal() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let columns = tcgetwinsize(&out).ok()?.ws_col;
    (columns > 0).then(|| columns.into())
}

/// `text` in so many columns, without its middle where it needs more: names of certificates differ at both
/// ends.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let space = width.saturating_sub(ELLIPSIS.width());
    let end = fitting(text.chars().rev(), space / 2);
    let start = fitting(text.chars(), space - space / 2);
    let end: String = end.chars().rev().collect();
    // A mark that belongs to a letter which is gone would stand on the dots.
    let end = end.trim_start_matches(|character: char| character.width() == Some(0));
    format!("{start}{ELLIPSIS}{end}")
}

fn fitting(characters: impl Iterator<Item = char>, space: usize) -> String {
    let mut taken = 0;
    characters
        .take_while(|character| {
            taken += character.width().unwrap_or_default();
            taken <= space
        })
        .collect()
}

/// Rows by which the widths are judged.
const HELD: usize = 256;
/// So much of a name is worth a column.
const NAME: usize = 14;
const GAP: &str = "  ";
const ELLIPSIS: &str = "…";

#[cfg(test)]
mod tests;
