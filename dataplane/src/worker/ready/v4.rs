//! Common packets over IPv4: whom they go to, and their headers.

use conntrack::{Packet, Pin};

use super::super::notes::Flight;
use super::Desk;
use crate::buffer::Buffer;
use crate::forward::{self, OuterHeaders};
use crate::select::Selector;
use crate::tables::{Backend, Form, PLAIN};

impl Desk<'_> {
    /// Finds whom the packets at the front go to, as long as their flows go on and their backends are
    /// ready for them, and counts these. Returns how many.
    #[inline(never)]
    pub(super) fn find_v4(&mut self, flights: &mut [Flight]) -> usize {
        let Selector { tables, conntrack, now_ms, .. } = &mut self.selector;
        let (now_ms, shortest_idle) = (*now_ms, self.shortest_idle);
        let mut entries = conntrack.entries();
        let (backends, services) = (&*tables.backends, tables.lookup.service_words());
        let goes_on = |flight: &mut Flight| {
            let &mut Flight { flow, ip_length, segment, probe, .. } = flight;
            let taken = Packet { segment, length: ip_length };
            let steady = entries.steady_v4(probe, flow, taken, now_ms, shortest_idle)?;
            let Pin { backend: index, generation, vip } = steady.pin();
            let backend = backends.get(index as usize)?;
            let fits = backend.is_ready_for(generation)
                && ip_length <= backend.inner_mtu
                && services.get(vip as usize) == Some(&flow.service);
            fits.then(|| {
                steady.count(taken, now_ms);
                (flight.backend, flight.vip) = (index, vip);
            })
        };
        let count = flights.len();
        flights.iter_mut().map(goes_on).position(|found| found.is_none()).unwrap_or(count)
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
    match (form.is_plain(), form.is_varied()) {
        (true, false) => put_plain::<false, B>(packets, run, backends, form, outer),
        (true, true) => put_plain::<true, B>(packets, run, backends, form, outer),
        (false, _) => put_each(packets, run, backends, form, |packet, flight, backend| {
            put_header(packet, flight, backend, outer)
        }),
    }
}

/// Puts plain headers in front of the packets of `run`, up to the first whose backend has another form
/// than this one. Returns how many, and their bytes. `VARIED`: as the form is.
#[inline(never)]
fn put_plain<const VARIED: bool, B: Buffer>(
    packets: &mut [B],
    run: &[Flight],
    backends: &[Backend],
    form: Form,
    outer: &mut OuterHeaders,
) -> (usize, u64) {
    let first = outer.reserve(run.len());
    let (mut identification, mut bytes, mut count) = (first, 0, 0);
    for (packet, flight) in packets.iter_mut().zip(run) {
        let &Flight { backend, ip_length, ref flow_hash, .. } = flight;
        let Some(backend) = backends.get(backend as usize) else { break };
        if backend.form() != form
            || !forward::put_plain::<VARIED, B>(
                packet,
                ip_length,
                backend,
                flow_hash,
                identification,
            )
        {
            break;
        }
        identification = identification.wrapping_add(1);
        bytes += u64::from(ip_length);
        count += 1;
    }
    outer.used(identification);
    (count, bytes + (count * PLAIN) as u64)
}

/// Puts headers in front of the packets of `run` with `put`, as long as they have this `form` and it
/// can be done. Returns how many they are, and how many bytes they have then.
#[inline(never)]
pub(super) fn put_each<B: Buffer>(
    packets: &mut [B],
    run: &[Flight],
    backends: &[Backend],
    form: Form,
    mut put: impl FnMut(&mut B, &Flight, &Backend) -> bool,
) -> (usize, u64) {
    let (mut bytes, mut count) = (0, 0);
    for (packet, flight) in packets.iter_mut().zip(run) {
        let Some(backend) = backends.get(flight.backend as usize) else { break };
        if backend.form() != form || !put(packet, flight, backend) {
            break;
        }
        bytes += packet.data().len() as u64;
        count += 1;
    }
    (count, bytes)
}

/// Puts the header that a backend's packets get in front of a common packet that was found; `false`
/// when that cannot be done here.
#[inline(always)]
pub(super) fn put_header<B: Buffer>(
    packet: &mut B,
    flight: &Flight,
    backend: &Backend,
    outer: &mut OuterHeaders,
) -> bool {
    // Never put together: what is asked of it is known here.
    let Some(parsed) = flight.common_v4().map(|common| common.parsed()) else { return false };
    forward::untagged(packet, &parsed, backend, flight.flow_hash, outer)
        .is_some_and(|result| result.is_ok())
}
