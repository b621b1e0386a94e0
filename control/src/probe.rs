//! The node's probes of its backends: at a VIP, through the tunnel, as a client's packet would go.
//!
//! A backend that has lost its VIP or its tunnel answers checkers at its own address and swallows
//! what nodes send it; this finds it (SPEC section 7). [`schedule`] says whom to ask when and what
//! the answers come to, workers send and recognise ([`dataplane::probe`]), and here the two are
//! brought together, one step of the control thread at a time.
//!
//! Asked is at VIPs of one address and one TCP port, those of the backend's pool in turn, of
//! families that the node's port has an address of; pools without such a VIP are not probed (a UDP
//! service owes no answer to a packet it does not know, and an echo would say nothing about a port).
//! DRAINING and unhealthy backends are asked too, evicted ones are not.
//!
//! What a node finds, it shows and reports. It takes nobody out by itself: alone it cannot tell a
//! backend's loss from its own. With a controller most nodes decide together (`health::tunnel`).

pub mod schedule;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use dataplane::link::Command;
use dataplane::probe::Cookies;
use dataplane::tables::{BackendState, PortTable, Tables};
use dataplane::vip::{VipPorts, VipProtocol};
use health::thresholds::{ProbeSettings, Verdict};

use crate::assemble::Assembler;
use crate::node::WorkerHandle;
use crate::snapshot::{PoolSnapshot, VipBinding};
use schedule::{Counts, Found, Key, Order, Schedule, Sources, Standing, Target};

/// The probes of one node.
#[derive(Debug)]
pub struct Probes {
    schedule: Schedule,
    cookies: Cookies,
    /// Of the tables that the targets are from.
    generation: u64,
    /// Resets that no worker had room for.
    resets_lost: u64,
}

impl Probes {
    /// Probes whose cookies and times come from `random`, which nobody else may know.
    pub fn new(random: [u64; 4]) -> Self {
        let [high, low, seed, _] = random;
        let key = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let schedule = Schedule::new(ProbeSettings::default(), seed);
        Self { schedule, cookies: Cookies::new(key), generation: 0, resets_lost: 0 }
    }

    /// Hears what workers have, and has them send what is due.
    pub(crate) fn step<'a>(
        &mut self,
        workers: &[WorkerHandle],
        assembler: &Assembler,
        tables: &Tables,
        pools: impl Iterator<Item = &'a PoolSnapshot>,
        now_ms: u64,
    ) {
        if tables.generation != self.generation {
            self.generation = tables.generation;
            self.schedule.want(targets(assembler, tables, pools), now_ms);
        }
        let Some(sender) = workers.first() else { return };
        let send = |order: Order| {
            let (Key { index, generation }, packet) = match order {
                Order::Probe(key, ends) => (key, self.cookies.probe(ends)),
                Order::Reset(key, ends) => (key, self.cookies.reset(ends)),
            };
            let command = Command::Probe { backend: index, generation, packet };
            sender.link.commands.push(command).is_ok()
        };
        for worker in workers {
            worker.link.cookies.get_or_init(|| self.cookies.clone());
            // Bounded: at most what was there when we came.
            for _ in 0..worker.link.probe_replies.len() {
                let Some(reply) = worker.link.probe_replies.pop() else { break };
                if self.schedule.heard(&reply).is_some_and(|order| !send(order)) {
                    self.resets_lost += 1;
                }
            }
        }
        self.schedule.poll(now_ms, send);
    }

    /// How a backend of `tables` stands.
    pub fn standing(&self, tables: &Tables, index: u32) -> Option<Standing> {
        let generation = tables.backend(index)?.generation;
        self.schedule.standing(Key { index, generation })
    }

    /// What became of probes.
    pub fn counts(&self) -> Counts {
        self.schedule.counts()
    }

    /// RSTs after answers that were lost because a worker did not take them: the backend ends
    /// those connections itself, when its SYN+ACK has timed out.
    pub fn resets_lost(&self) -> u64 {
        self.resets_lost
    }
}

/// All backends that may have flows.
fn targets<'a>(
    assembler: &Assembler,
    tables: &Tables,
    pools: impl Iterator<Item = &'a PoolSnapshot>,
) -> Vec<Target> {
    let mut targets = Vec::new();
    for pool in pools {
        let vips: Vec<SocketAddr> = pool.vips.iter().filter_map(place_to_ask).collect();
        // All backends of a pool are asked at the same VIPs, but where ports differ in what
        // addresses they have.
        let mut shared: Option<(Sources, Arc<[SocketAddr]>)> = None;
        for backend in &pool.backends {
            let asked = !matches!(backend.state, BackendState::Evicted | BackendState::Gone);
            let index = assembler.backend_index(&pool.pool_id, &backend.id).filter(|_| asked);
            let Some(index) = index else { continue };
            let Some(record) = tables.backend(index) else { continue };
            let Some(port) = tables.ports.get(usize::from(record.port)) else { continue };
            let node = sources(port, backend.address);
            let vips = match &shared {
                Some((of, vips)) if *of == node => Arc::clone(vips),
                _ => {
                    let from = |vip: &&SocketAddr| node.toward(vip.ip()).is_some();
                    let vips: Arc<[SocketAddr]> = vips.iter().filter(from).copied().collect();
                    shared = Some((node, Arc::clone(&vips)));
                    vips
                }
            };
            targets.push(Target {
                key: Key { index, generation: record.generation },
                node,
                vips,
                reachable: record.reachable,
            });
        }
    }
    targets
}

/// The port's addresses that the backend's answers find home to: of its own prefix, where there is
/// one. What is inside has the family of the VIP, whatever is outside.
fn sources(port: &PortTable, backend: IpAddr) -> Sources {
    let (mut near_v4, mut near_v6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
    match backend {
        IpAddr::V4(address) => near_v4 = address,
        // A VIP speaks to no link-local address.
        IpAddr::V6(address) if address.is_unicast_link_local() => {}
        IpAddr::V6(address) => near_v6 = address,
    }
    let v4 = match port.source_for(near_v4.into()) {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    let v6 = match port.source_for(near_v6.into()) {
        Some(IpAddr::V6(address)) => Some(address),
        _ => None,
    };
    Sources { v4, v6 }
}

/// Where to ask, for a VIP of one address and one port that takes TCP.
fn place_to_ask(vip: &VipBinding) -> Option<SocketAddr> {
    let matches = &vip.matches;
    let whole = if matches.address.is_ipv4() { 32 } else { 128 };
    match (matches.prefix_length == whole, &matches.ports, matches.protocol) {
        (true, VipPorts::One(port), VipProtocol::Tcp | VipProtocol::Any) => {
            Some(SocketAddr::new(matches.address, *port))
        }
        _ => None,
    }
}

impl Standing {
    /// The word in JSON.
    pub fn name(&self) -> &'static str {
        match self.verdict {
            Verdict::Up => "up",
            Verdict::Down => "down",
            Verdict::Unknown => "unknown",
        }
    }
}

/// What the probes found, in words.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.found, self.refused) {
            _ if !self.probed => {
                let of = "of one address and one TCP port";
                write!(f, "not probed: the pool has no VIP {of} that the node has an address for")
            }
            (Found::Silence(vip), _) => {
                write!(f, "no answer from {vip} through the tunnel, {} in a row", self.failures)
            }
            (Found::NoNextHop, _) => f.write_str("the next hop is not resolved"),
            (_, Some(vip)) => {
                write!(f, "{vip} refuses connections: tunnel and VIP are there, no service is")
            }
            (Found::Answer(_), None) => f.write_str("answers"),
            (Found::Nothing, None) => f.write_str("not asked yet"),
        }
    }
}
