//! Reads one table of the file, key by key, by what the schema says of each key.
//!
//! A getter returns the value, or the default when the key is absent. Whatever is wrong it
//! puts into the report and returns [`Reported`]; a section reads all of its keys before it
//! gives up, so that one run shows every problem. Unknown keys are found when the reader
//! is made, so no section can forget to look for them.

mod fault;

pub(crate) use fault::type_of;

use crate::report::{Report, Reported, quote};
use crate::schema::{Fallback, Key, Kind, Section};
use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// A table with its place in the file.
#[derive(Clone, Copy)]
pub(crate) struct TableAt<'d> {
    pub(crate) line: usize,
    pub(crate) table: &'d DeTable<'d>,
}

/// Reads one table.
pub(crate) struct Reader<'r, 'd> {
    pub(crate) report: &'r mut Report<'d>,
    /// How messages name the table: `pool "web"`. Empty for the top level.
    label: String,
    at: TableAt<'d>,
}

impl<'r, 'd> Reader<'r, 'd> {
    /// Starts on a table, and reports the keys that `section` does not know.
    pub(crate) fn new(
        report: &'r mut Report<'d>,
        section: &'static Section,
        label: String,
        at: TableAt<'d>,
    ) -> Self {
        let mut reader = Self { report, label, at };
        reader.check_names(section);
        reader
    }

    /// How messages name the table.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The line of the table's header.
    pub(crate) fn line(&self) -> usize {
        self.at.line
    }

    /// The line of `key`'s value, or of the table's header when the key is absent.
    pub(crate) fn line_of(&self, key: &Key) -> usize {
        self.find(key).map_or(self.at.line, |value| self.report.line_at(value.span().start))
    }

    pub(crate) fn is_present(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// Any string.
    pub(crate) fn text(&mut self, key: &Key) -> Result<String, Reported> {
        match (self.find(key).map(|value| value.get_ref()), key.default) {
            (Some(DeValue::String(text)), _) => Ok(text.to_string()),
            (None, Fallback::Text(text)) => Ok(text.to_owned()),
            _ => Err(self.wrong_type_or_missing(key)),
        }
    }

    /// The string under `key` if there is one, without a judgement.
    pub(crate) fn peek_text(&self, key: &Key) -> Option<&'d str> {
        self.find(key)?.get_ref().as_str()
    }

    /// A string for [`Kind::Name`].
    pub(crate) fn name(&mut self, key: &Key) -> Result<String, Reported> {
        let text = self.text(key)?;
        let Kind::Name { punctuation } = key.kind else { return Ok(text) };
        let plain = |character: char| character.is_ascii_alphanumeric();
        let allowed = |character| plain(character) || punctuation.contains(character);
        let expected = format!("{}, a letter or digit first", key.kind.range());
        if text.is_empty() || text.len() > 63 {
            Err(self.fault(key, &format!("has {} characters", text.chars().count()), &expected))
        } else if !text.starts_with(plain) || !text.chars().all(allowed) {
            Err(self.fault(key, "is not a plain name", &expected))
        } else {
            Ok(text)
        }
    }

    /// A string in the notation that `T` reads.
    pub(crate) fn notation<T: FromStr>(&mut self, key: &Key) -> Result<T, Reported> {
        let text = self.text(key)?;
        text.parse().map_err(|_| self.not_in_notation(key, None))
    }

    /// As [`notation`](Self::notation), for a key without a default value.
    pub(crate) fn optional_notation<T: FromStr>(
        &mut self,
        key: &Key,
    ) -> Result<Option<T>, Reported> {
        if self.is_present(key) { self.notation(key).map(Some) } else { Ok(None) }
    }

    /// A number of the key's range; `T` must hold that range.
    pub(crate) fn integer<T: TryFrom<i64>>(&mut self, key: &Key) -> Result<T, Reported> {
        let number = match (self.find(key).map(|value| value.get_ref()), key.default) {
            (Some(DeValue::Integer(digits)), _) => in_range(key, digits),
            (None, Fallback::Integer(number)) => T::try_from(number).ok(),
            _ => return Err(self.wrong_type_or_missing(key)),
        };
        number.ok_or_else(|| self.fault(key, "is out of range", &key.values_cell()))
    }

    /// As [`integer`](Self::integer), for a key without a default value.
    pub(crate) fn optional_integer<T: TryFrom<i64>>(
        &mut self,
        key: &Key,
    ) -> Result<Option<T>, Reported> {
        if self.is_present(key) { self.integer(key).map(Some) } else { Ok(None) }
    }

    /// A number of seconds.
    pub(crate) fn seconds(&mut self, key: &Key) -> Result<Duration, Reported> {
        self.integer(key).map(|seconds: u32| Duration::from_secs(seconds.into()))
    }

    pub(crate) fn boolean(&mut self, key: &Key) -> Result<bool, Reported> {
        match (self.find(key).map(|value| value.get_ref()), key.default) {
            (Some(DeValue::Boolean(truth)), _) => Ok(*truth),
            (None, Fallback::Boolean(truth)) => Ok(truth),
            _ => Err(self.wrong_type_or_missing(key)),
        }
    }

    /// One of the strings that [`Kind::Choice`] names as possible now, turned into the value
    /// that stands beside it in `meanings`.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &Key,
        meanings: &[(&str, T)],
    ) -> Result<T, Reported> {
        let text = self.text(key)?;
        let later = matches!(key.kind, Kind::Choice { later, .. } if later.contains(&&*text));
        match meanings.iter().find(|(name, _)| *name == text) {
            Some((_, meaning)) => Ok(*meaning),
            None if later => {
                Err(self.fault(key, "is not supported in this release", &key.kind.expected()))
            }
            None => Err(self.fault(key, "is not known", &key.kind.expected())),
        }
    }

    /// A list of strings.
    pub(crate) fn texts(&mut self, key: &Key) -> Result<Vec<String>, Reported> {
        self.list(key, |value| value.as_str().map(str::to_owned).ok_or(Item::WrongType))
    }

    /// A list of strings in the notation that `T` reads.
    pub(crate) fn notations<T: FromStr>(&mut self, key: &Key) -> Result<Vec<T>, Reported> {
        self.list(key, |value| {
            value.as_str().ok_or(Item::WrongType)?.parse().map_err(|_| Item::NotInNotation)
        })
    }

    /// A list of numbers, each of the key's range.
    pub(crate) fn integers<T: TryFrom<i64>>(&mut self, key: &Key) -> Result<Vec<T>, Reported> {
        match (self.is_present(key), key.default) {
            (false, Fallback::Integers(numbers)) => {
                Ok(numbers.iter().filter_map(|&number| T::try_from(number).ok()).collect())
            }
            _ => self.list(key, |value| {
                let digits = value.as_integer().ok_or(Item::WrongType)?;
                in_range(key, digits).ok_or(Item::OutOfRange)
            }),
        }
    }

    /// The value as it stands, for a key whose type the section sorts out itself.
    pub(crate) fn raw(&mut self, key: &Key) -> Result<&'d DeValue<'d>, Reported> {
        match self.find(key) {
            Some(value) => Ok(value.get_ref()),
            None => Err(self.wrong_type_or_missing(key)),
        }
    }

    /// The table under `key`, if there is one.
    pub(crate) fn table(&mut self, key: &Key) -> Result<Option<TableAt<'d>>, Reported> {
        let line = self.line_of(key);
        match self.find(key).map(|value| value.get_ref()) {
            None => Ok(None),
            Some(DeValue::Table(table)) => Ok(Some(TableAt { line, table })),
            Some(_) => Err(self.wrong_type_or_missing(key)),
        }
    }

    /// The table under `key`, which must be there.
    pub(crate) fn required_table(&mut self, key: &Key) -> Result<TableAt<'d>, Reported> {
        self.table(key)?.ok_or_else(|| self.wrong_type_or_missing(key))
    }

    /// The tables under `key`; those that are something else are reported and left out.
    pub(crate) fn tables(&mut self, key: &Key) -> Vec<TableAt<'d>> {
        let values = match self.find(key).map(|value| value.get_ref()) {
            Some(DeValue::Array(values)) => values,
            None if !matches!(key.default, Fallback::Required) => return Vec::new(),
            _ => {
                self.wrong_type_or_missing(key);
                return Vec::new();
            }
        };
        let mut tables = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    let line = self.report.line_at(value.span().start);
                    tables.push(TableAt { line, table });
                }
                other => {
                    let what = format!("is {}", type_of(other));
                    self.item_fault(key, index, &what, &key.kind.expected_item());
                }
            }
        }
        tables
    }

    /// Reports that the string under `key` is already in `seen`, with its line, or puts it there.
    /// `what` names the tables that are compared: `the entry`.
    pub(crate) fn unique(&mut self, key: &Key, seen: &mut HashMap<&'d str, usize>, what: &str) {
        let Some(text) = self.peek_text(key) else { return };
        let line = self.line_of(key);
        if let Some(first) = seen.get(text) {
            let found = format!("is already that of {what} at line {first}");
            self.fault(key, &found, &format!("each {} once", key.name));
        } else {
            seen.insert(text, line);
        }
    }

    /// The line of the first of the tables under `key`.
    pub(crate) fn line_of_first(&self, key: &Key) -> usize {
        self.item_line(key, 0)
    }

    /// The line of one element of the list under `key`.
    pub(crate) fn item_line(&self, key: &Key, index: usize) -> usize {
        let items = self.find(key).and_then(|value| value.get_ref().as_array());
        let item = items.and_then(|items| items.get(index));
        item.map_or_else(|| self.line_of(key), |item| self.report.line_at(item.span().start))
    }

    pub(super) fn find(&self, key: &Key) -> Option<&'d Spanned<DeValue<'d>>> {
        self.at.table.get(key.name)
    }

    /// Reads every element of a list, and reports all that `read` refuses.
    fn list<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&DeValue<'d>) -> Result<T, Item>,
    ) -> Result<Vec<T>, Reported> {
        let items = match (self.find(key).map(|value| value.get_ref()), key.default) {
            (Some(DeValue::Array(items)), _) => items,
            (None, Fallback::Empty) => return Ok(Vec::new()),
            _ => return Err(self.wrong_type_or_missing(key)),
        };
        let mut values = Vec::with_capacity(items.len());
        let mut reported = None;
        for (index, item) in items.iter().enumerate() {
            let item = item.get_ref();
            let fault = match read(item) {
                Ok(value) => {
                    values.push(value);
                    continue;
                }
                Err(Item::NotInNotation) => self.not_in_notation(key, Some(index)),
                Err(Item::OutOfRange) => {
                    self.item_fault(key, index, "is out of range", &key.kind.range())
                }
                Err(Item::WrongType) => {
                    let what = format!("is {}", type_of(item));
                    self.item_fault(key, index, &what, &key.kind.expected_item())
                }
            };
            reported = Some(fault);
        }
        reported.map_or(Ok(values), Err)
    }
}

/// `pool "web"`: how messages name a table, by the string it holds under `key`, or else by
/// its position.
pub(crate) fn label(kind: &str, at: TableAt<'_>, key: &Key, index: usize) -> String {
    match at.table.get(key.name).and_then(|name| name.get_ref().as_str()) {
        Some(name) => format!("{kind} {}", quote(name)),
        None => format!("{kind} #{}", index + 1),
    }
}

/// Why an element of a list is refused.
enum Item {
    WrongType,
    OutOfRange,
    NotInNotation,
}

/// The number, if the key's range and `T` hold it.
fn in_range<T: TryFrom<i64>>(key: &Key, digits: &DeInteger<'_>) -> Option<T> {
    let number = i64::from_str_radix(digits.as_str(), digits.radix()).ok()?;
    match key.kind {
        Kind::Integer { min, max } | Kind::Integers { min, max }
            if (min..=max).contains(&number) =>
        {
            T::try_from(number).ok()
        }
        _ => None,
    }
}
