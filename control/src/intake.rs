//! From a controller's message to a snapshot that may be served, or the reason why not.
//!
//! The node trusts no controller blindly: a release that knows more than this one, a bug, or a bit
//! that fell over must not reach the packets. So a snapshot is taken whole or refused whole, and a
//! refused one leaves the pool as it was (SPEC section 6). What is checked here needs the message
//! and the node's links only; the digest of the table is compared once the table is built.
//!
//! Nothing here shows a hash secret: a [`Refusal`] names the field, never its bytes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use dataplane::counters::{MAX_BACKENDS, MAX_VIPS};
use dataplane::tables::{BackendState, Forwarding, PortTable};
use maglev::{Digest, Maglev, Member, is_prime};
use proto::v1;
use thiserror::Error;

use crate::snapshot::{BackendEntry, PoolSettings, PoolSnapshot, Scheduler, VipBinding};

mod quic;
mod vip;

/// Longest id of a pool or backend, in bytes.
pub const MAX_ID: usize = 253;
/// Greatest weight of a backend.
const MAX_WEIGHT: u32 = 65_535;
/// Longest idle time and drain, in seconds: a day.
const MAX_SECONDS: u32 = 86_400;
const DEFAULT_TABLE_SIZE: u32 = 65_537;
const DEFAULT_DRAIN_SECONDS: u32 = 60;

/// A snapshot that is as it should be, as far as one can tell without building its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What would be served.
    pub snapshot: PoolSnapshot,
    /// What its table must come to.
    pub digest: Option<Digest>,
    /// How long its backends drain when the pool goes.
    pub drain_ms: u64,
}

/// What was wrong, as a word for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No store id, or one that changes within a set.
    Store,
    /// 0, going back, or the same for other contents.
    Version,
    /// An id that is empty, too long, or has control characters.
    Name,
    /// A setting out of its range.
    Settings,
    /// A scheduler that this release does not have.
    Scheduler,
    /// A forwarding mode that this release does not have.
    Forwarding,
    /// A backend twice, or in a state that contradicts its weight.
    Backend,
    /// An address that packets cannot be sent to.
    Address,
    /// A VIP that cannot be served, or twice.
    Vip,
    /// More than the node can hold.
    Limit,
    /// Slots that are not what the backends make.
    Table,
    /// The table built is not the one that was meant.
    Digest,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 12] = [
        Self::Store,
        Self::Version,
        Self::Name,
        Self::Settings,
        Self::Scheduler,
        Self::Forwarding,
        Self::Backend,
        Self::Address,
        Self::Vip,
        Self::Limit,
        Self::Table,
        Self::Digest,
    ];

    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Version => "version",
            Self::Name => "name",
            Self::Settings => "settings",
            Self::Scheduler => "scheduler",
            Self::Forwarding => "forwarding",
            Self::Backend => "backend",
            Self::Address => "address",
            Self::Vip => "vip",
            Self::Limit => "limit",
            Self::Table => "table",
            Self::Digest => "digest",
        }
    }
}

/// Why a snapshot was refused: a word, and a sentence that names the field.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Refusal {
    /// The word.
    pub reason: Reason,
    /// The sentence.
    pub text: String,
}

/// A refusal in the making.
pub(crate) fn refuse(reason: Reason, text: impl fmt::Display) -> Refusal {
    Refusal { reason, text: text.to_string() }
}

/// Checks a snapshot of a pool that is not deleted.
///
/// # Errors
/// The first thing that is wrong.
pub fn candidate(message: &v1::PoolSnapshot, ports: &[PortTable]) -> Result<Candidate, Refusal> {
    name("pool_id", &message.pool_id)?;
    let settings = message.settings.as_ref();
    let settings = settings.ok_or_else(|| refuse(Reason::Settings, "settings: missing"))?;
    let scheduler = scheduler(settings)?;
    let forwarding = forwarding(settings)?;
    let hash_secret = <[u8; 16]>::try_from(settings.hash_secret.as_slice()).map_err(|_| {
        let found = settings.hash_secret.len();
        refuse(Reason::Settings, format!("settings.hash_secret: {found} bytes (expected 16)"))
    })?;
    let drain = seconds("settings.drain_seconds", settings.drain_seconds, DEFAULT_DRAIN_SECONDS)?;
    let snapshot = PoolSnapshot {
        pool_id: message.pool_id.clone(),
        version: message.version,
        settings: PoolSettings {
            scheduler,
            forwarding,
            second_chance: second_chance(settings, scheduler)?,
            hash_secret,
            reselect: settings.reselect,
            quic: quic::configurations(&settings.quic)?,
        },
        backends: backends(message, forwarding, ports)?,
        vips: vips(message)?,
    };
    let digest = expected_digest(message.table.as_ref(), &snapshot)?;
    Ok(Candidate { snapshot, digest, drain_ms: u64::from(drain) * 1000 })
}

/// An id that can stand in a log, a label and a path.
pub(crate) fn name(field: &str, id: &str) -> Result<(), Refusal> {
    let problem = match id {
        "" => "is empty".to_owned(),
        id if id.len() > MAX_ID => format!("is {} bytes long", id.len()),
        id if id.chars().any(char::is_control) => "has control characters".to_owned(),
        _ => return Ok(()),
    };
    let expected = format!("1 to {MAX_ID} bytes without control characters");
    Err(refuse(Reason::Name, format!("{field} {problem} (expected {expected})")))
}

/// Seconds of a field whose 0 is its default.
fn seconds(field: &str, given: u32, default: u32) -> Result<u32, Refusal> {
    match given {
        0 => Ok(default),
        1..=MAX_SECONDS => Ok(given),
        _ => Err(refuse(
            Reason::Settings,
            format!("{field}: {given} (expected 1 to {MAX_SECONDS} seconds)"),
        )),
    }
}

fn scheduler(settings: &v1::PoolSettings) -> Result<Scheduler, Refusal> {
    let table_size = match settings.table_size {
        0 => DEFAULT_TABLE_SIZE,
        size => size,
    };
    match v1::Scheduler::try_from(settings.scheduler) {
        Ok(v1::Scheduler::Unspecified | v1::Scheduler::Maglev) => {
            if table_size > maglev::MAX_SLOTS || !is_prime(table_size) {
                let expected = format!("a prime up to {}", maglev::MAX_SLOTS);
                let text = format!("settings.table_size: {table_size} (expected {expected})");
                return Err(refuse(Reason::Settings, text));
            }
            Ok(Scheduler::Maglev { table_size })
        }
        Ok(v1::Scheduler::Ring) => Ok(Scheduler::Ring),
        Ok(other @ v1::Scheduler::Wrr) => {
            let text =
                format!("settings.scheduler: {} is not in this release", other.as_str_name());
            Err(refuse(Reason::Scheduler, text))
        }
        Err(_) => {
            let text = format!("settings.scheduler: {} is unknown here", settings.scheduler);
            Err(refuse(Reason::Scheduler, text))
        }
    }
}

fn forwarding(settings: &v1::PoolSettings) -> Result<Forwarding, Refusal> {
    match v1::Forwarding::try_from(settings.forwarding) {
        Ok(v1::Forwarding::Unspecified | v1::Forwarding::Ipip) => Ok(Forwarding::Ipip),
        Ok(v1::Forwarding::Gre) => Ok(Forwarding::Gre),
        Ok(v1::Forwarding::Gue) if settings.gue_variant_0 => Ok(Forwarding::GueWithHeader),
        Ok(v1::Forwarding::Gue) => Ok(Forwarding::Gue),
        Ok(v1::Forwarding::L2dsr) => Ok(Forwarding::L2dsr),
        Ok(other @ v1::Forwarding::Nat) => {
            let text =
                format!("settings.forwarding: {} is not in this release", other.as_str_name());
            Err(refuse(Reason::Forwarding, text))
        }
        Err(_) => {
            let text = format!("settings.forwarding: {} is unknown here", settings.forwarding);
            Err(refuse(Reason::Forwarding, text))
        }
    }
}

/// The names of the slots' owners need a header to stand in, and slots.
fn second_chance(settings: &v1::PoolSettings, scheduler: Scheduler) -> Result<bool, Refusal> {
    let header = settings.gue_variant_0 && settings.forwarding() == v1::Forwarding::Gue;
    let slots = matches!(scheduler, Scheduler::Maglev { .. });
    match settings.second_chance && !(header && slots) {
        true => {
            let text = "settings.second_chance: without GUE in variant 0, or without MAGLEV";
            Err(refuse(Reason::Settings, text))
        }
        false => Ok(settings.second_chance),
    }
}

fn backends(
    message: &v1::PoolSnapshot,
    forwarding: Forwarding,
    ports: &[PortTable],
) -> Result<Vec<BackendEntry>, Refusal> {
    limit("backends", message.backends.len(), MAX_BACKENDS)?;
    let mut ids = BTreeSet::new();
    let mut entries = Vec::with_capacity(message.backends.len());
    for entry in &message.backends {
        name("backend_id", &entry.backend_id)?;
        let id = &entry.backend_id;
        if !ids.insert(id.as_str()) {
            return Err(refuse(Reason::Backend, format!("backend \"{id}\" is there twice")));
        }
        let address = backend_address(entry)?;
        // Sent to a gateway with its destination untouched, such a packet would come back here.
        let on_link = || ports.iter().any(|port| port.is_on_link(address));
        if forwarding == Forwarding::L2dsr && !ports.is_empty() && !on_link() {
            let text =
                format!("backend \"{id}\": ip {address} is on no port's link, as L2DSR needs");
            return Err(refuse(Reason::Address, text));
        }
        if entry.weight > MAX_WEIGHT {
            let text =
                format!("backend \"{id}\": weight {} (expected 0 to {MAX_WEIGHT})", entry.weight);
            return Err(refuse(Reason::Backend, text));
        }
        let state = backend_state(entry)?;
        entries.push(BackendEntry {
            id: id.clone(),
            address,
            weight: entry.weight,
            state,
            quic_server_ids: quic::server_ids(id, &entry.quic_server_ids)?,
        });
    }
    Ok(entries)
}

fn backend_address(entry: &v1::BackendEntry) -> Result<IpAddr, Refusal> {
    let refused = |what: &str| {
        let text = format!("backend \"{}\": ip \"{}\" {what}", entry.backend_id, shown(&entry.ip));
        refuse(Reason::Address, text)
    };
    match entry.ip.parse::<IpAddr>() {
        Ok(address) => match not_unicast(address) {
            None => Ok(address),
            Some(what) => Err(refused(what)),
        },
        Err(_) => Err(refused("is not an IP address")),
    }
}

/// Why no packet can be sent to an address.
fn not_unicast(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("is unspecified"),
        _ if address.is_unspecified() => Some("is unspecified"),
        _ if address.is_loopback() => Some("is loopback"),
        _ if address.is_multicast() => Some("is multicast"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("is reserved"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("is IPv4-mapped"),
        _ => None,
    }
}

/// The state as the data plane means it. Who gets new flows is said by the weight alone: in a
/// panic an UNHEALTHY backend has one, and is then served as any other.
fn backend_state(entry: &v1::BackendEntry) -> Result<BackendState, Refusal> {
    let id = &entry.backend_id;
    match v1::BackendState::try_from(entry.state) {
        Ok(v1::BackendState::Pending | v1::BackendState::Healthy) => Ok(BackendState::Active),
        Ok(v1::BackendState::Unhealthy) if entry.weight > 0 => Ok(BackendState::Active),
        Ok(v1::BackendState::Unhealthy) => Ok(BackendState::Unhealthy),
        Ok(state @ (v1::BackendState::Draining | v1::BackendState::Evicted))
            if entry.weight > 0 =>
        {
            let state = state.as_str_name();
            let text =
                format!("backend \"{id}\": {state} with weight {} (expected 0)", entry.weight);
            Err(refuse(Reason::Backend, text))
        }
        Ok(v1::BackendState::Draining) => Ok(BackendState::Draining),
        Ok(v1::BackendState::Evicted) => Ok(BackendState::Evicted),
        Ok(v1::BackendState::Unspecified) | Err(_) => {
            let text = format!("backend \"{id}\": state {} is unknown here", entry.state);
            Err(refuse(Reason::Backend, text))
        }
    }
}

fn vips(message: &v1::PoolSnapshot) -> Result<Vec<VipBinding>, Refusal> {
    limit("vips", message.vips.len(), MAX_VIPS)?;
    let mut names = BTreeSet::new();
    let mut bindings = Vec::with_capacity(message.vips.len());
    for vip in &message.vips {
        let binding = vip::binding(vip)?;
        let name = binding.name();
        if names.contains(&name) {
            return Err(refuse(Reason::Vip, format!("vip {name} is there twice")));
        }
        names.insert(name);
        bindings.push(binding);
    }
    Ok(bindings)
}

fn limit(what: &str, found: usize, limit: usize) -> Result<(), Refusal> {
    match found <= limit {
        true => Ok(()),
        false => Err(refuse(Reason::Limit, format!("{found} {what} (expected up to {limit})"))),
    }
}

/// The digest that the table must come to; slots that are given are checked one by one.
fn expected_digest(
    table: Option<&v1::MaglevTable>,
    snapshot: &PoolSnapshot,
) -> Result<Option<Digest>, Refusal> {
    let maglev_size = match snapshot.settings.scheduler {
        Scheduler::Maglev { table_size } => Some(table_size),
        Scheduler::Ring => None,
    };
    let Some(table) = table else {
        return match maglev_size {
            Some(_) => Err(refuse(Reason::Digest, "table: missing, so nothing can be verified")),
            None => Ok(None),
        };
    };
    let digest = match (table.digest.as_slice(), maglev_size) {
        ([], None) => None,
        (bytes, _) => match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) => Some(Digest::from_bytes(bytes)),
            Err(_) => {
                let text = format!("table.digest: {} bytes (expected 32)", bytes.len());
                return Err(refuse(Reason::Digest, text));
            }
        },
    };
    let Some(size) = maglev_size else { return Ok(digest) };
    if table.size != size {
        let text = format!("table.size: {} (expected {size}, as in the settings)", table.size);
        return Err(refuse(Reason::Table, text));
    }
    if !table.slots.is_empty() {
        check_slots(table, size, snapshot)?;
    }
    Ok(digest)
}

fn check_slots(table: &v1::MaglevTable, size: u32, snapshot: &PoolSnapshot) -> Result<(), Refusal> {
    let members: Vec<Member<'_>> = (0u32..)
        .zip(&snapshot.backends)
        .filter(|(_, backend)| backend.is_eligible())
        .map(|(index, backend)| Member { id: &backend.id, index, weight: backend.weight })
        .collect();
    let refused = |error: &dyn fmt::Display| refuse(Reason::Table, format!("table.slots: {error}"));
    let given =
        Maglev::from_slots(&table.slots, size, &members).map_err(|error| refused(&error))?;
    maglev::verify(&given, &members, snapshot.settings.hash_secret).map_err(|error| refused(&error))
}

/// What a field holds, short enough for a line.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(64).collect()
}
