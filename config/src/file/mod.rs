//! From a file to a validated configuration, or to every problem in it.
//!
//! Syntax comes first: a file that is no TOML is not judged further, as what is missing may
//! only be misread. Then it is asked whose file it is (`kind`), as the sections of one program
//! would all be unknown keys to another. Then each section is read on its own, then they are
//! compared.

mod checker;
mod controller;
mod kind;
mod node;

use crate::model::{CheckerConfig, Config, ControllerConfig};
use crate::reader::{Reader, TableAt};
use crate::report::{Errors, Problem, Report, Reported, quote};
use crate::schema::{Key, Section};
use kind::FileKind;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use toml::de::DeTable;

/// The longest file that is read, in bytes. A VIP takes about 100.
const LONGEST_FILE: u64 = 64 << 20;

/// A configuration that can be used, and what is doubtful about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<C = Config> {
    /// The configuration.
    pub config: C,
    /// Remarks, in the order of the lines.
    pub warnings: Vec<Problem>,
}

/// A file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// Of a node.
    Node(Box<Config>),
    /// Of a controller.
    Controller(Box<ControllerConfig>),
    /// Of a checker.
    Checker(Box<CheckerConfig>),
}

impl Config {
    /// Reads and validates the file at `path`, a node's.
    ///
    /// # Errors
    ///
    /// All problems of the file, or the one that it cannot be read.
    pub fn load(path: &Path) -> Result<Loaded, Errors> {
        load(path, Self::parse)
    }

    /// Validates `text`; `file_name` is only shown in messages.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Loaded, Errors> {
        parse(text, file_name, |report, document| {
            kind::expect(report, document, FileKind::Node)?;
            node::read(report, document).ok_or(Reported)
        })
    }
}

impl ControllerConfig {
    /// Reads and validates the file at `path`, a controller's.
    ///
    /// # Errors
    ///
    /// All problems of the file, or the one that it cannot be read.
    pub fn load(path: &Path) -> Result<Loaded<Self>, Errors> {
        load(path, Self::parse)
    }

    /// Validates `text`; `file_name` is only shown in messages.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Loaded<Self>, Errors> {
        parse(text, file_name, |report, document| {
            kind::expect(report, document, FileKind::Controller)?;
            controller::read(report, document)
        })
    }
}

impl CheckerConfig {
    /// Reads and validates the file at `path`, a checker's.
    ///
    /// # Errors
    ///
    /// All problems of the file, or the one that it cannot be read.
    pub fn load(path: &Path) -> Result<Loaded<Self>, Errors> {
        load(path, Self::parse)
    }

    /// Validates `text`; `file_name` is only shown in messages.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Loaded<Self>, Errors> {
        parse(text, file_name, |report, document| {
            kind::expect(report, document, FileKind::Checker)?;
            checker::read(report, document)
        })
    }
}

impl Configuration {
    /// Reads and validates the file at `path`; its sections say whose it is.
    ///
    /// # Errors
    ///
    /// All problems of the file, or the one that it cannot be read.
    pub fn load(path: &Path) -> Result<Loaded<Self>, Errors> {
        load(path, Self::parse)
    }

    /// Validates `text`; `file_name` is only shown in messages.
    ///
    /// # Errors
    ///
    /// All problems of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Loaded<Self>, Errors> {
        parse(text, file_name, |report, document| {
            Ok(match kind::recognise(report, document)? {
                FileKind::Node => {
                    Self::Node(Box::new(node::read(report, document).ok_or(Reported)?))
                }
                FileKind::Controller => {
                    Self::Controller(Box::new(controller::read(report, document)?))
                }
                FileKind::Checker => Self::Checker(Box::new(checker::read(report, document)?)),
            })
        })
    }
}

/// The tables of a file.
#[derive(Clone, Copy)]
struct Document<'d> {
    root: &'d DeTable<'d>,
    /// Stands in for tables that are absent.
    empty: &'d DeTable<'d>,
}

fn load<C>(
    path: &Path,
    parse: fn(&str, &str) -> Result<Loaded<C>, Errors>,
) -> Result<Loaded<C>, Errors> {
    let name = path.display().to_string();
    let unreadable = |line, message: String| Errors {
        problems: vec![Problem { file: name.clone(), line, message }],
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(None, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > LONGEST_FILE {
        let message = format!("is longer than {} MiB", LONGEST_FILE >> 20);
        return Err(unreadable(None, message));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        unreadable(Some(line), "holds bytes that are not UTF-8 (expected text)".to_owned())
    })?;
    parse(&text, &name)
}

fn parse<C>(
    text: &str,
    file_name: &str,
    read: impl for<'d> FnOnce(&mut Report<'d>, Document<'d>) -> Result<C, Reported>,
) -> Result<Loaded<C>, Errors> {
    let mut report = Report::new(text, file_name);
    let (document, syntax) = DeTable::parse_recoverable(text);
    report_syntax(&mut report, text, &syntax);
    let empty = DeTable::new();
    let config = match report.problem_count() {
        0 => read(&mut report, Document { root: document.get_ref(), empty: &empty }),
        _ => Err(Reported),
    };
    let warnings = report.finish()?;
    match config {
        Ok(config) => Ok(Loaded { config, warnings }),
        // A section that gives up has said why, so the report was not empty.
        Err(Reported) => Err(Errors {
            problems: vec![Problem {
                file: file_name.to_owned(),
                line: Some(1),
                message: "is not a valid configuration".to_owned(),
            }],
        }),
    }
}

/// One problem for each line: what follows the first on a line is mostly its echo.
fn report_syntax(report: &mut Report<'_>, text: &str, errors: &[toml::de::Error]) {
    let mut seen = HashSet::new();
    let mut errors: Vec<_> =
        errors.iter().map(|error| (error.span().unwrap_or_default(), error)).collect();
    errors.sort_by_key(|(span, _)| span.start);
    for (span, error) in errors {
        let line = report.line_at(span.start);
        if !seen.insert(line) {
            continue;
        }
        let message = match (error.message(), text.get(span)) {
            ("duplicate key", Some(key)) => {
                format!("key {} is there twice (expected each key and table once)", quote(key))
            }
            (message, _) => format!("not TOML: {}", message.replace('\n', ", ")),
        };
        report.problem(line, message);
    }
}

/// The reader of the top level.
fn top<'r, 'd>(
    report: &'r mut Report<'d>,
    section: &'static Section,
    document: Document<'d>,
) -> Reader<'r, 'd> {
    let at = TableAt { line: 1, table: document.root };
    Reader::new(report, section, String::new(), at)
}

/// The reader of a table that there is once.
fn reader<'r, 'd>(
    report: &'r mut Report<'d>,
    section: &'static Section,
    at: TableAt<'d>,
) -> Reader<'r, 'd> {
    Reader::new(report, section, section.title.to_owned(), at)
}

/// The table under `key`; where there is none, one without keys.
fn table_or_empty<'d>(
    top: &mut Reader<'_, 'd>,
    document: Document<'d>,
    key: &'static Key,
) -> Result<TableAt<'d>, Reported> {
    let table = top.table(key)?;
    Ok(table.unwrap_or(TableAt { line: 1, table: document.empty }))
}

/// The tables under `key`, or that they are not all tables.
fn tables<'d>(top: &mut Reader<'_, 'd>, key: &'static Key) -> Result<Vec<TableAt<'d>>, Reported> {
    let before = top.report.problem_count();
    let tables = top.tables(key);
    if top.report.problem_count() == before { Ok(tables) } else { Err(Reported) }
}
