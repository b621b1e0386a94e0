//! A worker's part in the probes of backends (see [`crate::probe`]): it sends what it is told to,
//! the way it sends a client's packet, and hands up the answers that come to it.

use super::{Core, Meter};
use crate::buffer::Buffer;
use crate::forward;
use crate::parse::Parsed;
use crate::port::Port;
use crate::probe::ProbePacket;
use crate::tables::{BackendState, Tables};
use crate::verdict::Verdict;

impl<P: Port, M: Meter> Core<P, M> {
    /// Sends a probe's packet to the backend at `index`, if that is still the one meant and can
    /// be reached.
    #[cold]
    pub(super) fn send_probe(
        &mut self,
        index: u32,
        generation: u16,
        probe: &ProbePacket,
        tables: &Tables,
    ) {
        match self.try_send_probe(index, generation, probe, tables) {
            Some(()) => self.counters.probes.sent.add(1),
            None => self.counters.probes.unsent.add(1),
        }
    }

    fn try_send_probe(
        &mut self,
        index: u32,
        generation: u16,
        probe: &ProbePacket,
        tables: &Tables,
    ) -> Option<()> {
        let backend = tables.backend(index)?;
        if backend.generation != generation
            || backend.state == BackendState::Gone
            || !backend.reachable
        {
            return None;
        }
        let mut packet = self.ports.get_mut(usize::from(backend.port))?.allocate()?;
        if !packet.append(&probe.frame()) {
            return None;
        }
        let parsed = probe.parsed();
        let flow_hash = self.hasher.hash(&parsed.key);
        forward::rewrite(&mut packet, &parsed, backend, flow_hash, &mut self.outer).ok()?;
        self.queue(packet, backend.port);
        Some(())
    }

    /// A packet for the node itself: the answer to a probe, or for the kernel. Asked before
    /// anything is said about a source that is a VIP.
    #[cold]
    pub(super) fn for_the_node(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        let reply = self
            .link
            .cookies
            .get()
            .and_then(|cookies| cookies.recognise(packet.data(), parsed, tables));
        let Some(reply) = reply else {
            return self.hand_to_kernel(packet, parsed, port_index, tables, now_ms);
        };
        self.counters.probes.replies.add(1);
        if self.link.probe_replies.push(reply).is_err() {
            self.counters.probes.lost.add(1);
        }
        Verdict::Host
    }
}
