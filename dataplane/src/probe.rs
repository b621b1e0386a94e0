//! Probes of backends at their VIP, through the tunnel: what is sent, and what counts as an answer.
//!
//! A probe is what a client's first packet would be, from an address of the node itself:
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
use std::net::{IpAddr, SocketAddrV4};
use std::ops::RangeInclusive;

use conntrack::{FlowKey, Segment};
use maglev::FlowHasher;
use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::parse::{Kind, Parsed};
use crate::tables::Tables;
use crate::vip::address_bits;
use crate::wire::{EthernetHeader, IpProtocol, Ipv4Header, TcpFlags, TcpHeader, checksum};

/// Ports that probes are sent from: the dynamic ports (RFC 6335 section 6).
pub const PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Bytes of a probe: an IPv4 header and a TCP header without options.
pub const LENGTH: usize = Ipv4Header::LENGTH + TcpHeader::LENGTH;

/// Makes and checks the sequence numbers of probes. One for a process; its key is drawn at start.
#[derive(Clone)]
pub struct Cookies(FlowHasher);

/// The two ends of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ends {
    /// The node's own address, and a port of [`PORTS`].
    pub node: SocketAddrV4,
    /// Where clients would go.
    pub vip: SocketAddrV4,
}

/// A probe's packet to be sent to a backend: IP header and TCP header, checksums included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbePacket {
    ends: Ends,
    bytes: [u8; LENGTH],
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
        let mut bytes = [0; 12];
        let (addresses, ports) = bytes.split_at_mut(8);
        let words = [u32::from(*ends.node.ip()), u32::from(*ends.vip.ip())];
        for (place, word) in addresses.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        for (place, port) in ports.chunks_exact_mut(2).zip([ends.node.port(), ends.vip.port()]) {
            place.copy_from_slice(&port.to_be_bytes());
        }
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
        let (IpAddr::V4(vip), IpAddr::V4(node)) = (key.source(), key.destination()) else {
            return None;
        };
        tables.lookup.find(address_bits(vip.into()), key.source_port(), key.protocol())?;
        let start = usize::from(parsed.link_length) + usize::from(parsed.header_length);
        let (tcp, _) = TcpHeader::parse(frame.get(start..)?)?;
        let flags = tcp.flags;
        let answer = match (flags.ack(), flags.rst(), flags.syn() && !flags.fin()) {
            (true, true, _) => Answer::Refuses,
            (true, false, true) => Answer::Accepts,
            _ => return None,
        };
        let ends = Ends {
            node: SocketAddrV4::new(node, key.destination_port()),
            vip: SocketAddrV4::new(vip, key.source_port()),
        };
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

impl ProbePacket {
    fn new(ends: Ends, sequence: u32, flags: TcpFlags) -> Self {
        let (node, vip) = (*ends.node.ip(), *ends.vip.ip());
        let mut tcp = TcpHeader {
            source_port: U16::new(ends.node.port()),
            destination_port: U16::new(ends.vip.port()),
            sequence_number: U32::new(sequence),
            acknowledgment_number: U32::new(0),
            data_offset_and_reserved: 5 << 4,
            flags,
            window: U16::new(if flags.syn() { 65_535 } else { 0 }),
            checksum: U16::new(0),
            urgent_pointer: U16::new(0),
        };
        let length = TcpHeader::LENGTH as u16;
        let sum = checksum::pseudo_header_v4(node, vip, IpProtocol::TCP, length);
        tcp.checksum = U16::new(sum.add_bytes(tcp.as_bytes()).checksum());
        let ip = Ipv4Header::build(node, vip, IpProtocol::TCP, LENGTH as u16);
        let mut bytes = [0; LENGTH];
        let (ip_place, tcp_place) = bytes.split_at_mut(Ipv4Header::LENGTH);
        ip_place.copy_from_slice(ip.as_bytes());
        tcp_place.copy_from_slice(tcp.as_bytes());
        Self { ends, bytes }
    }

    /// The packet behind an Ethernet header that forwarding will replace.
    pub(crate) fn frame(&self) -> [u8; EthernetHeader::LENGTH + LENGTH] {
        let mut frame = [0; EthernetHeader::LENGTH + LENGTH];
        for (to, from) in frame.iter_mut().skip(EthernetHeader::LENGTH).zip(self.bytes) {
            *to = from;
        }
        frame
    }

    /// What the parser would say of [`Self::frame`].
    pub(crate) fn parsed(&self) -> Parsed {
        let Ends { node, vip } = self.ends;
        let protocol = IpProtocol::TCP.0;
        Parsed {
            kind: Kind::Flow,
            segment: Segment::Syn,
            link_length: EthernetHeader::LENGTH as u8,
            header_length: Ipv4Header::LENGTH as u16,
            ip_length: LENGTH as u16,
            key: FlowKey::v4(*node.ip(), *vip.ip(), node.port(), vip.port(), protocol),
        }
    }
}
