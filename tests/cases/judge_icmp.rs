//! Judges ICMP errors of the node's own, over both versions of IP.

use std::net::IpAddr;

use etherparse::{Icmpv4Slice, Icmpv6Slice, Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::Error;
use super::judge::{Frame, check_way_back, checked_header};

/// RFC 1812 section 4.3.2, RFC 4443 sections 2.4 and 3: from `error.source` to the sender of the
/// packet in question, which is quoted as far as the longest error allows.
pub(super) fn error(frame: &Frame<'_>, question: &Frame<'_>, error: &Error) {
    check_way_back(frame, question);
    let (message, longest) = match error.source {
        IpAddr::V4(source) => {
            let header = checked_header(frame.body);
            let asked = Ipv4HeaderSlice::from_slice(question.body).unwrap();
            assert_eq!(header.source(), source.octets());
            assert_eq!(header.destination(), asked.source());
            assert_eq!((header.ttl(), header.protocol().0, header.ihl()), (64, 1, 5));
            assert_eq!(usize::from(header.total_len()), frame.body.len(), "no padding");
            let message = Icmpv4Slice::from_slice(&frame.body[20..]).unwrap();
            let sum = message.icmp_type().calc_checksum(message.payload());
            assert_eq!(message.checksum(), sum);
            (&frame.body[20..], 576)
        }
        IpAddr::V6(source) => {
            let header = Ipv6HeaderSlice::from_slice(frame.body).unwrap();
            let asked = Ipv6HeaderSlice::from_slice(question.body).unwrap();
            assert_eq!(header.source(), source.octets());
            assert_eq!(header.destination(), asked.source());
            assert_eq!((header.hop_limit(), header.next_header().0), (64, 58));
            assert_eq!(usize::from(header.payload_length()), frame.body.len() - 40);
            let message = Icmpv6Slice::from_slice(&frame.body[40..]).unwrap();
            assert!(message.is_checksum_valid(header.source(), header.destination()));
            (&frame.body[40..], 1280)
        }
    };
    assert_eq!((message[0], message[1]), (error.kind, error.code));
    assert_eq!(message[4..8], error.mtu.to_be_bytes());
    let came = question.ip();
    let quoted = came.len().min(longest - (frame.body.len() - message.len()) - 8);
    assert_eq!(message[8..], came[..quoted], "the packet as it came, as much as may be quoted");
}
