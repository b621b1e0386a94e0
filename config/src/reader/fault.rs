//! How a reader words what is wrong: `where: key = found what (expected what)`.
//!
//! What was found is quoted from the file, so that the reader of the message sees the very
//! words to look for; a secret never is.

use super::Reader;
use crate::report::{Reported, quote};
use crate::schema::{Key, Kind, Section, with_article};
use toml::Spanned;
use toml::de::DeValue;

impl<'d> Reader<'_, 'd> {
    /// Reports that the value of `key` is wrong: what is wrong about it, and what was
    /// expected instead.
    pub(crate) fn fault(&mut self, key: &Key, what: &str, expected: &str) -> Reported {
        let line = self.line_of(key);
        let message = match self.find(key) {
            Some(value) => format!("{}{what} (expected {expected})", self.shown(key, " = ", value)),
            None => format!("{}{} {what} (expected {expected})", self.prefix(), key.name),
        };
        self.report.problem(line, message)
    }

    /// As [`fault`](Self::fault), for one element of the list under `key`.
    pub(crate) fn item_fault(
        &mut self,
        key: &Key,
        index: usize,
        what: &str,
        expected: &str,
    ) -> Reported {
        let items = self.find(key).and_then(|value| value.get_ref().as_array());
        match items.and_then(|items| items.get(index)) {
            Some(item) => {
                let line = self.report.line_at(item.span().start);
                let shown = self.shown(key, ": ", item);
                self.report.problem(line, format!("{shown}{what} (expected {expected})"))
            }
            None => self.fault(key, what, expected),
        }
    }

    /// Adds a warning at `key`.
    pub(crate) fn warning(&mut self, key: &Key, message: &str) {
        let (line, prefix) = (self.line_of(key), self.prefix());
        self.report.warning(line, format!("{prefix}{message}"));
    }

    /// Reports the keys that `section` does not have.
    pub(super) fn check_names(&mut self, section: &'static Section) {
        for (name, _) in self.at.table.iter() {
            let (line, name) = (self.report.line_at(name.span().start), name.get_ref());
            if section.keys.iter().any(|key| key.name == name) {
                continue;
            }
            let nearest = nearest_key(section, name);
            let prefix = self.prefix();
            let name = quote(name);
            let message =
                format!("{prefix}unknown key {name} (expected a known key; nearest is {nearest})");
            self.report.problem(line, message);
        }
    }

    fn prefix(&self) -> String {
        if self.label.is_empty() { String::new() } else { format!("{}: ", self.label) }
    }

    /// `pool "web": table_size = 65536 `. Tables, whose span is only their header, and
    /// secrets are not quoted.
    fn shown(&self, key: &Key, between: &str, value: &Spanned<DeValue<'d>>) -> String {
        let prefix = self.prefix();
        match (value.get_ref(), key.kind) {
            (DeValue::Table(_), _) => format!("{prefix}{} ", key.name),
            (DeValue::Array(_), Kind::Table(_)) => format!("{prefix}{} ", key.name),
            (_, Kind::Secret { .. }) => format!("{prefix}{}{between}\"...\" ", key.name),
            _ => format!("{prefix}{}{between}{} ", key.name, self.report.words_at(value.span())),
        }
    }

    pub(super) fn wrong_type_or_missing(&mut self, key: &Key) -> Reported {
        match self.find(key) {
            Some(value) => {
                let what = format!("is {}", type_of(value.get_ref()));
                self.fault(key, &what, &key.kind.expected())
            }
            None => self.fault(key, "is missing", &key.kind.expected()),
        }
    }

    pub(super) fn not_in_notation(&mut self, key: &Key, index: Option<usize>) -> Reported {
        let (what, expected) = match key.kind {
            Kind::Notation { what, example } | Kind::Notations { what, example } => {
                (with_article(what), format!("one such as \"{example}\""))
            }
            kind => (kind.type_name(), kind.expected()),
        };
        match index {
            Some(index) => self.item_fault(key, index, &format!("is not {what}"), &expected),
            None => self.fault(key, &format!("is not {what}"), &expected),
        }
    }
}

/// The nearest key of `section`, in quotes; names compare without regard to case.
fn nearest_key(section: &Section, name: &str) -> String {
    // A key is never longer, and the distance takes time in proportion.
    let name: String = name.chars().take(64).flat_map(char::to_lowercase).collect();
    let distance = |key: &&&Key| strsim::damerau_levenshtein(key.name, &name);
    section.keys.iter().min_by_key(distance).map_or_else(String::new, |key| quote(key.name))
}

/// The type of a value, with its article.
pub(crate) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
