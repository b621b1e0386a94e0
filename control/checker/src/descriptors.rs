//! Open files: every probe needs one, and running out of them would look like dead backends.
//!
//! The soft limit is raised to the hard one; what still does not fit bounds the probes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Error;

/// For listeners, controllers, the runtime, logs.
const RESERVE: u64 = 64;
/// A pipe and what starting it needs.
const OF_A_COMMAND: u64 = 4;
/// With fewer probes at once than this a checker is of no use.
const LEAST: u64 = 16;

/// How many probes may be under way at once: `wanted`, or less where the limit says so.
///
/// # Errors
/// [`Error::Descriptors`] when too few are left to work with.
pub(crate) fn room_for(wanted: usize, commands: usize) -> Result<usize, Error> {
    let limit = raise();
    let room = room(limit, wanted as u64, commands as u64)?;
    if room < wanted as u64 {
        tracing::warn!(
            limit,
            wanted,
            room,
            "the limit of open files bounds the probes: raise it (LimitNOFILE)"
        );
    }
    Ok(usize::try_from(room).unwrap_or(wanted))
}

fn room(limit: u64, wanted: u64, commands: u64) -> Result<u64, Error> {
    // HTTP probes by name need one more for a moment, as they look it up.
    let taken = RESERVE + OF_A_COMMAND * commands;
    let needed = taken + LEAST.min(wanted);
    if limit < needed {
        return Err(Error::Descriptors { limit, needed });
    }
    Ok(wanted.min(limit - taken))
}

/// The limit that is in force after raising it as far as it goes.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.unwrap_or(u64::MAX);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            current.unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_fit_into_the_limit_or_the_checker_says_what_it_needs() {
        assert_eq!(room(20_000, 4096, 64).expect("room"), 4096);
        assert_eq!(room(1024, 4096, 64).expect("less"), 1024 - 64 - 256);
        assert_eq!(room(u64::MAX, 10, 1).expect("room"), 10);
        let error = room(256, 4096, 64).expect_err("too few").to_string();
        assert!(error.contains("256") && error.contains("336"), "{error}");
    }
}
