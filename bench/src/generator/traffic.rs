//! What the packets are: flows, versions of IP, protocols, sizes and the share that open
//! connections; and how a frame is made quickly.
//!
//! There is a template for each kind of frame, with the sums of its checksums (RFC 1071) so far. A
//! packet is a copy of it, in which what differs is written, and added to the sums: no table of
//! flows is kept, so that ten million flows cost what ten do.
//!
//! Flows `0..flows` go on, in turns. Packets that open a connection (SYN) are of flows behind them,
//! each of another one until [`flows::MOST_FLOWS`] is reached and they begin anew.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use dataplane::buffer::Buffer;

use crate::flows::{self, MOST_FLOWS};
use crate::generator::sizes::{CHECK_SEQUENCE, SizeMix};
use crate::generator::stamp::{self, MAGIC};

/// Which versions of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// Every other client has IPv6.
    Both,
}

/// Which protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// TCP only.
    Tcp,
    /// UDP only.
    Udp,
    /// Of every four clients two speak UDP.
    Both,
}

/// Where packets go: `count` addresses, one behind the other, and a port.
#[derive(Clone, Copy, Debug)]
pub struct Destinations {
    /// The first over IPv4.
    pub v4: Ipv4Addr,
    /// The first over IPv6.
    pub v6: Ipv6Addr,
    /// How many, 1 or more.
    pub count: u32,
    /// The port.
    pub port: u16,
}

impl Destinations {
    /// The first `count` VIPs of the benchmarks' node.
    pub fn vips(count: u32, port: u16) -> Self {
        let v4 = Ipv4Addr::new(198, 18, 0, 1);
        Self { v4, v6: Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 1, 0), count, port }
    }
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Versions of IP.
    pub families: Families,
    /// Protocols.
    pub protocols: Protocols,
    /// Flows that go on, 1 to [`MOST_FLOWS`].
    pub flows: u32,
    /// Share of the packets that open a connection, 0 to 1.
    pub syn_share: f64,
    /// Sizes of the frames. One too short for headers and mark is as long as they are.
    pub sizes: SizeMix,
    /// Where to.
    pub destinations: Destinations,
    /// The MAC address that frames are sent to.
    pub to: [u8; 6],
    /// The MAC address that they come from.
    pub from: [u8; 6],
}

/// Makes the packets of a [`Mix`], for ever the same in the same order.
#[derive(Debug)]
pub struct Traffic {
    templates: Vec<Template>,
    sizes: Vec<u8>,
    families: Families,
    protocols: Protocols,
    destinations: Destinations,
    flows: u32,
    /// The next flow that goes on, the next that opens, the next place in `sizes`.
    next: u32,
    next_opening: u32,
    next_size: usize,
    /// SYNs a packet, in 2^-32; what has added up to one so far.
    syn_step: u64,
    syn_credit: u64,
}

/// A packet that lacks the time at which it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Unsealed {
    /// Sum of all else that its checksum covers.
    sum: u32,
    time_at: u8,
    checksum_at: u8,
    is_udp: bool,
}

/// A frame of one kind and size, with zeros where packets differ.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    header_sum: u32,
    segment_sum: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    Ack,
    Syn,
    Datagram,
}

const SEGMENTS: usize = 3;
const LINK_BYTES: usize = 14;
const SHORTEST_FRAME: usize = 60;

impl Traffic {
    /// From the first packet on.
    ///
    /// # Errors
    /// When a number is out of range, or openings are asked for that cannot be.
    pub fn new(mix: &Mix) -> Result<Self> {
        let Mix { flows, syn_share, destinations, .. } = *mix;
        ensure!((1..=MOST_FLOWS).contains(&flows), "{flows} flows (expected 1 to {MOST_FLOWS})");
        ensure!((0.0..=1.0).contains(&syn_share), "a SYN share of {syn_share} (expected 0 to 1)");
        ensure!(
            syn_share == 0.0 || mix.protocols != Protocols::Udp,
            "a SYN share of {syn_share} over UDP, which has none (expected TCP, or both)"
        );
        ensure!(
            syn_share == 0.0 || flows < MOST_FLOWS,
            "{flows} flows leave none for SYNs (expected less than {MOST_FLOWS})"
        );
        ensure!(destinations.count > 0, "0 destinations (expected 1 or more)");
        let last = destinations.count - 1;
        ensure!(
            destinations.v4.to_bits().checked_add(last).is_some()
                && destinations.v6.to_bits().checked_add(u128::from(last)).is_some(),
            "{} destinations from {} or {} on are not there",
            destinations.count,
            destinations.v4,
            destinations.v6
        );
        let mut templates = Vec::new();
        for size in mix.sizes.sizes() {
            let length = usize::from(size - CHECK_SEQUENCE);
            for is_v6 in [false, true] {
                for segment in [Segment::Ack, Segment::Syn, Segment::Datagram] {
                    templates.push(Template::new(mix, length, is_v6, segment));
                }
            }
        }
        Ok(Self {
            templates,
            sizes: mix.sizes.cycle().to_vec(),
            families: mix.families,
            protocols: mix.protocols,
            destinations,
            flows,
            next: 0,
            next_opening: flows,
            next_size: 0,
            syn_step: (syn_share * (1u64 << 32) as f64) as u64,
            syn_credit: 0,
        })
    }

    /// Makes the next packet in `buffer`, which is empty: all but its time, which [`seal`] writes.
    /// `None` when the buffer has no room for it.
    #[inline]
    pub fn make(&mut self, buffer: &mut impl Buffer, tag: u16, sequence: u32) -> Option<Unsealed> {
        let (number, segment) = self.choose();
        let is_v6 = match self.families {
            Families::V4 => false,
            Families::V6 => true,
            Families::Both => number & 4 != 0,
        };
        let place = self.sizes.get(self.next_size).copied().unwrap_or_default();
        self.next_size =
            if self.next_size + 1 >= self.sizes.len() { 0 } else { self.next_size + 1 };
        let kind = usize::from(place) * 2 * SEGMENTS + usize::from(is_v6) * SEGMENTS;
        let template = self.templates.get(kind + segment as usize)?;
        if !buffer.append(&template.bytes) {
            return None;
        }
        let (client, source_port) = flows::client(number);
        let vip = number % self.destinations.count;
        let ports = u32::from(source_port) << 16 | u32::from(self.destinations.port);
        let bytes = buffer.data_mut();
        let (addresses, segment_at) = if is_v6 {
            let source = flows::client_v6(client).to_bits();
            let destination = self.destinations.v6.to_bits() + u128::from(vip);
            let header: &mut [u8; 54] = bytes.first_chunk_mut()?;
            header[16..18].copy_from_slice(&(number as u16).to_be_bytes());
            header[22..38].copy_from_slice(&source.to_be_bytes());
            header[38..54].copy_from_slice(&destination.to_be_bytes());
            (words128(source) + words128(destination), 54)
        } else {
            let source = flows::client_v4(client).to_bits();
            let destination = self.destinations.v4.to_bits() + vip;
            let sum = words(source) + words(destination);
            let checksum = !fold(template.header_sum + sum + (number & 0xffff));
            let header: &mut [u8; 34] = bytes.first_chunk_mut()?;
            header[18..20].copy_from_slice(&(number as u16).to_be_bytes());
            header[24..26].copy_from_slice(&checksum.to_be_bytes());
            header[26..30].copy_from_slice(&source.to_be_bytes());
            header[30..34].copy_from_slice(&destination.to_be_bytes());
            (sum, 34)
        };
        let segment_bytes: &mut [u8; 20] = bytes.get_mut(segment_at..)?.first_chunk_mut()?;
        segment_bytes[..4].copy_from_slice(&ports.to_be_bytes());
        let is_udp = segment == Segment::Datagram;
        let [sequence_at, tag_at, time_at, checksum_at] =
            if is_udp { [12, 10, 16, 6] } else { [4, 14, 8, 16] };
        segment_bytes[sequence_at..sequence_at + 4].copy_from_slice(&sequence.to_be_bytes());
        segment_bytes[tag_at..tag_at + 2].copy_from_slice(&tag.to_be_bytes());
        let sum = template.segment_sum + addresses + words(ports) + words(sequence);
        Some(Unsealed {
            sum: sum + u32::from(tag),
            time_at: (segment_at + time_at) as u8,
            checksum_at: (segment_at + checksum_at) as u8,
            is_udp,
        })
    }

    /// The flow of the next packet, and what it carries.
    #[inline]
    fn choose(&mut self) -> (u32, Segment) {
        self.syn_credit += self.syn_step;
        if self.syn_credit >> 32 != 0 {
            self.syn_credit &= u64::from(u32::MAX);
            let number = self.next_opening;
            let next = number + 1;
            self.next_opening = if next < MOST_FLOWS { next } else { self.flows };
            return (number, Segment::Syn);
        }
        let number = self.next;
        self.next = if number + 1 < self.flows { number + 1 } else { 0 };
        let is_udp = match self.protocols {
            Protocols::Tcp => false,
            Protocols::Udp => true,
            Protocols::Both => number & 8 != 0,
        };
        (number, if is_udp { Segment::Datagram } else { Segment::Ack })
    }
}

/// Writes into a packet that it is sent at `time`, and its checksum. May be done again.
#[inline]
pub fn seal(frame: &mut [u8], unsealed: &Unsealed, time: u32) {
    let mut checksum = !fold(unsealed.sum + words(time));
    // RFC 768: a sum of zero is sent as ones, for zero says that there is none.
    if unsealed.is_udp && checksum == 0 {
        checksum = 0xffff;
    }
    let time_at = usize::from(unsealed.time_at);
    if let Some(place) = frame.get_mut(time_at..time_at + 4) {
        place.copy_from_slice(&time.to_be_bytes());
    }
    let checksum_at = usize::from(unsealed.checksum_at);
    if let Some(place) = frame.get_mut(checksum_at..checksum_at + 2) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
}

impl Template {
    fn new(mix: &Mix, length: usize, is_v6: bool, segment: Segment) -> Self {
        let header_bytes = if is_v6 { 40 } else { 20 };
        let (protocol, least) = match segment {
            Segment::Datagram => (17u8, 8 + stamp::UDP_BYTES),
            Segment::Ack | Segment::Syn => (6, 20),
        };
        let segment_bytes = length.saturating_sub(LINK_BYTES + header_bytes).max(least);
        // The shortest frame is padded: a TCP segment without payload, as clients send it.
        let is_padded = length <= SHORTEST_FRAME && segment != Segment::Datagram;
        let segment_bytes = if is_padded { least } else { segment_bytes };
        let mut header = Vec::new();
        if is_v6 {
            header.extend([0x60, 0, 0, 0]);
            header.extend((segment_bytes as u16).to_be_bytes());
            header.extend([protocol, 64]);
            header.extend([0; 32]);
        } else {
            header.extend([0x45, 0]);
            header.extend(((20 + segment_bytes) as u16).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            header.extend([0; 8]);
        }
        let mut body = vec![0u8; segment_bytes];
        let [magic_high, magic_low] = MAGIC.to_be_bytes();
        match segment {
            Segment::Datagram => {
                body[4..6].copy_from_slice(&(segment_bytes as u16).to_be_bytes());
                body[8..10].copy_from_slice(&[magic_high, magic_low]);
            }
            Segment::Ack | Segment::Syn => {
                body[12] = 0x50;
                body[13] = if segment == Segment::Syn { 0x02 } else { 0x10 };
                body[18..20].copy_from_slice(&[magic_high, magic_low]);
            }
        }
        // The pseudo-header's protocol and length (RFC 793, RFC 768, RFC 8200 section 8.1).
        let segment_sum = sum_of(&body) + u32::from(protocol) + segment_bytes as u32;
        let ethertype: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let header_sum = sum_of(&header);
        let mut bytes = [&mix.to[..], &mix.from, &ethertype, &header, &body].concat();
        bytes.resize(bytes.len().max(SHORTEST_FRAME), 0);
        Self { bytes, header_sum, segment_sum }
    }
}

/// The sum of the 16-bit words of `bytes`, which are fewer than 2^16; an odd last byte is padded.
fn sum_of(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let sum: u32 = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    sum + rest.first().map_or(0, |last| u32::from(*last) << 8)
}

#[inline]
const fn words(value: u32) -> u32 {
    (value >> 16) + (value & 0xffff)
}

#[inline]
const fn words128(value: u128) -> u32 {
    let (high, low) = ((value >> 64) as u64, value as u64);
    words((high >> 32) as u32) + words(high as u32) + words((low >> 32) as u32) + words(low as u32)
}

/// Carries added until there are none.
#[inline]
const fn fold(sum: u32) -> u16 {
    let sum = words(sum);
    words(sum) as u16
}

#[cfg(test)]
mod tests;
