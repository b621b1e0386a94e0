//! What one fragment says about itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use conntrack::{Family, FlowKey};

use crate::parse::Parsed;
use crate::wire::ipv6_extensions::{FragmentHeader, walk};
use crate::wire::{Ipv4Header, Ipv6Header};

/// A part of a datagram: neither empty nor all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Shared by the fragments of one datagram; 16 bits over IPv4.
    pub identification: u32,
    /// Where the piece begins in what was fragmented, in bytes, a multiple of 8.
    pub offset: u32,
    /// Bytes of it.
    pub length: u32,
    /// It is not the last.
    pub more: bool,
}

impl Piece {
    /// Reads the piece in a packet that was parsed as a fragment.
    pub fn read(frame: &[u8], parsed: &Parsed) -> Option<Self> {
        let start = usize::from(parsed.link_length);
        let packet = frame.get(start..start + usize::from(parsed.ip_length))?;
        match parsed.key.family() {
            Family::V4 => {
                let (header, _) = Ipv4Header::parse(packet)?;
                Some(Self::of_v4(header, packet.len().checked_sub(header.header_length())?))
            }
            Family::V6 => {
                let (header, chain) = Ipv6Header::parse(packet)?;
                let at = walk(header.next_header, chain).ok()?.fragment?;
                let (fragment, payload) = FragmentHeader::parse(chain.get(at..)?)?;
                Some(Self::of_v6(fragment, payload.len()))
            }
        }
    }

    /// The piece in an IPv4 packet with `length` bytes of payload.
    pub fn of_v4(header: &Ipv4Header, length: usize) -> Self {
        Self {
            identification: u32::from(header.identification.get()),
            offset: u32::from(header.fragment_offset()) * 8,
            length: length as u32,
            more: header.more_fragments(),
        }
    }

    /// The piece behind an IPv6 fragment header, `length` bytes.
    pub fn of_v6(header: &FragmentHeader, length: usize) -> Self {
        Self {
            identification: header.identification.get(),
            offset: u32::from(header.fragment_offset()) * 8,
            length: length as u32,
            more: header.more_fragments(),
        }
    }

    /// Whether it is the first of its datagram, which has the transport header.
    pub fn is_first(&self) -> bool {
        self.offset == 0
    }

    /// Where it ends, in bytes.
    pub fn end(&self) -> u32 {
        self.offset + self.length
    }

    /// The name of its datagram, in the shape of a flow's: addresses, the identification in place
    /// of the ports, and over IPv4 the protocol (RFC 791: "identification, source, destination,
    /// protocol"; RFC 8200 section 4.5 leaves it out).
    pub fn datagram(&self, parsed: &Parsed) -> FlowKey {
        let high = (self.identification >> 16) as u16;
        let low = self.identification as u16;
        match (parsed.key.source(), parsed.key.destination()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                FlowKey::v4(source, destination, high, low, parsed.key.protocol())
            }
            (source, destination) => FlowKey::v6(v6(source), v6(destination), high, low, 0),
        }
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Who sends, as far as shares are counted: an IPv4 address, or an IPv6 prefix of 64 bits, which
/// one host has all of. In the shape of a flow's name, to be hashed.
pub fn sender(parsed: &Parsed) -> FlowKey {
    match parsed.key.source() {
        IpAddr::V4(source) => FlowKey::v4(source, Ipv4Addr::UNSPECIFIED, 0, 0, 0),
        IpAddr::V6(source) => {
            let prefix = Ipv6Addr::from_bits(source.to_bits() >> 64 << 64);
            FlowKey::v6(prefix, Ipv6Addr::UNSPECIFIED, 0, 0, 0)
        }
    }
}
