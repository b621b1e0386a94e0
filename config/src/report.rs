//! Problems, and the collector that gathers all of them before anyone gives up.
//!
//! Every problem stands on one line: `file:line: where: key = found what (expected what)`.
//! Text taken from the file is shortened and its control characters are escaped, so that no
//! file can break the line or the terminal.

use std::fmt;

/// A place in the file and what is wrong, or doubtful, there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller named it.
    pub file: String,
    /// Line in the file, from 1; `None` when the file could not be read at all.
    pub line: Option<usize>,
    /// What was found and what was expected. One line.
    pub message: String,
}

/// Why a file was refused: every problem found, in the order of the lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{}: {}", self.file, line, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Says that a problem is already in the report, so that a reader can stop with `?`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported;

/// The text being read, and what was found wrong in it so far.
pub(crate) struct Report<'d> {
    file: String,
    text: &'d str,
    /// Byte offset of the first byte of each line.
    line_starts: Vec<usize>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'d> Report<'d> {
    pub(crate) fn new(text: &'d str, file: &str) -> Self {
        let newlines = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n');
        let line_starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        let file = file.to_owned();
        Self { file, text, line_starts, problems: Vec::new(), warnings: Vec::new() }
    }

    /// The line, from 1, that the byte at `offset` stands on.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|&start| start <= offset).max(1)
    }

    /// The file's own words at `span`, on one line and shortened.
    pub(crate) fn words_at(&self, span: std::ops::Range<usize>) -> String {
        let words = self.text.get(span).unwrap_or_default();
        shorten(&words.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Adds a problem that refuses the file.
    pub(crate) fn problem(&mut self, line: usize, message: String) -> Reported {
        self.problems.push(Problem { file: self.file.clone(), line: Some(line), message });
        Reported
    }

    /// Adds a remark that does not refuse the file.
    pub(crate) fn warning(&mut self, line: usize, message: String) {
        self.warnings.push(Problem { file: self.file.clone(), line: Some(line), message });
    }

    pub(crate) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// The warnings, or the errors when there is any; each in the order of the lines.
    pub(crate) fn finish(mut self) -> Result<Vec<Problem>, Errors> {
        self.problems.sort_by_key(|problem| problem.line);
        self.warnings.sort_by_key(|warning| warning.line);
        if self.problems.is_empty() {
            Ok(self.warnings)
        } else {
            Err(Errors { problems: self.problems })
        }
    }
}

/// `text` in quotes, for a name or key out of the file.
pub(crate) fn quote(text: &str) -> String {
    format!("\"{}\"", shorten(text))
}

/// At most 60 characters, control characters escaped.
fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown = String::new();
    for character in text.chars().take(MOST) {
        if is_unprintable(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Control characters, line separators, and the marks that reorder text on a terminal.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_from_one_and_newlines_end_their_line() {
        let report = Report::new("a\nb\n\nc", "f");
        let lines: Vec<_> = (0..=9).map(|offset| report.line_at(offset)).collect();
        assert_eq!(lines, [1, 1, 2, 2, 3, 4, 4, 4, 4, 4]);
        assert_eq!(Report::new("", "f").line_at(0), 1);
    }

    #[test]
    fn words_of_the_file_stay_on_one_short_line() {
        let text = format!("[1,\n  2,\u{1b}]{}", "x".repeat(100));
        let report = Report::new(&text, "f");
        assert_eq!(report.words_at(0..10), "[1, 2,\\u{1b}]");
        assert!(report.words_at(0..text.len()).ends_with("xxx..."));
        assert_eq!(report.words_at(500..600), "");
        assert_eq!(quote("a\nb\u{202e}"), "\"a\\u{a}b\\u{202e}\"");
    }
}
