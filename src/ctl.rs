//! `weir ctl`: the operator's commands, which are a crate of their own.

use std::io::{self, IsTerminal};

use ctl::{Arguments, Output};

use crate::failure::Failure;

/// Asks the controllers, and prints what they say.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (mut out, mut notes) = (io::stdout(), io::stderr());
    let mut output = Output::new(&mut out, &mut notes);
    if io::stdout().is_terminal() {
        output = output.on_terminal();
    }
    ctl::run(arguments, &mut output).map_err(Failure::Ctl)
}
