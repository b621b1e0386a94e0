//! Selection where the packet itself names its backend: VIPs with [`Affinity::Quic`].
//!
//! The connection id wins over conntrack and over the table, whatever the 5-tuple: a client that
//! changed its address keeps its backend, and an entry of the new 5-tuple that says otherwise (of
//! another connection, or of this one's first packet) is pinned anew. The entry is kept all the
//! same: an ICMP error, a stateless reset and a packet whose id cannot be read find their way by
//! it. A backend that is evicted, gone or unhealthy is not named by anything: such a packet goes
//! the way of any other datagram.
//!
//! The cost is for nodes that have such a VIP: a burst on any other takes [`super::Selector`]
//! alone.

use conntrack::{Lookup, Packet, Pin, Probe};

use super::{Selection, Selector, Tally, is_own_source, rebind};
use crate::parse::Parsed;
use crate::quic::Route;
use crate::tables::{Affinity, BackendState, Tables, Vip};
use crate::verdict::DropReason;
use crate::wire::{IpProtocol, UdpHeader};

impl Selector<'_> {
    /// As [`Selector::select`], for a packet whose `frame` may name its backend.
    pub fn select_steered(
        &mut self,
        parsed: &Parsed,
        frame: &[u8],
        vip_index: u32,
        flow_hash: u64,
        probe: Probe,
        tally: &mut Tally,
    ) -> Selection {
        let tables = self.tables;
        let steered = tables.vip(vip_index).and_then(|vip| {
            let backend = named_backend(tables, vip, parsed, frame)?;
            Some((vip, backend))
        });
        let Some((vip, (backend, generation))) = steered else {
            return self.select(parsed, vip_index, flow_hash, probe, || None, tally);
        };
        let pin = Pin { backend, generation, vip: vip_index };
        let packet = Packet { segment: parsed.segment, length: parsed.ip_length };
        let key = &parsed.key;
        let lookup =
            self.conntrack.lookup(probe, flow_hash, key, packet, self.now_ms, &vip.timeouts);
        match lookup {
            Lookup::Found(mut hit) | Lookup::Complaint(mut hit) | Lookup::Closed(mut hit) => {
                tally.hits += 1;
                if hit.vip() != vip_index {
                    rebind(&mut hit, vip_index, self.counters);
                }
                let old = hit.pin();
                if (old.backend, old.generation) != (backend, generation) {
                    hit.repin(backend, generation);
                    let counters = self.counters;
                    if let (Some(from), Some(to)) =
                        (counters.backend(old.backend), counters.backend(backend))
                    {
                        from.close_flow();
                        to.open_flow();
                    }
                }
            }
            Lookup::Missing => {
                tally.misses += 1;
                if is_own_source(parsed, tables) {
                    return Selection::Drop(DropReason::MartianSource);
                }
                self.remember(parsed, packet, pin, flow_hash, tally);
            }
        }
        Selection::Backend(backend)
    }
}

/// What a packet of `vip` says of its backend: `None` where the VIP does not ask.
pub fn route(tables: &Tables, vip: &Vip, parsed: &Parsed, frame: &[u8]) -> Option<Route> {
    if vip.affinity != Affinity::Quic || parsed.key.protocol() != IpProtocol::UDP.0 {
        return None;
    }
    let router = tables.pool(vip.pool)?.quic.as_ref()?;
    Some(datagram(parsed, frame).map_or(Route::Unroutable, |payload| router.route(payload)))
}

/// The backend that a packet names, with its generation, if it may have flows that it has already.
fn named_backend(tables: &Tables, vip: &Vip, parsed: &Parsed, frame: &[u8]) -> Option<(u32, u16)> {
    let Route::Backend { backend, .. } = route(tables, vip, parsed, frame)? else { return None };
    let record = tables.backend(backend)?;
    matches!(record.state, BackendState::Active | BackendState::Draining)
        .then_some((backend, record.generation))
}

/// The payload of a UDP packet, as long as its own length says.
fn datagram<'f>(parsed: &Parsed, frame: &'f [u8]) -> Option<&'f [u8]> {
    let link_length = usize::from(parsed.link_length);
    let packet = frame.get(link_length..link_length + usize::from(parsed.ip_length))?;
    let (header, payload) = UdpHeader::parse(packet.get(usize::from(parsed.header_length)..)?)?;
    payload.get(..usize::from(header.length.get()).checked_sub(UdpHeader::LENGTH)?)
}
