//! Which queue a device brings a flow to: receive-side scaling, computed as the device does.
//!
//! The device hashes addresses and, where it is told to, ports with the Toeplitz hash (Krawczyk
//! 1994; as network cards have it: Microsoft's "RSS hashing functions") and looks the hash up in
//! its redirection table. With key, table and the kinds it hashes read back from the driver, a
//! worker can say whose a flow is without having seen a packet of it. Queue `q` of every device
//! is worker `q`'s.
//!
//! Devices whose choice cannot be computed (`net_tap`: the kernel's own hash; `net_ring`,
//! `net_memif`: the peer's) have no [`Rss`], and the flow is asked for instead (see
//! `worker/handoff.rs`).

use std::net::IpAddr;

use conntrack::{Family, FlowKey};

use crate::wire::IpProtocol;

/// What a device hashes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashedKinds {
    /// IPv4 packets at all: the addresses, unless ports are hashed, too.
    pub ipv4: bool,
    /// The ports of TCP over IPv4.
    pub ipv4_tcp: bool,
    /// The ports of UDP over IPv4.
    pub ipv4_udp: bool,
    /// As `ipv4`, of IPv6.
    pub ipv6: bool,
    /// The ports of TCP over IPv6.
    pub ipv6_tcp: bool,
    /// The ports of UDP over IPv6.
    pub ipv6_udp: bool,
}

/// A device's receive-side scaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    key: Vec<u8>,
    /// Queue by the low bits of the hash.
    table: Vec<u16>,
    kinds: HashedKinds,
}

/// Bytes of key that the longest input takes: 36 bytes of it, and a window of 4.
pub const LEAST_KEY: usize = 40;

impl Rss {
    /// Takes what the driver says; `None` when nothing can be computed from it: the key is
    /// shorter than [`LEAST_KEY`], or all zero (then every hash is 0, and the driver most
    /// probably did not tell), or the table is not a power of two long, as devices index it by
    /// low bits.
    pub fn new(key: Vec<u8>, table: Vec<u16>, kinds: HashedKinds) -> Option<Self> {
        let known = key.len() >= LEAST_KEY && key.iter().any(|byte| *byte != 0);
        (known && table.len().is_power_of_two()).then_some(Self { key, table, kinds })
    }

    /// The queue that unfragmented packets of the flow come in at; `None` where the device hashes
    /// nothing of them.
    pub fn queue(&self, flow: &FlowKey) -> Option<u16> {
        let kinds = &self.kinds;
        let (addresses, tcp, udp) = match flow.family() {
            Family::V4 => (kinds.ipv4, kinds.ipv4_tcp, kinds.ipv4_udp),
            Family::V6 => (kinds.ipv6, kinds.ipv6_tcp, kinds.ipv6_udp),
        };
        let ports = match IpProtocol(flow.protocol()) {
            IpProtocol::TCP => tcp,
            IpProtocol::UDP => udp,
            _ => false,
        };
        if !ports && !addresses {
            return None;
        }
        let mut input = [0u8; 36];
        let length = put_addresses(&mut input, flow);
        let length = if ports { put_ports(&mut input, length, flow) } else { length };
        let hash = toeplitz(&self.key, input.get(..length)?);
        self.table.get(hash as usize & (self.table.len() - 1)).copied()
    }
}

/// Source, then destination, as in the packet.
fn put_addresses(input: &mut [u8; 36], flow: &FlowKey) -> usize {
    match (flow.source(), flow.destination()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            input[..4].copy_from_slice(&source.octets());
            input[4..8].copy_from_slice(&destination.octets());
            8
        }
        (source, destination) => {
            input[..16].copy_from_slice(&as_v6(source));
            input[16..32].copy_from_slice(&as_v6(destination));
            32
        }
    }
}

fn as_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Behind the addresses: source port, destination port.
fn put_ports(input: &mut [u8; 36], at: usize, flow: &FlowKey) -> usize {
    let ports = [flow.source_port(), flow.destination_port()];
    let (bytes, _) = input.get_mut(at..).unwrap_or_default().as_chunks_mut::<2>();
    for (bytes, port) in bytes.iter_mut().zip(ports) {
        *bytes = port.to_be_bytes();
    }
    at + 4
}

/// For each bit of the input that is set, the 32 bits of the key that begin at that bit, all
/// xored. Off the common path, so a bit at a time.
fn toeplitz(key: &[u8], input: &[u8]) -> u32 {
    let mut bytes = key.iter().copied();
    let mut next = || u64::from(bytes.next().unwrap_or(0));
    // The key's bits from here on: 32 for the window, and 8 that will move into it.
    let mut window = next() << 24 | next() << 16 | next() << 8 | next();
    let mut hash = 0;
    for byte in input {
        window = window << 8 | next();
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= (window >> (bit + 1)) as u32;
            }
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// The key of Microsoft's "Verifying the RSS hash calculation", with its cases below.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn hash(flow: &FlowKey, ports: bool) -> u32 {
        let mut input = [0; 36];
        let length = put_addresses(&mut input, flow);
        let length = if ports { put_ports(&mut input, length, flow) } else { length };
        toeplitz(&KEY, &input[..length])
    }

    #[test]
    fn ipv4_hashes_are_those_of_the_verification_suite() {
        let cases = [
            ([66, 9, 149, 187], 2794, [161, 142, 100, 80], 1766, 0x323e_8fc2, 0x51cc_c178),
            ([199, 92, 111, 2], 14230, [65, 69, 140, 83], 4739, 0xd718_262a, 0xc626_b0ea),
            ([24, 19, 198, 95], 12898, [12, 22, 207, 184], 38024, 0xd2d0_a5de, 0x5c2b_394a),
            ([38, 27, 205, 30], 48228, [209, 142, 163, 6], 2217, 0x8298_9176, 0xafc7_327f),
            ([153, 39, 163, 191], 44251, [202, 188, 127, 2], 1303, 0x5d18_09c5, 0x10e8_28a2),
        ];
        for (source, source_port, destination, destination_port, addresses, all) in cases {
            let flow = FlowKey::v4(
                Ipv4Addr::from(source),
                Ipv4Addr::from(destination),
                source_port,
                destination_port,
                6,
            );
            assert_eq!((hash(&flow, false), hash(&flow, true)), (addresses, all), "{flow}");
        }
    }

    #[test]
    fn ipv6_hashes_are_those_of_the_verification_suite() {
        let cases = [
            ("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766, 0x2cc1_8cd5, 0x4020_7d3d),
            ("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739, 0x0f0c_461c, 0xdde5_1bbf),
            (
                "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                44251,
                "fe80::200:f8ff:fe21:67cf",
                38024,
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        for (source, source_port, destination, destination_port, addresses, all) in cases {
            let (source, destination): (Ipv6Addr, Ipv6Addr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            let flow = FlowKey::v6(source, destination, source_port, destination_port, 6);
            assert_eq!((hash(&flow, false), hash(&flow, true)), (addresses, all), "{flow}");
        }
    }

    #[test]
    fn the_redirection_table_is_asked_with_the_low_bits_and_kinds_decide_what_is_hashed() {
        let table: Vec<u16> = (0..128).map(|slot| slot / 2).collect();
        let kinds = HashedKinds { ipv4: true, ipv4_tcp: true, ..HashedKinds::default() };
        let rss = Rss::new(KEY.to_vec(), table, kinds).unwrap();
        let flow = |protocol| {
            let (source, destination) =
                (Ipv4Addr::new(66, 9, 149, 187), Ipv4Addr::new(161, 142, 100, 80));
            FlowKey::v4(source, destination, 2794, 1766, protocol)
        };
        assert_eq!(rss.queue(&flow(6)), Some((0x51cc_c178u32 & 127) as u16 / 2));
        assert_eq!(rss.queue(&flow(17)), Some((0x323e_8fc2u32 & 127) as u16 / 2));
        let six = FlowKey::v6(Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, 1, 2, 6);
        assert_eq!(rss.queue(&six), None);
    }

    #[test]
    fn what_cannot_be_computed_with_is_not_taken() {
        let kinds = HashedKinds::default();
        assert!(Rss::new(vec![0; 40], vec![0; 128], kinds).is_none(), "a key of zeroes");
        assert!(Rss::new(KEY[..16].to_vec(), vec![0; 128], kinds).is_none(), "a short key");
        assert!(Rss::new(KEY.to_vec(), vec![0; 48], kinds).is_none(), "an odd table");
        assert!(Rss::new(KEY.to_vec(), Vec::new(), kinds).is_none(), "no table");
    }
}
