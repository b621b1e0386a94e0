//! Frames against an independent reader, marks through every wrapping, proportions.

use std::collections::{HashMap, HashSet};

use dataplane::buffer::Frame;

use super::*;
use crate::flows::{Ip, flow};
use crate::frame;
use crate::generator::stamp::Stamp;

pub(crate) fn mix() -> Mix {
    Mix {
        families: Families::V4,
        protocols: Protocols::Tcp,
        flows: 1000,
        syn_share: 0.0,
        sizes: SizeMix::parse("64").unwrap(),
        destinations: Destinations {
            v4: Ipv4Addr::new(198, 18, 0, 1),
            v6: Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 1, 0),
            count: 1000,
            port: 80,
        },
        to: [2, 0, 0, 0, 0, 1],
        from: [2, 0, 0, 0, 0, 2],
    }
}

fn everything() -> Mix {
    Mix {
        families: Families::Both,
        protocols: Protocols::Both,
        syn_share: 0.1,
        sizes: SizeMix::parse("64,65,100,594,1518,9018").unwrap(),
        ..mix()
    }
}

fn packets(mix: &Mix, count: u32) -> Vec<Vec<u8>> {
    let mut traffic = Traffic::new(mix).unwrap();
    let packet = |sequence: u32| {
        let mut buffer = Frame::new(&[]);
        let unsealed = traffic.make(&mut buffer, 0xabcd, sequence).unwrap();
        // A time written twice is the second.
        seal(buffer.data_mut(), &unsealed, 1);
        seal(buffer.data_mut(), &unsealed, 0xfedc_0000 | sequence);
        buffer.data().to_vec()
    };
    (0..count).map(packet).collect()
}

/// RFC 1071, the simplest way.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or_default()));
    let mut sum: u64 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Version, protocol, addresses, ports and flags of a frame whose lengths and checksums are right.
fn read(frame: &[u8]) -> (u8, u8, Vec<u8>, u8) {
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    let packet = &frame[14..];
    assert_eq!(packet[0] >> 4, if is_v6 { 6 } else { 4 });
    let length = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let (header, protocol, end, addresses) = match is_v6 {
        true => (40, packet[6], 40 + length(4), &packet[8..40]),
        false => (20, packet[9], length(2), &packet[12..20]),
    };
    assert!(is_v6 || sum(&packet[..20]) == 0xffff, "header checksum");
    assert!(packet[end..].iter().all(|byte| *byte == 0), "what pads a frame is zero");
    let segment = &packet[header..end];
    let pseudo = [addresses, &[0, protocol], &(segment.len() as u16).to_be_bytes()].concat();
    assert_eq!(sum(&[&pseudo[..], segment].concat()), 0xffff, "checksum of {frame:02x?}");
    if protocol == 17 {
        assert_eq!(usize::from(u16::from_be_bytes([segment[4], segment[5]])), segment.len());
    }
    let tuple = [addresses, &segment[..4]].concat();
    (packet[0] >> 4, protocol, tuple, segment[13])
}

#[test]
fn every_frame_of_every_kind_is_right_and_marked() {
    let frames = packets(&everything(), 6000);
    let mut kinds = HashSet::new();
    for (sequence, frame) in (0u32..).zip(&frames) {
        let (version, protocol, _, flags) = read(frame);
        kinds.insert((version, protocol, protocol == 6 && flags == 2, frame.len()));
        let expected = Stamp { tag: 0xabcd, sequence, time: 0xfedc_0000 | sequence, wrapped: 0 };
        assert_eq!(stamp::find(frame), Some(expected));
    }
    // Both versions; of each ACK, SYN and datagram; six sizes, of which the least over IPv6 is
    // what headers and mark need, so that 64, 65 and no more fall together.
    let lengths = |version, protocol| {
        let of = kinds.iter().filter(|kind| (kind.0, kind.1) == (version, protocol));
        let mut lengths: Vec<usize> = of.map(|kind| kind.3).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    };
    assert_eq!(lengths(4, 6), [60, 61, 96, 590, 1514, 9014]);
    assert_eq!(lengths(4, 17), [60, 61, 96, 590, 1514, 9014]);
    assert_eq!(lengths(6, 6), [74, 96, 590, 1514, 9014]);
    assert_eq!(lengths(6, 17), [74, 96, 590, 1514, 9014]);
    assert!(kinds.iter().any(|kind| kind.0 == 6 && kind.2));
}

#[test]
fn flows_are_those_of_the_benchmarks_and_come_in_turns() {
    for (families, ip, header) in [(Families::V4, Ip::V4, 26..38), (Families::V6, Ip::V6, 22..58)] {
        let frames = packets(&Mix { families, ..mix() }, 2500);
        for (number, frame) in (0u32..).zip(&frames) {
            let flow = flow(ip, number % 1000);
            let other = frame::frame(&flow, 0, frame::Kind::Ack, [0; 6], [0; 6]);
            assert_eq!(frame[header.clone()], other[header.clone()], "flow {number}");
        }
    }
}

#[test]
fn so_many_packets_open_connections_as_were_asked_for_each_another() {
    for share in [0.0, 0.1, 0.25, 1.0 / 3.0, 1.0] {
        let frames = packets(&Mix { syn_share: share, flows: 10, ..mix() }, 12_000);
        let mut openings = HashSet::new();
        let mut going_on = HashMap::new();
        for frame in &frames {
            let (_, _, tuple, flags) = read(frame);
            match flags {
                2 => assert!(openings.insert(tuple), "a connection opened twice"),
                flags => {
                    assert_eq!(flags, 0x10);
                    *going_on.entry(tuple).or_insert(0) += 1;
                }
            }
        }
        let expected = 12_000.0 * share;
        assert!((openings.len() as f64 - expected).abs() <= 1.0, "{share}: {}", openings.len());
        assert_eq!(going_on.len(), if share < 1.0 { 10 } else { 0 });
        let (least, most) = (going_on.values().min(), going_on.values().max());
        assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1));
    }
}

#[test]
fn openings_begin_anew_behind_the_flows_that_go_on() {
    let mut traffic =
        Traffic::new(&Mix { syn_share: 1.0, flows: MOST_FLOWS - 2, ..mix() }).unwrap();
    let numbers: Vec<u32> = (0..5).map(|_| traffic.choose().0).collect();
    let [a, b] = [MOST_FLOWS - 2, MOST_FLOWS - 1];
    assert_eq!(numbers, [a, b, a, b, a]);
}

/// `frame` with `headers` put between its Ethernet header, of type `ethertype`, and the rest.
fn wrapped(frame: &[u8], ethertype: [u8; 2], headers: &[u8]) -> Vec<u8> {
    [&frame[..12], &ethertype, headers, &frame[14..]].concat()
}

#[test]
fn a_mark_is_found_behind_every_kind_of_header() {
    let v4 = |protocol: u8| {
        let mut header = vec![0u8; 20];
        (header[0], header[9]) = (0x45, protocol);
        header
    };
    let v6 = |protocol: u8| {
        let mut header = vec![0u8; 40];
        (header[0], header[6]) = (0x60, protocol);
        header
    };
    let gue = |rest: &[u8]| [&[0xc0, 1, 0x17, 0xc0, 0, 0, 0, 0], rest].concat();
    let (ip4, ip6) = ([0x08, 0x00], [0x86, 0xdd]);
    for frame in packets(&everything(), 100) {
        let inner = [frame[12], frame[13]];
        let bare = stamp::find(&frame).unwrap();
        let next = if inner == ip4 { 4 } else { 41 };
        for (ethertype, headers) in [
            (ip4, v4(next)),
            (ip6, v6(next)),
            (ip4, [v4(47), vec![0, 0, inner[0], inner[1]]].concat()),
            (ip4, [v4(17), gue(&[])].concat()),
            (ip6, [v6(17), gue(&[2, next, 0, 0, 1, 1, 0, 0, 0, 0, 0, 7])].concat()),
            ([0x81, 0x00], [&[0, 100], &ip4[..], &v4(next)].concat()),
            ([0x88, 0xa8], [&[0, 9, 0x81, 0x00, 0, 100], &inner[..]].concat()),
        ] {
            let frame = wrapped(&frame, ethertype, &headers);
            let expected = Stamp { wrapped: headers.len(), ..bare };
            assert_eq!(stamp::find(&frame), Some(expected), "{headers:02x?}");
            // Cut anywhere, there is none, and nothing worse.
            for end in 0..frame.len().min(14 + headers.len() + 40) {
                assert_eq!(stamp::find(&frame[..end]), None);
            }
        }
    }
}

#[test]
fn other_packets_have_no_mark() {
    let foreign = frame::frame(&flow(Ip::V4, 7), 7, frame::Kind::Ack, [2; 6], [4; 6]);
    assert_eq!(stamp::find(&foreign), None);
    assert_eq!(stamp::find(&[]), None);
    assert_eq!(stamp::find(&[0x45; 200]), None);
    // Four IP headers one in another: no balancer does that.
    let mut frame = packets(&mix(), 1).remove(0);
    let mut header = vec![0u8; 20];
    (header[0], header[9]) = (0x45, 4);
    for depth in 0..4 {
        assert_eq!(stamp::find(&frame).is_some(), depth < 3, "{depth}");
        frame = wrapped(&frame, [0x08, 0x00], &header);
    }
}

#[test]
fn mixes_that_cannot_be_made_are_refused() {
    let none = Destinations { count: 0, ..mix().destinations };
    let last = Destinations { v4: Ipv4Addr::BROADCAST, count: 2, ..mix().destinations };
    for (mix, reason) in [
        (Mix { flows: 0, ..mix() }, "0 flows (expected 1 to 67108864)"),
        (Mix { flows: MOST_FLOWS + 1, ..mix() }, "67108865 flows"),
        (Mix { syn_share: 1.5, ..mix() }, "a SYN share of 1.5"),
        (Mix { syn_share: f64::NAN, ..mix() }, "a SYN share of NaN"),
        (Mix { syn_share: 0.5, protocols: Protocols::Udp, ..mix() }, "over UDP"),
        (Mix { syn_share: 0.5, flows: MOST_FLOWS, ..mix() }, "leave none for SYNs"),
        (Mix { destinations: none, ..mix() }, "0 destinations"),
        (Mix { destinations: last, ..mix() }, "2 destinations from 255.255.255.255"),
    ] {
        let said = Traffic::new(&mix).unwrap_err().to_string();
        assert!(said.contains(reason), "{said}");
    }
}
