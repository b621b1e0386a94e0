//! Takes what a tunnel put in front off a packet, after checking it: an outer IPv4 header (RFC
//! 2003, RFC 4213), GRE (RFC 2784), or nothing more where the kernel has taken off an IPv6 or UDP
//! header itself.
//!
//! Pure: bytes in, a slice of the same bytes or a reason out. The kernel has checked parts of the
//! outer header before a raw socket sees it; they are checked again here, so that the function
//! stands alone. Of the inner header it checks what makes it a packet at all, and its checksum,
//! because a balancer that changes the TTL and forgets the checksum is what a lab has to notice.

use std::net::Ipv4Addr;

use serde::Serialize;

/// An IPv4 header without options, in bytes.
const IPV4_HEADER: usize = 20;
/// An IPv6 header without extension headers, in bytes.
const IPV6_HEADER: usize = 40;

/// IP protocol number of IPv4 in IP (RFC 2003).
pub const PROTOCOL_IPV4: u8 = 4;
/// IP protocol number of IPv6 in IP (RFC 2473, RFC 4213).
pub const PROTOCOL_IPV6: u8 = 41;
/// IP protocol number of GRE.
pub const PROTOCOL_GRE: u8 = 47;

/// A packet whose outer header was in order.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Stripped<'a> {
    /// The outer source: the balancer's address, or one of its entropy prefix.
    pub outer_source: Ipv4Addr,
    /// The inner packet, without padding behind it.
    pub inner: &'a [u8],
}

/// Why a packet was not delivered. Every reason is a counter.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Shorter than an IPv4 header.
    OuterShort,
    /// The outer version is not 4.
    OuterVersion,
    /// The outer header length or total length contradicts the bytes at hand.
    OuterLength,
    /// The outer protocol is none of 4, 41 and 47.
    OuterProtocol,
    /// The outer header's checksum is wrong.
    OuterChecksum,
    /// A fragment: the kernel reassembles before a raw socket sees a packet.
    OuterFragment,
    /// Not the shortest GRE header around IPv4 or IPv6.
    GreHeader,
    /// What is inside is shorter than its header.
    InnerShort,
    /// What is inside is not the version of IP that was announced.
    InnerVersion,
    /// The inner header length or total length contradicts the bytes at hand.
    InnerLength,
    /// The inner header's checksum is wrong.
    InnerChecksum,
    /// The TUN device did not take the inner packet.
    Write,
}

/// The inner packet of `packet`, which begins with its outer IPv4 header.
///
/// # Errors
/// The first thing found wrong, outermost header first.
pub fn strip(packet: &[u8]) -> Result<Stripped<'_>, Reason> {
    let outer = read_header(packet).map_err(|fault| match fault {
        Fault::Short => Reason::OuterShort,
        Fault::Version => Reason::OuterVersion,
        Fault::Length => Reason::OuterLength,
        Fault::Checksum => Reason::OuterChecksum,
    })?;
    if !matches!(outer.protocol, PROTOCOL_IPV4 | PROTOCOL_IPV6 | PROTOCOL_GRE) {
        return Err(Reason::OuterProtocol);
    }
    if outer.is_fragment {
        return Err(Reason::OuterFragment);
    }
    Ok(Stripped { outer_source: outer.source, inner: inner(outer.protocol, outer.payload)? })
}

/// The inner packet of what an IP header of this protocol carries.
///
/// # Errors
/// The first thing found wrong.
pub fn inner(protocol: u8, payload: &[u8]) -> Result<&[u8], Reason> {
    match protocol {
        PROTOCOL_IPV4 => inner_ip(Some(4), payload),
        PROTOCOL_IPV6 => inner_ip(Some(6), payload),
        PROTOCOL_GRE => match payload {
            [0, 0, 0x08, 0x00, inner @ ..] => inner_ip(Some(4), inner),
            [0, 0, 0x86, 0xdd, inner @ ..] => inner_ip(Some(6), inner),
            _ => Err(Reason::GreHeader),
        },
        _ => Err(Reason::OuterProtocol),
    }
}

/// The inner packet of a GUE datagram of variant 1: IP directly, which tells its own version.
///
/// # Errors
/// The first thing found wrong.
pub fn inner_of_udp(payload: &[u8]) -> Result<&[u8], Reason> {
    inner_ip(None, payload)
}

/// A packet of IP as long as its header says, of version `expected` if that was announced.
fn inner_ip(expected: Option<u8>, bytes: &[u8]) -> Result<&[u8], Reason> {
    let version = bytes.first().ok_or(Reason::InnerShort)? >> 4;
    if expected.is_some_and(|expected| expected != version) {
        return Err(Reason::InnerVersion);
    }
    if version == 6 {
        let fixed: &[u8; IPV6_HEADER] = bytes.first_chunk().ok_or(Reason::InnerShort)?;
        let length = IPV6_HEADER + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        return bytes.get(..length).ok_or(Reason::InnerLength);
    }
    let inner = read_header(bytes).map_err(|fault| match fault {
        Fault::Short => Reason::InnerShort,
        Fault::Version => Reason::InnerVersion,
        Fault::Length => Reason::InnerLength,
        Fault::Checksum => Reason::InnerChecksum,
    })?;
    Ok(inner.whole)
}

/// What `strip` needs of one IPv4 header (RFC 791).
struct Header<'a> {
    protocol: u8,
    is_fragment: bool,
    source: Ipv4Addr,
    /// Header and payload, as long as the total length says.
    whole: &'a [u8],
    payload: &'a [u8],
}

enum Fault {
    Short,
    Version,
    Length,
    Checksum,
}

fn read_header(bytes: &[u8]) -> Result<Header<'_>, Fault> {
    let fixed: &[u8; IPV4_HEADER] = bytes.first_chunk().ok_or(Fault::Short)?;
    if fixed[0] >> 4 != 4 {
        return Err(Fault::Version);
    }
    let header_length = usize::from(fixed[0] & 0x0f) * 4;
    let total_length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header_length < IPV4_HEADER || total_length < header_length {
        return Err(Fault::Length);
    }
    let whole = bytes.get(..total_length).ok_or(Fault::Length)?;
    let (header, payload) = whole.split_at_checked(header_length).ok_or(Fault::Length)?;
    if ones_complement_sum(header) != 0xffff {
        return Err(Fault::Checksum);
    }
    // More-fragments flag or a fragment offset: bits 13 and 12..0 of the word at byte 6.
    let is_fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
    let source = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    Ok(Header { protocol: fixed[9], is_fragment, source, whole, payload })
}

/// RFC 1071; 0xffff over a header whose checksum is right. `header` has an even length.
fn ones_complement_sum(header: &[u8]) -> u16 {
    let mut sum: u32 =
        header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with a right checksum around `payload`; `options` is a multiple of 4.
    fn ipv4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let header_length = IPV4_HEADER + options.len();
        let mut packet = vec![0u8; IPV4_HEADER];
        packet[0] = 0x40 | (header_length / 4) as u8;
        packet[2..4].copy_from_slice(&((header_length + payload.len()) as u16).to_be_bytes());
        packet[8] = 64;
        packet[9] = protocol;
        packet[12..16].copy_from_slice(&[172, 16, 7, 9]);
        packet[16..20].copy_from_slice(&[192, 0, 2, 11]);
        packet.extend_from_slice(options);
        packet.extend_from_slice(payload);
        rewrite_checksum(&mut packet);
        packet
    }

    fn rewrite_checksum(packet: &mut [u8]) {
        let header_length = usize::from(packet[0] & 0x0f) * 4;
        packet[10..12].fill(0);
        let sum = !ones_complement_sum(&packet[..header_length]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }

    fn sample() -> (Vec<u8>, Vec<u8>) {
        let inner = ipv4(6, &[], b"twenty bytes of TCP.");
        (ipv4(PROTOCOL_IPV4, &[], &inner), inner)
    }

    fn changed(change: impl Fn(&mut Vec<u8>)) -> Result<(), Reason> {
        let (mut packet, _) = sample();
        change(&mut packet);
        strip(&packet).map(|_| ())
    }

    #[test]
    fn the_inner_packet_comes_out_unchanged() {
        let (packet, inner) = sample();
        let stripped = strip(&packet);
        let outer_source = Ipv4Addr::new(172, 16, 7, 9);
        assert_eq!(stripped, Ok(Stripped { outer_source, inner: &inner }));
    }

    #[test]
    fn options_in_either_header_are_passed_over() {
        let inner = ipv4(17, &[1, 1, 1, 0], b"payload");
        let packet = ipv4(PROTOCOL_IPV4, &[1, 1, 1, 1, 1, 1, 1, 0], &inner);
        assert_eq!(strip(&packet).map(|stripped| stripped.inner), Ok(&inner[..]));
    }

    #[test]
    fn padding_behind_either_packet_is_left_out() {
        let (mut packet, inner) = sample();
        packet.extend_from_slice(&[0; 6]);
        assert_eq!(strip(&packet).map(|stripped| stripped.inner), Ok(&inner[..]));

        let mut padded = inner.clone();
        padded.extend_from_slice(&[0; 6]);
        let packet = ipv4(PROTOCOL_IPV4, &[], &padded);
        assert_eq!(strip(&packet).map(|stripped| stripped.inner), Ok(&inner[..]));
    }

    #[test]
    fn every_fault_has_its_reason() {
        assert_eq!(strip(&[0x45; 19]), Err(Reason::OuterShort));
        assert_eq!(changed(|p| p[0] = 0x65), Err(Reason::OuterVersion));
        assert_eq!(changed(|p| p[0] = 0x44), Err(Reason::OuterLength));
        assert_eq!(changed(|p| p[3] += 1), Err(Reason::OuterLength));
        assert_eq!(changed(|p| p[3] = 19), Err(Reason::OuterLength));
        assert_eq!(changed(|p| p[8] -= 1), Err(Reason::OuterChecksum));
        assert_eq!(
            changed(|p| {
                p[9] = 50;
                rewrite_checksum(p);
            }),
            Err(Reason::OuterProtocol)
        );
        assert_eq!(
            changed(|p| {
                p[6] = 0x20;
                rewrite_checksum(p);
            }),
            Err(Reason::OuterFragment)
        );
        assert_eq!(strip(&ipv4(PROTOCOL_IPV4, &[], &[0x45; 19])), Err(Reason::InnerShort));
        assert_eq!(changed(|p| p[20] = 0x60), Err(Reason::InnerVersion));
        assert_eq!(changed(|p| p[23] += 1), Err(Reason::InnerLength));
        assert_eq!(changed(|p| p[20] = 0x4f), Err(Reason::InnerLength));
        assert_eq!(changed(|p| p[28] -= 1), Err(Reason::InnerChecksum));
    }

    #[test]
    fn every_carrier_gives_up_either_version() {
        let v4 = ipv4(6, &[], b"twenty bytes of TCP.");
        let mut v6 = vec![0u8; IPV6_HEADER];
        v6[0] = 0x60;
        v6[5] = 4;
        v6.extend_from_slice(b"data");
        let padded = |packet: &[u8]| [packet, &[0; 6]].concat();
        assert_eq!(inner(PROTOCOL_IPV4, &padded(&v4)), Ok(&v4[..]));
        assert_eq!(inner(PROTOCOL_IPV6, &padded(&v6)), Ok(&v6[..]));
        assert_eq!(inner_of_udp(&v4), Ok(&v4[..]));
        assert_eq!(inner_of_udp(&v6), Ok(&v6[..]));
        let gre = |ethertype: [u8; 2], packet: &[u8]| [&[0, 0], &ethertype[..], packet].concat();
        assert_eq!(inner(PROTOCOL_GRE, &gre([0x08, 0], &v4)), Ok(&v4[..]));
        assert_eq!(inner(PROTOCOL_GRE, &gre([0x86, 0xdd], &v6)), Ok(&v6[..]));
        let outer = ipv4(PROTOCOL_IPV6, &[], &v6);
        assert_eq!(strip(&outer).map(|stripped| stripped.inner), Ok(&v6[..]));

        // One that announces the other, one that is cut, flags, and something else in GRE.
        assert_eq!(inner(PROTOCOL_IPV4, &v6), Err(Reason::InnerVersion));
        assert_eq!(inner(PROTOCOL_IPV6, &v4), Err(Reason::InnerVersion));
        assert_eq!(inner(PROTOCOL_IPV6, &v6[..43]), Err(Reason::InnerLength));
        assert_eq!(inner(PROTOCOL_IPV6, &v6[..39]), Err(Reason::InnerShort));
        assert_eq!(inner(PROTOCOL_GRE, &gre([0x08, 0], &v6)), Err(Reason::InnerVersion));
        assert_eq!(inner(PROTOCOL_GRE, &gre([0x65, 0x58], &v4)), Err(Reason::GreHeader));
        assert_eq!(inner(PROTOCOL_GRE, &[0x80, 0, 0x08, 0]), Err(Reason::GreHeader));
        assert_eq!(inner_of_udp(&[]), Err(Reason::InnerShort));
        assert_eq!(inner_of_udp(&[0x20; 40]), Err(Reason::InnerVersion));
    }

    #[test]
    fn dont_fragment_is_not_a_fragment() {
        let set = changed(|p| {
            p[6] = 0x40;
            rewrite_checksum(p);
        });
        assert_eq!(set, Ok(()));
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_has_an_answer() {
        let (packet, inner) = sample();
        for length in 0..packet.len() {
            assert!(strip(&packet[..length]).is_err(), "{length} bytes are not the whole packet");
        }
        for bit in 0..packet.len() * 8 {
            let mut packet = packet.clone();
            packet[bit / 8] ^= 1 << (bit % 8);
            if let Ok(stripped) = strip(&packet) {
                assert_eq!(stripped.inner.len(), inner.len(), "bit {bit}");
            }
        }
    }
}
