//! A checker's report in the words of `health`.
//!
//! | `state` | liveness | `readiness` | readiness of a backend with a probe for it | without |
//! |---|---|---|---|---|
//! | HEALTHY | up | HEALTHY | up | up |
//! | UNHEALTHY | down | UNHEALTHY | down | up |
//! | UNKNOWN | unknown | UNKNOWN | unknown: not probed yet | up |
//! | DRAINING | up, and not ready | DRAINING | down | up |
//!
//! A backend that says "draining" answers, and wants no load. It is never evicted for it: only
//! operators evict.

use health::thresholds::Verdict;
use health::{Id, Millis, Report};
use proto::v1::{Health, HealthReport};

/// What `report` says, heard at `at`. `None`: a value of `state` or `readiness` that this release
/// does not know.
pub(crate) fn of(
    report: &HealthReport,
    checker: &Id,
    has_readiness_probe: bool,
    at: Millis,
) -> Option<Report> {
    let state = Health::try_from(report.state).ok()?;
    let readiness = Health::try_from(report.readiness).ok()?;
    let liveness = match state {
        Health::Healthy | Health::Draining => Verdict::Up,
        Health::Unhealthy => Verdict::Down,
        Health::Unknown => Verdict::Unknown,
    };
    let readiness = match readiness {
        // Says so itself, whatever its probe finds.
        _ if state == Health::Draining => Verdict::Down,
        // Nobody asks it, so it is ready.
        _ if !has_readiness_probe => Verdict::Up,
        Health::Healthy => Verdict::Up,
        Health::Unhealthy | Health::Draining => Verdict::Down,
        Health::Unknown => Verdict::Unknown,
    };
    let backend = Id::from(report.backend_id.as_str());
    Some(Report { checker: checker.clone(), backend, liveness, readiness, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_states() {
        use Health::*;
        use Verdict::{Down, Up};
        let unknown = Verdict::Unknown;
        for (state, readiness, probed, expected) in [
            (Healthy, Healthy, true, (Up, Up)),
            (Healthy, Unhealthy, true, (Up, Down)),
            (Healthy, Unknown, true, (Up, unknown)),
            (Healthy, Unknown, false, (Up, Up)),
            (Healthy, Unhealthy, false, (Up, Up)),
            (Healthy, Draining, true, (Up, Down)),
            (Unhealthy, Unknown, false, (Down, Up)),
            (Unhealthy, Unhealthy, true, (Down, Down)),
            (Unknown, Unknown, true, (unknown, unknown)),
            (Draining, Healthy, true, (Up, Down)),
            (Draining, Unknown, false, (Up, Down)),
        ] {
            let report = HealthReport {
                backend_id: "b".into(),
                state: state.into(),
                readiness: readiness.into(),
                ..HealthReport::default()
            };
            let said = of(&report, &Id::from("c"), probed, 7).expect("known values");
            assert_eq!((said.liveness, said.readiness), expected, "{state:?} {readiness:?}");
            assert_eq!((&*said.backend, &*said.checker, said.at), ("b", "c", 7));
        }
    }

    #[test]
    fn a_state_of_a_later_release_is_not_guessed_at() {
        for (state, readiness) in [(9, 1), (1, 9), (-1, 0)] {
            let report = HealthReport { state, readiness, ..HealthReport::default() };
            assert_eq!(of(&report, &Id::from("c"), true, 0), None);
        }
    }
}
