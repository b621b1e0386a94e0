//! The flows of a benchmark, by number: distinct, spread over all VIPs, and the same every time.
//!
//! Four flows share a client address, as browsers' do; the address is a bijective scramble of the
//! client's number, so that neighbours in number are not neighbours in any table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// VIPs that flows are spread over.
pub const VIPS: u32 = 1000;
/// Port of every VIP.
pub const VIP_PORT: u16 = 80;
/// Flows there are numbers for: four for each of 2^24 client addresses.
pub const MOST_FLOWS: u32 = 1 << 26;

const FLOWS_PER_CLIENT: u32 = 4;
/// Odd, so that multiplying by it permutes the 24-bit numbers.
const SCRAMBLE: u32 = 0x9e_3779;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One TCP flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The client.
    pub source: IpAddr,
    /// Its port, 1024 or above.
    pub source_port: u16,
    /// The VIP.
    pub destination: IpAddr,
    /// The VIP's port.
    pub destination_port: u16,
}

/// The address of VIP `number` (below [`VIPS`]), in the range for benchmarks (RFC 2544, RFC 5180).
pub fn vip_address(ip: Ip, number: u32) -> IpAddr {
    let number = number % VIPS;
    match ip {
        Ip::V4 => Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 1).to_bits() + number).into(),
        Ip::V6 => Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 1, number as u16).into(),
    }
}

/// The client of flow `number`, a 24-bit number, and its port.
#[inline]
pub fn client(number: u32) -> (u32, u16) {
    let client = (number / FLOWS_PER_CLIENT).wrapping_mul(SCRAMBLE) & 0xff_ffff;
    let port = 1024 + (number % FLOWS_PER_CLIENT) * 16_001 + client % 16_001;
    (client, port as u16)
}

/// The IPv4 address of a client: in 10.0.0.0/8.
#[inline]
pub fn client_v4(client: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() | client)
}

/// The IPv6 address of a client: in 2001:db8:100::/40, each in a network of its own, as most are.
#[inline]
pub fn client_v6(client: u32) -> Ipv6Addr {
    const FIRST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0x2aa, 0xff, 0xfe00, 1);
    Ipv6Addr::from_bits(FIRST.to_bits() | u128::from(client) << 64)
}

/// The flow with this number, which is below [`MOST_FLOWS`].
pub fn flow(ip: Ip, number: u32) -> Flow {
    let (client, source_port) = client(number);
    let source = match ip {
        Ip::V4 => client_v4(client).into(),
        Ip::V6 => client_v6(client).into(),
    };
    Flow { source, source_port, destination: vip_address(ip, number), destination_port: VIP_PORT }
}

/// The numbers below `count` in an order without locality; the same order every time
/// (Fisher and Yates' shuffle with Vigna's SplitMix64 as its source).
pub fn shuffled(count: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count).collect();
    let mut state = 0x5eed_u64;
    for last in (1..order.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        order.swap(last, (mixed % (last as u64 + 1)) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn flows_are_distinct_and_cover_all_vips() {
        for ip in [Ip::V4, Ip::V6] {
            let flows: HashSet<Flow> = (0..1 << 20).map(|number| flow(ip, number)).collect();
            assert_eq!(flows.len(), 1 << 20);
            let vips: HashSet<IpAddr> = flows.iter().map(|flow| flow.destination).collect();
            assert_eq!(vips.len(), VIPS as usize);
            let family = |address: IpAddr| address.is_ipv4() == (ip == Ip::V4);
            assert!(flows.iter().all(|flow| family(flow.source) && flow.source_port >= 1024));
        }
    }

    #[test]
    fn clients_have_networks_of_their_own() {
        let client = 0x12_3456;
        assert_eq!(client_v4(client).to_string(), "10.18.52.86");
        assert_eq!(client_v6(client).to_string(), "2001:db8:112:3456:2aa:ff:fe00:1");
    }

    #[test]
    fn the_order_is_a_permutation_and_always_the_same() {
        let order = shuffled(4096);
        assert_eq!(order, shuffled(4096));
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), 4096);
        let neighbours = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
        assert!(neighbours < 20, "{neighbours} neighbours of 4096 stayed neighbours");
    }
}
