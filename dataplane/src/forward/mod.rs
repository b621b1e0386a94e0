//! Fourth stage: the packet on its way to its backend. One file per mode.

pub mod fragment;
mod gre;
mod gue;
mod ipip;
mod l2dsr;
pub mod mss;
mod outer;
mod plain_v6;
mod untagged;

use std::hint::select_unpredictable;
use std::net::IpAddr;

pub(crate) use ipip::{is_plain, plain, put_plain};
pub(crate) use plain_v6::put_plain_v6;
pub(crate) use untagged::rewrite as untagged;

use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::tables::{Backend, Encapsulation, MAX_HEADER};
use crate::verdict::DropReason;

/// What a worker has to vary outer headers with.
#[derive(Clone, Copy, Debug)]
pub struct OuterHeaders {
    next_identification: u16,
    first_identification: u16,
    last_identification: u16,
    next_fragment: u32,
}

impl OuterHeaders {
    /// Identifications for worker `worker` of `workers`: each worker counts in a range of its
    /// own, so that two never use one at the same time.
    pub fn new(worker: u16, workers: u16) -> Self {
        let share = u16::MAX / workers.max(1);
        let first_identification = share.saturating_mul(worker.min(workers.saturating_sub(1)));
        let last_identification = first_identification.saturating_add(share.saturating_sub(1));
        Self {
            next_identification: first_identification,
            first_identification,
            last_identification,
            next_fragment: u32::from(first_identification) << 16,
        }
    }

    /// The identification of a fragmented IPv6 packet: each worker counts from a place of its own,
    /// 2^16 times that of its IPv4 range.
    pub fn fragment_identification(&mut self) -> u32 {
        let identification = self.next_fragment;
        self.next_fragment = identification.wrapping_add(1);
        identification
    }

    /// The first of `count` identifications, no more than a burst has packets, that follow one another
    /// and are nobody else's. How many were used is said by [`OuterHeaders::used`].
    #[inline(always)]
    pub(crate) fn reserve(&mut self, count: usize) -> u16 {
        let end = usize::from(self.next_identification) + count;
        if end > usize::from(self.last_identification) {
            self.next_identification = self.first_identification;
        }
        self.next_identification
    }

    /// Of those that were reserved last, `next` is the first that was not used.
    #[inline(always)]
    pub(crate) fn used(&mut self, next: u16) {
        self.next_identification = next;
    }

    #[inline(always)]
    fn identification(&mut self) -> u16 {
        let identification = self.next_identification;
        // A jump, seldom taken, would cost the loop around this more than the choice does.
        self.next_identification = select_unpredictable(
            identification >= self.last_identification,
            self.first_identification,
            identification.wrapping_add(1),
        );
        identification
    }
}

/// Rewrites `packet` for `backend`. `flow_hash` gives the outer header its entropy.
///
/// # Errors
/// The reason to drop the packet for. Its bytes are then unspecified, but after
/// [`DropReason::TooBig`] and [`DropReason::TtlExpired`]: it lost its padding at most.
#[inline(always)]
pub fn rewrite<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
) -> Result<(), DropReason> {
    rewrite_naming(packet, parsed, backend, flow_hash, outer, || None)
}

/// As [`rewrite`]; `second` says who else may know the flow, and is asked only where the header can
/// name somebody.
///
/// # Errors
/// As [`rewrite`].
#[inline(always)]
pub fn rewrite_naming<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
    second: impl FnOnce() -> Option<IpAddr>,
) -> Result<(), DropReason> {
    if parsed.ip_length > backend.inner_mtu {
        return Err(DropReason::TooBig);
    }
    rewrite_any_length(packet, parsed, backend, flow_hash, outer, second)
}

/// As [`rewrite_naming`], of a packet that will not fit its link and is to be fragmented.
///
/// # Errors
/// As [`rewrite`]; [`DropReason::TooBig`] for what no IP header can say the length of.
#[cold]
pub fn rewrite_oversize<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
    second: impl FnOnce() -> Option<IpAddr>,
) -> Result<(), DropReason> {
    // The header at its longest, with the address of a second backend in it.
    if parsed.ip_length.checked_add((MAX_HEADER + 16) as u16).is_none() {
        return Err(DropReason::TooBig);
    }
    rewrite_any_length(packet, parsed, backend, flow_hash, outer, second)
}

#[inline(always)]
fn rewrite_any_length<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
    second: impl FnOnce() -> Option<IpAddr>,
) -> Result<(), DropReason> {
    if ipip::is_plain(parsed, backend) {
        return ipip::plain(packet, parsed.ip_length, backend, &flow_hash, outer);
    }
    rewrite_other(packet, parsed, backend, flow_hash, outer, second)
}

/// Everything but [`ipip::plain`], by the general way.
#[inline(never)]
fn rewrite_other<B: Buffer>(
    packet: &mut B,
    parsed: &Parsed,
    backend: &Backend,
    flow_hash: u64,
    outer: &mut OuterHeaders,
    second: impl FnOnce() -> Option<IpAddr>,
) -> Result<(), DropReason> {
    // Ethernet pads short packets; the padding is not the client's.
    packet.truncate(usize::from(parsed.link_length) + usize::from(parsed.ip_length));
    match backend.encapsulation {
        Encapsulation::Ipip4 => ipip::over_v4(packet, parsed, backend, flow_hash, outer),
        Encapsulation::Ipip6 => ipip::over_v6(packet, parsed, backend, flow_hash),
        Encapsulation::Gre4 => gre::over_v4(packet, parsed, backend, flow_hash, outer),
        Encapsulation::Gre6 => gre::over_v6(packet, parsed, backend, flow_hash),
        Encapsulation::Gue4 => gue::over_v4(packet, parsed, backend, flow_hash, outer),
        Encapsulation::Gue6 => gue::over_v6(packet, parsed, backend, flow_hash),
        Encapsulation::GueWithHeader4 => {
            let hop = gue::Hop::of(backend, second);
            gue::with_header_over_v4(packet, parsed, backend, flow_hash, outer, &hop)
        }
        Encapsulation::GueWithHeader6 => {
            let hop = gue::Hop::of(backend, second);
            gue::with_header_over_v6(packet, parsed, backend, flow_hash, &hop)
        }
        Encapsulation::L2dsr => l2dsr::rewrite(packet, parsed, backend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_count_identifications_in_ranges_of_their_own() {
        for workers in [1, 2, 3, 64] {
            let mut seen = std::collections::HashSet::new();
            for worker in 0..workers {
                let mut outer = OuterHeaders::new(worker, workers);
                let share = u16::MAX / workers;
                let range: Vec<u16> = (0..share).map(|_| outer.identification()).collect();
                assert_eq!(outer.identification(), range[0], "wraps to its own first");
                assert!(range.into_iter().all(|identification| seen.insert(identification)));
            }
        }
    }

    #[test]
    fn reserved_identifications_follow_one_another_within_the_range() {
        // As many workers as there may be, and bursts of any length.
        let (worker, workers) = (127, 128);
        let share = u16::MAX / workers;
        let (first, end) = (worker * share, (worker + 1) * share);
        let mut outer = OuterHeaders::new(worker, workers);
        let mut before = first;
        for turn in 0..2000u16 {
            let (count, used) = (turn % 65, turn % 65 / (1 + turn % 3));
            let start = outer.reserve(usize::from(count));
            assert!(start == before || start == first && before + count >= end, "{turn}: {start}");
            assert!(first <= start && start + count <= end, "{turn}: {start}");
            outer.used(start + used);
            let single = outer.identification();
            assert!(single == start + used && single < end, "{turn}: {single}");
            before = if single == end - 1 { first } else { single + 1 };
        }
    }
}
