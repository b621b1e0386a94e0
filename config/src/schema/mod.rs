//! What a key is: its name, type, range and default, each said once.
//!
//! The tables of all keys are in the files beside this one: `keys` for a node's file,
//! `controller`, `checker`, and `client` for what nodes and checkers share. The readers take
//! types, ranges and defaults from there, the check for unknown keys its names, and a test
//! compares them with the tables of `docs/configuration.md`, whose cells are what
//! [`Key::type_cell`], [`Key::values_cell`] and [`Key::default_cell`] give.

mod build;
pub(crate) mod checker;
pub(crate) mod client;
pub(crate) mod controller;
pub(crate) mod keys;

use keys::{
    BACKEND, CONNTRACK, DPDK, ENCAPSULATION, FRAGMENTS, ICMP, NEIGHBOR, NODE, POOL, PORT, QUIC,
    TOP, VIP,
};

/// Every kind of file, in the order of the documentation.
pub static FILES: &[File] = &[
    File {
        program: "node",
        sections: &[
            &TOP,
            &NODE,
            &DPDK,
            &PORT,
            &NEIGHBOR,
            &ENCAPSULATION,
            &ICMP,
            &CONNTRACK,
            &FRAGMENTS,
            &POOL,
            &BACKEND,
            &QUIC,
            &VIP,
            &client::CONTROLLER,
        ],
    },
    File {
        program: "controller",
        sections: &[
            &controller::TOP,
            &controller::CONTROLLER,
            &controller::REGISTRY,
            &controller::TLS,
            &controller::ACCESS,
            &controller::LIMITS,
            &controller::FLEET,
        ],
    },
    File {
        program: "checker",
        sections: &[&checker::TOP, &checker::CHECKER, &client::CONTROLLER, &checker::COMMAND],
    },
];

/// One kind of file.
#[derive(Debug)]
pub struct File {
    /// Whose it is: a node's, a controller's, a checker's.
    pub program: &'static str,
    /// The sections it can have, in the order of the documentation; the top level first.
    pub sections: &'static [&'static Section],
}

/// One kind of table in the file.
#[derive(Debug)]
pub struct Section {
    /// As the file writes it, `[node]` or `[[pool.backend]]`; empty for the top level.
    pub title: &'static str,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [&'static Key],
    /// When a change to it takes effect.
    pub reload: Reload,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// When the file is read again: SIGHUP.
    Live,
    /// When the program is started again.
    Restart,
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As the file writes it.
    pub name: &'static str,
    /// What may stand behind it.
    pub kind: Kind,
    /// A further rule its values obey, in words; empty when the kind says all.
    pub rule: &'static str,
    /// Unit of the value; empty when it has none.
    pub unit: &'static str,
    /// What holds when the key is absent.
    pub default: Fallback,
}

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any string; `rule` says which.
    Text,
    /// A string that starts with an ASCII letter or digit and holds only these and
    /// `punctuation`, at most 63 in all.
    Name {
        /// What is allowed beside letters and digits.
        punctuation: &'static str,
    },
    /// A string in some notation.
    Notation {
        /// The notation: "IPv4 address".
        what: &'static str,
        /// A value in it.
        example: &'static str,
    },
    /// A notation whose value is never shown.
    Secret {
        /// The notation.
        what: &'static str,
    },
    /// A whole number.
    Integer {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// One of a few strings.
    Choice {
        /// What this release does.
        now: &'static [&'static str],
        /// What the schema knows and this release refuses.
        later: &'static [&'static str],
    },
    /// A list of strings.
    Texts,
    /// A list of strings in some notation.
    Notations {
        /// The notation.
        what: &'static str,
        /// A value in it.
        example: &'static str,
    },
    /// A list of whole numbers, each within the range.
    Integers {
        /// Least value.
        min: i64,
        /// Greatest value.
        max: i64,
    },
    /// A port number, `"8000-8099"`, or `"any"`.
    Ports,
    /// A segment size, or `"auto"`.
    MssClamp,
    /// A table, written as shown.
    Table(&'static str),
    /// Any number of tables, each written as shown.
    Tables(&'static str),
}

/// What holds when a key is absent.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// The key must be there.
    Required,
    /// The value follows from something else, said in words.
    Words(&'static str),
    /// A string.
    Text(&'static str),
    /// A number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// A list of numbers.
    Integers(&'static [i64]),
    /// A list without elements.
    Empty,
}

impl Key {
    /// The type, with the unit: `integer, bytes`.
    pub fn type_cell(&self) -> String {
        let name = self.kind.type_name();
        if self.unit.is_empty() { name } else { format!("{name}, {}", self.unit) }
    }

    /// The values allowed, in words: `576 to 9216`. A dash when the type says all.
    pub fn values_cell(&self) -> String {
        let by_kind = self.kind.range();
        match (by_kind.is_empty(), self.rule.is_empty()) {
            (true, true) => "-".to_owned(),
            (true, false) => self.rule.to_owned(),
            (false, true) => by_kind,
            (false, false) => format!("{by_kind}, {}", self.rule),
        }
    }

    /// The default as the file would write it, or `required`, or words.
    pub fn default_cell(&self) -> String {
        match self.default {
            Fallback::Required => "required".to_owned(),
            Fallback::Words(words) => words.to_owned(),
            Fallback::Text(text) => format!("`\"{text}\"`"),
            Fallback::Integer(number) => format!("`{number}`"),
            Fallback::Boolean(truth) => format!("`{truth}`"),
            Fallback::Integers(numbers) => format!("`{numbers:?}`"),
            Fallback::Empty => "`[]`".to_owned(),
        }
    }
}

impl Kind {
    /// The type without an article: `list of integers`.
    pub fn type_name(&self) -> String {
        match self {
            Self::Text | Self::Name { .. } | Self::Choice { .. } => "string".to_owned(),
            Self::Notation { what, .. } | Self::Secret { what } => (*what).to_owned(),
            Self::Integer { .. } => "integer".to_owned(),
            Self::Boolean => "boolean".to_owned(),
            Self::Texts => "list of strings".to_owned(),
            Self::Notations { what, .. } => format!("list, each {}", with_article(what)),
            Self::Integers { .. } => "list of integers".to_owned(),
            Self::Ports | Self::MssClamp => "integer or string".to_owned(),
            Self::Table(_) => "table".to_owned(),
            Self::Tables(_) => "tables".to_owned(),
        }
    }

    /// The values allowed, in words; empty when the type says all.
    pub(crate) fn range(&self) -> String {
        match self {
            Self::Integer { min, max } | Self::Integers { min, max } => format!("{min} to {max}"),
            Self::Choice { now, .. } => quoted_choice(now),
            Self::Name { punctuation } => {
                format!("1 to 63 letters, digits and {}", spaced(punctuation))
            }
            Self::Ports => "1 to 65535, \"8000-8099\", or \"any\"".to_owned(),
            Self::MssClamp => {
                format!("{} to {}, or \"auto\"", keys::vip::LEAST_MSS, keys::vip::LARGEST_MSS)
            }
            _ => String::new(),
        }
    }

    /// What an error message says was expected of an element of a list.
    pub(crate) fn expected_item(&self) -> String {
        match *self {
            Self::Texts => Self::Text.expected(),
            Self::Integers { min, max } => Self::Integer { min, max }.expected(),
            Self::Notations { what, example } => Self::Notation { what, example }.expected(),
            Self::Tables(title) => format!("a table {title}"),
            other => other.expected(),
        }
    }

    /// What an error message says was expected.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Choice { now, .. } => quoted_choice(now),
            Self::Boolean => "true or false".to_owned(),
            Self::Notation { what, example } => {
                format!("{} in quotes, such as \"{example}\"", with_article(what))
            }
            Self::Notations { example, .. } => {
                format!("{}, such as [\"{example}\"]", with_article(&self.type_name()))
            }
            Self::Secret { what } => format!("{what} in quotes"),
            Self::Ports => "a port number, a range \"8000-8099\", or \"any\"".to_owned(),
            Self::MssClamp => "a segment size in bytes, or \"auto\"".to_owned(),
            Self::Table(title) => format!("a table {title}"),
            Self::Tables(title) => format!("tables, each written {title}"),
            _ => with_article(&self.type_name()),
        }
    }
}

/// `"a", "b" or "c"`.
fn quoted_choice(choices: &[&str]) -> String {
    let quoted: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

pub(crate) fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'I', 'E']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// The characters of `punctuation`, parted by blanks.
fn spaced(punctuation: &str) -> String {
    punctuation.chars().map(String::from).collect::<Vec<_>>().join(" ")
}
