//! The story's form: a label for each step, and its text in lines of a readable length.

use std::io::Write;

/// Columns of the label.
const LABEL: usize = 11;
/// Columns of a line.
const WIDTH: usize = 96;

/// Steps in order.
#[derive(Debug, Default)]
pub(super) struct Story {
    lines: Vec<(Option<&'static str>, String)>,
}

impl Story {
    /// A step, by what it is about.
    pub(super) fn step(&mut self, label: &'static str, text: String) {
        self.lines.push((Some(label), text));
    }

    /// More about the last step; lines of the text are kept as they are.
    pub(super) fn more(&mut self, text: String) {
        self.lines.extend(text.lines().map(|line| (None, line.to_owned())));
    }

    pub(super) fn print(&self, output: &mut impl Write) -> std::io::Result<()> {
        for (label, text) in &self.lines {
            let mut label = label.unwrap_or_default();
            for line in wrap(text, WIDTH - LABEL) {
                writeln!(output, "{label:LABEL$}{line}")?;
                label = "";
            }
        }
        Ok(())
    }
}

/// Breaks a text at blanks; a text that fits is left alone, aligned columns included.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    if text.len() <= width {
        return vec![text.to_owned()];
    }
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_blanks_and_never_inside_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("incomprehensible", 7), ["incomprehensible"]);
        assert_eq!(wrap("a   b", 7), ["a   b"]);
    }

    #[test]
    fn only_the_first_line_of_a_step_has_its_label() {
        let mut story = Story::default();
        story.step("slot", "5 of 7".to_owned());
        story.more("one\ntwo".to_owned());
        let mut printed = Vec::new();
        story.print(&mut printed).unwrap();
        let expected = "slot       5 of 7\n           one\n           two\n";
        assert_eq!(String::from_utf8(printed).unwrap(), expected);
    }
}
