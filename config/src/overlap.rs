//! VIPs of which neither outranks the other.
//!
//! For a packet the longest prefix wins, then an exact port over a range over any port, then
//! TCP or UDP over any protocol. So two VIPs tie only within one prefix, one protocol and
//! one class of ports, and only when their ports intersect. Grouping finds exact and any
//! ports in one pass; ranges are sorted by their first port and swept: O(n log n).

use crate::model::{Protocol, VipPort};
use crate::section::vip::VipEntry;
use ipnet::IpNet;
use std::collections::HashMap;

/// Two VIPs, by their positions, that match the same packets with equal rank. `later` stands
/// after `earlier` in the file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tie {
    pub(crate) later: usize,
    pub(crate) earlier: usize,
}

/// First port, last port, position of the VIP.
type PortRange = (u16, u16, usize);

/// Ties among `vips`: each VIP that ties with any other is named in at least one.
pub(crate) fn ties(vips: &[VipEntry]) -> Vec<Tie> {
    let mut ties = Vec::new();
    let mut single: HashMap<(IpNet, Protocol, VipPort), usize> = HashMap::new();
    let mut ranges: HashMap<(IpNet, Protocol), Vec<PortRange>> = HashMap::new();
    for (index, VipEntry { vip, .. }) in vips.iter().enumerate() {
        match vip.port {
            VipPort::Range { first, last } => {
                ranges.entry((vip.address, vip.protocol)).or_default().push((first, last, index));
            }
            port => {
                let earlier = *single.entry((vip.address, vip.protocol, port)).or_insert(index);
                if earlier != index {
                    ties.push(Tie { later: index, earlier });
                }
            }
        }
    }
    for group in ranges.values_mut() {
        sweep(group, &mut ties);
    }
    ties.sort();
    ties
}

/// Compares each range with the one before it that reaches furthest.
fn sweep(group: &mut [PortRange], ties: &mut Vec<Tie>) {
    group.sort_unstable();
    let mut furthest: Option<(u16, usize)> = None;
    for &(first, last, index) in group.iter() {
        if let Some((end, other)) = furthest
            && first <= end
        {
            ties.push(Tie { later: index.max(other), earlier: index.min(other) });
        }
        if furthest.is_none_or(|(end, _)| last > end) {
            furthest = Some((last, index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Affinity, Timeouts, Vip};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn entry((prefix, protocol, port): (u8, u8, VipPort)) -> VipEntry {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts {
            syn_received: second,
            established: second,
            fin_wait: second,
            time_wait: second,
            udp_idle: second,
        };
        let address = IpNet::new([203, 0, 113, 0].into(), 24 + prefix).unwrap();
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Any][usize::from(protocol)];
        let vip = Vip {
            address,
            port,
            protocol,
            pool: String::new(),
            timeouts,
            mss_clamp: None,
            affinity: Affinity::Flow,
        };
        VipEntry { vip, address_line: 0, port_line: 0, pool_line: 0, affinity_line: 0 }
    }

    fn port() -> impl Strategy<Value = VipPort> {
        prop_oneof![
            (1..12u16).prop_map(VipPort::Exact),
            (1..40u16, 1..6u16)
                .prop_map(|(first, more)| VipPort::Range { first, last: first + more }),
            Just(VipPort::Any),
        ]
    }

    /// The rule, pair by pair.
    fn tie(a: &Vip, b: &Vip) -> bool {
        let ports_tie = match (a.port, b.port) {
            (VipPort::Range { first, last }, VipPort::Range { first: f, last: l }) => {
                first <= l && f <= last
            }
            (a, b) => a == b,
        };
        a.address == b.address && a.protocol == b.protocol && ports_tie
    }

    proptest! {
        #[test]
        fn sweep_agrees_with_the_rule_applied_to_every_pair(
            vips in prop::collection::vec((0..2u8, 0..3u8, port()), 0..24)
        ) {
            let vips: Vec<_> = vips.into_iter().map(entry).collect();
            let found = ties(&vips);
            let mut named = BTreeSet::new();
            for Tie { later, earlier } in found {
                prop_assert!(earlier < later && tie(&vips[earlier].vip, &vips[later].vip));
                named.extend([earlier, later]);
            }
            let mut expected = BTreeSet::new();
            for later in 0..vips.len() {
                for earlier in 0..later {
                    if tie(&vips[earlier].vip, &vips[later].vip) {
                        expected.extend([earlier, later]);
                    }
                }
            }
            prop_assert_eq!(named, expected);
        }
    }
}
