//! ICMP on a worker: echo requests answered, errors to VIPs delivered, errors of the node's own
//! sent, and packets that are too big for their link.

use arrayvec::ArrayVec;
use conntrack::Family;

use super::notes::Work;
use super::{Core, Meter};
use crate::buffer::Buffer;
use crate::forward::{self, fragment, mss};
use crate::handoff::Errand;
use crate::icmp::quote::{Quote, is_delivered};
use crate::icmp::report::{self, LONGEST_V6, Report};
use crate::parse::Parsed;
use crate::port::Port;
use crate::second_chance::second_address;
use crate::select::{Selection, select_quoted};
use crate::tables::{Backend, Oversize, Tables};
use crate::verdict::{DropReason, NO_BACKEND, Outcome, Verdict};
use crate::wire::{IcmpHeader, Ipv4Header, Ipv6Header};

impl<P: Port, M: Meter> Core<P, M> {
    /// An ICMP message to a VIP or to the node.
    #[cold]
    pub(super) fn icmp(
        &mut self,
        packet: P::Buffer,
        work: &Work,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        let Some((message_type, quoted)) = message(&packet, &work.parsed) else {
            return Outcome::early(Verdict::Drop(DropReason::BadIcmp));
        };
        let family = work.parsed.key.family();
        if !is_delivered(family, message_type) {
            return Outcome::early(self.echo(packet, work, port_index, tables, now_ms));
        }
        let quote = Quote::parse(family, quoted);
        if tables.owns(work.parsed.key.destination()) {
            let tunnel = quote.is_some_and(|quote| quote.is_tunnel(tables.icmp.gue_port));
            return Outcome::early(match tunnel {
                true => Verdict::Drop(DropReason::IcmpTunnelError),
                false => self.hand_to_kernel(packet, &work.parsed, port_index, tables, now_ms),
            });
        }
        let flow = match quoted_flow(quote, &work.parsed) {
            Ok(flow) => flow,
            Err(reason) => return Outcome::early(Verdict::Drop(reason)),
        };
        let Some(vip) = vip_of(&flow, tables) else {
            return Outcome::early(Verdict::Drop(DropReason::IcmpNoFlow));
        };
        // Before another worker has work of it.
        if !self.icmp_limits.may_deliver(&tables.icmp, now_ms) {
            let verdict = Verdict::Drop(DropReason::IcmpErrorLimited);
            return Outcome { verdict, vip, backend: NO_BACKEND };
        }
        self.bring(packet, Errand::IcmpError, &flow, port_index, tables, now_ms)
    }

    /// Hands an ICMP error to the backend of the flow that it quotes. `flow` is the error as it
    /// was parsed, under the flow's key; this worker is the one that has the flow.
    pub(super) fn deliver(
        &mut self,
        packet: P::Buffer,
        flow: &Parsed,
        tables: &Tables,
        now_ms: u32,
    ) -> Outcome {
        let Some(vip) = vip_of(flow, tables) else {
            return Outcome::early(Verdict::Drop(DropReason::IcmpNoFlow));
        };
        let drop = |reason| Outcome { verdict: Verdict::Drop(reason), vip, backend: NO_BACKEND };
        let flow_hash = self.hasher.hash(&flow.key);
        match select_quoted(flow, vip, flow_hash, tables, &self.conntrack, now_ms) {
            Selection::Backend(backend) => {
                let work = Work::of(*flow, vip, flow_hash, backend);
                // Never answered: an error about an error would be next.
                let outcome = self.forward(packet, &work, vip, backend, None, tables, now_ms);
                if matches!(outcome.verdict, Verdict::Forward | Verdict::Hold) {
                    self.counters.icmp.delivered.add(1);
                }
                outcome
            }
            Selection::Drop(reason) => drop(reason),
            // Selection for a quote never asks for one.
            Selection::Reset(_) => drop(DropReason::BackendEvicted),
        }
    }

    /// A packet that could not be rewritten for `backend`, and is as it came: it is fragmented, or
    /// dropped and its sender told why. `from` is the port it came in at; `None`: nobody is told.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "what a packet has come with so far")]
    pub(super) fn refused(
        &mut self,
        packet: P::Buffer,
        work: &Work,
        vip: u32,
        backend: u32,
        reason: DropReason,
        from: Option<u8>,
        tables: &Tables,
        now_ms: u32,
    ) -> Verdict {
        let Some(record) = tables.backend(backend) else { return Verdict::Drop(reason) };
        let mtu = record.inner_mtu;
        // Of two reasons the one that a router finds first; without a tunnel no hop is taken.
        let tunnel = record.header_length > record.link_length;
        let reason = match reason {
            DropReason::TooBig if tunnel && is_last_hop(&packet, &work.parsed) => {
                DropReason::TtlExpired
            }
            reason => reason,
        };
        match reason {
            DropReason::TtlExpired => {
                self.tell(packet, &work.parsed, Report::TimeExceeded, from, tables, now_ms);
            }
            DropReason::TooBig if finds_out(&packet, &work.parsed) => {
                self.tell(packet, &work.parsed, Report::TooBig { mtu }, from, tables, now_ms);
            }
            DropReason::TooBig if tables.oversize == Oversize::Fragment => {
                return match self.fragment(packet, work, vip, backend, tables) {
                    Ok(()) => Verdict::Forward,
                    Err(reason) => Verdict::Drop(reason),
                };
            }
            _ => {}
        }
        Verdict::Drop(reason)
    }

    /// Sends a packet in an outer packet that is cut into fragments.
    fn fragment(
        &mut self,
        mut packet: P::Buffer,
        work: &Work,
        vip: u32,
        index: u32,
        tables: &Tables,
    ) -> Result<(), DropReason> {
        let backend = tables.backend(index).ok_or(DropReason::NoBackend)?;
        let port = tables.ports.get(usize::from(backend.port)).ok_or(DropReason::TooBig)?;
        // Without an outer header it would be the client's packet that is cut.
        if backend.header_length == backend.link_length {
            return Err(DropReason::TooBig);
        }
        let Work { parsed, flow_hash, .. } = work;
        let second = second_address(tables, vip, index, parsed);
        let outer = &mut self.outer;
        forward::rewrite_oversize(&mut packet, parsed, backend, *flow_hash, outer, second)?;
        let device = self.ports.get_mut(usize::from(backend.port)).ok_or(DropReason::NoBuffer)?;
        let mut pieces = ArrayVec::<P::Buffer, { fragment::MAX_FRAGMENTS }>::new();
        let identification = self.outer.fragment_identification();
        let (link_length, mtu) = (usize::from(backend.link_length), usize::from(port.mtu));
        fragment::split(packet.data(), link_length, mtu, identification, |front, part| {
            let mut piece = device.allocate().ok_or(DropReason::NoBuffer)?;
            if !piece.append(front) || !piece.append(part) {
                return Err(DropReason::NoBuffer);
            }
            pieces.try_push(piece).map_err(|_| DropReason::TooBig)
        })?;
        for piece in pieces {
            self.queue(piece, backend.port);
        }
        self.counters.icmp.fragmented.add(1);
        Ok(())
    }

    /// Tells the sender of a packet why it does not go on, within the limits.
    fn tell(
        &mut self,
        mut packet: P::Buffer,
        parsed: &Parsed,
        report: Report,
        from: Option<u8>,
        tables: &Tables,
        now_ms: u32,
    ) {
        let Some(port_index) = from else { return };
        let Some(port) = tables.ports.get(usize::from(port_index)) else { return };
        if !report::may_be_told(packet.data(), parsed, port, tables) {
            return;
        }
        let client = parsed.key.source();
        if !self.icmp_limits.may_send(client, &tables.icmp, now_ms) {
            self.counters.icmp.limited.add(1);
            return;
        }
        // Too big, unreachable: the VIP speaks, whose address is the only one that the client
        // knows. Out of hops: the node does, as the hop it is (RFC 1812 section 4.3.2.4).
        let vip = parsed.key.destination();
        let source = match report {
            Report::TimeExceeded => port.source_for(client).unwrap_or(vip),
            Report::TooBig { .. } | Report::PortUnreachable => vip,
        };
        if report::write(&mut packet, parsed, report, source, port).is_err()
            || self.send_answer(packet, parsed, port_index, port) != Verdict::Reply
        {
            return;
        }
        let icmp = &self.counters.icmp;
        match report {
            Report::TooBig { .. } => icmp.too_big.add(1),
            Report::TimeExceeded => icmp.time_exceeded.add(1),
            Report::PortUnreachable => icmp.port_unreachable.add(1),
        }
    }

    /// A packet to a VIP's address that no VIP takes, or whose pool has no backend for it: its
    /// sender is told, where the configuration says so.
    #[cold]
    pub(super) fn unreachable(
        &mut self,
        packet: P::Buffer,
        parsed: &Parsed,
        port_index: u8,
        tables: &Tables,
        now_ms: u32,
    ) {
        let destination = crate::vip::address_bits(parsed.key.destination());
        if parsed.key.destination_port() != 0 && tables.lookup.contains_address(destination) {
            let report = Report::PortUnreachable;
            self.tell(packet, parsed, report, Some(port_index), tables, now_ms);
        }
    }

    /// Lowers the MSS of a SYN as its VIP says.
    #[cold]
    #[inline(never)]
    pub(super) fn clamp(
        &self,
        packet: &mut P::Buffer,
        parsed: &Parsed,
        vip: u32,
        backend: u32,
        tables: &Tables,
    ) {
        let (Some(vip), Some(backend)) = (tables.vip(vip), tables.backend(backend)) else { return };
        if let Some(limit) = mss::limit(vip.mss_clamp, parsed.key.family(), backend)
            && !is_told(packet, parsed, backend)
            && mss::clamp(packet, parsed, limit)
        {
            self.counters.icmp.clamped.add(1);
        }
    }
}

/// Whether a packet will not go on to `backend`, and its sender be told why: the error quotes the
/// packet as it came (RFC 1812 section 4.3.2.3).
fn is_told<B: Buffer>(packet: &B, parsed: &Parsed, backend: &Backend) -> bool {
    let hops_at = match parsed.key.family() {
        Family::V4 => 8,
        Family::V6 => 7,
    };
    let hops = packet.data().get(usize::from(parsed.link_length) + hops_at);
    let tunnel = backend.header_length != backend.link_length;
    (tunnel && hops.is_none_or(|hops| *hops <= 1))
        || (parsed.ip_length > backend.inner_mtu && finds_out(packet, parsed))
}

/// The VIP that takes the packets of a flow.
fn vip_of(flow: &Parsed, tables: &Tables) -> Option<u32> {
    let key = &flow.key;
    tables.lookup.find(key.destination_bits(), key.destination_port(), key.protocol())
}

/// The type of an ICMP message, and what is behind its eight bytes of header, without padding.
fn message<'p, B: Buffer>(packet: &'p B, parsed: &Parsed) -> Option<(u8, &'p [u8])> {
    let datagram = packet.data().get(usize::from(parsed.link_length)..)?;
    let datagram = datagram.get(..usize::from(parsed.ip_length))?;
    let message = datagram.get(usize::from(parsed.header_length)..)?;
    // ICMPv6 has the same shape.
    let (header, quoted) = IcmpHeader::parse(message)?;
    Some((header.message_type.0, quoted))
}

/// The error under the key of the flow that it quotes.
fn quoted_flow(quote: Option<Quote>, error: &Parsed) -> Result<Parsed, DropReason> {
    // An error goes to the sender of the packet that it is about.
    let quote = quote
        .filter(|quote| quote.sender == error.key.destination())
        .ok_or(DropReason::IcmpBadQuote)?;
    if quote.is_icmp() {
        return Err(DropReason::IcmpAboutIcmp);
    }
    if quote.later_fragment {
        return Err(DropReason::IcmpQuotedFragment);
    }
    let key = quote.flow().ok_or(DropReason::IcmpBadQuote)?;
    Ok(Parsed { key, ..*error })
}

/// Whether no hop is left to forward the packet with.
fn is_last_hop<B: Buffer>(packet: &B, parsed: &Parsed) -> bool {
    let ip = packet.data().get(usize::from(parsed.link_length)..).unwrap_or_default();
    let hops = match parsed.key.family() {
        Family::V4 => Ipv4Header::parse(ip).map(|(ip, _)| ip.time_to_live),
        Family::V6 => Ipv6Header::parse(ip).map(|(ip, _)| ip.hop_limit),
    };
    hops.is_none_or(|hops| hops <= 1)
}

/// Whether the sender of a packet that is too big finds out the path's MTU by being told. IPv6
/// does, down to 1280 bytes: what is not longer has to get through (RFC 2473 section 7.1).
fn finds_out<B: Buffer>(packet: &B, parsed: &Parsed) -> bool {
    match parsed.key.family() {
        Family::V4 => {
            let ip = packet.data().get(usize::from(parsed.link_length)..).unwrap_or_default();
            Ipv4Header::parse(ip).is_none_or(|(ip, _)| ip.dont_fragment())
        }
        Family::V6 => usize::from(parsed.ip_length) > LONGEST_V6,
    }
}
