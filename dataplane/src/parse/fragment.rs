//! The first look at a fragment: can it be part of a datagram at all, and if it is the first, what
//! are its ports?

use conntrack::{FlowKey, Segment};

use super::transport::Transport;
use super::{Kind, Parsed};
use crate::fragment::Piece;
use crate::verdict::DropReason;
use crate::wire::ipv6_extensions::FragmentHeader;
use crate::wire::{IpProtocol, Ipv4Header, TcpHeader, UdpHeader};

/// Longest datagram, bytes.
const LONGEST: usize = 65_535;

#[cold]
pub(super) fn parse_v4(
    header: &Ipv4Header,
    payload: &[u8],
    link_length: u8,
) -> Result<Parsed, DropReason> {
    let piece = Piece::of_v4(header, payload.len());
    // RFC 791 counts the header, too: put together it must not be longer than it can say.
    check(&piece, header.header_length())?;
    let found = transport(&piece, header.protocol, payload)?;
    Ok(Parsed {
        kind: Kind::Fragment,
        segment: found.segment,
        link_length,
        header_length: header.header_length() as u16,
        ip_length: header.total_length.get(),
        key: FlowKey::v4(
            header.source_address(),
            header.destination_address(),
            found.source_port,
            found.destination_port,
            header.protocol.0,
        ),
    })
}

/// What the fragment header at the front of `fragmented` and the transport header in `payload`,
/// if it is there, say.
#[cold]
pub(super) fn transport_v6(
    fragmented: &[u8],
    protocol: IpProtocol,
    payload: &[u8],
) -> Result<Transport, DropReason> {
    let (header, all) = FragmentHeader::parse(fragmented).ok_or(DropReason::BadExtensionHeader)?;
    let piece = Piece::of_v6(header, all.len());
    check(&piece, 0)?;
    transport(&piece, protocol, payload)
}

/// RFC 791 section 3.2, RFC 8200 section 4.5: all but the last are a multiple of 8 bytes long,
/// and none reaches beyond the longest datagram.
fn check(piece: &Piece, header_length: usize) -> Result<(), DropReason> {
    let off_the_grid = piece.more && !piece.length.is_multiple_of(8);
    let too_far = piece.end() as usize + header_length > LONGEST;
    if piece.length == 0 || off_the_grid || too_far {
        return Err(DropReason::BadFragment);
    }
    Ok(())
}

/// The first fragment has the whole transport header (RFC 1858 section 3.1, RFC 7112 section 5).
fn transport(piece: &Piece, protocol: IpProtocol, payload: &[u8]) -> Result<Transport, DropReason> {
    if !piece.is_first() {
        // RFC 1858 section 3.2: at offset 8 lie the TCP flags.
        let flags_later = protocol == IpProtocol::TCP && piece.offset == 8;
        return if flags_later {
            Err(DropReason::TinyFragment)
        } else {
            Ok(Transport::WITHOUT_PORTS)
        };
    }
    match protocol {
        IpProtocol::TCP => {
            let (tcp, _) = TcpHeader::parse(payload).ok_or(DropReason::TinyFragment)?;
            if tcp.data_offset() < 5 {
                return Err(DropReason::BadTcpHeader);
            }
            if tcp.header_length() > payload.len() {
                return Err(DropReason::TinyFragment);
            }
            Ok(Transport {
                segment: Segment::from_tcp_flags(tcp.flags.0),
                source_port: tcp.source_port.get(),
                destination_port: tcp.destination_port.get(),
            })
        }
        IpProtocol::UDP => {
            let (udp, _) = UdpHeader::parse(payload).ok_or(DropReason::TinyFragment)?;
            // It counts the whole datagram, so it exceeds what is here.
            if usize::from(udp.length.get()) < UdpHeader::LENGTH {
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
