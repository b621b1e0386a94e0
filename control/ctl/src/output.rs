//! Where a command's answer goes: tables for people, one JSON value a line for scripts.
//!
//! Standard output carries the answer and nothing else; notes about the way there (a controller
//! lost, a controller found) go to standard error, so that a pipe stays clean.

use std::fmt;
use std::io::{self, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::words::clean;

/// The two streams of a command.
pub struct Output<'a> {
    out: &'a mut dyn Write,
    notes: &'a mut dyn Write,
    terminal: bool,
    colour: bool,
}

/// What a cell's text means, for those who see colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

/// Rows under a header, aligned.
pub(crate) struct Rows {
    header: &'static [&'static str],
    rows: Vec<Vec<(String, Tone)>>,
}

impl<'a> Output<'a> {
    /// Answers to `out`, notes to `notes`; neither is a terminal.
    pub fn new(out: &'a mut dyn Write, notes: &'a mut dyn Write) -> Self {
        Self { out, notes, terminal: false, colour: false }
    }

    /// `out` is a terminal: lines may be rewritten, and coloured unless the environment variable
    /// `NO_COLOR` is set.
    #[must_use]
    pub fn on_terminal(mut self) -> Self {
        self.terminal = true;
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        self.colour = !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        self
    }

    pub(crate) fn line(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{line}")?;
        self.out.flush()
    }

    /// On a terminal replaces the line before; else it is a line.
    pub(crate) fn progress(&mut self, line: impl fmt::Display) -> io::Result<()> {
        if self.terminal {
            write!(self.out, "\r\u{1b}[K{line}")?;
            self.out.flush()
        } else {
            self.line(line)
        }
    }

    /// Ends a line that `progress` rewrote.
    pub(crate) fn end_progress(&mut self) -> io::Result<()> {
        if self.terminal { self.line("") } else { Ok(()) }
    }

    /// A remark that is no part of the answer.
    pub(crate) fn note(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.notes, "{line}")?;
        self.notes.flush()
    }

    /// One JSON value on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value).map_err(io::Error::other)?;
        self.line(text)
    }

    /// Text as it is, with its own line ends.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// The rows, or `none` in their place.
    pub(crate) fn rows(&mut self, rows: &Rows, none: &str) -> io::Result<()> {
        if rows.rows.is_empty() { self.line(none) } else { self.line(rows.render(self.colour)) }
    }
}

impl Rows {
    pub(crate) fn new(header: &'static [&'static str]) -> Self {
        Self { header, rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<(String, Tone)>) {
        self.rows.push(row);
    }

    fn render(&self, colour: bool) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.style_text_only();
        if colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(self.header.iter().copied());
        for row in &self.rows {
            table.add_row(row.iter().map(|(text, tone)| {
                let cell = Cell::new(clean(text));
                match tone {
                    Tone::Plain => cell,
                    Tone::Good => cell.fg(Color::Green),
                    Tone::Warning => cell.fg(Color::Yellow),
                    Tone::Bad => cell.fg(Color::Red),
                }
            }));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

/// A cell without a tone.
pub(crate) fn cell(text: impl fmt::Display) -> (String, Tone) {
    (text.to_string(), Tone::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::new(&["BACKEND", "STATE"]);
        rows.push(vec![cell("a"), ("healthy".to_owned(), Tone::Good)]);
        rows.push(vec![cell("long-name\u{1b}[2J"), ("unhealthy".to_owned(), Tone::Bad)]);
        rows
    }

    #[test]
    fn columns_are_aligned_and_control_characters_are_shown_not_obeyed() {
        assert_eq!(
            rows().render(false),
            "BACKEND             STATE\na                   healthy\nlong-name\\u{1b}[2J  unhealthy"
        );
    }

    #[test]
    fn colours_are_for_terminals() {
        assert!(rows().render(true).contains("\u{1b}["));
        assert!(!rows().render(false).contains('\u{1b}'));
    }

    #[test]
    fn progress_is_lines_where_there_is_no_terminal() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut output = Output::new(&mut out, &mut notes);
        output.progress("1").unwrap();
        output.progress("2").unwrap();
        output.end_progress().unwrap();
        output.rows(&Rows::new(&["X"]), "none").unwrap();
        output.note("by the way").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "1\n2\nnone\n");
        assert_eq!(String::from_utf8(notes).unwrap(), "by the way\n");
    }
}
