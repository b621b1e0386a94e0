//! Neighbour discovery (RFC 4861): ARP's work for IPv6, done with ICMPv6 messages.
//!
//! ```text
//!  0               8               16                              31
//! +---------------+---------------+--------------------------------+
//! |  135 or 136   |     code 0    |            checksum            |
//! +-+-+-+---------+---------------+--------------------------------+
//! |R|S|O|                     reserved                             |   flags: in 136 only
//! +-+-+-+----------------------------------------------------------+
//! |                        target, 16 bytes                        |
//! +---------------+---------------+--------------------------------+
//! | option type   | length in 8 B | 1: source, 2: target link-layer address ...
//! +---------------+---------------+--------------------------------+
//! ```
//!
//! [`validate`] is the gate, as for ARP: only a message that passes it may be answered or touch
//! the neighbour table. A hop limit of 255 shows that no router passed the message on, so that
//! its sender is on this link.

use core::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::MacAddress;
use super::icmpv6::{Icmpv6Type, message_checksum};
use super::ipv6::Ipv6Header;
use super::martian::is_martian_source_v6;
use super::protocol::IpProtocol;

/// The hop limit of every message of neighbour discovery.
pub const HOP_LIMIT: u8 = 255;
/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// A solicitation or an advertisement, without its options.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct NeighbourHeader {
    /// Solicitation or advertisement.
    pub message_type: Icmpv6Type,
    /// 0.
    pub code: u8,
    /// Internet checksum over pseudo-header and message.
    pub checksum: U16,
    /// Of an advertisement: router, solicited, override (the high three bits).
    pub flags: U32,
    /// Who is asked for, or who answers.
    pub target: [u8; 16],
}

/// A message and its one option, as the node sends it: IPv6 header and all.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct NeighbourPacket {
    /// The IPv6 header.
    pub ip: Ipv6Header,
    /// The message.
    pub message: NeighbourHeader,
    /// The option's type.
    pub option_type: u8,
    /// Its length in units of eight bytes: 1.
    pub option_length: u8,
    /// The link-layer address.
    pub link_layer_address: MacAddress,
}

/// What a valid message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourMessage {
    /// Asks for the target's link-layer address.
    Solicitation {
        /// Who is asked for.
        target: Ipv6Addr,
        /// The asker's own link-layer address, if it says so.
        link: Option<MacAddress>,
    },
    /// Tells the target's link-layer address.
    Advertisement {
        /// Who it is about.
        target: Ipv6Addr,
        /// Its link-layer address, if it says so.
        link: Option<MacAddress>,
        /// S: an answer to a solicitation.
        solicited: bool,
        /// O: stands above what is known.
        overriding: bool,
    },
}

/// Why a message is not believed: the first rule of RFC 4861, section 7.1 that it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidNeighbour {
    /// It came through a router: its hop limit is not 255.
    HopLimit,
    /// Cut off, a code that is not 0, or neither solicitation nor advertisement.
    Message,
    /// The target, or the sender, cannot be a machine's address; or the destination does not go
    /// with it.
    Address,
    /// An option of length 0, one that does not fit, or a link-layer address of no station.
    Option,
}

impl NeighbourHeader {
    /// Bytes of the message without options.
    pub const LENGTH: usize = size_of::<Self>();
    const SOLICITED: u32 = 1 << 30;
    const OVERRIDE: u32 = 1 << 29;

    /// A view of the message and its options; `None` if fewer than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }
}

/// Is this message, whose checksum was right, one that may be acted upon? `message` is the ICMPv6
/// message that came under `ip`.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate(ip: &Ipv6Header, message: &[u8]) -> Result<NeighbourMessage, InvalidNeighbour> {
    if ip.hop_limit != HOP_LIMIT {
        return Err(InvalidNeighbour::HopLimit);
    }
    let (header, options) = NeighbourHeader::parse(message).ok_or(InvalidNeighbour::Message)?;
    if header.code != 0 {
        return Err(InvalidNeighbour::Message);
    }
    let target = Ipv6Addr::from(header.target);
    let (source, destination) = (ip.source_address(), ip.destination_address());
    if is_martian_source_v6(target) {
        return Err(InvalidNeighbour::Address);
    }
    // Duplicate address detection asks from the unspecified address (RFC 4862, section 5.4.2).
    let detects = source.is_unspecified();
    if !detects && is_martian_source_v6(source) {
        return Err(InvalidNeighbour::Address);
    }
    match header.message_type {
        Icmpv6Type::NEIGHBOUR_SOLICITATION => {
            let link = link_option(options, SOURCE_LINK_LAYER_ADDRESS)?;
            if detects && destination != solicited_node(target) {
                return Err(InvalidNeighbour::Address);
            }
            if detects && link.is_some() {
                return Err(InvalidNeighbour::Option);
            }
            Ok(NeighbourMessage::Solicitation { target, link })
        }
        Icmpv6Type::NEIGHBOUR_ADVERTISEMENT => {
            let link = link_option(options, TARGET_LINK_LAYER_ADDRESS)?;
            let flags = header.flags.get();
            let solicited = flags & NeighbourHeader::SOLICITED != 0;
            if detects || solicited && destination.is_multicast() {
                return Err(InvalidNeighbour::Address);
            }
            let overriding = flags & NeighbourHeader::OVERRIDE != 0;
            Ok(NeighbourMessage::Advertisement { target, link, solicited, overriding })
        }
        _ => Err(InvalidNeighbour::Message),
    }
}

/// The link-layer address in the first option of this type. RFC 4861, section 4.6: unknown
/// options are passed over; a length of 0 makes the message invalid.
fn link_option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddress>, InvalidNeighbour> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty());
        let option = option.ok_or(InvalidNeighbour::Option)?;
        options = options.get(length..).unwrap_or_default();
        if kind == wanted && found.is_none() {
            let address = option.get(2..).and_then(|bytes| bytes.first_chunk());
            let mac = MacAddress(*address.ok_or(InvalidNeighbour::Option)?);
            if !mac.is_station() {
                return Err(InvalidNeighbour::Option);
            }
            found = Some(mac);
        }
    }
    if options.is_empty() { Ok(found) } else { Err(InvalidNeighbour::Option) }
}

/// The group that an address is asked for at: `ff02::1:ffXX:XXXX` (RFC 4291, section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let [high, low] = [u16::from_be_bytes([0xff, a]), u16::from_be_bytes([b, c])];
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low)
}

/// The link-layer address of a group: `33:33` and the last four bytes (RFC 2464, section 7).
pub fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

/// The link-local address that a station gives itself (RFC 4291, appendix A).
pub fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let half = |high, low| u16::from_be_bytes([high, low]);
    // The bit that says "locally administered" is turned around.
    Ipv6Addr::new(0xfe80, 0, 0, 0, half(a ^ 0x02, b), half(c, 0xff), half(0xfe, d), half(e, f))
}

impl NeighbourPacket {
    /// Bytes of the packet.
    pub const LENGTH: usize = size_of::<Self>();

    /// "Who has `target`? Tell `source`, at `mac`." To everyone who could have it, or, to refresh
    /// what is known, to the target itself.
    pub fn solicitation(source: Ipv6Addr, mac: MacAddress, target: Ipv6Addr, direct: bool) -> Self {
        let destination = if direct { target } else { solicited_node(target) };
        let kind = (Icmpv6Type::NEIGHBOUR_SOLICITATION, SOURCE_LINK_LAYER_ADDRESS);
        Self::build(source, destination, kind, 0, target, mac)
    }

    /// "`target` is at `mac`", from the target, to who asked; to all nodes when the asker has no
    /// address yet (section 7.2.4). With `overriding` it replaces what others know.
    pub fn advertisement(
        target: Ipv6Addr,
        mac: MacAddress,
        asker: Ipv6Addr,
        overriding: bool,
    ) -> Self {
        let (destination, solicited) = match asker.is_unspecified() {
            true => (ALL_NODES, 0),
            false => (asker, NeighbourHeader::SOLICITED),
        };
        let flags = solicited | if overriding { NeighbourHeader::OVERRIDE } else { 0 };
        let kind = (Icmpv6Type::NEIGHBOUR_ADVERTISEMENT, TARGET_LINK_LAYER_ADDRESS);
        Self::build(target, destination, kind, flags, target, mac)
    }

    fn build(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        (message_type, option_type): (Icmpv6Type, u8),
        flags: u32,
        target: Ipv6Addr,
        mac: MacAddress,
    ) -> Self {
        let payload = (Self::LENGTH - Ipv6Header::LENGTH) as u16;
        let ip = Ipv6Header::build(source, destination, IpProtocol::ICMPV6, payload);
        let mut packet = Self {
            ip: Ipv6Header { hop_limit: HOP_LIMIT, ..ip },
            message: NeighbourHeader {
                message_type,
                code: 0,
                checksum: U16::new(0),
                flags: U32::new(flags),
                target: target.octets(),
            },
            option_type,
            option_length: 1,
            link_layer_address: mac,
        };
        let message = packet.as_bytes().get(Ipv6Header::LENGTH..).unwrap_or_default();
        packet.message.checksum = U16::new(message_checksum(source, destination, message));
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::icmpv6::is_sound;

    const US: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    fn address(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn check(packet: &NeighbourPacket) -> Result<NeighbourMessage, InvalidNeighbour> {
        let bytes = packet.as_bytes();
        let (ip, message) = Ipv6Header::parse(bytes).unwrap();
        assert!(is_sound(ip.source_address(), ip.destination_address(), message));
        validate(ip, message)
    }

    fn solicitation() -> NeighbourPacket {
        NeighbourPacket::solicitation(address("2001:db8::2"), US, address("2001:db8::1"), false)
    }

    #[test]
    fn groups_and_addresses_are_those_of_the_examples() {
        // RFC 4291, sections 2.7.1 and appendix A; RFC 2464, section 7.
        let group = solicited_node(address("4037::1:800:200e:8c6c"));
        assert_eq!(group, address("ff02::1:ff0e:8c6c"));
        assert_eq!(group_mac(group), MacAddress([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
        let mac = MacAddress([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(link_local(mac), address("fe80::3656:78ff:fe9a:bcde"));
    }

    #[test]
    fn a_solicitation_goes_to_everyone_or_to_the_one_it_is_about() {
        let packet = solicitation();
        assert_eq!(packet.ip.destination_address(), address("ff02::1:ff00:1"));
        let target = address("2001:db8::1");
        let message = NeighbourMessage::Solicitation { target, link: Some(US) };
        assert_eq!(check(&packet), Ok(message));
        let direct = NeighbourPacket::solicitation(address("2001:db8::2"), US, target, true);
        assert_eq!(direct.ip.destination_address(), target);
        assert_eq!(check(&direct), Ok(message));
    }

    #[test]
    fn an_advertisement_answers_the_asker_or_all_nodes() {
        let (target, asker) = (address("2001:db8::1"), address("fe80::9"));
        let packet = NeighbourPacket::advertisement(target, US, asker, true);
        assert_eq!(packet.ip.destination_address(), asker);
        let answer = |solicited, overriding| NeighbourMessage::Advertisement {
            target,
            link: Some(US),
            solicited,
            overriding,
        };
        assert_eq!(check(&packet), Ok(answer(true, true)));
        let packet = NeighbourPacket::advertisement(target, US, Ipv6Addr::UNSPECIFIED, false);
        assert_eq!(packet.ip.destination_address(), ALL_NODES);
        assert_eq!(check(&packet), Ok(answer(false, false)));
    }

    #[test]
    fn each_rule_refuses_the_message_that_breaks_it() {
        use InvalidNeighbour as Invalid;
        let broken = |change: fn(&mut NeighbourPacket)| {
            let mut packet = solicitation();
            change(&mut packet);
            let bytes = packet.as_bytes();
            let (ip, message) = Ipv6Header::parse(bytes).unwrap();
            validate(ip, message)
        };
        assert_eq!(broken(|p| p.ip.hop_limit = 254), Err(Invalid::HopLimit));
        assert_eq!(broken(|p| p.message.code = 1), Err(Invalid::Message));
        assert_eq!(broken(|p| p.message.message_type = Icmpv6Type(134)), Err(Invalid::Message));
        assert_eq!(broken(|p| p.message.target[0] = 0xff), Err(Invalid::Address));
        assert_eq!(broken(|p| p.ip.source[0] = 0xff), Err(Invalid::Address));
        assert_eq!(broken(|p| p.option_length = 0), Err(Invalid::Option));
        assert_eq!(broken(|p| p.option_length = 2), Err(Invalid::Option));
        assert_eq!(broken(|p| p.link_layer_address = MacAddress::ZERO), Err(Invalid::Option));
        // Duplicate address detection has no link-layer address to tell.
        assert_eq!(broken(|p| p.ip.source = [0; 16]), Err(Invalid::Option));
        let detects = |p: &mut NeighbourPacket| (p.ip.source, p.option_type) = ([0; 16], 14);
        let mut packet = solicitation();
        detects(&mut packet);
        let (ip, message) = Ipv6Header::parse(packet.as_bytes()).unwrap();
        let target = address("2001:db8::1");
        assert_eq!(
            validate(ip, message),
            Ok(NeighbourMessage::Solicitation { target, link: None })
        );
        packet.ip.destination = target.octets();
        let (ip, message) = Ipv6Header::parse(packet.as_bytes()).unwrap();
        assert_eq!(validate(ip, message), Err(Invalid::Address));
    }

    #[test]
    fn an_answer_to_a_group_was_asked_for_by_nobody() {
        let target = address("2001:db8::1");
        let mut packet = NeighbourPacket::advertisement(target, US, address("fe80::9"), true);
        packet.ip.destination = ALL_NODES.octets();
        let (ip, message) = Ipv6Header::parse(packet.as_bytes()).unwrap();
        assert_eq!(validate(ip, message), Err(InvalidNeighbour::Address));
    }
}
