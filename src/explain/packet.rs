//! The packet that is asked about: made of the command line, and sound in every checksum.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use dataplane::tables::PortTable;
use dataplane::wire::ipv6_extensions::FragmentHeader;
use dataplane::wire::{
    EtherType, EthernetHeader, IcmpHeader, IpProtocol, Ipv4Header, Ipv6Header, MacAddress,
    TcpFlags, TcpHeader, UdpHeader, checksum,
};
use zerocopy::IntoBytes;

use crate::cli::{ExplainArguments, Flag, IcmpError, Part, Protocol};
use crate::failure::Failure;

/// The station that the packet comes from: locally administered, nobody's.
const SENDER: MacAddress = MacAddress([0x02, 0, 0, 0, 0xff, 0xfe]);

/// Bytes of the packet that an ICMP error is about.
const QUOTED: u16 = 1500;
/// What would have fitted.
const NARROW: u16 = 1300;

/// One packet, as asked about.
#[derive(Debug)]
pub(super) struct Question {
    source: SocketAddr,
    /// Of the source's family.
    destination: SocketAddr,
    /// Of TCP; `None`: UDP.
    flags: Option<TcpFlags>,
    /// Of UDP.
    payload: Vec<u8>,
    /// Not all of it.
    part: Option<Part>,
    /// Not the packet itself, but this error about the flow's other direction.
    error: Option<IcmpError>,
}

/// Bytes of a fragment that is asked about.
const PART: usize = 32;
/// Where a later one begins: behind a packet of 1500 bytes.
const LATER: u16 = 1480;

impl Question {
    /// # Errors
    /// Addresses of two families, and flags for UDP.
    pub(super) fn from_arguments(arguments: &ExplainArguments) -> Result<Self, Failure> {
        let ExplainArguments { src, dst, .. } = arguments;
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(Failure::configuration(format!(
                "--src {src} --dst {dst}: addresses of two families (expected IPv4 for both, or \
                 IPv6)"
            )));
        }
        let flags = match arguments.proto {
            Protocol::Tcp if arguments.flags.is_empty() => Some(TcpFlags::SYN),
            Protocol::Tcp => {
                let flags = arguments.flags.iter().map(|flag| tcp_flag(*flag));
                Some(flags.fold(TcpFlags(0), TcpFlags::union))
            }
            Protocol::Udp if arguments.flags.is_empty() => None,
            Protocol::Udp => {
                let problem = "--flags: UDP has no flags (expected --proto tcp, or no --flags)";
                return Err(Failure::configuration(problem));
            }
        };
        let payload = match &arguments.connection_id {
            None => Vec::new(),
            Some(_) if flags.is_some() => {
                let problem = "--connection-id: TCP has none (expected --proto udp)";
                return Err(Failure::configuration(problem));
            }
            Some(id) => quic_packet(&id.0),
        };
        if arguments.icmp_error.is_some()
            && !(arguments.flags.is_empty()
                && arguments.connection_id.is_none()
                && arguments.fragment.is_none())
        {
            let problem = "--icmp-error: of the quoted packet only the flow is read (expected \
                           neither --flags nor --connection-id nor --fragment)";
            return Err(Failure::configuration(problem));
        }
        let error = arguments.icmp_error;
        Ok(Self {
            source: *src,
            destination: *dst,
            flags,
            payload,
            part: arguments.fragment,
            error,
        })
    }

    /// The frame as it would arrive at `port`, with the port's tag.
    pub(super) fn frame(&self, port: &PortTable) -> Vec<u8> {
        let (protocol, mut segment) = match self.error {
            None => self.segment(),
            Some(error) => self.error_message(error),
        };
        let length = segment.len() as u16;
        let (sum, ip, version) = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = Ipv4Header::LENGTH as u16 + length;
                (
                    checksum::pseudo_header_v4(source, destination, protocol, length),
                    Ipv4Header::build(source, destination, protocol, total).as_bytes().to_vec(),
                    EtherType::IPV4,
                )
            }
            (source, destination) => {
                let (source, destination) = (v6(source), v6(destination));
                (
                    checksum::pseudo_header_v6(source, destination, protocol, u32::from(length)),
                    Ipv6Header::build(source, destination, protocol, length).as_bytes().to_vec(),
                    EtherType::IPV6,
                )
            }
        };
        // IPv4's ICMP alone has no pseudo-header.
        let sum = match protocol {
            IpProtocol::ICMP => checksum::checksum(&segment),
            _ => sum.add_bytes(&segment).checksum(),
        };
        match UdpHeader::parse_mut(&mut segment) {
            _ if self.error.is_some() => {
                if let Some((icmp, _)) = IcmpHeader::parse_mut(&mut segment) {
                    icmp.checksum = sum.into();
                }
            }
            Some((udp, _)) if self.flags.is_none() => udp.set_computed_checksum(sum),
            _ => {
                if let Some((tcp, _)) = TcpHeader::parse_mut(&mut segment) {
                    tcp.checksum = sum.into();
                }
            }
        }
        let (ip, segment) = match self.part {
            Some(part) => self.fragment(part, protocol, segment),
            None => (ip, segment),
        };
        // From the sender to the port: the addresses of a frame of the port's own, the other way.
        let mut frame = port.link_header(SENDER, version).to_vec();
        if let Some((ethernet, _)) = EthernetHeader::parse_mut(&mut frame) {
            std::mem::swap(&mut ethernet.destination, &mut ethernet.source);
        }
        frame.extend_from_slice(&ip);
        frame.extend_from_slice(&segment);
        frame
    }

    /// The IP header of a part of a datagram, with what stands behind it, and the part.
    fn fragment(&self, part: Part, protocol: IpProtocol, segment: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        let (offset, more, mut bytes) = match part {
            Part::First => (0, true, segment),
            Part::Later => (LATER, false, Vec::new()),
        };
        bytes.resize(PART, 0);
        let header = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total = Ipv4Header::LENGTH + PART;
                let mut header = Ipv4Header::build(source, destination, protocol, total as u16);
                header.identification = 1.into();
                header.flags_and_fragment_offset = ((u16::from(more) << 13) | (offset / 8)).into();
                header.fill_checksum();
                header.as_bytes().to_vec()
            }
            (source, destination) => {
                let length = (FragmentHeader::LENGTH + PART) as u16;
                let header = Ipv6Header::build(
                    v6(source),
                    v6(destination),
                    IpProtocol::IPV6_FRAGMENT,
                    length,
                );
                let fragment = FragmentHeader {
                    next_header: protocol,
                    reserved: 0,
                    offset_and_more: (offset | u16::from(more)).into(),
                    identification: 1.into(),
                };
                [header.as_bytes(), fragment.as_bytes()].concat()
            }
        };
        (header, bytes)
    }

    /// An ICMP error, with checksum 0: it quotes the header of a long packet from the VIP to the
    /// client, and eight bytes.
    fn error_message(&self, error: IcmpError) -> (IpProtocol, Vec<u8>) {
        let transport = if self.flags.is_some() { IpProtocol::TCP } else { IpProtocol::UDP };
        let ports = [self.destination.port(), self.source.port()].map(u16::to_be_bytes).concat();
        let (protocol, quoted) = match (self.destination.ip(), self.source.ip()) {
            (IpAddr::V4(vip), IpAddr::V4(client)) => {
                let ip = Ipv4Header::build(vip, client, transport, QUOTED);
                (IpProtocol::ICMP, ip.as_bytes().to_vec())
            }
            (IpAddr::V6(vip), IpAddr::V6(client)) => {
                let length = QUOTED.saturating_sub(Ipv6Header::LENGTH as u16);
                let ip = Ipv6Header::build(vip, client, transport, length);
                (IpProtocol::ICMPV6, ip.as_bytes().to_vec())
            }
            // Refused when the question was made.
            _ => (IpProtocol::ICMP, Vec::new()),
        };
        let (message_type, code) = match (error, protocol) {
            (IcmpError::TooBig, IpProtocol::ICMP) => (3, 4),
            (IcmpError::TooBig, _) => (2, 0),
            (IcmpError::Unreachable, IpProtocol::ICMP) => (3, 3),
            (IcmpError::Unreachable, _) => (1, 4),
            (IcmpError::TimeExceeded, IpProtocol::ICMP) => (11, 0),
            (IcmpError::TimeExceeded, _) => (3, 0),
        };
        let mtu = if error == IcmpError::TooBig { NARROW.to_be_bytes() } else { [0; 2] };
        let header = [message_type, code, 0, 0, 0, 0, mtu[0], mtu[1]];
        (protocol, [&header[..], &quoted, &ports, &[0; 4]].concat())
    }

    /// The transport header, with checksum 0, and the payload.
    fn segment(&self) -> (IpProtocol, Vec<u8>) {
        let (source_port, destination_port) = (self.source.port(), self.destination.port());
        match self.flags {
            None => {
                let length = (UdpHeader::LENGTH + self.payload.len()) as u16;
                let udp = UdpHeader::build(source_port, destination_port, length);
                (IpProtocol::UDP, [udp.as_bytes(), &self.payload].concat())
            }
            Some(flags) => {
                let tcp = TcpHeader {
                    source_port: source_port.into(),
                    destination_port: destination_port.into(),
                    sequence_number: 1.into(),
                    acknowledgment_number: u32::from(flags.ack()).into(),
                    data_offset_and_reserved: 5 << 4,
                    flags,
                    window: 65_535.into(),
                    checksum: 0.into(),
                    urgent_pointer: 0.into(),
                };
                (IpProtocol::TCP, tcp.as_bytes().to_vec())
            }
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = self.error {
            let error = match error {
                IcmpError::TooBig => "packet too big",
                IcmpError::Unreachable => "port unreachable",
                IcmpError::TimeExceeded => "time exceeded",
            };
            let protocol = if self.flags.is_some() { "tcp" } else { "udp" };
            let (client, vip) = (self.source, self.destination);
            return write!(
                f,
                "{} -> {} icmp {error}, about {vip} -> {client} {protocol}",
                client.ip(),
                vip.ip()
            );
        }
        write!(f, "{} -> {} ", self.source, self.destination)?;
        match self.flags {
            None => f.write_str("udp")?,
            Some(flags) => write!(f, "tcp [{flags}]")?,
        }
        match self.part {
            None => Ok(()),
            Some(Part::First) => f.write_str(", its first fragment"),
            Some(Part::Later) => f.write_str(", a later fragment"),
        }
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A packet with a short header: the fixed bit, the id, and what would be encrypted (RFC 9000
/// section 17.3). 21 octets behind the id are the least that a server can tell from a reset.
fn quic_packet(id: &[u8]) -> Vec<u8> {
    [&[0x40], id, &[0; 21]].concat()
}

fn tcp_flag(flag: Flag) -> TcpFlags {
    match flag {
        Flag::Syn => TcpFlags::SYN,
        Flag::Ack => TcpFlags::ACK,
        Flag::Fin => TcpFlags::FIN,
        Flag::Rst => TcpFlags::RST,
        Flag::Psh => TcpFlags::PSH,
        Flag::Urg => TcpFlags::URG,
    }
}
