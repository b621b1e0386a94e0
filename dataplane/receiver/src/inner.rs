//! The packet inside: whom it is for, and which flow it is of, as the kernel here knows flows.
//!
//! Only what the decision needs is read. Checksums and the rest are the kernel's business, which
//! gets the packet as it came.

use std::net::IpAddr;

/// The flow of a packet, from this host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// TCP or UDP.
    pub transport: Transport,
    /// The VIP's address.
    pub local: IpAddr,
    /// The VIP's port.
    pub local_port: u16,
    /// The client's address.
    pub remote: IpAddr,
    /// The client's port.
    pub remote_port: u16,
}

/// What a flow is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The first of a connection: a TCP SYN.
    Opening(Flow),
    /// Anything else of a flow, or an ICMP error that quotes one.
    Flow(Flow),
    /// No flow that can be read: another protocol, a fragment, a header cut short.
    Nothing,
}

/// A packet, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// As long as its header says.
    pub bytes: &'a [u8],
    /// Where it is going: a VIP.
    pub destination: IpAddr,
    /// What it is about.
    pub about: About,
}

/// Why something is no packet of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIp {
    /// Shorter than its header, or than it says.
    Length,
    /// Neither version, or not the one that was announced.
    Version,
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Extension headers that are looked past, at most.
const EXTENSIONS: usize = 8;

/// Reads the packet at the front of `bytes`, of version `announced` if that is given.
///
/// # Errors
/// When it is not one.
pub fn parse(bytes: &[u8], announced: Option<u8>) -> Result<Packet<'_>, NotIp> {
    let version = bytes.first().ok_or(NotIp::Length)? >> 4;
    if announced.is_some_and(|announced| announced != version) {
        return Err(NotIp::Version);
    }
    let header = Header::parse(bytes).ok_or(match version {
        4 | 6 => NotIp::Length,
        _ => NotIp::Version,
    })?;
    let bytes = bytes.get(..header.total_length).ok_or(NotIp::Length)?;
    let payload = bytes.get(header.length..).ok_or(NotIp::Length)?;
    let about = match header.fragment {
        true => About::Nothing,
        false => about(&header, payload),
    };
    Ok(Packet { bytes, destination: header.destination, about })
}

/// What is needed of an IP header.
struct Header {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Bytes before what `protocol` says.
    length: usize,
    /// Bytes of all of the packet.
    total_length: usize,
    /// Not the whole datagram.
    fragment: bool,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::v4(bytes),
            6 => Self::v6(bytes),
            _ => None,
        }
    }

    /// RFC 791 section 3.1.
    fn v4(bytes: &[u8]) -> Option<Self> {
        let fixed: &[u8; 20] = bytes.first_chunk()?;
        let length = usize::from(fixed[0] & 0x0f) * 4;
        let total_length = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        // More fragments, or an offset.
        let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
        let address = |at: usize| {
            let octets: [u8; 4] = fixed.get(at..at + 4)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        };
        let (source, destination) = (address(12)?, address(16)?);
        (length >= fixed.len() && total_length >= length).then_some(Self {
            source,
            destination,
            protocol: fixed[9],
            length,
            total_length,
            fragment,
        })
    }

    /// RFC 8200 section 3, and the extension headers of section 4 that may stand before a
    /// transport header.
    fn v6(bytes: &[u8]) -> Option<Self> {
        let fixed: &[u8; 40] = bytes.first_chunk()?;
        let total_length = fixed.len() + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        let address = |at: usize| {
            let octets: [u8; 16] = fixed.get(at..at + 16)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        };
        let (source, destination) = (address(8)?, address(24)?);
        let (mut protocol, mut length, mut fragment) = (fixed[6], fixed.len(), false);
        for _ in 0..EXTENSIONS {
            let Some([next, words, ..]) = bytes.get(length..) else { break };
            let bytes_here = match protocol {
                // Hop-by-hop options, routing, destination options.
                0 | 43 | 60 => 8 + usize::from(*words) * 8,
                44 => {
                    fragment = true;
                    break;
                }
                _ => break,
            };
            (protocol, length) = (*next, length + bytes_here);
        }
        let length = length.min(total_length);
        Some(Self { source, destination, protocol, length, total_length, fragment })
    }
}

fn about(header: &Header, payload: &[u8]) -> About {
    let (local, remote) = (header.destination, header.source);
    let flow = |transport| {
        let [a, b, c, d, ..] = *payload else { return None };
        let (remote_port, local_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(Flow { transport, local, local_port, remote, remote_port })
    };
    let found = match (header.protocol, header.source) {
        // Without the byte of flags nobody can tell a SYN.
        (TCP, _) => payload.get(13).and_then(|flags| {
            let flow = flow(Transport::Tcp)?;
            // SYN without ACK.
            Some(if flags & 0x12 == 0x02 { About::Opening(flow) } else { About::Flow(flow) })
        }),
        (UDP, _) => flow(Transport::Udp).map(About::Flow),
        // RFC 792: unreachable, time exceeded, parameter problem. RFC 4443: the errors.
        (ICMP, IpAddr::V4(_)) if matches!(payload.first(), Some(3 | 11 | 12)) => quoted(payload),
        (ICMPV6, IpAddr::V6(_)) if matches!(payload.first(), Some(1..=4)) => quoted(payload),
        _ => None,
    };
    found.unwrap_or(About::Nothing)
}

/// The flow that an ICMP error quotes: a packet that was sent from here, whose first eight bytes
/// behind its header are enough (RFC 792).
fn quoted(message: &[u8]) -> Option<About> {
    let quote = message.get(8..)?;
    let header = Header::parse(quote).filter(|header| !header.fragment)?;
    let [a, b, c, d, ..] = *quote.get(header.length..)? else { return None };
    let transport = match header.protocol {
        TCP => Transport::Tcp,
        UDP => Transport::Udp,
        _ => return None,
    };
    Some(About::Flow(Flow {
        transport,
        local: header.source,
        local_port: u16::from_be_bytes([a, b]),
        remote: header.destination,
        remote_port: u16::from_be_bytes([c, d]),
    }))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    const CLIENT: [u8; 4] = [198, 51, 100, 7];
    const VIP: [u8; 4] = [203, 0, 113, 1];

    fn flow(transport: Transport) -> Flow {
        Flow {
            transport,
            local: VIP.into(),
            local_port: 80,
            remote: CLIENT.into(),
            remote_port: 40_000,
        }
    }

    fn built(
        builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn tcp() -> etherparse::PacketBuilderStep<etherparse::TcpHeader> {
        PacketBuilder::ipv4(CLIENT, VIP, 64).tcp(40_000, 80, 1, 1000)
    }

    fn about(bytes: &[u8]) -> About {
        parse(bytes, None).unwrap().about
    }

    #[test]
    fn the_flow_is_read_from_the_hosts_side() {
        let syn = built(tcp().syn(), &[]);
        let packet = parse(&syn, Some(4)).unwrap();
        assert_eq!(packet.destination, IpAddr::from(VIP));
        assert_eq!(packet.about, About::Opening(flow(Transport::Tcp)));
        for builder in [tcp().ack(1), tcp().syn().ack(1), tcp().rst(), tcp().fin().ack(1)] {
            assert_eq!(about(&built(builder, b"x")), About::Flow(flow(Transport::Tcp)));
        }
        let mut udp = Vec::new();
        PacketBuilder::ipv4(CLIENT, VIP, 64).udp(40_000, 80).write(&mut udp, b"x").unwrap();
        assert_eq!(about(&udp), About::Flow(flow(Transport::Udp)));
        assert_eq!(parse(&udp, Some(6)), Err(NotIp::Version));
    }

    #[test]
    fn ipv6_is_read_behind_its_extension_headers() {
        let (client, vip) = ([0x20; 16], [0x26; 16]);
        let mut bytes = Vec::new();
        PacketBuilder::ipv6(client, vip, 64).tcp(1, 2, 3, 4).syn().write(&mut bytes, &[]).unwrap();
        let expected = Flow {
            transport: Transport::Tcp,
            local: vip.into(),
            local_port: 2,
            remote: client.into(),
            remote_port: 1,
        };
        assert_eq!(about(&bytes), About::Opening(expected));
        // Destination options of 16 bytes in between.
        bytes[6] = 60;
        bytes[5] += 16;
        bytes.splice(40..40, [6, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(about(&bytes), About::Opening(expected));
        // A fragment header.
        bytes[40] = 44;
        bytes[5] += 8;
        bytes.splice(56..56, [6, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(about(&bytes), About::Nothing);
    }

    #[test]
    fn an_icmp_error_is_about_the_flow_it_quotes() {
        let mut sent = Vec::new();
        let answer = PacketBuilder::ipv4(VIP, CLIENT, 64).tcp(80, 40_000, 1, 1000).ack(7);
        answer.write(&mut sent, b"data").unwrap();
        // Eight bytes of TCP are enough.
        let mut error = vec![3, 4, 0, 0, 0, 0, 5, 0];
        error.extend(&sent[..28]);
        let mut bytes = Vec::new();
        let outer = etherparse::Ipv4Header::new(
            error.len() as u16,
            64,
            etherparse::IpNumber::ICMP,
            [192, 0, 2, 1],
            VIP,
        );
        outer.unwrap().write(&mut bytes).unwrap();
        bytes.extend(&error);
        assert_eq!(about(&bytes), About::Flow(flow(Transport::Tcp)));
        bytes[20] = 8;
        assert_eq!(about(&bytes), About::Nothing, "an echo request");
    }

    #[test]
    fn fragments_and_padding() {
        let mut bytes = built(tcp().ack(1), &[]);
        bytes.extend([0; 6]);
        assert_eq!(parse(&bytes, None).unwrap().bytes.len(), 40);
        bytes[6] = 0x20;
        assert_eq!(about(&bytes), About::Nothing);
        bytes[2..4].copy_from_slice(&[0, 60]);
        assert_eq!(parse(&bytes, None), Err(NotIp::Length));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_bytes_are(bytes in prop::collection::vec(any::<u8>(), 0..128), v6: bool) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            if let Ok(packet) = parse(&bytes, None) {
                prop_assert!(packet.bytes.len() <= bytes.len());
            }
        }
    }
}
