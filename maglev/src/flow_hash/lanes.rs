//! Many flows at a time: SipHash-2-4 with one flow in each lane of a vector.
//!
//! SipHash is additions, rotations and exclusive ors of four 64-bit words, one after the other: a
//! flow by itself leaves most of a core idle. In lanes, one instruction does the step of eight flows
//! (AVX-512, which also rotates in one), four (AVX2) or two (NEON); two vectors are taken through
//! together, so that one computes while the other waits.
//!
//! Invariant: every form gives what [`super::FlowHasher::hash`] gives for the same bytes. Which one a
//! machine gets is found out once, when a hasher is made.

use super::{State, word_at};

/// How many flows are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One by one.
    Scalar,
    /// 16 at a time.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 8 at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 4 at a time.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Form {
    /// The fastest form that this machine has.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn best() -> Form {
        if std::arch::is_x86_feature_detected!("avx512f") {
            Form::Avx512
        } else if std::arch::is_x86_feature_detected!("avx2") {
            Form::Avx2
        } else {
            Form::Scalar
        }
    }

    /// The fastest form that this machine has.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn best() -> Form {
        if cfg!(miri) { Form::Scalar } else { Form::Neon }
    }

    /// The fastest form that this machine has.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) fn best() -> Form {
        Form::Scalar
    }

    /// Hashes each key into its place of `hashes`; as many as there are of both.
    #[inline]
    pub(super) fn hash<const N: usize>(self, start: State, keys: &[[u8; N]], hashes: &mut [u64]) {
        match self {
            Form::Scalar => one_by_one(start, keys, hashes),
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "the processor was asked for what the compiler was not")]
            Form::Avx512 => by_chunks(start, keys, hashes, |keys| {
                // SAFETY: this form is made by `Form::best` alone, where the processor has AVX-512F.
                unsafe { avx512::hash(start, keys) }
            }),
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "the processor was asked for what the compiler was not")]
            Form::Avx2 => by_chunks(start, keys, hashes, |keys| {
                // SAFETY: this form is made where the processor has AVX2: by `Form::best`, and by
                // the tests, which ask for it.
                unsafe { avx2::hash(start, keys) }
            }),
            #[cfg(target_arch = "aarch64")]
            #[expect(unsafe_code, reason = "functions of a feature that is always there")]
            Form::Neon => by_chunks(start, keys, hashes, |keys| {
                // SAFETY: NEON is part of AArch64.
                unsafe { neon::hash(start, keys) }
            }),
        }
    }
}

#[inline]
fn one_by_one<const N: usize>(start: State, keys: &[[u8; N]], hashes: &mut [u64]) {
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = start.hash(key);
    }
}

/// As many keys as a form takes, again and again; a rest that fills a third of the lanes with keys
/// of zeros beside it, a smaller one one by one.
#[inline(always)]
fn by_chunks<const N: usize, const LANES: usize>(
    start: State,
    keys: &[[u8; N]],
    hashes: &mut [u64],
    hash: impl Fn(&[[u8; N]; LANES]) -> [u64; LANES],
) {
    let count = keys.len().min(hashes.len());
    let (chunks, rest) = keys.split_at(count).0.as_chunks::<LANES>();
    let (places, last) = hashes.as_chunks_mut::<LANES>();
    for (chunk, place) in chunks.iter().zip(places.iter_mut()) {
        *place = hash(chunk);
    }
    // Where there is room for more hashes than there are keys, the rest has a whole chunk of it.
    let last = match places.get_mut(chunks.len()) {
        Some(place) => place.as_mut_slice(),
        None => last,
    };
    if rest.len() * 3 < LANES {
        one_by_one(start, rest, last);
        return;
    }
    let mut filled = [[0; N]; LANES];
    filled.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    last.iter_mut().zip(hash(&filled)).take(rest.len()).for_each(|(to, from)| *to = from);
}

/// The words at `at` of all keys.
#[inline(always)]
fn words_at<const N: usize, const LANES: usize>(
    keys: &[[u8; N]; LANES],
    at: usize,
) -> [u64; LANES] {
    let mut words = [0; LANES];
    for (word, key) in words.iter_mut().zip(keys) {
        *word = word_at(key, at);
    }
    words
}

/// The algorithm, once for all vectors: `$two` is two of them, of `LANES` words in all, which
/// `load`, `store`, `splat`, `add`, `xor` and `rotate` beside it know to handle.
macro_rules! siphash {
    ($feature:literal, $two:ty) => {
        #[target_feature(enable = $feature)]
        pub(super) fn hash<const N: usize>(start: State, keys: &[[u8; N]; LANES]) -> [u64; LANES] {
            let State { v0, v1, v2, v3 } = start;
            let mut state = [splat(v0), splat(v1), splat(v2), splat(v3)];
            for at in 0..=N / 8 {
                let word = load(words_at(keys, at));
                state[3] = xor(state[3], word);
                state = round(round(state));
                state[0] = xor(state[0], word);
            }
            state[2] = xor(state[2], splat(0xff));
            let [v0, v1, v2, v3] = round(round(round(round(state))));
            store(xor(xor(v0, v1), xor(v2, v3)))
        }

        /// SipRound, figure 2.1 of the paper.
        #[inline]
        #[target_feature(enable = $feature)]
        fn round([v0, v1, v2, v3]: [$two; 4]) -> [$two; 4] {
            let (v0, v2) = (add(v0, v1), add(v2, v3));
            let (v1, v3) = (xor(rotate::<13, 51>(v1), v0), xor(rotate::<16, 48>(v3), v2));
            let v0 = rotate::<32, 32>(v0);
            let (v2, v0) = (add(v2, v1), add(v0, v3));
            let (v1, v3) = (xor(rotate::<17, 47>(v1), v2), xor(rotate::<21, 43>(v3), v0));
            [v0, v1, rotate::<32, 32>(v2), v3]
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use core::arch::x86_64::{
        __m512i, _mm512_add_epi64, _mm512_rol_epi64, _mm512_set1_epi64, _mm512_xor_si512,
    };

    use super::{State, words_at};

    const LANES: usize = 16;

    siphash!("avx512f", [__m512i; 2]);

    #[inline(always)]
    #[expect(unsafe_code, reason = "a vector is not known to be plain words")]
    fn load(words: [u64; LANES]) -> [__m512i; 2] {
        // SAFETY: as many bytes, and any are good as either.
        unsafe { core::mem::transmute(words) }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a vector is not known to be plain words")]
    fn store(two: [__m512i; 2]) -> [u64; LANES] {
        // SAFETY: as many bytes, and any are good as either.
        unsafe { core::mem::transmute(two) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn splat(word: u64) -> [__m512i; 2] {
        [_mm512_set1_epi64(word as i64); 2]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add([a, b]: [__m512i; 2], [c, d]: [__m512i; 2]) -> [__m512i; 2] {
        [_mm512_add_epi64(a, c), _mm512_add_epi64(b, d)]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn xor([a, b]: [__m512i; 2], [c, d]: [__m512i; 2]) -> [__m512i; 2] {
        [_mm512_xor_si512(a, c), _mm512_xor_si512(b, d)]
    }

    /// To the left by `LEFT` of 64 bits; `RIGHT` is what is left of them.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rotate<const LEFT: i32, const RIGHT: i32>([a, b]: [__m512i; 2]) -> [__m512i; 2] {
        [_mm512_rol_epi64::<LEFT>(a), _mm512_rol_epi64::<LEFT>(b)]
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use core::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_or_si256, _mm256_set1_epi64x, _mm256_slli_epi64,
        _mm256_srli_epi64, _mm256_xor_si256,
    };

    use super::{State, words_at};

    const LANES: usize = 8;

    siphash!("avx2", [__m256i; 2]);

    #[inline(always)]
    #[expect(unsafe_code, reason = "a vector is not known to be plain words")]
    fn load(words: [u64; LANES]) -> [__m256i; 2] {
        // SAFETY: as many bytes, and any are good as either.
        unsafe { core::mem::transmute(words) }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a vector is not known to be plain words")]
    fn store(two: [__m256i; 2]) -> [u64; LANES] {
        // SAFETY: as many bytes, and any are good as either.
        unsafe { core::mem::transmute(two) }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn splat(word: u64) -> [__m256i; 2] {
        [_mm256_set1_epi64x(word as i64); 2]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add([a, b]: [__m256i; 2], [c, d]: [__m256i; 2]) -> [__m256i; 2] {
        [_mm256_add_epi64(a, c), _mm256_add_epi64(b, d)]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn xor([a, b]: [__m256i; 2], [c, d]: [__m256i; 2]) -> [__m256i; 2] {
        [_mm256_xor_si256(a, c), _mm256_xor_si256(b, d)]
    }

    /// To the left by `LEFT` of 64 bits; `RIGHT` is what is left of them.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(two: [__m256i; 2]) -> [__m256i; 2] {
        two.map(|one| {
            _mm256_or_si256(_mm256_slli_epi64::<LEFT>(one), _mm256_srli_epi64::<RIGHT>(one))
        })
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use core::arch::aarch64::{
        uint64x2_t, vaddq_u64, vdupq_n_u64, veorq_u64, vorrq_u64, vshlq_n_u64, vshrq_n_u64,
    };

    use super::{State, words_at};

    const LANES: usize = 4;

    siphash!("neon", [uint64x2_t; 2]);

    #[inline(always)]
    #[expect(unsafe_code, reason = "a vector is not known to be plain words")]
    fn load(words: [u64; LANES]) -> [uint64x2_t; 2] {
        // SAFETY: as many bytes, and any are good as either.
        unsafe { core::mem::transmute(words) }
    }

    #[inline(always)]
    #[expect(unsafe_code, reason = "a vector is not known to be plain words")]
    fn store(two: [uint64x2_t; 2]) -> [u64; LANES] {
        // SAFETY: as many bytes, and any are good as either.
        unsafe { core::mem::transmute(two) }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn splat(word: u64) -> [uint64x2_t; 2] {
        [vdupq_n_u64(word); 2]
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn add([a, b]: [uint64x2_t; 2], [c, d]: [uint64x2_t; 2]) -> [uint64x2_t; 2] {
        [vaddq_u64(a, c), vaddq_u64(b, d)]
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn xor([a, b]: [uint64x2_t; 2], [c, d]: [uint64x2_t; 2]) -> [uint64x2_t; 2] {
        [veorq_u64(a, c), veorq_u64(b, d)]
    }

    /// To the left by `LEFT` of 64 bits; `RIGHT` is what is left of them.
    #[inline]
    #[target_feature(enable = "neon")]
    fn rotate<const LEFT: i32, const RIGHT: i32>(two: [uint64x2_t; 2]) -> [uint64x2_t; 2] {
        two.map(|one| vorrq_u64(vshlq_n_u64::<LEFT>(one), vshrq_n_u64::<RIGHT>(one)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::FlowHasher;

    /// Every form that this machine has.
    fn forms() -> Vec<Form> {
        let mut forms = vec![Form::Scalar];
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            forms.push(Form::Avx2);
        }
        if !forms.contains(&Form::best()) {
            forms.push(Form::best());
        }
        forms
    }

    fn hashes<const N: usize>(form: Form, hasher: &FlowHasher, keys: &[[u8; N]]) -> Vec<u64> {
        let mut hashes = vec![0; keys.len()];
        form.hash(hasher.start, keys, &mut hashes);
        hashes
    }

    /// Values of the reference implementation for messages that count up from 0 under a key that
    /// does, in every lane.
    #[test]
    fn every_lane_of_every_form_gives_the_values_of_the_reference_implementation() {
        let hasher = FlowHasher::new(core::array::from_fn(|i| i as u8));
        fn counting<const N: usize>() -> [u8; N] {
            core::array::from_fn(|i| i as u8)
        }
        for form in forms() {
            assert_eq!(hashes(form, &hasher, &[counting::<0>(); 33]), [0x726f_db47_dd0e_0e31; 33]);
            assert_eq!(hashes(form, &hasher, &[counting::<7>(); 33]), [0xab02_00f5_8b01_d137; 33]);
            assert_eq!(hashes(form, &hasher, &[counting::<8>(); 33]), [0x93f5_f579_9a93_2462; 33]);
            assert_eq!(hashes(form, &hasher, &[counting::<15>(); 33]), [0xa129_ca61_49be_45e5; 33]);
        }
    }

    #[test]
    fn what_there_is_less_of_decides_how_many_are_hashed() {
        let hasher = FlowHasher::new([7; 16]);
        let keys: [[u8; 13]; 40] = core::array::from_fn(|key| [key as u8; 13]);
        let all = hashes(Form::Scalar, &hasher, &keys);
        for form in forms() {
            for (keys_there, places) in [(40, 3), (5, 40), (40, 21), (21, 40), (0, 16), (16, 0)] {
                let mut hashes = vec![1; places];
                form.hash(hasher.start, &keys[..keys_there], &mut hashes);
                let count = keys_there.min(places);
                assert_eq!(hashes[..count], all[..count], "{form:?} {keys_there} {places}");
                assert!(hashes[count..].iter().all(|&hash| hash == 1), "{form:?} {places}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

        #[test]
        fn every_form_hashes_as_one_by_one(
            secret: [u8; 16],
            v4 in prop::collection::vec(any::<[u8; 13]>(), 70),
            v6 in prop::collection::vec(prop::collection::vec(any::<u8>(), 37), 70),
        ) {
            let hasher = FlowHasher::new(secret);
            let v6: Vec<[u8; 37]> = v6.into_iter().map(|key| key.try_into().unwrap()).collect();
            let one_v4: Vec<u64> = v4.iter().map(|key| hasher.hash(key)).collect();
            let one_v6: Vec<u64> = v6.iter().map(|key| hasher.hash(key)).collect();
            for form in forms() {
                for count in 0..=70 {
                    prop_assert_eq!(&hashes(form, &hasher, &v4[..count])[..], &one_v4[..count]);
                    prop_assert_eq!(&hashes(form, &hasher, &v6[..count])[..], &one_v6[..count]);
                }
            }
        }
    }
}
