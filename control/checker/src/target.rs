//! An assignment, understood: which probes, how often, and how many make a verdict.
//!
//! What this checker cannot probe (a command it does not have, an address that is none) is not a
//! dead backend: it is carried as [`Unusable`], reported as UNKNOWN, and so leaves the backend as
//! it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use health::Id;
use health::thresholds::ProbeSettings;
use proto::v1;

use crate::fleet::Role;
use crate::probe::{HttpProbe, Probe};

/// Shorter intervals are lengthened to this: a checker is no load generator.
const SHORTEST_INTERVAL_MS: u64 = 10;
/// Longer intervals are shortened to this.
const LONGEST_INTERVAL_MS: u64 = 3_600_000;
/// Largest datagram that is sent.
const LARGEST_PAYLOAD: usize = 1400;

/// Why a probe of an assignment cannot be made, in words.
pub(crate) type Unusable = String;

/// One backend, and how it is probed.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: Id,
    pub(crate) liveness: Result<Arc<Probe>, Unusable>,
    pub(crate) readiness: Option<Result<Arc<Probe>, Unusable>>,
    pub(crate) settings: ProbeSettings,
}

impl Target {
    /// Never fails: what is unusable is said inside.
    pub(crate) fn new(
        assignment: v1::Assignment,
        commands: &BTreeMap<String, Vec<String>>,
    ) -> Self {
        let wire = assignment.settings.clone().unwrap_or_default();
        let readiness = match assignment.readiness_probe_url.as_str() {
            "" => None,
            url => Some(
                HttpProbe::parse(url, wire.http_expected_status)
                    .map(|probe| Arc::new(Probe::Http(probe))),
            ),
        };
        Self {
            liveness: liveness(&assignment, &wire, commands).map(Arc::new),
            readiness,
            settings: settings(&wire),
            id: assignment.backend_id.into(),
        }
    }

    /// Whether `other` asks the same questions, so that what was learned stays true.
    pub(crate) fn probes_alike(&self, other: &Self) -> bool {
        self.liveness == other.liveness && self.readiness == other.readiness
    }

    /// The questions that can be asked.
    pub(crate) fn roles(&self) -> impl Iterator<Item = Role> + use<> {
        let readiness = matches!(self.readiness, Some(Ok(_))).then_some(Role::Readiness);
        self.liveness.is_ok().then_some(Role::Liveness).into_iter().chain(readiness)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(self.settings.interval_ms)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.settings.timeout_ms)
    }
}

fn liveness(
    assignment: &v1::Assignment,
    wire: &v1::ProbeSettings,
    commands: &BTreeMap<String, Vec<String>>,
) -> Result<Probe, Unusable> {
    let ip: IpAddr =
        assignment.ip.parse().map_err(|_| format!("ip {:?} is no address", assignment.ip))?;
    let port = match u16::try_from(assignment.port) {
        Ok(port) if port != 0 => port,
        _ => return Err(format!("port {} is not in 1 to 65535", assignment.port)),
    };
    let address = SocketAddr::new(ip, port);
    match v1::ProbeKind::try_from(wire.liveness) {
        Ok(v1::ProbeKind::Unspecified | v1::ProbeKind::Tcp) => Ok(Probe::Tcp(address)),
        Ok(v1::ProbeKind::Http) => {
            Ok(Probe::Http(HttpProbe::at(address, wire.http_expected_status)?))
        }
        Ok(v1::ProbeKind::Udp) if wire.udp_payload.len() > LARGEST_PAYLOAD => {
            Err(format!("udp_payload is longer than {LARGEST_PAYLOAD} bytes"))
        }
        Ok(v1::ProbeKind::Udp) => {
            Ok(Probe::Udp { address, payload: wire.udp_payload.clone().into() })
        }
        Ok(v1::ProbeKind::Command) => {
            let argv = commands.get(&wire.command).ok_or_else(|| {
                format!("command {:?} is not known to this checker", wire.command)
            })?;
            Ok(Probe::Command(expand(argv, address, &assignment.backend_id)))
        }
        Err(_) => Err(format!("probe kind {} is not known to this checker", wire.liveness)),
    }
}

/// The arguments for one backend. The program itself is taken as it is.
fn expand(argv: &[String], address: SocketAddr, backend_id: &str) -> Vec<String> {
    let mut expanded = argv.to_vec();
    for argument in expanded.iter_mut().skip(1) {
        *argument = fill(argument, address, backend_id);
    }
    expanded
}

/// One pass, so that a backend's name cannot bring placeholders of its own.
fn fill(argument: &str, address: SocketAddr, backend_id: &str) -> String {
    let mut filled = String::with_capacity(argument.len() + 16);
    let mut rest = argument;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        filled.push_str(before);
        rest = if let Some(after) = from.strip_prefix("{ip}") {
            filled.push_str(&address.ip().to_string());
            after
        } else if let Some(after) = from.strip_prefix("{port}") {
            filled.push_str(&address.port().to_string());
            after
        } else if let Some(after) = from.strip_prefix("{backend_id}") {
            filled.push_str(backend_id);
            after
        } else {
            filled.push('{');
            from.strip_prefix('{').unwrap_or_default()
        };
    }
    filled.push_str(rest);
    filled
}

/// Zeroes are the defaults; what is out of range is brought into it.
fn settings(wire: &v1::ProbeSettings) -> ProbeSettings {
    let default = ProbeSettings::default();
    let or = |value: u32, default: u64| if value == 0 { default } else { value.into() };
    let interval_ms =
        or(wire.interval_ms, default.interval_ms).clamp(SHORTEST_INTERVAL_MS, LONGEST_INTERVAL_MS);
    let or = |value: u32, default: u32| if value == 0 { default } else { value };
    ProbeSettings {
        interval_ms,
        jitter_percent: or(wire.jitter_percent, default.jitter_percent).min(100),
        timeout_ms: match wire.timeout_ms {
            0 => default.timeout_ms.min(interval_ms),
            given => u64::from(given).min(interval_ms),
        },
        failures_down: or(wire.failures_to_down, default.failures_down),
        passes_up: or(wire.passes_to_up, default.passes_up),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(change: impl FnOnce(&mut v1::Assignment, &mut v1::ProbeSettings)) -> Target {
        let mut settings = v1::ProbeSettings::default();
        let mut assignment = v1::Assignment {
            backend_id: "b".to_owned(),
            ip: "192.0.2.1".to_owned(),
            port: 80,
            ..v1::Assignment::default()
        };
        change(&mut assignment, &mut settings);
        assignment.settings = Some(settings);
        let argv = ["/bin/check", "--to={ip}:{port}", "{backend_id}", "{{ip}", "{x}"];
        let argv = argv.map(str::to_owned).to_vec();
        Target::new(assignment, &BTreeMap::from([("check".to_owned(), argv)]))
    }

    #[test]
    fn zeroes_are_the_defaults() {
        let target = assignment(|_, _| {});
        assert_eq!(target.settings, ProbeSettings::default());
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        assert_eq!(target.liveness, Ok(Arc::new(Probe::Tcp(address))));
        assert_eq!(target.readiness, None);
    }

    #[test]
    fn settings_out_of_range_are_brought_into_it() {
        let target = assignment(|_, settings| {
            settings.interval_ms = 1;
            settings.timeout_ms = 900;
            settings.jitter_percent = 1000;
        });
        assert_eq!(target.settings.validate(), Ok(()));
        assert_eq!((target.settings.interval_ms, target.settings.timeout_ms), (10, 10));
        let target = assignment(|_, settings| settings.interval_ms = 200);
        assert_eq!(target.settings.timeout_ms, 200, "a probe ends before the next begins");
    }

    #[test]
    fn what_cannot_be_probed_says_why() {
        let why = |target: Target| target.liveness.expect_err("unusable");
        assert!(why(assignment(|a, _| a.ip = "nowhere".to_owned())).contains("nowhere"));
        assert!(why(assignment(|a, _| a.port = 0)).contains("port 0"));
        assert!(why(assignment(|a, _| a.port = 65_536)).contains("port 65536"));
        assert!(why(assignment(|_, s| s.liveness = 99)).contains("99"));
        let unknown = assignment(|_, s| {
            s.liveness = v1::ProbeKind::Command.into();
            s.command = "other".to_owned();
        });
        assert!(why(unknown).contains("\"other\""));
        let url = assignment(|a, _| a.readiness_probe_url = "gopher://host/".to_owned());
        assert!(url.readiness.expect("a probe").is_err());
        assert!(url.liveness.is_ok());
    }

    #[test]
    fn placeholders_are_filled_once_and_stay_one_argument() {
        let target = assignment(|a, s| {
            s.liveness = v1::ProbeKind::Command.into();
            s.command = "check".to_owned();
            a.ip = "2001:db8::1".to_owned();
            a.backend_id = "b c; {ip} $(x)".to_owned();
        });
        let expected =
            ["/bin/check", "--to=2001:db8::1:80", "b c; {ip} $(x)", "{2001:db8::1", "{x}"];
        let expected = expected.map(str::to_owned).to_vec();
        assert_eq!(target.liveness, Ok(Arc::new(Probe::Command(expected))));
    }
}
