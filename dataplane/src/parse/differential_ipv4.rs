//! The first look at whole IPv4 frames against an independent parser (`etherparse`): tags, options,
//! transport and padding, generated and mutated. What one takes the other takes, with the same
//! fields, but for the differences that [`Theirs::explains`] lists.

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    EtherType, Ethernet2HeaderSlice, Ipv4HeaderSlice, SingleVlanHeaderSlice, TcpHeaderSlice,
    UdpHeaderSlice,
};
use proptest::prelude::*;

use super::differential::config;

use super::*;
use crate::buffer::Frame;
use crate::wire::MacAddress;

const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const SOURCE: [u8; 4] = [198, 51, 100, 7];
const VIP: [u8; 4] = [203, 0, 113, 1];

/// What `etherparse` makes of a frame, as far as it gets.
#[derive(Default)]
struct Theirs<'a> {
    tags: usize,
    /// Bytes before the IP header, where that is what comes.
    link_length: Option<usize>,
    ip: Option<Ipv4HeaderSlice<'a>>,
    /// What the total length leaves behind the header; `None` when it cannot be.
    payload: Option<&'a [u8]>,
    /// Ports, where the transport has any; `None` when its header is unsound.
    ports: Option<(u16, u16)>,
}

impl<'a> Theirs<'a> {
    fn of(frame: &'a [u8]) -> Self {
        let mut theirs = Self::default();
        let Ok(ethernet) = Ethernet2HeaderSlice::from_slice(frame) else { return theirs };
        let mut ethertype = ethernet.ether_type();
        let mut at = 14;
        while [EtherType::VLAN_TAGGED_FRAME, EtherType::PROVIDER_BRIDGING].contains(&ethertype) {
            let Ok(tag) = SingleVlanHeaderSlice::from_slice(&frame[at..]) else { return theirs };
            ethertype = tag.ether_type();
            theirs.tags += 1;
            at += 4;
        }
        if ethertype != EtherType::IPV4 {
            return theirs;
        }
        theirs.link_length = Some(at);
        let Ok(ip) = Ipv4HeaderSlice::from_slice(&frame[at..]) else { return theirs };
        let (start, end) = (at + ip.slice().len(), at + usize::from(ip.total_len()));
        theirs.payload = frame.get(start..end);
        theirs.ports = theirs.payload.and_then(|payload| ports(ip.protocol().0, payload));
        theirs.ip = Some(ip);
        theirs
    }

    fn is_fragment(&self) -> bool {
        self.ip.as_ref().is_some_and(Ipv4HeaderSlice::is_fragmenting_payload)
    }

    /// Why a packet that they take may be dropped here.
    fn explains(&self, reason: DropReason) -> bool {
        let Some(ip) = &self.ip else { return false };
        let martian = |address| martian::is_martian_source_v4(Ipv4Addr::from(address));
        match reason {
            // Policy, not form.
            DropReason::MartianSource => martian(ip.source()),
            DropReason::MartianDestination => martian(ip.destination()),
            DropReason::Land => ip.source() == ip.destination(),
            // They ask neither for whole transport headers nor for lengths of fragments.
            DropReason::BadFragment | DropReason::TinyFragment => self.is_fragment(),
            // They take any number of tags, and look neither at sums nor at options.
            DropReason::UnknownEthertype => self.tags > MAX_TAGS,
            DropReason::BadIpChecksum => !sums_up(ip.slice()),
            DropReason::SourceRoute => options(ip.options()) == Some(true),
            DropReason::BadIpOptions => options(ip.options()).is_none(),
            DropReason::BadIcmp => ip.protocol().0 == 1 && !self.payload.is_some_and(is_icmp),
            _ => false,
        }
    }
}

fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        6 => TcpHeaderSlice::from_slice(payload)
            .ok()
            .map(|tcp| (tcp.source_port(), tcp.destination_port())),
        17 => UdpHeaderSlice::from_slice(payload)
            .ok()
            .filter(|udp| (8..=payload.len()).contains(&usize::from(udp.length())))
            .map(|udp| (udp.source_port(), udp.destination_port())),
        _ => Some((0, 0)),
    }
}

/// Whether a checksum is right. (Not by their header, which forgets the reserved flag.)
fn sums_up(bytes: &[u8]) -> bool {
    Sum16BitWords::new().add_slice(bytes).ones_complement() == 0
}

fn is_icmp(message: &[u8]) -> bool {
    message.len() >= 8 && sums_up(message)
}

/// RFC 791 section 3.1, said another way than in the parser: whether there is a source route;
/// `None` for options that do not add up.
fn options(options: &[u8]) -> Option<bool> {
    let (mut at, mut route) = (0, false);
    while at < options.len() && options[at] != 0 {
        if options[at] == 1 {
            at += 1;
            continue;
        }
        let length = usize::from(*options.get(at + 1)?);
        if length < 2 || at + length > options.len() {
            return None;
        }
        route |= [131, 137].contains(&options[at]);
        at += length;
    }
    Some(route)
}

/// Whether both take the frame, and then with the same fields.
fn agree(frame: &[u8]) -> Result<bool, TestCaseError> {
    let port = PortTable { mac: MAC, any_mac: false, vlan: None, mtu: 1500, addresses: Vec::new() };
    let ours = parse_any(&Frame::new(frame), &port);
    let theirs = Theirs::of(frame);
    // ARP and IPv6 come up by mutation; they have tests of their own.
    let Some(link_length) = theirs.link_length else {
        prop_assert!(ours.kind != Kind::Flow || ours.key.family() == conntrack::Family::V6);
        return Ok(false);
    };
    if let Kind::Drop(reason) = ours.kind {
        let dropped = theirs.ip.is_none() || theirs.payload.is_none() || theirs.ports.is_none();
        prop_assert!(
            dropped || theirs.explains(reason),
            "dropped for {reason:?}, and they take it"
        );
        return Ok(false);
    }
    let (Some(ip), Some(payload)) = (&theirs.ip, theirs.payload) else {
        return Err(TestCaseError::fail("they find it cut"));
    };
    prop_assert!(theirs.tags <= MAX_TAGS);
    let key = &ours.key;
    prop_assert_eq!(key.source(), std::net::IpAddr::from(ip.source()));
    prop_assert_eq!(key.destination(), std::net::IpAddr::from(ip.destination()));
    prop_assert_eq!(key.protocol(), ip.protocol().0);
    prop_assert_eq!(usize::from(ours.link_length), link_length);
    prop_assert_eq!(usize::from(ours.header_length), ip.slice().len());
    prop_assert_eq!(ours.ip_length, ip.total_len());
    prop_assert_eq!(usize::from(ours.ip_length) - ip.slice().len(), payload.len());
    prop_assert_eq!(ours.kind == Kind::Icmp, ip.protocol().0 == 1 && !theirs.is_fragment());
    if ours.kind == Kind::Flow {
        prop_assert!(!theirs.is_fragment());
        prop_assert_eq!(Some((key.source_port(), key.destination_port())), theirs.ports);
    }
    Ok(true)
}

/// A list of options, filled up to words.
fn option_list() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        4 => Just(vec![1u8]),
        2 => Just(vec![148, 4, 0, 0]),
        2 => Just(vec![7, 7, 4, 0, 0, 0, 0]),
        1 => Just(vec![131, 3, 4]),
        1 => Just(vec![68, 9, 5, 0]),
    ];
    prop::collection::vec(option, 0..4).prop_map(|options| {
        let mut bytes: Vec<u8> = options.concat();
        bytes.resize(bytes.len().next_multiple_of(4).min(40), 0);
        bytes
    })
}

fn transports() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let icmp = {
        let mut message = vec![8, 0, 0, 0, 0, 1, 0, 2, 9, 9];
        let sum = Sum16BitWords::new().add_slice(&message).ones_complement();
        message[2..4].copy_from_slice(&sum.to_ne_bytes());
        message
    };
    prop_oneof![
        3 => Just((6, vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0])),
        2 => Just((17, vec![0x9c, 0x40, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4])),
        1 => Just((1, icmp)),
        1 => Just((47, vec![7; 5])),
    ]
}

/// The header's checksum made right again, where there is a header.
fn with_checksum(mut frame: Vec<u8>, ip: usize) -> Vec<u8> {
    if let Ok(header) = Ipv4HeaderSlice::from_slice(&frame[ip.min(frame.len())..]) {
        let end = ip + header.slice().len();
        frame[ip + 10..ip + 12].fill(0);
        let sum = Sum16BitWords::new().add_slice(&frame[ip..end]).ones_complement();
        frame[ip + 10..ip + 12].copy_from_slice(&sum.to_ne_bytes());
    }
    frame
}

/// A frame, and where its IP header begins.
fn frames() -> impl Strategy<Value = (Vec<u8>, usize)> {
    let tag = (prop_oneof![Just(0x8100u16), Just(0x88a8)], any::<u16>());
    let tags = prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(tag, 1..4),
    ];
    let fragment = prop_oneof![8 => Just(0x4000u16), 1 => Just(0x2000), 1 => any::<u16>()];
    (tags, option_list(), transports(), fragment, 0usize..8).prop_map(
        |(tags, options, (protocol, payload), fragment, padding)| {
            let mut frame = [&MAC.0[..], &[2, 0, 0, 0, 0, 9]].concat();
            for (kind, identifier) in tags {
                frame.extend(kind.to_be_bytes());
                frame.extend(identifier.to_be_bytes());
            }
            frame.extend([0x08, 0x00]);
            let ip = frame.len();
            let length = 20 + options.len() + payload.len();
            frame.extend([0x45 + (options.len() / 4) as u8, 0]);
            frame.extend((length as u16).to_be_bytes());
            frame.extend([0, 1]);
            frame.extend(fragment.to_be_bytes());
            frame.extend([64, protocol, 0, 0]);
            frame.extend(SOURCE);
            frame.extend(VIP);
            frame.extend(options);
            frame.extend(payload);
            frame.resize(frame.len() + padding, 0xee);
            (with_checksum(frame, ip), ip)
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn generated_frames_are_read_alike((frame, _) in frames()) {
        agree(&frame)?;
    }

    #[test]
    fn mutated_frames_are_read_alike(
        (frame, ip) in frames(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        summed in any::<bool>(),
    ) {
        let mut frame = frame;
        for (place, value) in changes {
            // Whom the frame is for is not what this is about.
            let at = 12 + place.index(frame.len() - 12);
            frame[at] = value;
        }
        if let Some(keep) = keep {
            frame.truncate(keep.index(frame.len() + 1));
        }
        // Half of them get further than the header's checksum.
        agree(&if summed { with_checksum(frame, ip) } else { frame })?;
    }
}

#[test]
fn most_generated_frames_are_taken_by_both() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let taken = (0..500)
        .filter(|_| {
            let (frame, _) = frames().new_tree(&mut runner).unwrap().current();
            agree(&frame).unwrap()
        })
        .count();
    assert!(taken > 200, "the comparison is about something: {taken} of 500");
}
