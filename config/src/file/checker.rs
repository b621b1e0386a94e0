//! A checker's file.

use super::{Document, reader, tables, top};
use crate::model::CheckerConfig;
use crate::reader::{Reader, label};
use crate::report::{Report, Reported};
use crate::schema::checker::{CHECKER, COMMAND, TOP, command, top as names};
use crate::schema::client::CONTROLLER;
use crate::section::{checker, client};
use std::collections::HashMap;

pub(super) fn read<'d>(
    report: &mut Report<'d>,
    document: Document<'d>,
) -> Result<CheckerConfig, Reported> {
    let mut top = top(report, &TOP, document);
    let checker = top.required_table(&names::CHECKER);
    let controller = top.required_table(&names::CONTROLLER);
    let commands = tables(&mut top, &names::COMMAND);

    let checker = checker.and_then(|at| checker::read(reader(report, &CHECKER, at)));
    let controller = controller.and_then(|at| client::read(reader(report, &CONTROLLER, at)));
    let before = report.problem_count();
    let mut read = Vec::new();
    let mut names = HashMap::new();
    for (index, at) in commands?.into_iter().enumerate() {
        let label = label("command", at, &command::NAME, index);
        let mut reader = Reader::new(report, &COMMAND, label, at);
        reader.unique(&command::NAME, &mut names, "the command");
        read.extend(checker::read_command(reader));
    }
    if report.problem_count() > before {
        return Err(Reported);
    }
    Ok(CheckerConfig { checker: checker?, controller: controller?, commands: read })
}
