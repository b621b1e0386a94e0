//! Why a command was not done, in words for the operator, and the exit code.
//!
//! A gRPC status is translated once, here: what it means, the controller's own sentence (which
//! names the field), and what to do next.

use std::fmt;
use std::io;

use tonic::{Code, Status};

/// Why a command was not done.
#[derive(Debug)]
pub enum Failure {
    /// The arguments or a file are wrong: nothing was asked of anybody.
    Usage(String),
    /// It was tried, and failed.
    Failed(String),
    /// It was done, and the answer is no (`fleet --check`); the output has said so.
    Negative,
    /// Nobody reads the output any more.
    Closed,
}

impl Failure {
    pub(crate) fn usage(problem: impl fmt::Display) -> Self {
        Self::Usage(problem.to_string())
    }

    pub(crate) fn failed(problem: impl fmt::Display) -> Self {
        Self::Failed(problem.to_string())
    }

    /// What the program ends with: 2 for usage and configuration, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed(_) | Self::Negative | Self::Closed => 1,
        }
    }

    /// What to print on standard error; `None` when there is nothing more to say.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Usage(message) | Self::Failed(message) => Some(message),
            Self::Negative | Self::Closed => None,
        }
    }

    /// The answer of a controller to `call`, in words.
    pub(crate) fn status(call: &str, status: &Status) -> Self {
        let said = said(status);
        let (meaning, advice) = match status.code() {
            Code::InvalidArgument => ("the request is not valid", ""),
            Code::NotFound => ("there is no such thing", ""),
            Code::AlreadyExists => (
                "it is there already, and different",
                "change it with an update, or choose another name",
            ),
            Code::FailedPrecondition => ("it cannot be done as things are", ""),
            Code::ResourceExhausted => ("the controller asks to back off", "try again later"),
            Code::DeadlineExceeded => (
                "no answer in time",
                "it may have happened or not: look, or do it again (every call may be repeated); \
                 --timeout gives it longer",
            ),
            Code::Unavailable => (
                "no controller leads, or none can be reached",
                "try again in a few seconds; check --endpoint",
            ),
            Code::Unauthenticated => {
                ("the controller does not know who calls", "give --cert and --key, or --token-file")
            }
            Code::PermissionDenied => ("not allowed", "call it with the role it asks for"),
            Code::Unimplemented => {
                ("this controller does not know the call", "is it an older release?")
            }
            _ => ("the controller failed", "its log says more"),
        };
        let advice = if advice.is_empty() { String::new() } else { format!(" ({advice})") };
        Self::Failed(format!("{call}: {meaning}: {said}{advice}"))
    }
}

/// The status' own sentence on one line; a controller's text is never trusted with the terminal.
fn said(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => crate::words::clean(message).into_owned(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.message().unwrap_or("no"))
    }
}

impl std::error::Error for Failure {}

/// Of writing the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(format!("the output cannot be written: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_contract() {
        assert_eq!(Failure::usage("x").exit_code(), 2);
        assert_eq!(Failure::failed("x").exit_code(), 1);
        assert_eq!(Failure::Negative.exit_code(), 1);
    }

    #[test]
    fn a_status_says_what_where_and_what_next() {
        let status = Status::unavailable("election in progress\n\u{1b}[31m");
        let failure = Failure::status("RegisterBackend", &status);
        assert_eq!(
            failure.to_string(),
            "RegisterBackend: no controller leads, or none can be reached: \
             election in progress\\n\\u{1b}[31m (try again in a few seconds; check --endpoint)"
        );
    }

    #[test]
    fn a_closed_pipe_is_no_message() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.message(), failure.exit_code()), (None, 1));
    }
}
