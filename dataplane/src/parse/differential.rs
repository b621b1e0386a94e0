//! The first look at IPv6 packets against an independent parser (`etherparse`), on generated chains
//! of extension headers and on mutations of them: what one takes the other takes, with the same
//! fields, but for the differences that [`Theirs::explains`] lists.

use etherparse::{
    Ipv6ExtensionSlice, Ipv6ExtensionsSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};
use proptest::prelude::*;

use super::*;
use crate::buffer::Frame;
use crate::wire::ipv6_extensions::{MAX_HEADERS, MAX_LENGTH};
use crate::wire::{MacAddress, martian};

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const LINK: usize = 14;

/// What `etherparse` makes of a packet, as far as it gets.
#[derive(Default)]
struct Theirs {
    /// Fixed header and lengths are sound.
    whole: bool,
    /// The chain could be walked: what comes behind it, and after how many bytes.
    chain: Option<(u8, usize)>,
    /// Ports, where the transport has any; `None` when its header is unsound.
    ports: Option<(u16, u16)>,
    headers: usize,
    fragments: usize,
    is_fragment: bool,
    segments_left: bool,
    authentication: bool,
    options_do_not_fit: bool,
    addresses: Option<([u8; 16], [u8; 16])>,
}

impl Theirs {
    fn of(packet: &[u8]) -> Self {
        let mut theirs = Self::default();
        let Ok(header) = Ipv6HeaderSlice::from_slice(packet) else { return theirs };
        let length = 40 + usize::from(header.payload_length());
        let Some(payload) = packet.get(40..length) else { return theirs };
        theirs.whole = true;
        theirs.addresses = Some((header.source(), header.destination()));
        let walked = Ipv6ExtensionsSlice::from_slice(header.next_header(), payload);
        let Ok((extensions, next, rest)) = walked else { return theirs };
        theirs.chain = Some((next.0, payload.len() - rest.len()));
        for extension in extensions {
            theirs.headers += 1;
            match extension {
                Ipv6ExtensionSlice::HopByHop(options)
                | Ipv6ExtensionSlice::DestinationOptions(options) => {
                    theirs.options_do_not_fit |= !options_fit(options.payload());
                }
                Ipv6ExtensionSlice::Routing(routing) => {
                    theirs.segments_left |= routing.payload()[1] != 0;
                }
                Ipv6ExtensionSlice::Fragment(fragment) => {
                    theirs.fragments += 1;
                    theirs.is_fragment |= fragment.is_fragmenting_payload();
                }
                Ipv6ExtensionSlice::Authentication(_) => theirs.authentication = true,
            }
        }
        theirs.ports = match next.0 {
            6 => TcpHeaderSlice::from_slice(rest)
                .ok()
                .map(|tcp| (tcp.source_port(), tcp.destination_port())),
            17 => UdpHeaderSlice::from_slice(rest)
                .ok()
                .filter(|udp| (8..=rest.len()).contains(&usize::from(udp.length())))
                .map(|udp| (udp.source_port(), udp.destination_port())),
            _ => Some((0, 0)),
        };
        theirs
    }

    /// Why a packet that they take may be dropped here.
    fn explains(&self, reason: DropReason) -> bool {
        let Some((_, length)) = self.chain else { return false };
        match reason {
            // Policy, not form.
            DropReason::MartianSource | DropReason::MartianDestination | DropReason::Land => {
                self.addresses.is_some_and(|(source, destination)| {
                    source == destination
                        || martian::is_martian_source_v6(source.into())
                        || martian::is_martian_source_v6(destination.into())
                })
            }
            DropReason::SourceRoute => self.segments_left,
            // They ask neither for whole transport headers nor for lengths of fragments.
            DropReason::BadFragment | DropReason::TinyFragment => self.is_fragment,
            // They take any number of headers and bytes.
            DropReason::ExtensionHeaderLimit => self.headers > MAX_HEADERS || length > MAX_LENGTH,
            // They do not look at options, and take several fragment headers.
            DropReason::BadExtensionHeader => self.options_do_not_fit || self.fragments > 1,
            DropReason::BadTcpHeader | DropReason::BadUdpHeader | DropReason::BadUdpLength => {
                self.ports.is_none()
            }
            // Their checksums are not asked for here: `wire/icmpv6.rs` has tests of its own.
            DropReason::BadIcmp | DropReason::BadNdp => {
                self.chain.is_some_and(|(next, _)| next == 58)
            }
            _ => false,
        }
    }
}

/// RFC 8200 section 4.2, said another way than in the parser.
fn options_fit(options: &[u8]) -> bool {
    let mut at = 0;
    while at < options.len() {
        at += match (options[at], options.get(at + 1)) {
            (0, _) => 1,
            (_, None) => return false,
            (_, Some(length)) => 2 + usize::from(*length),
        };
    }
    at == options.len()
}

fn agree(packet: &[u8]) -> Result<bool, TestCaseError> {
    let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9, 0x86, 0xdd]].concat();
    frame.extend(packet);
    let port = PortTable { mac: MAC, any_mac: false, vlan: None, mtu: 1500, addresses: Vec::new() };
    let ours = parse_any(&Frame::new(&frame), &port);
    let theirs = Theirs::of(packet);
    // Behind the header of a later fragment they go on walking, through a piece of payload.
    let frame = Frame::new(&frame);
    if ours.kind == Kind::Fragment
        && crate::fragment::Piece::read(frame.data(), &ours).is_none_or(|piece| !piece.is_first())
    {
        prop_assert!(theirs.whole);
        return Ok(false);
    }
    let Kind::Drop(reason) = ours.kind else {
        prop_assert!(theirs.whole, "they find it cut");
        let key = &ours.key;
        let (source, destination) = theirs.addresses.unwrap_or_default();
        prop_assert_eq!(key.source(), std::net::IpAddr::from(source));
        prop_assert_eq!(key.destination(), std::net::IpAddr::from(destination));
        prop_assert_eq!(usize::from(ours.link_length), LINK);
        let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
        prop_assert_eq!(usize::from(ours.ip_length), 40 + length);
        // Authentication headers end the chain here (as they do over IPv4), and are walked past
        // there.
        if theirs.authentication || key.protocol() == IpProtocol::AUTHENTICATION.0 {
            return Ok(false);
        }
        let Some((next, extensions)) = theirs.chain else {
            return Err(TestCaseError::fail("they cannot walk the chain"));
        };
        prop_assert_eq!(key.protocol(), next);
        prop_assert_eq!(usize::from(ours.header_length), 40 + extensions);
        if ours.kind == Kind::Flow {
            prop_assert_eq!(Some((key.source_port(), key.destination_port())), theirs.ports);
        }
        return Ok(true);
    };
    // Dropped here: they drop it, too, or it is one of the differences.
    let dropped = !theirs.whole || theirs.chain.is_none() || theirs.ports.is_none();
    prop_assert!(
        dropped || theirs.authentication || theirs.explains(reason),
        "dropped for {reason:?}, and they take it"
    );
    Ok(false)
}

/// One header of a chain: its kind, and its bytes with the next header's number left 0.
fn header() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let options = |kind: u8| {
        (0u8..3).prop_map(move |units| {
            let mut bytes = vec![0; 8 + usize::from(units) * 8];
            bytes[1] = units;
            bytes[2] = 1;
            bytes[3] = 4 + units * 8;
            (kind, bytes)
        })
    };
    let routing = prop_oneof![9 => Just(0u8), 1 => any::<u8>()]
        .prop_map(|left| (43, vec![0, 0, 0, left, 0, 0, 0, 0]));
    let fragment = prop_oneof![9 => Just((0u8, 0u8)), 1 => any::<(u8, u8)>()]
        .prop_map(|(high, low)| (44, vec![0, 0, high, low, 0, 0, 0, 7]));
    let authentication = Just((51, vec![0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]));
    prop_oneof![
        4 => options(60),
        1 => options(0),
        3 => routing,
        1 => fragment,
        1 => authentication,
    ]
}

/// A packet of such a chain and a transport.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let transport = prop_oneof![
        Just((6u8, vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0])),
        Just((17, vec![0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4])),
        Just((58, vec![128, 0, 0, 0, 0, 0, 0, 0])),
        Just((59, vec![])),
        Just((132, vec![7; 12])),
    ];
    let first = prop::option::of(Just((0u8, vec![0u8, 0, 5, 2, 0, 0, 1, 0])));
    let chain = (first, prop::collection::vec(header(), 0..5));
    (chain, transport, 0usize..8).prop_map(|((first, rest), (last, payload), padding)| {
        let headers: Vec<(u8, Vec<u8>)> = first.into_iter().chain(rest).collect();
        let kinds: Vec<u8> = headers.iter().map(|(kind, _)| *kind).chain([last]).collect();
        let mut behind = Vec::new();
        for ((_, mut bytes), next) in headers.into_iter().zip(&kinds[1..]) {
            bytes[0] = *next;
            behind.extend(bytes);
        }
        behind.extend(payload);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((behind.len() as u16).to_be_bytes());
        packet.extend([kinds[0], 64]);
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        packet.extend([0x20, 1, 0xd, 0xb8, 0xca, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend(behind);
        packet.resize(packet.len() + padding, 0xee);
        packet
    })
}

pub(super) fn config() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 20 } else { 10_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn generated_packets_are_read_alike(packet in packets()) {
        agree(&packet)?;
    }

    #[test]
    fn mutated_packets_are_read_alike(
        packet in packets(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut packet = packet;
        for (place, value) in changes {
            let at = place.index(packet.len());
            // Numbers of headers come up more often than chance would have them.
            packet[at] = match value {
                0..=40 => [0, 43, 44, 51, 60, 6, 17, 58][usize::from(value % 8)],
                value => value,
            };
        }
        if let Some(keep) = keep {
            packet.truncate(keep.index(packet.len() + 1));
        }
        agree(&packet)?;
    }
}

#[test]
fn most_generated_packets_are_taken_by_both() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let taken = (0..500)
        .filter(|_| {
            let packet = packets().new_tree(&mut runner).unwrap().current();
            agree(&packet).unwrap()
        })
        .count();
    assert!(taken > 100, "the comparison is about something: {taken} of 500");
}
