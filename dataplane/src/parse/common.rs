//! The short way: what nearly all packets are, found to be so in one go.
//!
//! Untagged, IPv4 without options, no fragment, TCP, a hop left, nothing wrong. Fields that have one
//! right value are compared as they lie in memory ([`front`](super::front)), and what all answers meet
//! in is a branch that is never mispredicted. Everything else takes [`parse_any`], and where this way
//! says anything, that one says the same: see the tests.
//!
//! [`parse_any`]: super::parse_any

use conntrack::{FlowKey, Segment, V4Words};

use super::front::{self, Beginning, FRONT};
use super::{Kind, Parsed};
use crate::buffer::Buffer;
use crate::tables::PortTable;
use crate::wire::{EthernetHeader, IpProtocol, Ipv4Header, TcpHeader};

/// Bytes in which the common packet has all its headers: Ethernet, IPv4, TCP.
const COMMON: usize = EthernetHeader::LENGTH + Ipv4Header::LENGTH + TcpHeader::LENGTH;

/// Where its fields lie.
const IP: usize = EthernetHeader::LENGTH;
const TOTAL_LENGTH: usize = IP + 2;
const SOURCE: usize = IP + 12;
const DESTINATION: usize = IP + 16;
const SOURCE_PORT: usize = IP + Ipv4Header::LENGTH;
const DESTINATION_PORT: usize = SOURCE_PORT + 2;
const DATA_OFFSET: usize = SOURCE_PORT + 12;
const FLAGS: usize = DATA_OFFSET + 1;

/// The frame's first eight bytes: all of the destination, and the group bit of the source.
pub(super) const STATION_MASK: u64 =
    u64::from_le_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]);

/// The least total length of an IPv4 packet without options, by the octet of its TCP header that has
/// the data offset; of a header that is too short, more than there can be.
static SHORTEST: [u32; 256] = {
    let mut shortest = [u32::MAX; 256];
    let mut octet = 0x50;
    while octet < 256 {
        shortest[octet] = Ipv4Header::LENGTH as u32 + (octet as u32 >> 4) * 4;
        octet += 1;
    }
    shortest
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
pub(crate) struct Station {
    v4: Beginning,
    bits: u64,
}

impl Station {
    /// That of `port`. On a tagged port no packet is common.
    #[inline(always)]
    pub(crate) fn of(port: &PortTable) -> Self {
        let [a, b, c, d, e, f] = port.mac.0;
        match port.vlan {
            None => Self {
                v4: Beginning::of(port.mac.0),
                bits: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            },
            // Bits outside the mask: nothing equals it.
            Some(_) => Self { v4: Beginning::NONE, bits: !STATION_MASK },
        }
    }

    /// The first eight bytes, where [`STATION_MASK`] has bits.
    #[inline(always)]
    pub(super) fn bits(&self) -> u64 {
        self.bits
    }
}

/// A common packet: what is not the same for all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    /// Its flow over IPv4; of a packet over IPv6 nothing.
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

    /// In place of the flow of a common packet over IPv6, which is asked where it lies. No packet's
    /// words, nor any entry's: what they have for a family is neither.
    pub(crate) const V6: V4Words = V4Words { client: 0, service: 1 };

    /// A common packet over IPv6.
    #[inline(always)]
    pub(super) const fn v6(ip_length: u16, segment: Segment) -> Self {
        Self { flow: Self::V6, ip_length, segment }
    }

    /// The same at length, of one over IPv4.
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
pub(crate) fn parse_common<B: Buffer>(buffer: &B, station: &Station) -> Option<Common> {
    let mut found = None;
    if_common(buffer, station, |common| found = Some(common));
    found
}

/// Gives the common packet to `then`; `false` for everything else. Not an `Option`, which would be
/// put together and taken apart again.
#[inline(always)]
pub(crate) fn if_common<B: Buffer>(
    buffer: &B,
    station: &Station,
    then: impl FnOnce(Common),
) -> bool {
    let data = buffer.data();
    let Some(frame) = data.first_chunk::<COMMON>() else { return false };
    let Some(front) = frame.first_chunk::<FRONT>() else { return false };
    let ip_length = u16::from_be_bytes(bytes(frame, TOTAL_LENGTH));
    let (source, destination) = (bytes(frame, SOURCE), bytes(frame, DESTINATION));
    let [data_offset] = bytes(frame, DATA_OFFSET);
    let [flags] = bytes(frame, FLAGS);
    // The sum first: its words are then read as such, and not put together of what the other reads.
    let common = sums_to_zero(frame)
        & front::is_right(front, &station.v4)
        & (u32::from(ip_length) >= SHORTEST[usize::from(data_offset)])
        & (usize::from(ip_length) <= data.len() - EthernetHeader::LENGTH)
        & (source != destination)
        & !buffer.is_segmented()
        & !buffer.has_bad_checksum();
    if !common {
        return false;
    }
    let ports = (bytes(frame, SOURCE_PORT), bytes(frame, DESTINATION_PORT));
    let flow = V4Words::as_sent(source, destination, ports, IpProtocol::TCP.0);
    then(Common { flow, ip_length, segment: SEGMENT[usize::from(flags)] });
    true
}

/// The bytes from `at` on.
#[inline(always)]
fn bytes<const N: usize>(frame: &[u8; COMMON], at: usize) -> [u8; N] {
    frame.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

/// Whether the IPv4 header of 20 bytes has the right checksum: the ones' complement sum of its 16-bit
/// words, in any byte order, is all ones (RFC 1071 section 2), and so are multiples of 2^16 - 1 that
/// are not 0; the header, which begins with a 4, is not. What a sum of wider words carries is worth
/// as much at the other end.
#[inline(always)]
fn sums_to_zero(frame: &[u8; COMMON]) -> bool {
    let wide = |at| u64::from_le_bytes(bytes(frame, at));
    let last = u64::from(u32::from_le_bytes(bytes(frame, IP + 16)));
    let (sum, carry) = wide(IP).overflowing_add(wide(IP + 8));
    let (sum, carry) = sum.overflowing_add(last + u64::from(carry));
    // Divided exactly: multiples of an odd number, and they alone, times its inverse modulo 2^64 are
    // no more than what it goes into 2^64.
    const INVERSE: u64 = 0xfffe_fffe_fffe_ffff;
    const { assert!(INVERSE.wrapping_mul(0xffff) == 1) }
    (sum + u64::from(carry)).wrapping_mul(INVERSE) <= u64::MAX / 0xffff
}
