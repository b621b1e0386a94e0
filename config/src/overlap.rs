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
