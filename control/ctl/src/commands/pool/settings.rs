//! The settings of a pool as options, and the request that changes them.
//!
//! In the interface a zero is "not given". So what is set to zero, or taken back, is sent with all
//! the other settings as they are, to replace the whole.

use std::path::PathBuf;

use clap::Args;
use proto::v1::{
    Forwarding, Pool, PoolSettings, ProbeKind, ProbeSettings, Scheduler, UpdatePoolReq,
};

use crate::failure::Failure;
use crate::secret::{Secret, unhex};
use crate::words;

/// Settings of a pool; `None` is not given.
#[derive(Clone, Debug, Args)]
pub(in crate::commands) struct Settings {
    /// maglev, ring or wrr [default: maglev].
    #[arg(long, value_parser = |text: &str| words::value(words::SCHEDULERS, text))]
    scheduler: Option<Scheduler>,
    /// Slots of the table, a prime of at least 100 times the backends [default: 65537].
    #[arg(long, value_name = "PRIME")]
    table_size: Option<u32>,
    /// ipip, gre, gue, l2dsr or nat [default: ipip].
    #[arg(long, value_parser = |text: &str| words::value(words::FORWARDINGS, text))]
    forwarding: Option<Forwarding>,
    /// 0 or 1, with forwarding gue: with or without a header of its own [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    gue_variant: Option<u8>,
    /// Whether that header names who had a flow's slot before [default: false].
    #[arg(long, value_name = "BOOL")]
    second_chance: Option<bool>,
    /// A file with the 32 hex digits that key the flow hash [default: the controller draws them].
    #[arg(long, value_name = "FILE")]
    hash_secret_file: Option<PathBuf>,
    /// How long the flows of a draining backend may go on [default: 60].
    #[arg(long, value_name = "SECONDS")]
    drain_seconds: Option<u32>,
    /// Whether TCP flows leave unhealthy backends [default: false].
    #[arg(long, value_name = "BOOL")]
    reselect: Option<bool>,
    /// The liveness probe: tcp, http, udp or command [default: tcp].
    #[arg(long, value_parser = |text: &str| words::value(words::PROBES, text))]
    probe: Option<ProbeKind>,
    /// From the start of a probe to the start of the next [default: 1000].
    #[arg(long, value_name = "MILLISECONDS")]
    probe_interval_ms: Option<u32>,
    /// After how long without an answer a probe has failed [default: 1000].
    #[arg(long, value_name = "MILLISECONDS")]
    probe_timeout_ms: Option<u32>,
    /// So many failures in a row make a backend bad [default: 3].
    #[arg(long, value_name = "COUNT")]
    failures_to_down: Option<u32>,
    /// So many passes in a row make it good [default: 2].
    #[arg(long, value_name = "COUNT")]
    passes_to_up: Option<u32>,
    /// Jitter of the interval, up to 20 percent [default: 20].
    #[arg(long, value_name = "PERCENT")]
    jitter_percent: Option<u32>,
    /// What an HTTP probe must be answered with [default: 200].
    #[arg(long, value_name = "STATUS")]
    http_expected_status: Option<u32>,
    /// What a UDP probe sends, in hex digits.
    #[arg(long, value_name = "HEX", value_parser = payload)]
    udp_payload: Option<Payload>,
    /// Name of a command in the checkers' configuration.
    #[arg(long, value_name = "NAME")]
    probe_command: Option<String>,
    /// Checkers assigned to each backend [default: 3].
    #[arg(long, value_name = "COUNT")]
    quorum_checkers: Option<u32>,
    /// So many of them must agree [default: 2].
    #[arg(long, value_name = "COUNT")]
    quorum_down: Option<u32>,
    /// Above this share of bad backends all are served [default: 50].
    #[arg(long, value_name = "PERCENT")]
    panic_percent: Option<u32>,
    /// Ramp of a new backend's weight [default: 0, off].
    #[arg(long, value_name = "SECONDS")]
    slow_start_seconds: Option<u32>,
}

/// Bytes of a datagram. A type of its own: clap takes a `Vec` for several values.
#[derive(Clone, Debug)]
struct Payload(Vec<u8>);

fn payload(text: &str) -> Result<Payload, String> {
    unhex(text).map(Payload).ok_or_else(|| "expected hex digits, two a byte".to_owned())
}

impl Settings {
    /// What was given, over `settings`.
    ///
    /// # Errors
    /// The file of the secret cannot be read.
    pub(super) fn lay_over(&self, settings: &mut PoolSettings) -> Result<(), Failure> {
        fn set<T: Clone>(field: &mut T, given: Option<&T>) {
            if let Some(value) = given {
                field.clone_from(value);
            }
        }
        if let Some(scheduler) = self.scheduler {
            settings.set_scheduler(scheduler);
        }
        if let Some(forwarding) = self.forwarding {
            settings.set_forwarding(forwarding);
        }
        if let Some(path) = &self.hash_secret_file {
            settings.hash_secret = Secret::read(path).map_err(Failure::usage)?.to_bytes();
        }
        set(&mut settings.table_size, self.table_size.as_ref());
        set(&mut settings.drain_seconds, self.drain_seconds.as_ref());
        set(&mut settings.reselect, self.reselect.as_ref());
        set(&mut settings.gue_variant_0, self.gue_variant.map(|variant| variant == 0).as_ref());
        set(&mut settings.second_chance, self.second_chance.as_ref());
        set(&mut settings.quorum_checkers, self.quorum_checkers.as_ref());
        set(&mut settings.quorum_down, self.quorum_down.as_ref());
        set(&mut settings.panic_percent, self.panic_percent.as_ref());
        set(&mut settings.slow_start_seconds, self.slow_start_seconds.as_ref());
        let mut probe = settings.probe.take().unwrap_or_default();
        if let Some(kind) = self.probe {
            probe.set_liveness(kind);
        }
        set(&mut probe.interval_ms, self.probe_interval_ms.as_ref());
        set(&mut probe.timeout_ms, self.probe_timeout_ms.as_ref());
        set(&mut probe.failures_to_down, self.failures_to_down.as_ref());
        set(&mut probe.passes_to_up, self.passes_to_up.as_ref());
        set(&mut probe.jitter_percent, self.jitter_percent.as_ref());
        set(&mut probe.http_expected_status, self.http_expected_status.as_ref());
        set(&mut probe.udp_payload, self.udp_payload.as_ref().map(|payload| &payload.0));
        set(&mut probe.command, self.probe_command.as_ref());
        settings.probe = (probe != ProbeSettings::default()).then_some(probe);
        Ok(())
    }

    /// Whether a given value is the interface's "not given", so that only all settings together
    /// can say it.
    fn takes_back(&self) -> bool {
        let numbers = [
            self.table_size,
            self.drain_seconds,
            self.probe_interval_ms,
            self.probe_timeout_ms,
            self.failures_to_down,
            self.passes_to_up,
            self.jitter_percent,
            self.http_expected_status,
            self.quorum_checkers,
            self.quorum_down,
            self.panic_percent,
            self.slow_start_seconds,
        ];
        numbers.contains(&Some(0))
            || self.reselect == Some(false)
            || self.gue_variant == Some(1)
            || self.second_chance == Some(false)
            || self.udp_payload.as_ref().is_some_and(|payload| payload.0.is_empty())
            || self.probe_command.as_ref().is_some_and(String::is_empty)
    }

    /// The request that changes what was given, of a pool as it is.
    ///
    /// # Errors
    /// As [`Settings::lay_over`].
    pub(in crate::commands) fn change(&self, current: &Pool) -> Result<UpdatePoolReq, Failure> {
        let replace = self.takes_back();
        let mut settings = match replace {
            true => current.settings.clone().unwrap_or_default(),
            false => PoolSettings::default(),
        };
        self.lay_over(&mut settings)?;
        let pool_id = current.pool_id.clone();
        Ok(UpdatePoolReq { pool_id, settings: Some(settings), replace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }

    fn settings(line: &str) -> Settings {
        let words = std::iter::once("x").chain(line.split_whitespace());
        Program::try_parse_from(words).unwrap().settings
    }

    fn current() -> Pool {
        let probe = ProbeSettings { interval_ms: 500, ..ProbeSettings::default() };
        let settings = PoolSettings {
            reselect: true,
            drain_seconds: 30,
            probe: Some(probe),
            ..PoolSettings::default()
        };
        Pool { pool_id: "web".into(), settings: Some(settings), ..Pool::default() }
    }

    #[test]
    fn an_update_sends_only_what_was_given() {
        let request =
            settings("--drain-seconds 5 --probe-timeout-ms 9").change(&current()).unwrap();
        let probe = ProbeSettings { timeout_ms: 9, ..ProbeSettings::default() };
        let expected =
            PoolSettings { drain_seconds: 5, probe: Some(probe), ..PoolSettings::default() };
        assert_eq!((request.settings, request.replace), (Some(expected), false));
    }

    #[test]
    fn what_is_taken_back_needs_all_settings() {
        let request = settings("--reselect false").change(&current()).unwrap();
        let mut expected = current().settings.unwrap();
        expected.reselect = false;
        assert_eq!((request.settings, request.replace), (Some(expected), true));
        assert!(settings("--slow-start-seconds 0").takes_back());
        assert!(!settings("--slow-start-seconds 1").takes_back());
    }
}
