//! Address Resolution Protocol for IPv4 over Ethernet (RFC 826, RFC 5227).
//!
//! ```text
//!  0        2        4   5   6        8                 14          18                24          28
//! +--------+--------+---+---+--------+-----------------+-----------+-----------------+-----------+
//! | 0x0001 | 0x0800 | 6 | 4 | oper.  | sender hardware | sender IP | target hardware | target IP |
//! +--------+--------+---+---+--------+-----------------+-----------+-----------------+-----------+
//! ```
//!
//! `validate` is the gate: only a packet that passes it may touch the neighbour table. It
//! refuses what could poison the table with an address that no station can have.

use core::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ethernet::{EtherType, MacAddress};

/// An ARP packet with the address sizes of IPv4 over Ethernet.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct ArpPacket {
    /// Kind of link; 1 is Ethernet.
    pub hardware_type: U16,
    /// Kind of address asked about; an EtherType.
    pub protocol_type: EtherType,
    /// Bytes of a hardware address; 6.
    pub hardware_address_length: u8,
    /// Bytes of a protocol address; 4.
    pub protocol_address_length: u8,
    /// 1 for a request, 2 for a reply.
    pub operation: U16,
    /// Who speaks.
    pub sender_hardware_address: MacAddress,
    /// Who speaks; 0.0.0.0 in a probe (RFC 5227).
    pub sender_protocol_address: [u8; 4],
    /// Who is spoken to; not looked at in a request.
    pub target_hardware_address: MacAddress,
    /// Who is asked for.
    pub target_protocol_address: [u8; 4],
}

/// What a valid packet does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Asks for the target's hardware address.
    Request,
    /// Tells the sender's hardware address.
    Reply,
}

/// Why a packet is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidArp {
    /// Not IPv4 over Ethernet, or sizes that are not theirs.
    NotIpv4OverEthernet,
    /// Neither request nor reply.
    Operation,
    /// The sender's hardware address is a group or all zeroes.
    SenderHardwareAddress,
    /// The sender's IPv4 address is multicast, reserved or loopback, or 0.0.0.0 in a reply.
    SenderProtocolAddress,
}

impl ArpPacket {
    /// Bytes of the packet.
    pub const LENGTH: usize = size_of::<Self>();
    /// Hardware type of Ethernet.
    pub const ETHERNET: u16 = 1;
    /// Operation of a request.
    pub const REQUEST: u16 = 1;
    /// Operation of a reply.
    pub const REPLY: u16 = 2;

    /// A view of the packet and the bytes after it (an Ethernet frame pads it to 46);
    /// `None` if fewer than [`Self::LENGTH`] are there.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// As [`Self::parse`], to write through.
    #[inline]
    pub fn parse_mut(bytes: &mut [u8]) -> Option<(&mut Self, &mut [u8])> {
        Self::mut_from_prefix(bytes).ok()
    }

    /// Is this a request or a reply that may be acted upon?
    ///
    /// # Errors
    /// The first rule that the packet breaks.
    pub fn validate(&self) -> Result<ArpOperation, InvalidArp> {
        if self.hardware_type.get() != Self::ETHERNET
            || self.protocol_type != EtherType::IPV4
            || self.hardware_address_length != 6
            || self.protocol_address_length != 4
        {
            return Err(InvalidArp::NotIpv4OverEthernet);
        }
        let operation = match self.operation.get() {
            Self::REQUEST => ArpOperation::Request,
            Self::REPLY => ArpOperation::Reply,
            _ => return Err(InvalidArp::Operation),
        };
        if !self.sender_hardware_address.is_station() {
            return Err(InvalidArp::SenderHardwareAddress);
        }
        // RFC 5227, section 2.1.1: a probe is a request whose sender address is all zeroes.
        let sender = self.sender_address();
        let is_probe = operation == ArpOperation::Request && sender.is_unspecified();
        if !is_probe && super::martian::is_martian_source_v4(sender) {
            return Err(InvalidArp::SenderProtocolAddress);
        }
        Ok(operation)
    }

    /// Is this a gratuitous ARP (announcement): the sender asks for, or answers, its own address?
    #[inline]
    pub fn is_gratuitous(&self) -> bool {
        self.sender_protocol_address == self.target_protocol_address
    }

    /// The sender's IPv4 address.
    #[inline]
    pub fn sender_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.sender_protocol_address)
    }

    /// The target's IPv4 address.
    #[inline]
    pub fn target_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.target_protocol_address)
    }

    /// "Who has `target`? Tell `sender`." The frame goes to the broadcast address, or to the
    /// known address when an entry is only refreshed (RFC 1122, section 2.3.2.1).
    pub const fn build_request(hardware: MacAddress, sender: Ipv4Addr, target: Ipv4Addr) -> Self {
        Self::build(Self::REQUEST, hardware, sender, MacAddress::ZERO, target)
    }

    /// "`target_protocol_address` of the request is at `hardware`." The frame goes to the
    /// request's sender. The caller has validated the request and owns the address asked for.
    pub const fn build_reply(request: &Self, hardware: MacAddress) -> Self {
        Self {
            hardware_type: U16::new(Self::ETHERNET),
            protocol_type: EtherType::IPV4,
            hardware_address_length: 6,
            protocol_address_length: 4,
            operation: U16::new(Self::REPLY),
            sender_hardware_address: hardware,
            sender_protocol_address: request.target_protocol_address,
            target_hardware_address: request.sender_hardware_address,
            target_protocol_address: request.sender_protocol_address,
        }
    }

    /// "`address` is at `hardware`", unasked, to the broadcast address.
    ///
    /// RFC 5227, section 3: an announcement is a request, not a reply, with the announced
    /// address as both sender and target.
    pub const fn build_gratuitous(hardware: MacAddress, address: Ipv4Addr) -> Self {
        Self::build(Self::REQUEST, hardware, address, MacAddress::ZERO, address)
    }

    const fn build(
        operation: u16,
        sender_hardware_address: MacAddress,
        sender: Ipv4Addr,
        target_hardware_address: MacAddress,
        target: Ipv4Addr,
    ) -> Self {
        Self {
            hardware_type: U16::new(Self::ETHERNET),
            protocol_type: EtherType::IPV4,
            hardware_address_length: 6,
            protocol_address_length: 4,
            operation: U16::new(operation),
            sender_hardware_address,
            sender_protocol_address: sender.octets(),
            target_hardware_address,
            target_protocol_address: target.octets(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const THEM: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const OUR_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    const THEIR_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    #[test]
    fn a_request_has_the_bytes_of_rfc_826() {
        let request = ArpPacket::build_request(US, OUR_ADDRESS, THEIR_ADDRESS);
        assert_eq!(
            request.as_bytes(),
            [
                0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 192, 0,
                2, 1
            ]
        );
        assert_eq!(request.validate(), Ok(ArpOperation::Request));
        assert!(!request.is_gratuitous());
    }

    #[test]
    fn a_reply_answers_the_address_that_was_asked_for() {
        let request = ArpPacket::build_request(THEM, THEIR_ADDRESS, OUR_ADDRESS);
        let reply = ArpPacket::build_reply(&request, US);
        assert_eq!(reply.validate(), Ok(ArpOperation::Reply));
        assert_eq!(reply.sender_hardware_address, US);
        assert_eq!(reply.sender_address(), OUR_ADDRESS);
        assert_eq!(reply.target_hardware_address, THEM);
        assert_eq!(reply.target_address(), THEIR_ADDRESS);
    }

    #[test]
    fn an_announcement_is_a_gratuitous_request() {
        let announcement = ArpPacket::build_gratuitous(US, OUR_ADDRESS);
        assert_eq!(announcement.validate(), Ok(ArpOperation::Request));
        assert!(announcement.is_gratuitous());
    }

    #[test]
    fn each_rule_refuses_the_packet_that_breaks_it() {
        let valid = ArpPacket::build_request(THEM, THEIR_ADDRESS, OUR_ADDRESS);

        for broken in [
            ArpPacket { hardware_type: U16::new(6), ..valid },
            ArpPacket { protocol_type: EtherType::IPV6, ..valid },
            ArpPacket { hardware_address_length: 8, ..valid },
            ArpPacket { protocol_address_length: 16, ..valid },
        ] {
            assert_eq!(broken.validate(), Err(InvalidArp::NotIpv4OverEthernet));
        }
        for operation in [0, 3, 8, 0xffff] {
            let broken = ArpPacket { operation: U16::new(operation), ..valid };
            assert_eq!(broken.validate(), Err(InvalidArp::Operation));
        }
        for mac in [MacAddress::BROADCAST, MacAddress::ZERO, MacAddress([1, 0, 0x5e, 0, 0, 1])] {
            let broken = ArpPacket { sender_hardware_address: mac, ..valid };
            assert_eq!(broken.validate(), Err(InvalidArp::SenderHardwareAddress));
        }
        for address in [[127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255], [0, 0, 0, 1]] {
            let broken = ArpPacket { sender_protocol_address: address, ..valid };
            assert_eq!(broken.validate(), Err(InvalidArp::SenderProtocolAddress));
        }
    }

    #[test]
    fn a_probe_from_the_unspecified_address_is_a_request_but_not_a_reply() {
        let probe = ArpPacket::build_request(THEM, Ipv4Addr::UNSPECIFIED, OUR_ADDRESS);
        assert_eq!(probe.validate(), Ok(ArpOperation::Request));
        let reply = ArpPacket { operation: U16::new(ArpPacket::REPLY), ..probe };
        assert_eq!(reply.validate(), Err(InvalidArp::SenderProtocolAddress));
    }
}
