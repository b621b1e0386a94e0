//! Sixteen tags compared at once, eight marks, and the bytes of two keys.
//!
//! Lane `i` of the tags is compared with `first + i * 0x100`: what a tag has to be to lie one slot
//! farther from the same home with each lane. Two forms with the same answers: SSE2, which
//! every x86-64 has, and plain 64-bit words for all others. LLVM does not find the vector
//! form of a search by itself; this one makes a lookup three times as fast.

/// Bytes of a key.
pub(crate) const KEY: usize = 38;

/// Tags looked at in one step.
pub(crate) const LANES: usize = 16;

/// Marks looked at in one step.
pub(crate) const MARKS: usize = 8;

#[cfg(target_arch = "x86_64")]
pub(crate) use vector::{equal, reaching, same, weakest};
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use words::{equal, reaching, same, weakest};

#[cfg(target_arch = "x86_64")]
mod vector {
    use super::{KEY, LANES, MARKS};
    use crate::marks::{CLOSING, TIME};
    use core::arch::x86_64::{
        __m128i, _mm_add_epi16, _mm_and_si128, _mm_cmpeq_epi8, _mm_cmpeq_epi16, _mm_cmpgt_epi16,
        _mm_cvtsi128_si32, _mm_loadu_si128, _mm_max_epi16, _mm_movemask_epi8, _mm_or_si128,
        _mm_packs_epi16, _mm_set1_epi16, _mm_setzero_si128, _mm_shuffle_epi32, _mm_shufflelo_epi16,
        _mm_sub_epi16, _mm_subs_epu16,
    };

    /// Bit `i`: lane `i` equals `first + i * 0x100`.
    #[inline]
    pub(crate) fn equal(tags: &[u16; LANES], first: u16) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { equal_sse2(tags, first) }
    }

    /// Bit `i`: lane `i` is at least `first + i * 0x100`.
    #[inline]
    pub(crate) fn reaching(tags: &[u16; LANES], first: u16) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { reaching_sse2(tags, first) }
    }

    /// Whether two keys have the same bytes: three pieces, of which the last two overlap, and one
    /// branch at the end. An early exit would be one to mispredict.
    #[inline]
    pub(crate) fn same(one: &[u8; KEY], other: &[u8; KEY]) -> bool {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { same_sse2(one, other) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn same_sse2(one: &[u8; KEY], other: &[u8; KEY]) -> bool {
        const { assert!(KEY > 32 && KEY <= 48) };
        let piece = |at: usize| {
            // SAFETY: `at` is at most KEY - 16, and these loads need no alignment.
            let load = |key: &[u8; KEY]| unsafe { _mm_loadu_si128(key.as_ptr().add(at).cast()) };
            _mm_cmpeq_epi8(load(one), load(other))
        };
        let all = _mm_and_si128(_mm_and_si128(piece(0), piece(16)), piece(KEY - 16));
        _mm_movemask_epi8(all) == 0xffff
    }

    /// Bit `i`: lane `i` is weak, and none is weaker. `now` is the time as in a mark.
    #[inline]
    pub(crate) fn weakest(marks: &[u16; MARKS], now: u16) -> u32 {
        // SAFETY: SSE2 is part of x86-64.
        unsafe { weakest_sse2(marks, now) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn weakest_sse2(marks: &[u16; MARKS], now: u16) -> u32 {
        // SAFETY: 8 marks are 16 readable bytes, and this load needs no alignment.
        let marks = unsafe { _mm_loadu_si128(marks.as_ptr().cast()) };
        let age = _mm_and_si128(
            _mm_sub_epi16(_mm_set1_epi16(now as i16), marks),
            _mm_set1_epi16(TIME as i16),
        );
        let class = _mm_and_si128(marks, _mm_set1_epi16(CLOSING as i16));
        // The top bit of a weak mark makes it negative; what is not weak gets the rank -1.
        let firm = _mm_cmpgt_epi16(marks, _mm_set1_epi16(-1));
        let ranks = _mm_or_si128(_mm_or_si128(class, age), firm);
        let fours = _mm_max_epi16(ranks, _mm_shuffle_epi32::<0b01_00_11_10>(ranks));
        let twos = _mm_max_epi16(fours, _mm_shuffle_epi32::<0b10_11_00_01>(fours));
        let best = _mm_max_epi16(twos, _mm_shufflelo_epi16::<0b10_11_00_01>(twos));
        let best = _mm_cvtsi128_si32(best) as i16;
        let lanes = mask(_mm_cmpeq_epi16(ranks, _mm_set1_epi16(best)), _mm_setzero_si128());
        if best < 0 { 0 } else { lanes }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn equal_sse2(tags: &[u16; LANES], first: u16) -> u32 {
        let ([tags_low, tags_high], [low, high]) = (halves(tags), wanted(first));
        mask(_mm_cmpeq_epi16(tags_low, low), _mm_cmpeq_epi16(tags_high, high))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn reaching_sse2(tags: &[u16; LANES], first: u16) -> u32 {
        let ([tags_low, tags_high], [low, high]) = (halves(tags), wanted(first));
        let zero = _mm_setzero_si128();
        mask(
            _mm_cmpeq_epi16(_mm_subs_epu16(low, tags_low), zero),
            _mm_cmpeq_epi16(_mm_subs_epu16(high, tags_high), zero),
        )
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn halves(tags: &[u16; LANES]) -> [__m128i; 2] {
        let tags: *const __m128i = tags.as_ptr().cast();
        // SAFETY: 16 tags are 32 readable bytes, and these loads need no alignment. Going
        // through a value instead of a pointer, LLVM loads the tags piecemeal.
        unsafe { [_mm_loadu_si128(tags), _mm_loadu_si128(tags.add(1))] }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn wanted(first: u16) -> [__m128i; 2] {
        const STEPS: [u16; LANES] = {
            let mut steps = [0; LANES];
            let mut lane = 0;
            while lane < LANES {
                steps[lane] = (lane as u16) << 8;
                lane += 1;
            }
            steps
        };
        let first = _mm_set1_epi16(first as i16);
        let [low, high] = halves(&STEPS);
        [_mm_add_epi16(first, low), _mm_add_epi16(first, high)]
    }

    /// Lanes of all ones or all zeros to one bit each.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn mask(low: __m128i, high: __m128i) -> u32 {
        _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod words {
    use super::{KEY, LANES, MARKS};
    use crate::marks::{CLOSING, TIME, WEAK};

    const ONES: u64 = 0x0001_0001_0001_0001;
    const TOPS: u64 = 0x8000_8000_8000_8000;
    const STEPS: u64 = 0x0300_0200_0100_0000;

    /// Bit `i`: lane `i` equals `first + i * 0x100`.
    #[inline]
    pub(crate) fn equal(tags: &[u16; LANES], first: u16) -> u32 {
        each(tags, first, |tags, wanted| {
            let difference = tags ^ wanted;
            // The top bit of a lane stays clear only if no bit of it is set.
            !(((difference & !TOPS) + !TOPS) | difference) & TOPS
        })
    }

    /// Bit `i`: lane `i` is at least `first + i * 0x100`.
    #[inline]
    pub(crate) fn reaching(tags: &[u16; LANES], first: u16) -> u32 {
        each(tags, first, |tags, wanted| {
            // The borrow of the low 15 bits stays inside its lane; the top bits decide first.
            let low = (tags | TOPS) - (wanted & !TOPS);
            (tags & !wanted | !(tags ^ wanted) & low) & TOPS
        })
    }

    /// Bit `i`: lane `i` is weak, and none is weaker. `now` is the time as in a mark.
    #[inline]
    pub(crate) fn weakest(marks: &[u16; MARKS], now: u16) -> u32 {
        let rank = |mark: u16| match mark & WEAK {
            0 => 0,
            _ => mark & (WEAK | CLOSING) | now.wrapping_sub(mark) & TIME,
        };
        let ranks = marks.map(rank);
        let best = ranks.iter().fold(1, |best, &rank| rank.max(best));
        (0..MARKS).fold(0, |lanes, lane| lanes | u32::from(ranks[lane] == best) << lane)
    }

    /// Whether two keys have the same bytes.
    #[inline]
    pub(crate) fn same(one: &[u8; KEY], other: &[u8; KEY]) -> bool {
        let (words, rest) = one.as_chunks::<8>();
        let (other_words, other_rest) = other.as_chunks::<8>();
        let word = |a: &[u8; 8], b: &[u8; 8]| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b);
        let difference = words.iter().zip(other_words).fold(0, |all, (a, b)| all | word(a, b));
        let difference =
            rest.iter().zip(other_rest).fold(difference, |all, (a, b)| all | (a ^ b) as u64);
        difference == 0
    }

    #[inline]
    fn each(tags: &[u16; LANES], first: u16, compare: impl Fn(u64, u64) -> u64) -> u32 {
        let (fours, _) = tags.as_chunks::<4>();
        let mut wanted = first as u64 * ONES + STEPS;
        let mut mask = 0;
        for (index, &[a, b, c, d]) in fours.iter().enumerate() {
            let word = a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48;
            let tops = compare(word, wanted) >> 15;
            let nibble = (tops | tops >> 15 | tops >> 30 | tops >> 45) & 0xf;
            mask |= (nibble as u32) << (4 * index);
            wanted += 0x0400 * ONES;
        }
        mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scalar(tags: &[u16; LANES], holds: impl Fn(usize, u16) -> bool) -> u32 {
        (0..LANES).map(|lane| (holds(lane, tags[lane]) as u32) << lane).sum()
    }

    #[test]
    fn keys_are_the_same_when_every_byte_is() {
        let one: [u8; KEY] = core::array::from_fn(|byte| 3 * byte as u8);
        assert!(same(&one, &one) && words::same(&one, &one));
        for bit in 0..KEY * 8 {
            let mut other = one;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!same(&one, &other) && !words::same(&one, &other), "bit {bit}");
        }
    }

    /// All orders of three classes and three ages on eight lanes would be too many: a tenth.
    #[test]
    fn both_forms_find_the_same_weakest_marks() {
        use crate::marks::{CLOSING, TIME, WEAK};
        let now = 5;
        let kinds = [0, WEAK | 4, WEAK | CLOSING | 4, WEAK | CLOSING | 9, WEAK | TIME, WEAK | 5];
        let step = if cfg!(miri) { 16_001 } else { 11 };
        for mut order in (0..kinds.len().pow(MARKS as u32)).step_by(step) {
            let marks = core::array::from_fn(|_| {
                let kind = kinds[order % kinds.len()];
                order /= kinds.len();
                kind
            });
            let rank = |lane: usize| match kinds.iter().position(|&kind| kind == marks[lane]) {
                Some(0) | None => 0,
                Some(1) => 2,
                Some(2) => 4,
                Some(3) => 5,
                Some(4) => 3,
                Some(_) => 1,
            };
            let best = (0..MARKS).map(rank).max().unwrap().max(1);
            let best = (0..MARKS).map(|lane| u32::from(rank(lane) == best) << lane).sum();
            assert_eq!(weakest(&marks, now), best, "{marks:x?}");
            assert_eq!(words::weakest(&marks, now), best, "{marks:x?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 4096 }))]

        #[test]
        fn all_forms_agree(
            noise in any::<[u16; LANES]>(),
            near in any::<[i8; LANES]>(),
            first in 0u16..0x8fff,
            how in any::<u16>(),
        ) {
            // A mixture of lanes that are equal, just off, and anything.
            let tags = core::array::from_fn(|lane| {
                let wanted = first + ((lane as u16) << 8);
                match how >> lane & 1 {
                    0 => wanted.wrapping_add_signed(near[lane] as i16 / 64),
                    _ => noise[lane],
                }
            });
            let same = scalar(&tags, |lane, tag| tag == first + ((lane as u16) << 8));
            let reach = scalar(&tags, |lane, tag| tag >= first + ((lane as u16) << 8));
            prop_assert_eq!(equal(&tags, first), same);
            prop_assert_eq!(words::equal(&tags, first), same);
            prop_assert_eq!(reaching(&tags, first), reach);
            prop_assert_eq!(words::reaching(&tags, first), reach);
        }
    }
}
