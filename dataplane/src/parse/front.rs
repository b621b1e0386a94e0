//! The first 32 bytes of IPv4's common packet, asked all at once.
//!
//! ```text
//!  0             6         8              12    14 15 16     18    20   22  23  24     26       30
//!  | destination | source, its group bit  | type |45| . | length| id  |frag|ttl|tcp| sum | source | destination
//! ```
//!
//! Each byte is masked; what is left of it has to be one value, or in one range. Bytes of which
//! nothing is asked here are masked away. Two forms with the same answers: SSE2, which every
//! x86-64 has, and plain bytes for all others; LLVM does not find the one in the other.

use crate::wire::IpProtocol;

/// Bytes that are looked at.
pub(super) const FRONT: usize = 32;
const HALF: usize = FRONT / 2;

/// Of the first half: all of the destination, the source's group bit, EtherType, version and header
/// length.
const FIRST: [u8; HALF] =
    [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0];
/// Of the second half: more fragments and fragment offset, time to live, protocol, the first octets
/// of both addresses.
const SECOND: [u8; HALF] = [0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 0, 0, 0xff, 0, 0, 0, 0xff, 0];
/// The least, and the most, that the second half has then: no fragment, a hop left to take, TCP, no
/// address of 0/8, 224/4 and 240/4 ([`martian`](crate::wire::martian)).
const LEAST: [u8; HALF] = [0, 0, 0, 0, 0, 0, 2, IpProtocol::TCP.0, 0, 0, 1, 0, 0, 0, 1, 0];
const MOST: [u8; HALF] = [0, 0, 0, 0, 0, 0, 255, IpProtocol::TCP.0, 0, 0, 223, 0, 0, 0, 223, 0];
/// What it has not: an address of 127/8. Elsewhere what is out of range anyway; each byte has to have
/// one such value.
const NEVER: [u8; HALF] = {
    let mut never = [0xff; HALF];
    (never[6], never[10], never[14]) = (0, 127, 127);
    never
};

/// What a port's common packets begin with, where [`FIRST`] has bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning([u8; HALF]);

impl Beginning {
    /// Those of packets to the station `mac`.
    pub(super) const fn of(mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self([a, b, c, d, e, f, 0, 0, 0, 0, 0, 0, 0x08, 0x00, 0x45, 0])
    }

    /// What no packet begins with: a bit outside the mask.
    pub(super) const NONE: Self = Self([0xff; HALF]);
}

/// Whether these are a common packet's first bytes.
#[inline(always)]
pub(super) fn is_right(front: &[u8; FRONT], beginning: &Beginning) -> bool {
    #[cfg(target_arch = "x86_64")]
    return vector::is_right(front, beginning);
    #[cfg(not(target_arch = "x86_64"))]
    return bytes::is_right(front, beginning);
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector instructions take addresses")]
mod vector {
    use core::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8, _mm_min_epu8,
        _mm_movemask_epi8, _mm_or_si128, _mm_setzero_si128, _mm_xor_si128,
    };

    use super::{Beginning, FIRST, FRONT, HALF, LEAST, MOST, NEVER, SECOND};

    #[inline(always)]
    pub(super) fn is_right(front: &[u8; FRONT], beginning: &Beginning) -> bool {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { is_right_sse2(front, beginning) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn is_right_sse2(front: &[u8; FRONT], beginning: &Beginning) -> bool {
        let (Some(first), Some(second)) = (front.first_chunk(), front.last_chunk()) else {
            return false;
        };
        // What is not zero, is wrong.
        let found = _mm_and_si128(load(first), load(&FIRST));
        let begins = _mm_xor_si128(found, load(&beginning.0));
        let found = _mm_and_si128(load(second), load(&SECOND));
        let within = _mm_min_epu8(_mm_max_epu8(found, load(&LEAST)), load(&MOST));
        let outside = _mm_xor_si128(found, within);
        let never = _mm_cmpeq_epi8(found, load(&NEVER));
        let wrong = _mm_or_si128(_mm_or_si128(begins, outside), never);
        _mm_movemask_epi8(_mm_cmpeq_epi8(wrong, _mm_setzero_si128())) == 0xffff
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; HALF]) -> __m128i {
        // SAFETY: 16 readable bytes, and this load needs no alignment.
        unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod bytes {
    use super::{Beginning, FIRST, FRONT, HALF, LEAST, MOST, NEVER, SECOND};

    #[inline(always)]
    pub(super) fn is_right(front: &[u8; FRONT], beginning: &Beginning) -> bool {
        let (first, second) = front.split_at(HALF);
        let begins = first
            .iter()
            .zip(FIRST)
            .zip(beginning.0)
            .all(|((byte, mask), right)| byte & mask == right);
        let asked = SECOND.into_iter().zip(LEAST.into_iter().zip(MOST)).zip(NEVER);
        begins
            && second.iter().zip(asked).all(|(byte, ((mask, (least, most)), never))| {
                let found = byte & mask;
                least <= found && found <= most && found != never
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SOUND: [u8; FRONT] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45,
        0, // Ethernet, and what IPv4 begins with
        0, 40, 0x12, 0x34, 0x40, 0, 64, 6, 0xab, 0xcd, 192, 0, 2, 7, 203, 0,
    ];

    #[test]
    fn each_byte_is_asked_for_the_same_in_both_forms() {
        let beginning = Beginning::of(MAC);
        assert!(is_right(&SOUND, &beginning));
        assert!(!is_right(&SOUND, &Beginning::NONE));
        for at in 0..FRONT {
            for value in 0..=255 {
                let mut front = SOUND;
                front[at] = value;
                let right = match at {
                    0..6 | 12..15 | 21 | 23 => value == SOUND[at],
                    6 => value & 1 == 0,
                    20 => value & 0x3f == 0,
                    22 => value > 1,
                    26 | 30 => !matches!(value, 0 | 127 | 224..),
                    _ => true,
                };
                assert_eq!(is_right(&front, &beginning), right, "byte {at}: {value}");
                assert_eq!(bytes::is_right(&front, &beginning), right, "byte {at}: {value}");
            }
        }
    }
}
