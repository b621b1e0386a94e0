//! What the first look takes from a transport header: the ports, and what the packet means for
//! its flow. The same over both versions of IP.

use conntrack::Segment;

use crate::verdict::DropReason;
use crate::wire::{IpProtocol, TcpHeader, UdpHeader};

/// What a transport header says.
pub(super) struct Transport {
    pub(super) segment: Segment,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

impl Transport {
    /// Of a protocol that has none.
    pub(super) const WITHOUT_PORTS: Self =
        Self { segment: Segment::Datagram, source_port: 0, destination_port: 0 };
}

/// Reads the header at the front of `payload`, all of what the IP packet carries.
#[inline(always)]
pub(super) fn transport(protocol: IpProtocol, payload: &[u8]) -> Result<Transport, DropReason> {
    match protocol {
        IpProtocol::TCP => {
            let (tcp, _) = TcpHeader::parse(payload).ok_or(DropReason::BadTcpHeader)?;
            if tcp.data_offset() < 5 || tcp.header_length() > payload.len() {
                return Err(DropReason::BadTcpHeader);
            }
            Ok(Transport {
                segment: Segment::from_tcp_flags(tcp.flags.0),
                source_port: tcp.source_port.get(),
                destination_port: tcp.destination_port.get(),
            })
        }
        IpProtocol::UDP => {
            let (udp, _) = UdpHeader::parse(payload).ok_or(DropReason::BadUdpHeader)?;
            let length = usize::from(udp.length.get());
            if length < UdpHeader::LENGTH || length > payload.len() {
                return Err(DropReason::BadUdpLength);
            }
            Ok(Transport {
                segment: Segment::Datagram,
                source_port: udp.source_port.get(),
                destination_port: udp.destination_port.get(),
            })
        }
        _ => Ok(Transport::WITHOUT_PORTS),
    }
}
