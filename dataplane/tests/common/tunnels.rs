//! Is it the packet, in its tunnel? Judged byte by byte, with arithmetic of the tests' own.

use std::net::IpAddr;

use dataplane::tables::Forwarding;

use super::verify::{header_is_sound, sums_to_zero};
use super::world::{BackendSpec, OUTER_TTL, PoolSpec, is_gue, source_at, source6};

/// Is `ip`, a packet that went out, `came` on its way to `backend`?
pub(super) fn fits(came: &[u8], pool: &PoolSpec, backend: &BackendSpec, ip: &[u8]) -> bool {
    let inner_is_v6 = came[0] >> 4 == 6;
    let traffic_class = match inner_is_v6 {
        true => came[0] << 4 | came[1] >> 4,
        false => came[1],
    };
    let protocol = match (pool.forwarding, inner_is_v6) {
        (Forwarding::Gre, _) => 47,
        (Forwarding::Gue | Forwarding::GueWithHeader, _) => 17,
        (_, false) => 4,
        (_, true) => 41,
    };
    let entropy = if is_gue(pool.forwarding) { 0 } else { pool.entropy };
    let Some((outer, behind)) =
        ip.split_at_checked(if backend.address.is_ipv4() { 20 } else { 40 })
    else {
        return false;
    };
    let right = match backend.address {
        IpAddr::V4(address) => {
            let source = u32::from_be_bytes([outer[12], outer[13], outer[14], outer[15]]);
            let prefix =
                if entropy == 0 { u32::from(source_at(backend.port)) } else { 0xac10_0000 };
            outer[0] == 0x45
                && outer[1] == traffic_class
                && usize::from(u16::from_be_bytes([outer[2], outer[3]])) == ip.len()
                && outer[6..8] == [0x40, 0]
                && outer[8..10] == [OUTER_TTL, protocol]
                && source & !entropy == prefix
                && outer[16..20] == address.octets()
                && sums_to_zero(outer)
        }
        IpAddr::V6(address) => {
            let source = u128::from_be_bytes(outer[8..24].try_into().unwrap_or_default());
            outer[0] == 0x60 | traffic_class >> 4
                && outer[1] >> 4 == traffic_class & 0x0f
                && usize::from(u16::from_be_bytes([outer[4], outer[5]])) == behind.len()
                && outer[6..8] == [protocol, OUTER_TTL]
                && source & !u128::from(entropy) == u128::from(source6(entropy))
                && outer[24..40] == address.octets()
        }
    };
    let inner = match pool.forwarding {
        Forwarding::Gre => match (behind, inner_is_v6) {
            ([0, 0, 0x08, 0x00, inner @ ..], false) | ([0, 0, 0x86, 0xdd, inner @ ..], true) => {
                inner
            }
            _ => return false,
        },
        Forwarding::Gue | Forwarding::GueWithHeader => match behind {
            [port, _, 0x17, 0xc0, high, low, sum @ ..] if *port >= 0xc0 && sum.len() >= 2 => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length != behind.len() || !udp_sum_is_right(outer, behind) {
                    return false;
                }
                match pool.forwarding {
                    Forwarding::Gue => &sum[2..],
                    _ => match behind_gue_header(&sum[2..], inner_is_v6, backend) {
                        Some(inner) => inner,
                        None => return false,
                    },
                }
            }
            _ => return false,
        },
        Forwarding::Ipip | Forwarding::L2dsr => behind,
    };
    let mut expected = came.to_vec();
    if inner_is_v6 {
        expected[7] = expected[7].wrapping_sub(1);
        return right && came[7] > 1 && inner == expected;
    }
    expected[8] = expected[8].wrapping_sub(1);
    let Some(sum) = inner.get(10..12) else { return false };
    expected[10..12].copy_from_slice(sum);
    right && came[8] > 1 && inner == expected && header_is_sound(inner)
}

/// What is behind a GUE header that names nobody, or another than `backend`.
fn behind_gue_header<'p>(
    payload: &'p [u8],
    inner_is_v6: bool,
    backend: &BackendSpec,
) -> Option<&'p [u8]> {
    let ([words, protocol, 0, 0, kind, hops, 0, 0, 7, 7, 7, 7], rest) =
        payload.split_first_chunk::<12>()?
    else {
        return None;
    };
    let (hop, inner) = match (words, kind, hops) {
        (2, 1, 0) => (None, rest),
        (3, 1, 1) => {
            let (hop, inner) = rest.split_first_chunk::<4>()?;
            (Some(IpAddr::from(*hop)), inner)
        }
        (6, 2, 1) => {
            let (hop, inner) = rest.split_first_chunk::<16>()?;
            (Some(IpAddr::from(*hop)), inner)
        }
        _ => return None,
    };
    let right = *protocol == if inner_is_v6 { 41 } else { 4 };
    (right && hop != Some(backend.address)).then_some(inner)
}

/// None over IPv4; over IPv6 one that is right.
fn udp_sum_is_right(outer: &[u8], datagram: &[u8]) -> bool {
    if outer.len() == 20 {
        return datagram[6..8] == [0, 0];
    }
    let length = (datagram.len() as u32).to_be_bytes();
    let pseudo = [&outer[8..40], &length, &[0, 0, 0, 17]].concat();
    datagram[6..8] != [0, 0] && sums_to_zero(&[&pseudo[..], datagram].concat())
}
