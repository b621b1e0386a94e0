//! What all workers together counted of a VIP or a backend.

use dataplane::counters::{TrafficCounters, WorkerCounters};
use serde::Serialize;

use crate::node::Node;

/// Counters of all workers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) new_flows: u64,
    pub(crate) active_flows: u64,
}

/// What clients of a backend did, as all workers together saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Signals {
    pub(crate) client_resets: u64,
    pub(crate) syn_retransmits: u64,
}

/// The traffic of a VIP by its index.
pub(crate) fn vip_traffic(node: &Node, index: Option<u32>) -> Traffic {
    total(node, index, |counters, index| counters.vip(index))
}

/// The traffic of a backend by its index.
pub(crate) fn backend_traffic(node: &Node, index: Option<u32>) -> Traffic {
    total(node, index, |counters, index| counters.backend(index))
}

/// The passive signals of a backend by its index.
pub(crate) fn backend_signals(node: &Node, index: Option<u32>) -> Signals {
    let mut total = Signals::default();
    let Some(index) = index else { return total };
    for signals in node.workers().iter().filter_map(|worker| worker.counters.signals(index)) {
        total.client_resets = total.client_resets.wrapping_add(signals.client_resets.get());
        total.syn_retransmits = total.syn_retransmits.wrapping_add(signals.syn_retransmits.get());
    }
    total
}

fn total(
    node: &Node,
    index: Option<u32>,
    of: fn(&WorkerCounters, u32) -> Option<&TrafficCounters>,
) -> Traffic {
    let mut total = Traffic::default();
    let Some(index) = index else { return total };
    for counters in node.workers().iter().filter_map(|worker| of(&worker.counters, index)) {
        total.packets = total.packets.wrapping_add(counters.packets.get());
        total.bytes = total.bytes.wrapping_add(counters.bytes.get());
        total.new_flows = total.new_flows.wrapping_add(counters.new_flows.get());
        total.active_flows += u64::from(counters.active_flows());
    }
    total
}
