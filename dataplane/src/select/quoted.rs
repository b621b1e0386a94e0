//! Selection for an ICMP error: the backend that sent the packet it quotes.
//!
//! The flow's entry first, untouched: an error neither makes an entry nor moves its state, and it
//! is no sign of life, or whoever can guess a flow could keep its entry for ever. Without an entry
//! the pool's table answers, with the hash that the flow's own packets have: so an error that
//! comes to a node, or a worker, that never saw the flow finds its backend all the same.

use conntrack::Table;

use super::{Selection, choose, is_own_source};
use crate::parse::Parsed;
use crate::tables::{BackendState, Tables};
use crate::verdict::DropReason;
use crate::wire::IpProtocol;

/// The backend of the flow in `flow.key`, which a packet of the VIP at `vip_index` would have.
pub fn select_quoted(
    flow: &Parsed,
    vip_index: u32,
    flow_hash: u64,
    tables: &Tables,
    conntrack: &Table,
    now_ms: u32,
) -> Selection {
    let Some(vip) = tables.vip(vip_index) else { return Selection::Drop(DropReason::NoVip) };
    if let Some(entry) = conntrack.peek(flow_hash, &flow.key, now_ms, &vip.timeouts) {
        let backend = tables.backend(entry.backend());
        let is_there = backend.is_some_and(|backend| {
            backend.generation == entry.generation()
                && matches!(
                    backend.state,
                    BackendState::Active | BackendState::Draining | BackendState::Unhealthy
                )
        });
        if is_there && !entry.tombstone() {
            return Selection::Backend(entry.backend());
        }
        // The flow is over: no other backend knows of it. UDP has moved, or moves with its next
        // packet.
        if flow.key.protocol() == IpProtocol::TCP.0 {
            return Selection::Drop(DropReason::BackendEvicted);
        }
    }
    if is_own_source(flow, tables) {
        return Selection::Drop(DropReason::IcmpBadQuote);
    }
    match choose(flow, vip, vip_index, tables) {
        Some(pin) => Selection::Backend(pin.backend),
        None => Selection::Drop(DropReason::NoBackend),
    }
}
