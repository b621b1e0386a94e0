//! Whose file it is, by its sections.
//!
//! A section that only one kind of file has is a mark of that kind. `[controller]` is none: all
//! three have it. But those who call a controller must say where it is (`endpoints`), so a file
//! of a `[controller]` without that is a controller's own.

use super::Document;
use crate::report::{Report, Reported, quote};
use crate::schema::{self, Key, Kind, Section, checker, client, controller, keys};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Node,
    Controller,
    Checker,
}

/// The kinds, those first whose marks are the surest.
const KINDS: [FileKind; 3] = [FileKind::Node, FileKind::Checker, FileKind::Controller];

impl FileKind {
    fn top(self) -> &'static Section {
        match self {
            Self::Node => &keys::TOP,
            Self::Controller => &controller::TOP,
            Self::Checker => &checker::TOP,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Node => "a node",
            Self::Controller => "a controller",
            Self::Checker => "a checker",
        }
    }
}

/// A section that tells whose file it is.
struct Mark {
    line: usize,
    title: &'static str,
    kind: FileKind,
}

/// Whose file it is; that it is nobody's, or of two programs, is a problem.
pub(super) fn recognise<'d>(
    report: &mut Report<'d>,
    document: Document<'d>,
) -> Result<FileKind, Reported> {
    match find(report, document)? {
        Some(mark) => Ok(mark.kind),
        None => {
            let first = document.root.iter().map(|(name, _)| (name.span().start, name.get_ref()));
            let (line, found) = match first.min_by_key(|(at, _)| *at) {
                Some((at, name)) => (report.line_at(at), format!("begins with {}", quote(name))),
                None => (1, "has no section".to_owned()),
            };
            let expected = "[[port]] in the file of a node, [controller] in that of a controller, \
                            [checker] in that of a checker";
            Err(report.problem(line, format!("{found} (expected {expected})")))
        }
    }
}

/// That the file is of this kind, as far as its sections tell.
pub(super) fn expect<'d>(
    report: &mut Report<'d>,
    document: Document<'d>,
    kind: FileKind,
) -> Result<(), Reported> {
    match find(report, document)? {
        Some(mark) if mark.kind != kind => {
            let (found, wanted) = (mark.kind.program(), kind.program());
            let message = format!(
                "{} makes this the configuration of {found} (expected that of {wanted})",
                mark.title
            );
            Err(report.problem(mark.line, message))
        }
        _ => Ok(()),
    }
}

/// The first mark of the kind that the file is of.
fn find<'d>(report: &mut Report<'d>, document: Document<'d>) -> Result<Option<Mark>, Reported> {
    let marks = marks(report, document);
    let decides = KINDS.iter().find_map(|kind| marks.iter().position(|mark| mark.kind == *kind));
    let Some(decides) = decides.and_then(|position| marks.get(position)) else {
        return Ok(controller_alone(report, document));
    };
    let mut reported = None;
    for mark in marks.iter().filter(|mark| mark.kind != decides.kind) {
        let message = format!(
            "{} belongs into the configuration of {}, and {} at line {} makes this that of {} \
             (expected the sections of one of them)",
            mark.title,
            mark.kind.program(),
            decides.title,
            decides.line,
            decides.kind.program()
        );
        reported = Some(report.problem(mark.line, message));
    }
    let Mark { line, title, kind } = *decides;
    reported.map_or(Ok(Some(Mark { line, title, kind })), Err)
}

/// All marks, in the order of the lines.
fn marks<'d>(report: &Report<'d>, document: Document<'d>) -> Vec<Mark> {
    let mut marks = Vec::new();
    for kind in KINDS {
        for key in kind.top().keys {
            let others = KINDS.iter().filter(|&&other| other != kind);
            let is_shared = others.flat_map(|other| other.top().keys).any(|k| k.name == key.name);
            if let (false, Some(value)) = (is_shared, document.root.get(key.name)) {
                let line = report.line_at(value.span().start);
                marks.push(Mark { line, title: title(key), kind });
            }
        }
    }
    marks.sort_by_key(|mark| mark.line);
    marks
}

/// `[controller]` in a file without any mark.
fn controller_alone<'d>(report: &Report<'d>, document: Document<'d>) -> Option<Mark> {
    let key = &schema::controller::top::CONTROLLER;
    let value = document.root.get(key.name)?;
    let table = value.get_ref().as_table()?;
    if table.contains_key(client::ENDPOINTS.name) {
        return None;
    }
    let line = report.line_at(value.span().start);
    Some(Mark { line, title: title(key), kind: FileKind::Controller })
}

fn title(key: &Key) -> &'static str {
    match key.kind {
        Kind::Table(title) | Kind::Tables(title) => title,
        _ => key.name,
    }
}
