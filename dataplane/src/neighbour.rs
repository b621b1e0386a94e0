//! The link addresses of next hops (RFC 826, RFC 4861), kept by the control thread.
//!
//! The node knows beforehand whom it will talk to: its gateways and its on-link backends. Each
//! is resolved at once, refreshed before it expires, and given up on visibly. Workers report the
//! packets of ARP and neighbour discovery that they see, the control thread decides and has requests sent, and what is known
//! goes to the workers inside the next [`crate::tables::Tables`]. Pure: time comes in, probes
//! come out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::wire::ethernet::MacAddress;

/// A next hop: a port and an address on its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// Index of the port.
    pub port: u8,
    /// The address to resolve.
    pub address: IpAddr,
}

/// What is known of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Set in the configuration; never probed.
    Static,
    /// Never answered so far.
    Incomplete,
    /// Answered within [`REACHABLE_MS`].
    Reachable,
    /// Did not answer the last probes; its address is not used any more.
    Failed,
}

impl NeighbourState {
    /// The word in metrics and `/readyz`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Failed => "failed",
        }
    }
}

/// A request to be sent: of ARP, or a neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who is asked for.
    pub hop: NextHop,
    /// The address to ask directly (a refresh); `None`: everyone on the link.
    pub directly: Option<MacAddress>,
}

/// What a packet said of a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Where it is; `None`: an answer that it is still where it was.
    pub mac: Option<MacAddress>,
    /// It answered: reachable both ways. Otherwise it only spoke.
    pub answered: bool,
    /// It may replace an address that is known.
    pub overriding: bool,
}

impl Heard {
    /// What any ARP packet says: RFC 826 knows no difference.
    pub const fn arp(mac: MacAddress) -> Self {
        Self { mac: Some(mac), answered: true, overriding: true }
    }
}

/// How long an answer is good for, in milliseconds (RFC 4861 section 10: 30 s).
pub const REACHABLE_MS: u64 = 30_000;
/// From here on an answer is refreshed, so that it never expires under traffic.
pub const REFRESH_MS: u64 = 20_000;
/// Between two requests.
pub const RETRY_MS: u64 = 1_000;
/// Between two requests to a neighbour that has failed, the longest.
pub const RETRY_FAILED_MS: u64 = 5_000;

#[derive(Clone, Debug)]
struct Neighbour {
    state: NeighbourState,
    mac: Option<MacAddress>,
    confirmed_ms: u64,
    next_probe_ms: u64,
    unanswered: u32,
}

/// All next hops of the node, bounded by its gateways and backends.
#[derive(Debug, Default)]
pub struct Neighbours {
    known: BTreeMap<NextHop, Neighbour>,
}

impl Neighbours {
    /// None wanted.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on exactly `wanted` are resolved; what is known of those that stay is kept. A
    /// next hop with an address given is static.
    pub fn want(&mut self, wanted: &BTreeMap<NextHop, Option<MacAddress>>) {
        self.known.retain(|hop, _| wanted.contains_key(hop));
        for (hop, fixed) in wanted {
            let entry = self.known.entry(*hop).or_insert(Neighbour {
                state: NeighbourState::Incomplete,
                mac: None,
                confirmed_ms: 0,
                next_probe_ms: 0,
                unanswered: 0,
            });
            match (fixed, entry.state) {
                (Some(mac), _) => {
                    entry.state = NeighbourState::Static;
                    entry.mac = Some(*mac);
                }
                // No longer static: what was configured is to be confirmed, but still in use.
                (None, NeighbourState::Static) => {
                    entry.state = NeighbourState::Reachable;
                    entry.next_probe_ms = 0;
                }
                (None, _) => {}
            }
        }
    }

    /// The address to use for a next hop, if one is known.
    pub fn mac(&self, hop: NextHop) -> Option<MacAddress> {
        self.known.get(&hop).and_then(|neighbour| neighbour.mac)
    }

    /// All next hops with their state and address, in order.
    pub fn iter(&self) -> impl Iterator<Item = (NextHop, NeighbourState, Option<MacAddress>)> + '_ {
        self.known.iter().map(|(hop, neighbour)| (*hop, neighbour.state, neighbour.mac))
    }

    /// A packet said something of `hop`. Returns whether a table must be built anew.
    ///
    /// RFC 4861 section 7.2.5: what only claims an address is used, and asked about at once; what
    /// may not override an address, and has another, is a reason to ask.
    pub fn observe(&mut self, hop: NextHop, heard: Heard, now_ms: u64) -> bool {
        let Some(neighbour) = self.known.get_mut(&hop) else { return false };
        if neighbour.state == NeighbourState::Static {
            return false;
        }
        let Some(mac) = heard.mac.or(neighbour.mac) else { return false };
        let changed = neighbour.mac != Some(mac);
        if changed && neighbour.mac.is_some() && !heard.overriding {
            neighbour.next_probe_ms = neighbour.next_probe_ms.min(now_ms + RETRY_MS);
            return false;
        }
        neighbour.mac = Some(mac);
        if heard.answered {
            neighbour.state = NeighbourState::Reachable;
            neighbour.confirmed_ms = now_ms;
            neighbour.next_probe_ms = now_ms + REFRESH_MS;
            neighbour.unanswered = 0;
        } else if changed {
            // As old as an answer that is to be refreshed now.
            neighbour.state = NeighbourState::Reachable;
            neighbour.confirmed_ms = now_ms.saturating_sub(REFRESH_MS);
            neighbour.next_probe_ms = now_ms;
            neighbour.unanswered = 0;
        }
        changed
    }

    /// Sends what is due and expires what is over. Returns whether a table must be built anew.
    pub fn poll(&mut self, now_ms: u64, mut send: impl FnMut(Probe)) -> bool {
        let mut changed = false;
        for (hop, neighbour) in &mut self.known {
            if neighbour.state == NeighbourState::Static || now_ms < neighbour.next_probe_ms {
                continue;
            }
            let expired = now_ms.saturating_sub(neighbour.confirmed_ms) >= REACHABLE_MS;
            if neighbour.state == NeighbourState::Reachable && expired && neighbour.unanswered > 0 {
                neighbour.state = NeighbourState::Failed;
                neighbour.mac = None;
                changed = true;
            }
            // A refresh asks the neighbour itself; when it has not answered, everyone.
            let directly = neighbour.mac.filter(|_| neighbour.unanswered < 3);
            send(Probe { hop: *hop, directly });
            neighbour.unanswered = neighbour.unanswered.saturating_add(1);
            let wait = match neighbour.state {
                NeighbourState::Failed => RETRY_FAILED_MS,
                _ => RETRY_MS,
            };
            neighbour.next_probe_ms = now_ms + wait;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOP: NextHop = NextHop { port: 0, address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)) };
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    fn wanting(fixed: Option<MacAddress>) -> Neighbours {
        let mut neighbours = Neighbours::new();
        neighbours.want(&BTreeMap::from([(HOP, fixed)]));
        neighbours
    }

    fn poll(neighbours: &mut Neighbours, now_ms: u64) -> (Vec<Probe>, bool) {
        let mut probes = Vec::new();
        let changed = neighbours.poll(now_ms, |probe| probes.push(probe));
        (probes, changed)
    }

    #[test]
    fn an_unknown_next_hop_is_asked_for_at_once_and_every_second() {
        let mut neighbours = wanting(None);
        assert_eq!(poll(&mut neighbours, 0).0, [Probe { hop: HOP, directly: None }]);
        assert!(poll(&mut neighbours, 999).0.is_empty());
        assert_eq!(poll(&mut neighbours, 1000).0.len(), 1);
    }

    #[test]
    fn an_answer_is_refreshed_directly_before_it_expires() {
        let mut neighbours = wanting(None);
        assert!(neighbours.observe(HOP, Heard::arp(MAC), 0));
        assert!(!neighbours.observe(HOP, Heard::arp(MAC), 5));
        assert!(poll(&mut neighbours, REFRESH_MS).0.is_empty());
        let probes = poll(&mut neighbours, REFRESH_MS + 5).0;
        assert_eq!(probes, [Probe { hop: HOP, directly: Some(MAC) }]);
        assert_eq!(neighbours.mac(HOP), Some(MAC));
    }

    #[test]
    fn a_silent_neighbour_fails_once_its_answer_expired_and_is_asked_for_on() {
        let mut neighbours = wanting(None);
        neighbours.observe(HOP, Heard::arp(MAC), 0);
        let mut failed_at = None;
        for now in (0..60_000).step_by(100) {
            if poll(&mut neighbours, now).1 {
                failed_at = Some(now);
                break;
            }
        }
        assert_eq!(failed_at, Some(REACHABLE_MS));
        assert_eq!(neighbours.mac(HOP), None);
        assert_eq!(poll(&mut neighbours, REACHABLE_MS + RETRY_FAILED_MS).0.len(), 1);
        assert!(neighbours.observe(HOP, Heard::arp(MAC), 40_000));
    }

    #[test]
    fn a_static_neighbour_is_never_asked_nor_overruled() {
        let mut neighbours = wanting(Some(MAC));
        assert!(poll(&mut neighbours, 100_000).0.is_empty());
        assert!(!neighbours.observe(HOP, Heard::arp(OTHER), 1));
        assert_eq!(neighbours.mac(HOP), Some(MAC));
    }

    #[test]
    fn a_claim_is_used_and_asked_about_at_once() {
        let mut neighbours = wanting(None);
        let claim = |mac| Heard { mac: Some(mac), answered: false, overriding: true };
        assert!(neighbours.observe(HOP, claim(MAC), 100_000));
        assert_eq!(neighbours.mac(HOP), Some(MAC));
        let probe = Probe { hop: HOP, directly: Some(MAC) };
        assert_eq!(poll(&mut neighbours, 100_000), (vec![probe], false));
        // Nobody confirms it: it is given up sooner than an answer would be.
        let failed = (100_000..200_000).step_by(100).find(|now| poll(&mut neighbours, *now).1);
        assert!(failed.is_some_and(|at| at <= 100_000 + REACHABLE_MS - REFRESH_MS + RETRY_MS));
    }

    #[test]
    fn what_may_not_override_makes_the_node_ask() {
        let mut neighbours = wanting(None);
        neighbours.observe(HOP, Heard::arp(MAC), 0);
        let hint = Heard { mac: Some(OTHER), answered: true, overriding: false };
        assert!(!neighbours.observe(HOP, hint, 5_000));
        assert_eq!(neighbours.mac(HOP), Some(MAC));
        assert_eq!(poll(&mut neighbours, 5_000 + RETRY_MS).0.len(), 1);
        // Of one that nothing is known of, it is an answer.
        let mut neighbours = wanting(None);
        assert!(neighbours.observe(HOP, hint, 0));
        assert_eq!(neighbours.mac(HOP), Some(OTHER));
    }

    #[test]
    fn an_answer_without_an_address_confirms_the_one_there_is() {
        let mut neighbours = wanting(None);
        let confirmation = Heard { mac: None, answered: true, overriding: true };
        assert!(!neighbours.observe(HOP, confirmation, 0));
        assert_eq!(neighbours.mac(HOP), None);
        neighbours.observe(HOP, Heard::arp(MAC), 0);
        assert!(!neighbours.observe(HOP, confirmation, 25_000));
        for now in (25_000..25_000 + REFRESH_MS).step_by(100) {
            assert_eq!(poll(&mut neighbours, now), (vec![], false));
        }
    }

    #[test]
    fn strangers_teach_nothing() {
        let mut neighbours = Neighbours::new();
        assert!(!neighbours.observe(HOP, Heard::arp(MAC), 0));
        assert_eq!(neighbours.mac(HOP), None);
    }
}
