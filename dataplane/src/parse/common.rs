//! The short way: what nearly all packets are, found to be so in one go.
//!
//! Untagged, IPv4 without options, no fragment, TCP, nothing wrong. Fields that have one right
//! value are compared as they lie in memory, eight bytes at a time, and all answers meet in one
//! branch, which is never mispredicted. Everything else takes [`parse_any`], and where this way
//! says anything, that one says the same: see the tests.
//!
//! [`parse_any`]: super::parse_any

use std::net::Ipv4Addr;

use conntrack::{FlowKey, Packet, Segment, V4Words};
use zerocopy::byteorder::little_endian as little;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Kind, Parsed};
use crate::buffer::{Buffer, ChecksumHint};
use crate::tables::PortTable;
use crate::wire::{EthernetHeader, IpProtocol, Ipv4Header, TcpHeader, martian};

/// Bytes in which the common packet has all its headers: Ethernet, IPv4, TCP.
const COMMON: usize = 14 + 20 + 20;

/// The frame's first eight bytes: all of the destination, and the group bit of the source.
pub(super) const STATION_MASK: u64 =
    u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]);
/// The next: EtherType, version and header length.
const TYPE_MASK: u64 = u64::from_le_bytes([0, 0, 0, 0, 0xff, 0xff, 0xff, 0]);
const TYPE: u64 = u64::from_le_bytes([0, 0, 0, 0, 0x08, 0x00, 0x45, 0]);
/// The next: more fragments and fragment offset, protocol.
const CARRIED_MASK: u64 = u64::from_le_bytes([0, 0, 0, 0, 0x3f, 0xff, 0, 0xff]);
const CARRIED: u64 = u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, IpProtocol::TCP.0]);

/// First octets that no host can have ([`martian::is_martian_source_v4`]).
static MARTIAN: [bool; 256] = {
    let mut martian = [false; 256];
    let mut octet = 0;
    while octet < 256 {
        martian[octet] = martian::is_martian_source_v4(Ipv4Addr::new(octet as u8, 0, 0, 1));
        octet += 1;
    }
    martian
};

/// What the TCP flags mean, by the whole octet: a jump on them would be mispredicted.
pub(super) static SEGMENT: [Segment; 256] = {
    let mut segments = [Segment::Ack; 256];
    let mut flags = 0;
    while flags < 256 {
        segments[flags] = Segment::from_tcp_flags(flags as u8);
        flags += 1;
    }
    segments
};

/// What a port's common packets begin with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Station(u64);

impl Station {
    /// That of `port`. On a tagged port no packet is common.
    #[inline(always)]
    pub(crate) fn of(port: &PortTable) -> Self {
        let [a, b, c, d, e, f] = port.mac.0;
        match port.vlan {
            None => Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])),
            // A bit outside the mask: nothing equals it.
            Some(_) => Self(!STATION_MASK),
        }
    }

    /// The first eight bytes, where [`STATION_MASK`] has bits.
    #[inline(always)]
    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

/// A common packet: what is not the same for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    /// Its flow.
    pub(crate) flow: V4Words,
    /// As [`Parsed::ip_length`].
    pub(crate) ip_length: u16,
    /// As [`Parsed::segment`].
    pub(crate) segment: Segment,
}

impl Common {
    /// Stands for a packet that is not common: of no flow over IPv4.
    pub(crate) const NONE: Self =
        Self { flow: V4Words { client: 0, service: 0 }, ip_length: 0, segment: Segment::Datagram };

    /// Whether it stands for a packet at all.
    #[inline(always)]
    pub(crate) fn is_some(&self) -> bool {
        self.flow.service != 0
    }

    /// What it is to its flow.
    #[inline(always)]
    pub(crate) fn packet(&self) -> Packet {
        Packet { segment: self.segment, length: self.ip_length }
    }

    /// The same at length.
    #[inline]
    pub(crate) fn parsed(&self) -> Parsed {
        Parsed {
            kind: Kind::Flow,
            segment: self.segment,
            link_length: EthernetHeader::LENGTH as u8,
            header_length: Ipv4Header::LENGTH as u16,
            ip_length: self.ip_length,
            key: FlowKey::from_v4_words(self.flow),
        }
    }
}

/// Parses the common packet; `None` for everything else, whatever it is.
pub(crate) fn parse_common<B: Buffer>(buffer: &B, station: Station) -> Option<Common> {
    let mut found = None;
    if_common(buffer, station, |common| found = Some(common));
    found
}

/// Gives the common packet to `then`; `false` for everything else. Not an `Option`, which would be
/// put together and taken apart again.
#[inline(always)]
pub(crate) fn if_common<B: Buffer>(
    buffer: &B,
    station: Station,
    then: impl FnOnce(Common),
) -> bool {
    let Some(front) = buffer.data().first_chunk::<COMMON>() else { return false };
    let Ok(front) = Front::ref_from_bytes(front) else { return false };
    let (source, destination) = (front.source(), front.destination());
    let ip_length = front.ip_length();
    let tcp_length = usize::from(front.data_offset >> 2) & 0x3c;
    let wrong = ((front.station.get() & STATION_MASK) ^ station.0)
        | ((front.kind.get() & TYPE_MASK) ^ TYPE)
        | ((front.carried.get() & CARRIED_MASK) ^ CARRIED);
    let common = (wrong == 0)
        & front.header_sums_to_zero()
        & (tcp_length >= TcpHeader::LENGTH)
        & (usize::from(ip_length) >= Ipv4Header::LENGTH + tcp_length)
        & (usize::from(ip_length) <= buffer.data().len() - EthernetHeader::LENGTH)
        & !(MARTIAN[usize::from(source as u8)] | MARTIAN[usize::from(destination as u8)])
        & (source != destination)
        & !buffer.is_segmented()
        & (buffer.checksum_hint() != ChecksumHint::Bad);
    if !common {
        return false;
    }
    let flow = V4Words::as_sent(front.addresses.to_bytes(), front.ports, IpProtocol::TCP.0);
    then(Common { flow, ip_length, segment: SEGMENT[usize::from(front.flags)] });
    true
}

/// The front of a frame, in the pieces that it is looked at in. Little endian are those that are
/// compared or summed as they lie, whatever the order of their bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Front {
    /// Bytes 0 to 7: destination, and the beginning of the source.
    station: little::U64,
    /// Bytes 8 to 15: up to the EtherType, and the first two of the IPv4 header.
    kind: little::U64,
    /// Bytes 16 to 23: total length to protocol.
    carried: little::U64,
    checksum: little::U16,
    /// Source, destination.
    addresses: little::U64,
    ports: [u8; 4],
    sequence: [u8; 8],
    data_offset: u8,
    flags: u8,
    rest: [u8; 6],
}

const _: () = assert!(size_of::<Front>() == COMMON);

impl Front {
    /// The total length of the IPv4 header.
    #[inline(always)]
    fn ip_length(&self) -> u16 {
        (self.carried.get() as u16).swap_bytes()
    }

    #[inline(always)]
    fn source(&self) -> u32 {
        self.addresses.get() as u32
    }

    #[inline(always)]
    fn destination(&self) -> u32 {
        (self.addresses.get() >> 32) as u32
    }

    /// Whether the IPv4 header of 20 bytes has the right checksum: the ones' complement sum of
    /// its 16-bit words, in any byte order, is all ones (RFC 1071 section 2).
    #[inline(always)]
    fn header_sums_to_zero(&self) -> bool {
        let small = (self.kind.get() >> 48)
            + u64::from(self.checksum.get())
            + u64::from(self.source())
            + u64::from(self.destination());
        let (sum, carry) = self.carried.get().overflowing_add(small);
        // After a carry the sum is small.
        let sum = sum + u64::from(carry);
        let (sum, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
        let sum = sum + u32::from(carry);
        // Both halves added to each other, the carry of the lower come into the upper.
        sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff
    }
}
