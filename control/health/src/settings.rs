//! All settings of a pool's health, and the error that names a bad one.

use thiserror::Error;

use crate::debounce::DebounceSettings;
use crate::drain::DrainSettings;
use crate::outlier::OutlierSettings;
use crate::panic::PanicSettings;
use crate::quorum::QuorumSettings;
use crate::slow_start::SlowStartSettings;
use crate::thresholds::ProbeSettings;

/// How the health of one pool's backends is judged. `docs/health.md` lists the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Probes and thresholds: used by the checkers.
    pub probe: ProbeSettings,
    /// Who decides.
    pub quorum: QuorumSettings,
    /// How drains end.
    pub drain: DrainSettings,
    /// Flapping backends.
    pub debounce: DebounceSettings,
    /// The ramp of weights.
    pub slow_start: SlowStartSettings,
    /// When most of the pool is bad.
    pub panic: PanicSettings,
    /// What nodes see.
    pub outlier: OutlierSettings,
}

/// A setting that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{field}: must be {rule}")]
pub struct SettingsError {
    /// Group and field, as `quorum.needed`.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl Settings {
    /// Checks every group, in the order of the fields.
    ///
    /// # Errors
    /// The first setting that cannot be.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.probe.validate()?;
        self.quorum.validate()?;
        self.drain.validate()?;
        self.debounce.validate()?;
        self.slow_start.validate()?;
        self.panic.validate()?;
        self.outlier.validate()?;
        // Reports come at least once a probe; one late report must not freeze a pool.
        SettingsError::unless(
            self.quorum.stale_ms >= self.probe.interval_ms.saturating_mul(3),
            "quorum.stale_ms",
            "at least three times probe.interval_ms",
        )
    }
}

impl SettingsError {
    pub(crate) fn unless(holds: bool, field: &'static str, rule: &'static str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { field, rule }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_errors_name_the_field() {
        assert_eq!(Settings::default().validate(), Ok(()));
        let mut settings = Settings::default();
        settings.quorum.stale_ms = 2_999;
        let error = settings.validate().expect_err("too short").to_string();
        assert_eq!(error, "quorum.stale_ms: must be at least three times probe.interval_ms");
    }
}
