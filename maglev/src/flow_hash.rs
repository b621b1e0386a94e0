//! The keyed hash of a flow: SipHash-2-4.
//!
//! Aumasson and Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012. The key is the
//! pool's secret: who does not know it cannot find flows that share a slot, and replacing it gives
//! all flows new slots. The result is a number, not bytes: the same on every architecture.
//!
//! Packets have keys of two sizes only, so [`FlowHasher::hash_v4`] and [`FlowHasher::hash_v6`]
//! unroll the loop for those; both give what [`FlowHasher::hash`] gives for the same bytes.
//! [`FlowHasher::hash_v4_many`] and [`FlowHasher::hash_v6_many`] take a burst of them at a time, in
//! the vectors that the processor has, with the same results.

mod lanes;

use core::fmt;

use siphasher::sip::SipHasher24;

use self::lanes::Form;

/// SipHash-2-4 under a pool's secret.
#[derive(Clone, Copy)]
pub struct FlowHasher {
    any_length: SipHasher24,
    /// Where every hash starts: the key, mixed with the paper's constants.
    start: State,
    /// How many keys are hashed on this machine.
    form: Form,
}

impl FlowHasher {
    /// Bytes of a packed IPv4 5-tuple: two addresses, two ports, the protocol.
    pub const V4_KEY: usize = 13;
    /// Bytes of a packed IPv6 5-tuple.
    pub const V6_KEY: usize = 37;

    /// A hasher for one pool. `secret` is the key as in the paper, its bytes in order.
    pub fn new(secret: [u8; 16]) -> FlowHasher {
        let key = u128::from_le_bytes(secret);
        let (low, high) = (key as u64, (key >> 64) as u64);
        FlowHasher {
            any_length: SipHasher24::new_with_key(&secret),
            start: State {
                v0: low ^ 0x736f_6d65_7073_6575,
                v1: high ^ 0x646f_7261_6e64_6f6d,
                v2: low ^ 0x6c79_6765_6e65_7261,
                v3: high ^ 0x7465_6462_7974_6573,
            },
            form: Form::best(),
        }
    }

    /// The hash of a key of any length.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        self.any_length.hash(bytes)
    }

    /// The hash of a packed IPv4 5-tuple.
    #[inline]
    pub fn hash_v4(&self, key: &[u8; FlowHasher::V4_KEY]) -> u64 {
        self.start.hash(key)
    }

    /// The hash of a packed IPv6 5-tuple.
    #[inline]
    pub fn hash_v6(&self, key: &[u8; FlowHasher::V6_KEY]) -> u64 {
        self.start.hash(key)
    }

    /// [`FlowHasher::hash_v4`] of each key, into its place of `hashes`; as many as there are of
    /// both. From a handful of keys on it takes a third of the time or less where the processor has
    /// AVX-512.
    #[inline]
    pub fn hash_v4_many(&self, keys: &[[u8; FlowHasher::V4_KEY]], hashes: &mut [u64]) {
        self.form.hash(self.start, keys, hashes);
    }

    /// [`FlowHasher::hash_v6`] of each key, likewise.
    #[inline]
    pub fn hash_v6_many(&self, keys: &[[u8; FlowHasher::V6_KEY]], hashes: &mut [u64]) {
        self.form.hash(self.start, keys, hashes);
    }
}

/// Of one secret. Takes as long as it takes, so it is for keys that no stranger chooses.
impl PartialEq for FlowHasher {
    fn eq(&self, other: &FlowHasher) -> bool {
        self.start == other.start
    }
}

impl Eq for FlowHasher {}

impl fmt::Debug for FlowHasher {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowHasher").finish_non_exhaustive()
    }
}

/// The four words of section 2.1.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

/// The word at `at` of a key. Section 2.2 of the paper: the last one, which may have no bytes of the
/// key in it, ends with the length modulo 256.
#[inline(always)]
fn word_at<const N: usize>(key: &[u8; N], at: usize) -> u64 {
    let (words, rest) = key.as_chunks::<8>();
    if let Some(word) = words.get(at) {
        return u64::from_le_bytes(*word);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    u64::from_le_bytes(last) | (N as u64) << 56
}

impl State {
    /// The hash of a key, from here on.
    #[inline(always)]
    fn hash<const N: usize>(mut self, key: &[u8; N]) -> u64 {
        for at in 0..=N / 8 {
            self.absorb(word_at(key, at));
        }
        self.finish()
    }

    #[inline(always)]
    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    /// SipRound, figure 2.1.
    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The key and the messages of the paper's appendix A: bytes counting up from 0.
    fn counting<const N: usize>() -> [u8; N] {
        core::array::from_fn(|i| i as u8)
    }

    #[test]
    fn gives_the_value_of_the_papers_appendix() {
        let hasher = FlowHasher::new(counting());
        let message: [u8; 15] = counting();
        assert_eq!(hasher.hash(&message), 0xa129_ca61_49be_45e5);
        assert_eq!(hasher.start.hash(&message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn gives_the_values_of_the_reference_implementation() {
        let hasher = FlowHasher::new(counting());
        assert_eq!(hasher.hash(&[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(hasher.hash(&counting::<1>()), 0x74f8_39c5_93dc_67fd);
        assert_eq!(hasher.hash(&counting::<2>()), 0x0d6c_8009_d9a9_4f5a);
        assert_eq!(hasher.hash(&counting::<7>()), 0xab02_00f5_8b01_d137);
        assert_eq!(hasher.hash(&counting::<8>()), 0x93f5_f579_9a93_2462);
        assert_eq!(hasher.start.hash(&counting::<0>()), 0x726f_db47_dd0e_0e31);
        assert_eq!(hasher.start.hash(&counting::<8>()), 0x93f5_f579_9a93_2462);
    }

    #[test]
    fn does_not_print_the_secret() {
        let text = format!("{:?}", FlowHasher::new([0xab; 16]));
        assert_eq!(text, "FlowHasher { .. }");
    }

    proptest! {
        #[test]
        fn packet_sized_keys_hash_as_any_others(
            secret: [u8; 16],
            v4: [u8; 13],
            v6_head: [u8; 32],
            v6_tail: [u8; 5],
        ) {
            let hasher = FlowHasher::new(secret);
            let mut v6 = [0; 37];
            v6[..32].copy_from_slice(&v6_head);
            v6[32..].copy_from_slice(&v6_tail);
            prop_assert_eq!(hasher.hash_v4(&v4), hasher.hash(&v4));
            prop_assert_eq!(hasher.hash_v6(&v6), hasher.hash(&v6));
        }
    }
}
