//! Reading the TOML file: everything that is wrong with it comes at once, each at its line.
//!
//! The rules are the controllers' own, checked here so that a file with a mistake changes
//! nothing; what depends on the controllers' release (such as modes that it does not have yet)
//! they say themselves.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::table::{
    BackendTable, FileTable, MssValue, PoolTable, PortValue, ProbeTable, QuicTable, VipTable,
};
use super::{Backend, Configuration, Idle, Pool, Service, Vip, fill_in};
use crate::mss::MssClamp;
use crate::secret::{Secret, unhex};
use crate::vip::{Ports, Transport, VipName, parse_address};
use crate::words::{self, AFFINITIES, FORWARDINGS, PROBES, SCHEDULERS, Words};
use proto::v1::{
    Affinity, Forwarding, PoolSettings, ProbeKind, ProbeSettings, QuicConfiguration, Scheduler,
};

/// A pool is at capacity at this many slots a backend (SPEC section 3).
const SLOTS_A_BACKEND: u32 = 50;
/// Bounds of the controllers: slots, bytes of an id, labels, bytes of a label, of a URL and of a
/// UDP probe, seconds of a day.
const MAX_TABLE: u32 = 1 << 24;
const MAX_ID: usize = 255;
const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 256;
const MAX_URL: usize = 2048;
const MAX_PAYLOAD: usize = 1024;
const DAY: u32 = 86_400;

/// What a file says, or everything that is wrong with it: a line a problem, `name:line: what`.
///
/// # Errors
/// At least one problem.
pub(crate) fn read(text: &str, name: &str) -> Result<Configuration, String> {
    let mut reader = Reader { text, problems: Vec::new() };
    let table = toml::from_str::<FileTable>(text).unwrap_or_else(|error| {
        let what = error.message().replace('\n', ", ");
        reader.problem(error.span().unwrap_or_default(), &what);
        FileTable::default()
    });
    let configuration = reader.file(table);
    reader.problems.sort();
    match reader.problems.as_slice() {
        [] => Ok(configuration),
        problems => {
            let lines: Vec<String> =
                problems.iter().map(|(line, what)| format!("{name}:{line}: {what}")).collect();
            Err(lines.join("\n"))
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    /// Line and what is wrong there.
    problems: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|&&byte| byte == b'\n').count()
    }

    fn problem(&mut self, span: Range<usize>, what: &str) {
        let line = self.line(span);
        self.problems.push((line, words::clean(what).into_owned()));
    }

    /// What `parse` makes of a text.
    fn parsed<T>(
        &mut self,
        key: &str,
        text: &Spanned<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = parse(text.get_ref());
        parsed.map_err(|what| self.problem(text.span(), &format!("{key}: {what}"))).ok()
    }

    /// A number that must be in its range; `default` when it is not there.
    fn number(
        &mut self,
        key: &str,
        value: Option<&Spanned<u32>>,
        range: RangeInclusive<u32>,
        default: u32,
    ) -> u32 {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if !range.contains(&number) {
            let (first, last) = range.into_inner();
            let what = format!("{key} = {number} is out of range ({first} to {last})");
            self.problem(value.span(), &what);
        }
        number
    }

    /// A word of an enumeration; 0, the interface's "not given", when it is not there.
    fn word<T: Copy + Into<i32>>(
        &mut self,
        key: &str,
        text: Option<&Spanned<String>>,
        words: Words<T>,
    ) -> i32 {
        let parse = |text: &str| words::value(words, text);
        text.and_then(|text| self.parsed(key, text, parse)).map_or(0, Into::into)
    }

    /// An id, and that no other thing of its `kind` has it.
    fn id(&mut self, kind: &str, id: &Spanned<String>, lines: &mut BTreeMap<String, usize>) {
        let text = id.get_ref();
        if let Err(what) = check_id(text) {
            self.problem(id.span(), &format!("id: {what}"));
        }
        let line = self.line(id.span());
        if let Some(first) = lines.insert(text.clone(), line) {
            let what = format!("{kind} {text:?} is there already, on line {first}");
            self.problem(id.span(), &what);
        }
    }

    fn file(&mut self, table: FileTable) -> Configuration {
        let mut configuration = Configuration::default();
        let (mut pool_ids, mut backend_ids) = (BTreeMap::new(), BTreeMap::new());
        for table in &table.pools {
            self.id("pool", &table.id, &mut pool_ids);
            let mut backends = BTreeMap::new();
            for table in &table.backends {
                // Unique among all pools.
                self.id("backend", &table.id, &mut backend_ids);
                if let Some(backend) = self.backend(table) {
                    backends.insert(table.id.get_ref().clone(), backend);
                }
            }
            let (settings, secret) = self.settings(table);
            let pool = Pool { settings, secret, backends };
            configuration.pools.insert(table.id.get_ref().clone(), pool);
        }
        let mut lines = BTreeMap::<VipName, usize>::new();
        for table in &table.vips {
            if !pool_ids.contains_key(table.pool.get_ref()) {
                let what = format!("pool = {:?} is no [[pool]] of this file", table.pool.get_ref());
                self.problem(table.pool.span(), &what);
            }
            let Some((name, vip)) = self.vip(table) else { continue };
            let line = self.line(table.address.span());
            if let Some((other, first)) = lines.iter().find(|(other, _)| other.ties_with(name)) {
                let what = format!(
                    "VIP {name} overlaps {other} on line {first}; neither is the more specific"
                );
                self.problem(table.address.span(), &what);
            }
            if let Some(first) = lines.insert(name, line) {
                let what = format!("VIP {name} is there already, on line {first}");
                self.problem(table.address.span(), &what);
            }
            configuration.vips.insert(name, vip);
        }
        configuration
    }

    fn settings(&mut self, table: &PoolTable) -> (PoolSettings, Option<Secret>) {
        let mut number = |key: &str, value: &Option<Spanned<u32>>, range| {
            self.number(key, value.as_ref(), range, 0)
        };
        let mut settings = PoolSettings {
            table_size: number("table_size", &table.table_size, 2..=MAX_TABLE),
            drain_seconds: number("drain_seconds", &table.drain_seconds, 1..=DAY),
            reselect: table.reselect.unwrap_or(false),
            quorum_checkers: number("quorum_checkers", &table.quorum_checkers, 1..=16),
            quorum_down: number("quorum_down", &table.quorum_down, 1..=16),
            panic_percent: number("panic_percent", &table.panic_percent, 1..=100),
            slow_start_seconds: number("slow_start_seconds", &table.slow_start_seconds, 0..=DAY),
            ..PoolSettings::default()
        };
        settings.scheduler = self.word("scheduler", table.scheduler.as_ref(), SCHEDULERS);
        settings.forwarding = self.word("forwarding", table.forwarding.as_ref(), FORWARDINGS);
        let variant = self.number("gue_variant", table.gue_variant.as_ref(), 0..=1, 1);
        settings.gue_variant_0 = variant == 0;
        settings.second_chance = table.second_chance.unwrap_or(false);
        let header = variant == 0 && settings.forwarding() == Forwarding::Gue;
        if (variant == 0 || settings.second_chance) && !header {
            let what = "gue_variant = 0 goes with forwarding = \"gue\", second_chance with both";
            self.problem(table.id.span(), what);
        }
        if settings.second_chance && settings.scheduler() == Scheduler::Ring {
            self.problem(table.id.span(), "second_chance goes with scheduler = \"maglev\"");
        }
        settings.quic = self.quic(&table.quic);
        settings.probe = table.probe.as_ref().map(|probe| self.probe(probe, &table.id));
        fill_in(&mut settings);
        let slots = settings.table_size;
        if let Some(size) = table.table_size.as_ref().filter(|_| !is_prime(slots)) {
            self.problem(size.span(), &format!("table_size = {slots} is not a prime"));
        }
        let (count, most) = (table.backends.len(), slots / SLOTS_A_BACKEND);
        if u32::try_from(count).is_ok_and(|count| count > most) {
            let what = format!("{count} backends, at most {most} for a table of {slots} slots");
            self.problem(table.id.span(), &what);
        }
        let (down, checkers) = (settings.quorum_down, settings.quorum_checkers);
        if down > checkers || down <= checkers / 2 {
            let what = format!("quorum_down: {down} of {checkers} checkers is no majority");
            self.problem(table.id.span(), &what);
        }
        let probe = settings.probe.clone().unwrap_or_default();
        if probe.timeout_ms > probe.interval_ms {
            let (timeout, interval) = (probe.timeout_ms, probe.interval_ms);
            let what = format!(
                "probe: timeout_ms = {timeout} is longer than interval_ms = {interval}: one probe \
                 ends before the next begins"
            );
            self.problem(table.id.span(), &what);
        }
        let secret = table.hash_secret.as_ref();
        (settings, secret.and_then(|text| self.parsed("hash_secret", text, str::parse)))
    }

    fn probe(&mut self, table: &ProbeTable, pool: &Spanned<String>) -> ProbeSettings {
        let mut number = |key: &str, value: &Option<Spanned<u32>>, range| {
            self.number(key, value.as_ref(), range, 0)
        };
        let mut probe = ProbeSettings {
            interval_ms: number("interval_ms", &table.interval_ms, 1..=u32::MAX),
            timeout_ms: number("timeout_ms", &table.timeout_ms, 1..=u32::MAX),
            failures_to_down: number("failures_to_down", &table.failures_to_down, 1..=u32::MAX),
            passes_to_up: number("passes_to_up", &table.passes_to_up, 1..=u32::MAX),
            jitter_percent: number("jitter_percent", &table.jitter_percent, 1..=20),
            http_expected_status: number(
                "http_expected_status",
                &table.http_expected_status,
                100..=599,
            ),
            command: table.command.clone().unwrap_or_default(),
            ..ProbeSettings::default()
        };
        probe.liveness = self.word("liveness", table.liveness.as_ref(), PROBES);
        let bytes = |text: &str| {
            let bytes = unhex(text).filter(|bytes| bytes.len() <= MAX_PAYLOAD);
            bytes.ok_or_else(|| format!("expected hex digits, for up to {MAX_PAYLOAD} bytes"))
        };
        let payload = table.udp_payload.as_ref();
        probe.udp_payload =
            payload.and_then(|text| self.parsed("udp_payload", text, bytes)).unwrap_or_default();
        if probe.liveness() == ProbeKind::Command
            && let Err(what) = check_id(&probe.command)
        {
            self.problem(pool.span(), &format!("probe: command: {what}"));
        }
        probe
    }

    /// The bounds of draft-ietf-quic-load-balancers.
    fn quic(&mut self, tables: &[QuicTable]) -> Vec<QuicConfiguration> {
        let mut configurations: Vec<QuicConfiguration> = Vec::new();
        for table in tables {
            let mut number = |key: &str, value, range| self.number(key, Some(value), range, 0);
            let config_id = number("config_id", &table.config_id, 0..=6);
            let server_id_length = number("server_id_length", &table.server_id_length, 1..=15);
            let most = 19u32.saturating_sub(server_id_length).max(4);
            let nonce_length = number("nonce_length", &table.nonce_length, 4..=most);
            if configurations.iter().any(|other| other.config_id == config_id) {
                let what = format!("config_id = {config_id} is there already");
                self.problem(table.config_id.span(), &what);
            }
            let key = table.key.as_ref();
            let key = key.and_then(|text| self.parsed("key", text, quic_key)).unwrap_or_default();
            configurations.push(QuicConfiguration {
                config_id,
                server_id_length,
                nonce_length,
                key,
                self_encoded_length: table.self_encoded_length.unwrap_or(false),
                encrypted: table.encrypted.unwrap_or(false),
            });
        }
        configurations
    }

    fn backend(&mut self, table: &BackendTable) -> Option<Backend> {
        let ip = self.parsed("address", &table.address, |text| {
            text.parse().map_err(|_| format!("{text:?} is no IP address (expected 192.0.2.11)"))
        });
        let port = self.number("port", Some(&table.port), 1..=65_535, 0);
        let weight = self.number("weight", table.weight.as_ref(), 0..=65_535, 100);
        let service = match &table.state {
            None => Some(Service::Unsaid),
            Some(text) => self.parsed("state", text, |text| match text {
                "active" => Ok(Service::Active),
                "drain" => Ok(Service::Drain),
                _ => Err(format!("{text:?} is not known (expected active or drain)")),
            }),
        };
        let url = table.readiness_probe_url.as_ref();
        let url = url.map(|url| self.parsed("readiness_probe_url", url, check_url));
        let long = |(name, value): (&String, &String)| {
            name.is_empty() || name.len() > MAX_LABEL || value.len() > MAX_LABEL
        };
        if table.labels.len() > MAX_LABELS || table.labels.iter().any(long) {
            let what = format!("labels: at most {MAX_LABELS}, names of 1 to {MAX_LABEL} bytes");
            self.problem(table.id.span(), &what);
        }
        let id = |text: &str| {
            let octets = unhex(text).filter(|octets| (1..=15).contains(&octets.len()));
            octets.ok_or_else(|| format!("{text:?}: expected 2 to 30 hex digits"))
        };
        let ids = table.quic_server_ids.iter();
        let quic_server_ids =
            ids.filter_map(|text| self.parsed("quic_server_ids", text, id)).collect();
        Some(Backend {
            ip: ip?,
            port: u16::try_from(port).ok()?,
            weight: u16::try_from(weight).ok()?,
            labels: table.labels.clone(),
            readiness_probe_url: url.unwrap_or_else(|| Some(String::new()))?,
            service: service?,
            quic_server_ids,
        })
    }

    fn vip(&mut self, table: &VipTable) -> Option<(VipName, Vip)> {
        let address = self.parsed("address", &table.address, parse_address);
        let port = match table.port.get_ref() {
            PortValue::Number(number) => number.to_string(),
            PortValue::Text(text) => text.clone(),
        };
        let ports = port.parse::<Ports>();
        let ports = ports.map_err(|what| self.problem(table.port.span(), &format!("port: {what}")));
        let protocol = self.parsed("protocol", &table.protocol, str::parse);
        let mut seconds = |key: &str, value: &Option<Spanned<u32>>, default| {
            self.number(key, value.as_ref(), 1..=DAY, default)
        };
        let Idle { syn_received, established, fin_wait, time_wait, udp } = Idle::default();
        let idle = Idle {
            syn_received: seconds(
                "syn_received_seconds",
                &table.syn_received_seconds,
                syn_received,
            ),
            established: seconds("established_seconds", &table.established_seconds, established),
            fin_wait: seconds("fin_wait_seconds", &table.fin_wait_seconds, fin_wait),
            time_wait: seconds("time_wait_seconds", &table.time_wait_seconds, time_wait),
            udp: seconds("udp_idle_seconds", &table.udp_idle_seconds, udp),
        };
        let affinity = match table.affinity.as_ref() {
            Some(text) => self.parsed("affinity", text, |text| words::value(AFFINITIES, text)),
            None => Some(Affinity::Flow),
        };
        if affinity == Some(Affinity::Quic) && protocol != Some(Transport::Udp) {
            self.problem(table.protocol.span(), "affinity = \"quic\" is for protocol = \"udp\"");
        }
        let mss_clamp = match table.mss_clamp.as_ref() {
            Some(value) => {
                let text = match value.get_ref() {
                    MssValue::Number(bytes) => bytes.to_string(),
                    MssValue::Text(text) => text.clone(),
                };
                let parsed = text.parse::<MssClamp>();
                parsed
                    .map_err(|what| self.problem(value.span(), &format!("mss_clamp: {what}")))
                    .ok()
            }
            None => Some(MssClamp::Off),
        };
        let name = VipName { address: address?, ports: ports.ok()?, protocol: protocol? };
        let pool = table.pool.get_ref().clone();
        Some((name, Vip { pool, idle, affinity: affinity?, mss_clamp: mss_clamp? }))
    }
}

fn check_id(text: &str) -> Result<(), String> {
    let good = |one: char| one.is_alphanumeric() || "-_.:@".contains(one);
    match !text.is_empty() && text.len() <= MAX_ID && text.chars().all(good) {
        true => Ok(()),
        false => Err(format!(
            "{text:?} is no name (expected 1 to {MAX_ID} bytes of letters, digits and - _ . : @)"
        )),
    }
}

/// The text is not repeated: it may be a key with a typing error.
fn quic_key(text: &str) -> Result<Vec<u8>, String> {
    let key = unhex(text).filter(|key| key.len() == 16);
    key.ok_or_else(|| "is no key (expected 32 hex digits)".to_owned())
}

fn check_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default();
    let plain = text.len() <= MAX_URL && text.chars().all(|one| one.is_ascii_graphic());
    if text.is_empty() || (plain && !host.is_empty() && !host.contains('@')) {
        return Ok(text.to_owned());
    }
    // The text is not repeated: what stands before an @ may be a password.
    Err("is no URL of a probe (expected http://host/path or https://host/path)".to_owned())
}

/// Trial division: at most 2,048 steps up to [`MAX_TABLE`].
fn is_prime(number: u32) -> bool {
    match number {
        0 | 1 => false,
        2 => true,
        _ if number.is_multiple_of(2) => false,
        _ => (3u32..)
            .step_by(2)
            .take_while(|divisor| divisor.saturating_mul(*divisor) <= number)
            .all(|divisor| !number.is_multiple_of(divisor)),
    }
}

#[cfg(test)]
mod tests;
