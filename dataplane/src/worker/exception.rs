//! A worker's part in the exception path (see [`crate::exception`]): what is for the kernel goes to
//! the port's interface, what the kernel sends goes out of the port, before anything else of a
//! round.

use super::{Core, Meter};
use crate::buffer::Buffer;
use crate::parse::Parsed;
use crate::port::Port;
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use crate::vip::address_bits;

impl<P: Port, M: Meter> Core<P, M> {
    /// A packet for the node's own kernel.
    #[cold]
    pub(super) fn hand_to_kernel(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        let index = usize::from(port_index);
        let exception = self.exceptions.get_mut(index).and_then(Option::as_mut);
        let (Some(exception), Some(port)) = (exception, tables.ports.get(index)) else {
            return Verdict::Drop(DropReason::NoExceptionPath);
        };
        match exception.offer(packet, parsed, port, tables, now_ms) {
            Ok(()) => Verdict::Host,
            Err(reason) => Verdict::Drop(reason),
        }
    }

    /// What the node has taken note of, and the kernel may have asked for as well.
    #[cold]
    pub(super) fn copy_to_kernel(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        match self.hand_to_kernel(packet, parsed, port_index, tables, now_ms) {
            Verdict::Drop(DropReason::NoExceptionPath) => Verdict::Host,
            // The node has had its use of it; the kernel has not.
            other => other,
        }
    }

    /// An ICMP message that the node has no answer for: the kernel's, if it is to the node's own
    /// address.
    #[cold]
    pub(super) fn icmp_for_the_kernel(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        let destination = parsed.key.destination();
        if tables.lookup.contains_address(address_bits(destination)) || !tables.owns(destination) {
            return Verdict::Drop(DropReason::IcmpUnsupported);
        }
        match self.hand_to_kernel(packet, parsed, port_index, tables, now_ms) {
            Verdict::Drop(DropReason::NoExceptionPath) => {
                Verdict::Drop(DropReason::IcmpUnsupported)
            }
            other => other,
        }
    }

    /// Sends what the kernel wants sent, up to a burst for each port. What a port's queue has no
    /// room for is kept, and the kernel not asked for more until it is gone. Returns how many
    /// packets came from the kernel.
    #[cold]
    pub(super) fn send_for_kernel(&mut self, tables: &Tables) -> usize {
        let mut received = 0;
        let Self { exceptions, ports, counters, .. } = self;
        let pairs = exceptions.iter_mut().zip(ports).zip(tables.ports.iter());
        for ((exception, device), port) in pairs {
            let Some(exception) = exception else { continue };
            let came = exception.receive(port, tables);
            received += came.received;
            for (count, reason) in [
                (came.of_vips, DropReason::ExceptionVip),
                (came.too_big, DropReason::ExceptionTooBig),
                (came.no_headroom, DropReason::NoHeadroom),
            ] {
                for _ in 0..count {
                    counters.count_drop(reason);
                }
            }
            let outgoing = exception.outgoing();
            if outgoing.is_empty() {
                continue;
            }
            let size = |packets: &[P::Buffer]| -> (u64, u64) {
                let bytes = packets.iter().map(|packet| packet.data().len() as u64).sum();
                (packets.len() as u64, bytes)
            };
            let (packets, bytes) = size(outgoing);
            device.transmit(outgoing);
            let (packets_left, bytes_left) = size(outgoing);
            let sent = packets.saturating_sub(packets_left);
            counters.exception.from_kernel.add(sent);
            counters.transmitted_packets.add(sent);
            counters.transmitted_bytes.add(bytes.saturating_sub(bytes_left));
        }
        received
    }

    /// Hands the kernel what waits for it.
    #[cold]
    pub(super) fn flush_to_kernel(&mut self) {
        for exception in self.exceptions.iter_mut().flatten() {
            self.counters.exception.to_kernel.add(exception.flush() as u64);
        }
    }
}
