//! The table's own keyed hash: a folded multiply over the words of the key.
//!
//! A folded multiply takes the 128-bit product of two 64-bit words and xors its halves, so
//! every output bit depends on every input bit of both. The words are masked with 256 bits of
//! seed drawn per process. An IPv4 key takes two multiplies, an IPv6 key four.
//!
//! # What it withstands
//!
//! Somebody who sends packets with any source, and wants many of them in one bucket. He does not
//! learn where a flow came to lie: no reply says so, and under Direct Server Return replies do not
//! even pass the table. So he has to choose his keys before the seed is drawn, for all he knows, and
//! what counts is how many seeds a set of keys is bad for:
//!
//! - Two keys meet in the first product when one factor is 0, and all but surely when it is all ones.
//!   Over IPv4 one word is the client's address and port, the other what it dialled: a seed that is
//!   the second's, or its inverse, makes all clients of that service meet, in two processes of 2^64
//!   for each service; one that is the first's, one client at all services. Over IPv6 it is two words
//!   of 2^64 as well. A last multiplier of all ones, one of 2^63, would do it to nearly all keys.
//! - They meet when one key's masked words are the other's, swapped: a word of the seed guessed, one
//!   of 2^64 for each pair.
//! - Otherwise two products of masked words would have to fold to the same 64 bits. That is not
//!   proven to be as rare as for random numbers, as it would be of a universal hash, and a folded
//!   multiply is no pseudo-random function; no set of keys is known that beats chance while nothing
//!   is seen of the result. The second multiply, under words of its own, is there so that products
//!   that agree in some bits do not lie together.
//!
//! And little is to be had: a scan ends after [`crate::MAX_PROBE`] slots, eight steps of 16 tags, and
//! flows of a crowded stretch find no slot and are forwarded by the Maglev table, whose hash is
//! SipHash.
//!
//! What does learn of the result is the network between node and backends: bits of it are the
//! entropy of outer headers. Who reads packets there and sends some as a client could come to know
//! the seed in time; he could as well drop the packets.
//!
//! Rounds of AES, the other fast choice, are no proven function either when there are as few as this
//! takes time for, cost as much (two rounds and their loads have the latency of two multiplies), and
//! are not in every processor that the program is built for.
//!
//! Not the Maglev flow hash: that one has to agree between nodes, this one must not.

use crate::key::{Family, FlowKey, V4Words};
use crate::sent_v6::V6AsSent;

/// Hashes flow keys for one table; see the module's text.
#[derive(Clone, Copy)]
pub struct KeyHasher {
    seed: [u64; 4],
}

impl KeyHasher {
    /// A hasher with its secret. The caller draws the four words from the system's random
    /// source; fixed words give reproducible tables (`weir replay`).
    pub const fn new(seed: [u64; 4]) -> KeyHasher {
        // The multiplier of the last fold: odd, so that multiplying by it loses nothing.
        KeyHasher { seed: [seed[0], seed[1], seed[2], seed[3] | 1] }
    }

    /// The hash of a key. All 64 bits are usable: the table takes the home slot from the
    /// top, the fingerprint from the bottom.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        match key.family() {
            Family::V4 => self.hash_v4(key.v4_words()),
            Family::V6 => self.hash_v6_words(key.v6_words()),
        }
    }

    /// As [`KeyHasher::hash`], for a flow over IPv4.
    #[inline(always)]
    pub fn hash_v4(&self, words: V4Words) -> u64 {
        let [a, b, c, d] = self.seed;
        fold(fold(words.client ^ a, words.service ^ b) ^ c, d)
    }

    /// As [`KeyHasher::hash`], for the flow of a packet over IPv6.
    #[inline(always)]
    pub fn hash_v6(&self, sent: V6AsSent<'_>) -> u64 {
        self.hash_v6_words(sent.words())
    }

    /// Source (2), destination (2), ports with protocol and family.
    #[inline(always)]
    fn hash_v6_words(&self, [s0, s1, d0, d1, ports]: [u64; 5]) -> u64 {
        let [a, b, c, d] = self.seed;
        let source = fold(s0 ^ a, s1 ^ b);
        let destination = fold(d0 ^ c, d1 ^ d.rotate_left(32));
        let both = fold(source ^ a.rotate_left(32), destination ^ ports ^ b);
        fold(both ^ c, d)
    }
}

impl core::fmt::Debug for KeyHasher {
    // The seed is a secret; it must not reach a log.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KeyHasher")
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, Ipv6Addr};

    const SEED: [u64; 4] = [
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
    ];

    fn v4(source: u32, port: u16) -> FlowKey {
        FlowKey::v4(Ipv4Addr::from_bits(source), Ipv4Addr::new(203, 0, 113, 1), port, 80, 6)
    }

    fn v6(source: u128, port: u16) -> FlowKey {
        FlowKey::v6(Ipv6Addr::from_bits(source), Ipv6Addr::LOCALHOST, port, 80, 6)
    }

    #[test]
    fn a_key_as_it_was_sent_has_the_hash_of_the_key() {
        let hasher = KeyHasher::new(SEED);
        for number in 0..1000u32 {
            let bits = number.wrapping_mul(0x9e37_79b9);
            let key = v4(bits, bits as u16);
            let ports = ((bits as u16).to_be_bytes(), [0, 80]);
            let words = V4Words::as_sent(bits.to_be_bytes(), [203, 0, 113, 1], ports, 6);
            assert_eq!((words, FlowKey::from_v4_words(words)), (key.v4_words(), key));
            assert_eq!(hasher.hash_v4(words), hasher.hash(&key));
        }
    }

    /// Largest bucket of `keys` over 256 buckets, taken from the top and the bottom byte.
    fn fullest(seed: [u64; 4], keys: impl Iterator<Item = FlowKey>) -> [usize; 2] {
        let hasher = KeyHasher::new(seed);
        let mut top = [0; 256];
        let mut bottom = [0; 256];
        for key in keys {
            let hash = hasher.hash(&key);
            top[(hash >> 56) as usize] += 1;
            bottom[(hash & 0xff) as usize] += 1;
        }
        [*top.iter().max().unwrap(), *bottom.iter().max().unwrap()]
    }

    /// Keys that differ in a few low bits only are what scanners and NAT pools send. 65536
    /// keys over 256 buckets: mean 256, standard deviation 16; 6 sigma is 352.
    #[test]
    fn neighbouring_keys_spread_evenly_at_both_ends_of_the_hash() {
        if cfg!(miri) {
            return;
        }
        for turn in 0..4 {
            let seed = SEED.map(|word| word.rotate_left(17 * turn) ^ u64::from(turn));
            let sequences: [[usize; 2]; 5] = [
                fullest(seed, (0..=65535).map(|port| v4(0x0a00_0001, port))),
                fullest(seed, (0..65536).map(|host| v4(0x0a00_0000 + host, 40000))),
                fullest(seed, (0..65536).map(|net| v4(net << 16, 40000))),
                fullest(seed, (0..65536u128).map(|host| v6(0x2001_0db8 << 96 | host, 40000))),
                fullest(seed, (0..65536u128).map(|net| v6(0x2001 << 112 | net << 64 | 1, 40000))),
            ];
            for (number, ends) in sequences.iter().enumerate() {
                assert!(ends.iter().all(|&fullest| fullest < 352), "sequence {number}: {ends:?}");
            }
        }
    }

    #[test]
    fn every_input_bit_reaches_every_output_bit() {
        if cfg!(miri) {
            return;
        }
        let hasher = KeyHasher::new(SEED);
        // Source address and port over 200 bases; each output bit flips near half the time.
        for bit in 0..48u32 {
            let mut flips = [0u32; 64];
            for base in 0..200u32 {
                let (source, port) =
                    (base.wrapping_mul(0x9e37_79b9), (base as u16).wrapping_mul(331));
                let flipped = if bit < 32 {
                    v4(source ^ 1 << bit, port)
                } else {
                    v4(source, port ^ 1 << (bit - 32))
                };
                let difference = hasher.hash(&v4(source, port)) ^ hasher.hash(&flipped);
                for (output, count) in flips.iter_mut().enumerate() {
                    *count += (difference >> output & 1) as u32;
                }
            }
            assert!(flips.iter().all(|&count| (50..150).contains(&count)), "bit {bit}: {flips:?}");
        }
    }

    #[test]
    fn the_seed_decides_where_a_key_lands() {
        let key = v4(1, 2);
        let hashes = [0, 1, 2, 3].map(|word| {
            let mut seed = SEED;
            seed[word] ^= 1 << 40;
            KeyHasher::new(seed).hash(&key)
        });
        for (index, hash) in hashes.iter().enumerate() {
            assert_ne!(*hash, KeyHasher::new(SEED).hash(&key));
            assert!(!hashes[..index].contains(hash));
        }
        assert_eq!(KeyHasher::new(SEED).hash(&key), KeyHasher::new(SEED).hash(&key));
    }
}
