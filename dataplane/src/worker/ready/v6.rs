//! The same for common packets over IPv6.
//!
//! What they are compared with an entry by is never put together: addresses and ports are read where
//! they lie in the packet. The VIP is asked for by what the entry says was dialled, which is then
//! known to be what the packet is for.

use conntrack::{Packet, Pin};

use super::super::notes::Flight;
use super::Desk;
use super::v4::put_each;
use crate::buffer::Buffer;
use crate::forward::{self, OuterHeaders};
use crate::parse::{parsed_v6, sent_v6};
use crate::select::Selector;
use crate::tables::{Backend, Form, PLAIN_V6};

impl Desk<'_> {
    /// As [`Desk::find_v4`], of the packets at the front that are common over IPv6.
    #[inline(never)]
    pub(super) fn find_v6<B: Buffer>(&mut self, packets: &[B], flights: &mut [Flight]) -> usize {
        let Selector { tables, conntrack, now_ms, .. } = &mut self.selector;
        let (now_ms, shortest_idle) = (*now_ms, self.shortest_idle);
        let mut entries = conntrack.entries();
        let (backends, services) = (&*tables.backends, tables.lookup.services());
        let goes_on = |(packet, flight): (&B, &mut Flight)| {
            if !flight.is_v6() {
                return None;
            }
            let &mut Flight { ip_length, segment, probe, .. } = flight;
            let taken = Packet { segment, length: ip_length };
            let sent = sent_v6(packet)?;
            let steady = entries.steady_v6(probe, sent, taken, now_ms, shortest_idle)?;
            let Pin { backend: index, generation, vip } = steady.pin();
            let backend = backends.get(index as usize)?;
            let fits = backend.is_ready_for(generation)
                && ip_length <= backend.inner_mtu
                && services.get(vip as usize) == Some(steady.service());
            fits.then(|| {
                steady.count(taken, now_ms);
                (flight.backend, flight.vip) = (index, vip);
            })
        };
        let count = flights.len();
        let mut each = packets.iter().zip(flights).map(goes_on);
        each.position(|found| found.is_none()).unwrap_or(count)
    }
}

/// Puts headers in front of the packets of `run`, as long as they have this `form`. Returns how many
/// they are, and how many bytes they have then.
#[inline(always)]
pub(super) fn put_headers<B: Buffer>(
    packets: &mut [B],
    run: &[Flight],
    backends: &[Backend],
    form: Form,
    outer: &mut OuterHeaders,
) -> (usize, u64) {
    match (form.is_plain_v6(), form.is_varied()) {
        (true, false) => put_plain::<false, B>(packets, run, backends, form),
        (true, true) => put_plain::<true, B>(packets, run, backends, form),
        (false, _) => put_each(packets, run, backends, form, |packet, flight, backend| {
            put_header(packet, flight, backend, outer)
        }),
    }
}

/// As its namesake of IPv4.
#[inline(never)]
fn put_plain<const VARIED: bool, B: Buffer>(
    packets: &mut [B],
    run: &[Flight],
    backends: &[Backend],
    form: Form,
) -> (usize, u64) {
    let (mut bytes, mut count) = (0, 0);
    for (packet, flight) in packets.iter_mut().zip(run) {
        let &Flight { backend: index, ip_length, flow_hash, .. } = flight;
        let Some(backend) = backends.get(index as usize) else { break };
        if backend.form() != form
            || !forward::put_plain_v6::<VARIED, B>(packet, ip_length, backend, flow_hash)
        {
            break;
        }
        bytes += u64::from(ip_length);
        count += 1;
    }
    (count, bytes + (count * PLAIN_V6) as u64)
}

/// As its namesake of IPv4.
#[inline(always)]
pub(super) fn put_header<B: Buffer>(
    packet: &mut B,
    flight: &Flight,
    backend: &Backend,
    outer: &mut OuterHeaders,
) -> bool {
    // Never put together: what is asked of it is known here.
    let Some(parsed) = parsed_v6(packet, flight.segment, flight.ip_length) else { return false };
    forward::untagged(packet, &parsed, backend, flight.flow_hash, outer)
        .is_some_and(|result| result.is_ok())
}
