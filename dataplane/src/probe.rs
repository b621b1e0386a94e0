//! Probes of backends at their VIP, through the tunnel: what is sent, and what counts as an answer.
//!
//! A probe is what a client's first packet would be, IPv4 or IPv6 as the VIP is, from an address of
//! the node itself:
//!
//! ```text
//!  node:port ─SYN, sequence = cookie──▶ VIP:port       encapsulated to one backend
//!  node:port ◀─SYN+ACK or RST, acknowledgment = cookie + 1── VIP:port   directly, as all replies
//!  node:port ─RST, sequence = cookie + 1──▶ VIP:port   after a SYN+ACK: nothing stays half open
//! ```
//!
//! The answer's source is a VIP, and it comes to whichever worker its hash brings it to, so a
//! worker keeps nothing: the cookie is a keyed hash of addresses and ports (as in RFC 6528), and
//! an answer without the right one is what it was before there were probes: a packet for the
//! node's own kernel. Which probe it answers, and whether in time, only the control thread knows.
//!
//! Guessing a cookie is one chance in 2^32 a packet. Recognition costs one hash, after cheaper
//! checks, and is not limited in rate: a limit would let a flood keep real answers out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use arrayvec::ArrayVec;
use conntrack::{FlowKey, Segment};
use maglev::FlowHasher;
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::parse::{Kind, Parsed};
use crate::tables::Tables;
use crate::vip::address_bits;
use crate::wire::{
    EthernetHeader, IpProtocol, Ipv4Header, Ipv6Header, TcpFlags, TcpHeader, checksum,
};

/// Ports that probes are sent from: the dynamic ports (RFC 6335 section 6).
pub const PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Bytes of a probe at most: an IPv6 header and a TCP header without options.
pub const MAX_LENGTH: usize = Ipv6Header::LENGTH + TcpHeader::LENGTH;

/// Makes and checks the sequence numbers of probes. One for a process; its key is drawn at start.
#[derive(Clone)]
pub struct Cookies(FlowHasher);

/// The two ends of a probe, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    addresses: Addresses,
    node_port: u16,
    vip_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Addresses {
    V4 { node: Ipv4Addr, vip: Ipv4Addr },
    V6 { node: Ipv6Addr, vip: Ipv6Addr },
}

/// A probe's packet to be sent to a backend: IP header and TCP header, checksums included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbePacket {
    ends: Ends,
    /// As many as [`Ends::lengths`] says.
    bytes: [u8; MAX_LENGTH],
}

/// An answer with the right cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// The ends of the probe that it answers.
    pub ends: Ends,
    /// What it says.
    pub answer: Answer,
}

/// What a backend says to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// SYN+ACK: tunnel, VIP and service are there.
    Accepts,
    /// RST: tunnel and VIP are there, and nobody listens at the port.
    Refuses,
}

impl Cookies {
    /// Cookies of this key.
    pub fn new(key: [u8; 16]) -> Self {
        Self(FlowHasher::new(key))
    }

    /// The sequence number of a probe between these ends.
    pub fn cookie(&self, ends: &Ends) -> u32 {
        let mut bytes = ArrayVec::<u8, { 16 + 16 + 2 + 2 }>::new();
        // The family shows in the length, which the hash takes in.
        match ends.addresses {
            Addresses::V4 { node, vip } => {
                bytes.extend(node.octets().into_iter().chain(vip.octets()));
            }
            Addresses::V6 { node, vip } => {
                bytes.extend(node.octets().into_iter().chain(vip.octets()));
            }
        }
        bytes.extend(ends.node_port.to_be_bytes().into_iter().chain(ends.vip_port.to_be_bytes()));
        self.0.hash(&bytes) as u32
    }

    /// The probe between these ends.
    pub fn probe(&self, ends: Ends) -> ProbePacket {
        ProbePacket::new(ends, self.cookie(&ends), TcpFlags::SYN)
    }

    /// What ends the connection that a backend has accepted. RFC 9293 section 3.10.7.4: in
    /// SYN-RECEIVED a RST with the next sequence number returns the listener to LISTEN.
    pub fn reset(&self, ends: Ends) -> ProbePacket {
        ProbePacket::new(ends, self.cookie(&ends).wrapping_add(1), TcpFlags::RST)
    }

    /// The answer that a packet for the node itself is, if it is one.
    ///
    /// RFC 9293 section 3.10.7.3 (SYN-SENT): only an acknowledgment of the very SYN is
    /// acceptable, and a RST without an acknowledgment is dropped. The TCP checksum is not
    /// looked at: a damaged packet does not have the cookie.
    pub fn recognise(&self, frame: &[u8], parsed: &Parsed, tables: &Tables) -> Option<ProbeReply> {
        let key = &parsed.key;
        if parsed.kind != Kind::Flow
            || key.protocol() != IpProtocol::TCP.0
            || !PORTS.contains(&key.destination_port())
        {
            return None;
        }
        let (vip, node) = (key.source(), key.destination());
        tables.lookup.find(address_bits(vip), key.source_port(), key.protocol())?;
        let start = usize::from(parsed.link_length) + usize::from(parsed.header_length);
        let (tcp, _) = TcpHeader::parse(frame.get(start..)?)?;
        let flags = tcp.flags;
        let answer = match (flags.ack(), flags.rst(), flags.syn() && !flags.fin()) {
            (true, true, _) => Answer::Refuses,
            (true, false, true) => Answer::Accepts,
            _ => return None,
        };
        let node = SocketAddr::new(node, key.destination_port());
        let ends = Ends::new(node, SocketAddr::new(vip, key.source_port()))?;
        let acknowledged = tcp.acknowledgment_number.get().wrapping_sub(1);
        (acknowledged == self.cookie(&ends)).then_some(ProbeReply { ends, answer })
    }
}

/// The key is a secret.
impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookies")
    }
}

impl Ends {
    /// From the node's own address and a port of [`PORTS`] to where clients would go; `None` when
    /// the families differ.
    pub fn new(node: SocketAddr, vip: SocketAddr) -> Option<Self> {
        let addresses = match (node.ip(), vip.ip()) {
            (IpAddr::V4(node), IpAddr::V4(vip)) => Addresses::V4 { node, vip },
            (IpAddr::V6(node), IpAddr::V6(vip)) => Addresses::V6 { node, vip },
            _ => return None,
        };
        Some(Self { addresses, node_port: node.port(), vip_port: vip.port() })
    }

    /// The node's own address, and a port of [`PORTS`].
    pub fn node(&self) -> SocketAddr {
        let address = match self.addresses {
            Addresses::V4 { node, .. } => node.into(),
            Addresses::V6 { node, .. } => node.into(),
        };
        SocketAddr::new(address, self.node_port)
    }

    /// Where clients would go.
    pub fn vip(&self) -> SocketAddr {
        let address = match self.addresses {
            Addresses::V4 { vip, .. } => vip.into(),
            Addresses::V6 { vip, .. } => vip.into(),
        };
        SocketAddr::new(address, self.vip_port)
    }

    /// Bytes of the IP header, and of the packet.
    fn lengths(&self) -> (usize, usize) {
        let header = match self.addresses {
            Addresses::V4 { .. } => Ipv4Header::LENGTH,
            Addresses::V6 { .. } => Ipv6Header::LENGTH,
        };
        (header, header + TcpHeader::LENGTH)
    }
}

impl ProbePacket {
    fn new(ends: Ends, sequence: u32, flags: TcpFlags) -> Self {
        let mut tcp = TcpHeader {
            source_port: U16::new(ends.node_port),
            destination_port: U16::new(ends.vip_port),
            sequence_number: U32::new(sequence),
            acknowledgment_number: U32::new(0),
            data_offset_and_reserved: 5 << 4,
            flags,
            window: U16::new(if flags.syn() { 65_535 } else { 0 }),
            checksum: U16::new(0),
            urgent_pointer: U16::new(0),
        };
        const TCP: usize = TcpHeader::LENGTH;
        let (header_length, length) = ends.lengths();
        let mut bytes = [0; MAX_LENGTH];
        let (ip_place, tcp_place) = bytes.split_at_mut(header_length);
        let sum = match ends.addresses {
            Addresses::V4 { node, vip } => {
                let ip = Ipv4Header::build(node, vip, IpProtocol::TCP, length as u16);
                ip_place.copy_from_slice(ip.as_bytes());
                checksum::pseudo_header_v4(node, vip, IpProtocol::TCP, TCP as u16)
            }
            Addresses::V6 { node, vip } => {
                let ip = Ipv6Header::build(node, vip, IpProtocol::TCP, TCP as u16);
                ip_place.copy_from_slice(ip.as_bytes());
                checksum::pseudo_header_v6(node, vip, IpProtocol::TCP, TCP as u32)
            }
        };
        tcp.checksum = U16::new(sum.add_bytes(tcp.as_bytes()).checksum());
        for (to, from) in tcp_place.iter_mut().zip(tcp.as_bytes()) {
            *to = *from;
        }
        Self { ends, bytes }
    }

    /// The packet behind an Ethernet header that forwarding will replace.
    pub(crate) fn frame(&self) -> ArrayVec<u8, { EthernetHeader::LENGTH + MAX_LENGTH }> {
        let (_, length) = self.ends.lengths();
        let link = std::iter::repeat_n(0, EthernetHeader::LENGTH);
        link.chain(self.bytes.into_iter().take(length)).collect()
    }

    /// What the parser would say of [`Self::frame`].
    pub(crate) fn parsed(&self) -> Parsed {
        let Ends { addresses, node_port, vip_port } = self.ends;
        let protocol = IpProtocol::TCP.0;
        let (header_length, length) = self.ends.lengths();
        Parsed {
            kind: Kind::Flow,
            segment: Segment::Syn,
            link_length: EthernetHeader::LENGTH as u8,
            header_length: header_length as u16,
            ip_length: length as u16,
            key: match addresses {
                Addresses::V4 { node, vip } => {
                    FlowKey::v4(node, vip, node_port, vip_port, protocol)
                }
                Addresses::V6 { node, vip } => {
                    FlowKey::v6(node, vip, node_port, vip_port, protocol)
                }
            },
        }
    }
}
