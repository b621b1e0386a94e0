//! Metrics of the node as a whole: what runs, what was published, neighbours and ports.

use dataplane::neighbour::NeighbourState;
use dataplane::port::dpdk::DeviceStatistics;

use super::catalogue::*;
use super::exposition::{Exposition, Metric};
use crate::admin::{AdminState, health, pools};
use crate::node::Node;

const NEIGHBOUR_STATES: [NeighbourState; 4] = [
    NeighbourState::Static,
    NeighbourState::Incomplete,
    NeighbourState::Reachable,
    NeighbourState::Failed,
];

pub(super) fn about(text: &mut Exposition, state: &AdminState, node: &Node) {
    let settings = &node.config().node;
    let build = [env!("CARGO_PKG_VERSION"), &settings.name, &settings.zone];
    text.family(&BUILD_INFO).sample(&build, 1u64);
    let uptime = state.now().saturating_sub(state.started) as f64 / 1e9;
    text.family(&UPTIME).sample(&[], uptime);
    text.family(&READY).sample(&[], health::not_ready(state, node).is_empty());
    text.family(&TABLES_GENERATION).sample(&[], node.generation());
    text.family(&TABLES_OUTSTANDING).sample(&[], node.outstanding_tables());
    let reloads = node.reloads();
    text.family(&RELOADS)
        .sample(&["applied"], reloads.applied)
        .sample(&["refused"], reloads.refused);
    text.family(&CONFIG_STALE).sample(&[], reloads.last_error.is_some());
    text.family(&CONTROL_FRAMES_LOST).sample(&[], node.frames_lost());
}

pub(super) fn neighbours(text: &mut Exposition, node: &Node) {
    let mut family = text.family(&NEIGHBOUR_STATE);
    for (hop, state, _) in node.neighbours().iter() {
        let (port, address) = (pools::port_name(node, hop.port), hop.address.to_string());
        for each in NEIGHBOUR_STATES {
            family.sample(&[&port, &address, each.name()], each == state);
        }
    }
}

type Column = (&'static Metric, fn(&DeviceStatistics) -> u64);

pub(super) fn ports(text: &mut Exposition, state: &AdminState, node: &Node) {
    // The devices are asked once, so that a port's numbers belong together.
    let ports: Vec<(&str, bool, DeviceStatistics)> = node
        .config()
        .ports
        .iter()
        .zip(&state.ports)
        .map(|(port, source)| (port.name.as_str(), source.link_up(), source.statistics()))
        .collect();
    let mut family = text.family(&PORT_LINK_UP);
    for (name, up, _) in &ports {
        family.sample(&[name], *up);
    }
    let columns: [Column; 6] = [
        (&PORT_RECEIVED, |statistics| statistics.received),
        (&PORT_TRANSMITTED, |statistics| statistics.transmitted),
        (&PORT_MISSED, |statistics| statistics.missed),
        (&PORT_RECEIVE_ERRORS, |statistics| statistics.receive_errors),
        (&PORT_TRANSMIT_ERRORS, |statistics| statistics.transmit_errors),
        (&PORT_NO_BUFFER, |statistics| statistics.no_buffer),
    ];
    for (metric, value) in columns {
        let mut family = text.family(metric);
        for (name, _, statistics) in &ports {
            family.sample(&[name], value(statistics));
        }
    }
}
