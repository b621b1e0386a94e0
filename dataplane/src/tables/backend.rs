//! One backend: the header that its packets get, and whether flows may go on to it.
//!
//! Invariant: once sealed, a record does not change. What [`Backend::ready`] says in one word follows
//! from the rest, and packets of flows that go on ask for nothing else; who alters a record seals it
//! again.

use std::net::IpAddr;

use super::{BackendState, Encapsulation, NO_ROUTE};
use crate::wire::{EthernetHeader, Ipv4Header, Ipv6Header};

/// Bytes of the header that most packets get: Ethernet without tags, and IPv4.
pub(crate) const PLAIN: usize = EthernetHeader::LENGTH + Ipv4Header::LENGTH;

/// Bytes of the header that most packets over IPv6 get: Ethernet without tags, and IPv6.
pub(crate) const PLAIN_V6: usize = EthernetHeader::LENGTH + Ipv6Header::LENGTH;

/// Longest header put in front of a packet: Ethernet, two tags, an IPv6 header, a UDP header, a GUE
/// header with private data, and two bytes of room. Hops come on top, packet by packet.
pub const MAX_HEADER: usize = 84;

/// A backend, with the header its packets get, ready to be copied.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Backend {
    /// Whether it may have flows.
    pub state: BackendState,
    /// What is put in front of its packets.
    pub encapsulation: Encapsulation,
    /// The MAC address of the next hop is known and in the header.
    pub reachable: bool,
    /// Index of the port it is reached through.
    pub port: u8,
    /// Tells backends apart that had this index one after the other.
    pub generation: u16,
    /// Longest IP packet that fits the link, the outer header not counted.
    pub inner_mtu: u16,
    /// Bits of the outer source address, of its last 32, that come from the flow (0: none).
    pub source_entropy: u32,
    /// Of an outer IPv4 header around IPv4: the sum of its 16-bit words but for those set per
    /// packet (DSCP and ECN, total length, identification, the source's flow bits), not folded.
    pub checksum_base: u32,
    /// Its generation, and above it its [`Form`], where flows that are pinned to it go on and all that
    /// their packets need is its header; [`NEVER`] elsewhere. Follows from all else: see
    /// [`Backend::seal`].
    pub ready: u32,
    /// Bytes of `header` in use.
    pub header_length: u8,
    /// Bytes of it before the outer IP header.
    pub link_length: u8,
    /// The link header, the outer IP header, and what stands between it and the inner packet; as
    /// for an IPv4 packet inside, and zero what is set per packet.
    pub header: [u8; MAX_HEADER],
    /// Tells the next hops of one version of the tables apart; [`NO_ROUTE`]: there is none.
    pub next_hop: u32,
    /// GUE over IPv6 with a UDP checksum; without, it is zero (RFC 6935).
    pub udp_checksum: bool,
}

/// [`Backend::ready`] of one that is not.
pub const NEVER: u32 = u32::MAX;
/// What tells [`NEVER`] from all else, and one generation from another.
const READY: u32 = 1 << 31 | 0xffff;

/// What is the same for many backends in what their packets need: the kind of header, and the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form(u16);

impl Form {
    /// The header is another than IPv4's behind an untagged link's ([`PLAIN`]).
    const OTHER: u16 = 1;
    /// Bits of its source are the flow's.
    const VARIED: u16 = 2;
    /// The header is IPv6's behind an untagged link's ([`PLAIN_V6`]).
    const SIX: u16 = 4;
    const PORT: u32 = 3;

    /// All that packets over IPv4 need is a [`PLAIN`] header.
    #[inline(always)]
    pub(crate) fn is_plain(self) -> bool {
        self.0 & Self::OTHER == 0
    }

    /// All that packets over IPv6 need is a [`PLAIN_V6`] header.
    #[inline(always)]
    pub(crate) fn is_plain_v6(self) -> bool {
        self.0 & Self::SIX != 0
    }

    /// Bits of the outer source are the flow's.
    #[inline(always)]
    pub(crate) fn is_varied(self) -> bool {
        self.0 & Self::VARIED != 0
    }

    /// Index of the port that it is reached through.
    #[inline(always)]
    pub(crate) fn port(self) -> u8 {
        (self.0 >> Self::PORT) as u8
    }
}

const _: () = assert!(size_of::<Backend>() == 128);

impl Backend {
    /// The record for an index nobody has.
    pub const fn gone(generation: u16) -> Self {
        Self {
            state: BackendState::Gone,
            encapsulation: Encapsulation::Ipip4,
            reachable: false,
            port: 0,
            generation,
            inner_mtu: 0,
            source_entropy: 0,
            checksum_base: 0,
            header_length: 0,
            link_length: 0,
            header: [0; MAX_HEADER],
            next_hop: NO_ROUTE,
            udp_checksum: false,
            ready: NEVER,
        }
    }

    /// To be called when all is known and nothing changes any more. Without, its packets take the
    /// longer way.
    pub fn seal(&mut self) {
        self.ready = self.readiness();
    }

    fn readiness(&self) -> u32 {
        let goes_on = matches!(self.state, BackendState::Active | BackendState::Draining);
        if !goes_on || !self.reachable {
            return NEVER;
        }
        let mut form = u16::from(self.port) << Form::PORT;
        form |= match (self.encapsulation, usize::from(self.header_length)) {
            (Encapsulation::Ipip4, PLAIN) => 0,
            (Encapsulation::Ipip6, PLAIN_V6) => Form::OTHER | Form::SIX,
            _ => Form::OTHER,
        };
        if self.source_entropy != 0 {
            form |= Form::VARIED;
        }
        u32::from(self.generation) | u32::from(form) << 16
    }

    /// Whether packets of flows pinned to it under this `generation` need nothing but its header.
    /// `false` says nothing.
    #[inline(always)]
    pub(crate) fn is_ready_for(&self, generation: u16) -> bool {
        debug_assert!(
            self.ready == NEVER || self.ready == self.readiness(),
            "sealed, then changed"
        );
        self.ready & READY == u32::from(generation)
    }

    /// Where it is ready for some generation: what its packets need.
    #[inline(always)]
    pub(crate) fn form(&self) -> Form {
        Form((self.ready >> 16) as u16)
    }

    /// Where its packets are sent, as the outer header says; `None` without one, or without a way.
    pub fn address(&self) -> Option<IpAddr> {
        let outer = self.header().get(usize::from(self.link_length)..)?;
        match self.encapsulation {
            Encapsulation::Ipip4
            | Encapsulation::Gre4
            | Encapsulation::Gue4
            | Encapsulation::GueWithHeader4 => {
                Ipv4Header::parse(outer).map(|(header, _)| header.destination_address().into())
            }
            Encapsulation::Ipip6
            | Encapsulation::Gre6
            | Encapsulation::Gue6
            | Encapsulation::GueWithHeader6 => {
                Ipv6Header::parse(outer).map(|(header, _)| header.destination_address().into())
            }
            Encapsulation::L2dsr => None,
        }
    }

    /// The header in use.
    #[inline(always)]
    pub fn header(&self) -> &[u8] {
        self.header.get(..usize::from(self.header_length)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_ready_for_flows_of_its_own_generation_alone() {
        // Whether it is the plain one of IPv4, of IPv6.
        let forms = [
            (Encapsulation::Ipip4, PLAIN, (true, false)),
            (Encapsulation::Ipip4, PLAIN + 4, (false, false)),
            (Encapsulation::Ipip6, PLAIN_V6, (false, true)),
            (Encapsulation::Ipip6, PLAIN_V6 + 4, (false, false)),
            (Encapsulation::Gre6, PLAIN_V6, (false, false)),
        ];
        let states = [BackendState::Active, BackendState::Draining, BackendState::Gone];
        for generation in [0, 1, 2, 0x7fff, 0xffff] {
            for (state, reachable) in states.into_iter().flat_map(|s| [(s, true), (s, false)]) {
                let mut backend = Backend { state, reachable, ..Backend::gone(generation) };
                for (encapsulation, header_length, plain) in forms {
                    let (port, entropy) = if plain.0 { (0, 0) } else { (255, 0xffff) };
                    backend.encapsulation = encapsulation;
                    (backend.header_length, backend.port) = (header_length as u8, port);
                    backend.source_entropy = entropy;
                    backend.seal();
                    let goes_on = state != BackendState::Gone && reachable;
                    for pinned in [0, 1, 2, 3, 0x7fff, 0xfffe, 0xffff] {
                        assert_eq!(backend.is_ready_for(pinned), goes_on && pinned == generation);
                    }
                    let form = backend.form();
                    let found = (form.is_plain(), form.is_plain_v6());
                    assert!(!goes_on || found == plain);
                    let found = (form.is_varied(), form.port());
                    assert!(!goes_on || found == (entropy != 0, port));
                }
            }
        }
    }
}
