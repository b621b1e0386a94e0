//! Settings of pools: defaults, updates, checks, and what they mean for health.

use health::panic::PanicSettings;
use health::quorum::QuorumSettings;
use health::slow_start::SlowStartSettings;
use health::{drain::DrainSettings, thresholds};
use proto::v1::{Forwarding, PoolSettings, ProbeKind, ProbeSettings, Scheduler};
use registry::rows::{self, HashSecret, Unknown};
use tonic::Status;

use super::quic::{proto_quic, quic_rows};
use crate::clock::millis;
use crate::office::invalid;
use crate::settings::FleetTimings;

/// A drain, or a ramp, of more than a day is a mistyped unit.
const MAX_SECONDS: u32 = 86_400;
const MAX_PAYLOAD: usize = 1024;

/// The settings of a new pool: what is not given is the default. `secret` is taken where none
/// is given.
///
/// # Errors
/// INVALID_ARGUMENT, naming the field.
pub(crate) fn new_settings(
    given: &PoolSettings,
    secret: HashSecret,
    timings: &FleetTimings,
) -> Result<rows::PoolSettings, Status> {
    updated_settings(&defaults(secret), given, timings)
}

/// The settings in place of `from`: what is not given is the default, but for the secrets, which
/// stay.
///
/// # Errors
/// INVALID_ARGUMENT, naming the field.
pub(crate) fn replaced_settings(
    from: &rows::PoolSettings,
    given: &PoolSettings,
    timings: &FleetTimings,
) -> Result<rows::PoolSettings, Status> {
    let mut settings = defaults(from.hash_secret.clone());
    settings.quic.clone_from(&from.quic);
    if given.quic.is_empty() {
        settings.quic.clear();
    }
    updated_settings(&settings, given, timings)
}

/// The settings with what is given in place of what was.
///
/// # Errors
/// INVALID_ARGUMENT, naming the field.
pub(crate) fn updated_settings(
    from: &rows::PoolSettings,
    given: &PoolSettings,
    timings: &FleetTimings,
) -> Result<rows::PoolSettings, Status> {
    let mut settings = from.clone();
    match Scheduler::try_from(given.scheduler) {
        Ok(Scheduler::Unspecified) => {}
        Ok(Scheduler::Maglev) => settings.scheduler = rows::Scheduler::Maglev,
        Ok(Scheduler::Ring) => settings.scheduler = rows::Scheduler::Ring,
        Ok(Scheduler::Wrr) => return Err(unsupported("settings.scheduler", "WRR")),
        Err(_) => return Err(no_such("settings.scheduler", given.scheduler)),
    }
    match Forwarding::try_from(given.forwarding) {
        Ok(Forwarding::Unspecified) => {}
        Ok(Forwarding::Ipip) => settings.forwarding = rows::Forwarding::Ipip,
        Ok(Forwarding::Gre) => settings.forwarding = rows::Forwarding::Gre,
        Ok(Forwarding::Gue) => settings.forwarding = rows::Forwarding::Gue,
        Ok(Forwarding::L2dsr) => settings.forwarding = rows::Forwarding::L2dsr,
        Ok(Forwarding::Nat) => return Err(unsupported("settings.forwarding", "NAT")),
        Err(_) => return Err(no_such("settings.forwarding", given.forwarding)),
    }
    if !given.hash_secret.is_empty() {
        let secret = given.hash_secret.as_slice().try_into().map_err(|_| {
            let length = given.hash_secret.len();
            invalid("settings.hash_secret", format!("{length} bytes (expected 16)"))
        })?;
        settings.hash_secret = HashSecret(secret);
    }
    take(&mut settings.table_size, given.table_size);
    take(&mut settings.drain_seconds, given.drain_seconds);
    settings.reselect |= given.reselect;
    settings.gue_variant_0 |= given.gue_variant_0;
    settings.second_chance |= given.second_chance;
    if !given.quic.is_empty() {
        settings.quic = quic_rows(&given.quic, &from.quic)?;
    }
    take(&mut settings.quorum_checkers, given.quorum_checkers);
    take(&mut settings.quorum_down, given.quorum_down);
    take(&mut settings.panic_percent, given.panic_percent);
    take(&mut settings.slow_start_seconds, given.slow_start_seconds);
    if let Some(probe) = &given.probe {
        update_probe(&mut settings.probe, probe)?;
    }
    check(&settings, timings)?;
    Ok(settings)
}

/// Settings as nodes see them; the secret included.
pub(crate) fn proto_settings(row: &rows::PoolSettings) -> PoolSettings {
    let scheduler = match row.scheduler {
        rows::Scheduler::Maglev => Scheduler::Maglev,
        rows::Scheduler::Ring => Scheduler::Ring,
        rows::Scheduler::Wrr => Scheduler::Wrr,
    };
    let forwarding = match row.forwarding {
        rows::Forwarding::Ipip => Forwarding::Ipip,
        rows::Forwarding::Gre => Forwarding::Gre,
        rows::Forwarding::Gue => Forwarding::Gue,
        rows::Forwarding::L2dsr => Forwarding::L2dsr,
        rows::Forwarding::Nat => Forwarding::Nat,
    };
    PoolSettings {
        scheduler: scheduler.into(),
        table_size: row.table_size,
        forwarding: forwarding.into(),
        hash_secret: row.hash_secret.0.to_vec(),
        drain_seconds: row.drain_seconds,
        reselect: row.reselect,
        probe: Some(proto_probe(&row.probe)),
        quorum_checkers: row.quorum_checkers,
        quorum_down: row.quorum_down,
        panic_percent: row.panic_percent,
        slow_start_seconds: row.slow_start_seconds,
        gue_variant_0: row.gue_variant_0,
        second_chance: row.second_chance,
        quic: proto_quic(&row.quic),
    }
}

/// What settings mean for health.
pub(crate) fn health_settings(
    row: &rows::PoolSettings,
    timings: &FleetTimings,
) -> health::Settings {
    let probe = thresholds::ProbeSettings {
        interval_ms: row.probe.interval_ms.into(),
        jitter_percent: row.probe.jitter_percent,
        timeout_ms: row.probe.timeout_ms.into(),
        failures_down: row.probe.failures_to_down,
        passes_up: row.probe.passes_to_up,
    };
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    // One late report of a slow probe must not freeze a pool.
    let stale_ms = millis(timings.checkers_silent).max(probe.interval_ms.saturating_mul(3));
    health::Settings {
        quorum: QuorumSettings {
            checkers: count(row.quorum_checkers),
            needed: count(row.quorum_down),
            stale_ms,
        },
        probe,
        drain: DrainSettings {
            window_ms: u64::from(row.drain_seconds).saturating_mul(1_000),
            ..DrainSettings::default()
        },
        slow_start: SlowStartSettings {
            duration_ms: u64::from(row.slow_start_seconds).saturating_mul(1_000),
            ..SlowStartSettings::default()
        },
        panic: PanicSettings {
            enter_percent: row.panic_percent,
            // 40 of 50.
            leave_percent: row.panic_percent.saturating_mul(4) / 5,
            ..PanicSettings::default()
        },
        ..health::Settings::default()
    }
}

fn defaults(hash_secret: HashSecret) -> rows::PoolSettings {
    rows::PoolSettings {
        scheduler: rows::Scheduler::Maglev,
        table_size: 65_537,
        forwarding: rows::Forwarding::Ipip,
        hash_secret,
        drain_seconds: 60,
        reselect: false,
        probe: rows::ProbeSettings {
            liveness: rows::ProbeKind::Tcp,
            interval_ms: 1_000,
            timeout_ms: 1_000,
            failures_to_down: 3,
            passes_to_up: 2,
            jitter_percent: 20,
            http_expected_status: 200,
            udp_payload: Vec::new(),
            command: String::new(),
            unknown: Unknown::default(),
        },
        quorum_checkers: 3,
        quorum_down: 2,
        panic_percent: 50,
        slow_start_seconds: 0,
        gue_variant_0: false,
        second_chance: false,
        quic: Vec::new(),
        unknown: Unknown::default(),
    }
}

fn update_probe(probe: &mut rows::ProbeSettings, given: &ProbeSettings) -> Result<(), Status> {
    match ProbeKind::try_from(given.liveness) {
        Ok(ProbeKind::Unspecified) => {}
        Ok(ProbeKind::Tcp) => probe.liveness = rows::ProbeKind::Tcp,
        Ok(ProbeKind::Http) => probe.liveness = rows::ProbeKind::Http,
        Ok(ProbeKind::Udp) => probe.liveness = rows::ProbeKind::Udp,
        Ok(ProbeKind::Command) => probe.liveness = rows::ProbeKind::Command,
        Err(_) => return Err(no_such("settings.probe.liveness", given.liveness)),
    }
    take(&mut probe.interval_ms, given.interval_ms);
    take(&mut probe.timeout_ms, given.timeout_ms);
    take(&mut probe.failures_to_down, given.failures_to_down);
    take(&mut probe.passes_to_up, given.passes_to_up);
    take(&mut probe.jitter_percent, given.jitter_percent);
    if given.http_expected_status != 0 {
        let status = u16::try_from(given.http_expected_status).ok();
        let field = "settings.probe.http_expected_status";
        probe.http_expected_status = status
            .filter(|status| (100..=599).contains(status))
            .ok_or_else(|| invalid(field, "is not from 100 to 599"))?;
    }
    if !given.udp_payload.is_empty() {
        probe.udp_payload.clone_from(&given.udp_payload);
    }
    if !given.command.is_empty() {
        probe.command.clone_from(&given.command);
    }
    Ok(())
}

/// How backends are probed, for checkers and callers.
pub(crate) fn proto_probe(row: &rows::ProbeSettings) -> ProbeSettings {
    let liveness = match row.liveness {
        rows::ProbeKind::Tcp => ProbeKind::Tcp,
        rows::ProbeKind::Http => ProbeKind::Http,
        rows::ProbeKind::Udp => ProbeKind::Udp,
        rows::ProbeKind::Command => ProbeKind::Command,
    };
    ProbeSettings {
        liveness: liveness.into(),
        interval_ms: row.interval_ms,
        timeout_ms: row.timeout_ms,
        failures_to_down: row.failures_to_down,
        passes_to_up: row.passes_to_up,
        jitter_percent: row.jitter_percent,
        http_expected_status: u32::from(row.http_expected_status),
        udp_payload: row.udp_payload.clone(),
        command: row.command.clone(),
    }
}

/// What must hold of the whole.
fn check(settings: &rows::PoolSettings, timings: &FleetTimings) -> Result<(), Status> {
    if !maglev::is_prime(settings.table_size) || settings.table_size > maglev::MAX_SLOTS {
        let near = match maglev::nearest_primes(settings.table_size) {
            (Some(below), Some(above)) => format!("the nearest primes are {below} and {above}"),
            _ => format!("a prime up to {}", maglev::MAX_SLOTS),
        };
        let size = settings.table_size;
        return Err(invalid("settings.table_size", format!("{size} is no size: {near}")));
    }
    if settings.gue_variant_0 && settings.forwarding != rows::Forwarding::Gue {
        return Err(invalid("settings.gue_variant_0", "is without forwarding GUE"));
    }
    if settings.second_chance
        && !(settings.gue_variant_0 && settings.scheduler == rows::Scheduler::Maglev)
    {
        return Err(invalid("settings.second_chance", "is without gue_variant_0, or not MAGLEV"));
    }
    for (field, seconds) in [
        ("settings.drain_seconds", settings.drain_seconds),
        ("settings.slow_start_seconds", settings.slow_start_seconds),
    ] {
        if seconds > MAX_SECONDS {
            return Err(invalid(field, format!("{seconds} is above {MAX_SECONDS} (a day)")));
        }
    }
    if settings.probe.jitter_percent > 20 {
        return Err(invalid("settings.probe.jitter_percent", "is above 20"));
    }
    if settings.probe.udp_payload.len() > MAX_PAYLOAD {
        let what = format!("is longer than {MAX_PAYLOAD} bytes");
        return Err(invalid("settings.probe.udp_payload", what));
    }
    let probe = &settings.probe;
    if probe.liveness == rows::ProbeKind::Command {
        super::id("settings.probe.command", &probe.command)?;
    }
    health_settings(settings, timings).validate().map_err(|error| {
        let field = match error.field {
            "quorum.checkers" => "settings.quorum_checkers",
            "quorum.needed" => "settings.quorum_down",
            "panic.enter_percent" => "settings.panic_percent",
            "probe.interval_ms" => "settings.probe.interval_ms",
            "probe.timeout_ms" => "settings.probe.timeout_ms",
            other => other,
        };
        invalid(field, format!("must be {}", error.rule))
    })
}

fn take(to: &mut u32, given: u32) {
    if given != 0 {
        *to = given;
    }
}

fn unsupported(field: &str, what: &str) -> Status {
    invalid(field, format!("{what} is not supported in this release"))
}

fn no_such(field: &str, number: i32) -> Status {
    invalid(field, format!("no value {number} is known"))
}
