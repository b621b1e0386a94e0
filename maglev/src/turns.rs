//! Whose turn it is: weights as virtual time.
//!
//! A member of weight `w` has turn 0 at time 0 and turn `k` at time `(k + 1/2) / w`. Members of
//! equal weight have their turns at the same times, so they form a class that moves as one: a
//! pool of equal weights is plain round robin.
//!
//! Turns are made in windows of virtual time, each sorted by itself, which is several times faster
//! than a heap; and as times lie about evenly in a window, each turn is first put where its time is in
//! proportion, so that only the few that meet there are left to be sorted. Where the windows begin depends on the whole pool but is not seen outside: sorted
//! pieces of the time axis, put together, are the sorted time axis.
//!
//! Times are `f64`, and yet the same everywhere: both operands are exact (below 2^33), a division
//! is correctly rounded (IEEE 754-2019, section 4.3), so a time is a function of `k` and `w`.
//! Equal fractions have equal times; different ones have different times for weights up to 2^27,
//! and above that may at most tie.
//!
//! Invariant: the order of the turns of any two classes depends on their two weights only. That
//! is what keeps a change of one member from touching the order of the others.

use core::ops::Range;

/// All turns of a pool, in order, without end.
pub(crate) struct Turns {
    classes: Vec<Class>,
    /// Turns of the current window in order, as time and class; the time as bits, which sort as
    /// the numbers do, as there are no negative ones.
    window: Vec<(u64, u32)>,
    /// Its turns before they are in order, and how many lie in each part of it.
    unordered: Vec<(u64, u32)>,
    counts: Vec<usize>,
    /// The next turn of the window.
    next: usize,
    /// How many windows there were.
    windows: u64,
    /// Length of a window in virtual time.
    length: f64,
}

/// Members of one weight.
struct Class {
    weight: f64,
    /// Positions of its members.
    members: Range<usize>,
    /// The first turn that is not in a window yet, and its time.
    turn: u64,
    time: f64,
}

impl Turns {
    /// Turns of members with these weights, none of them 0, in falling order.
    pub(crate) fn new(weights: &[u32]) -> Turns {
        let mut classes = Vec::new();
        let mut start = 0;
        for class in weights.chunk_by(|a, b| a == b) {
            let members = start..start + class.len();
            start = members.end;
            let weight = class.first().copied().map_or(1.0, f64::from);
            classes.push(Class { weight, members, turn: 0, time: 0.0 });
        }
        // About as many turns of classes a window as there are classes.
        let sum: f64 = classes.iter().map(|class| class.weight).sum();
        let length = classes.len().max(64) as f64 / sum;
        let (window, unordered, counts) = (Vec::new(), Vec::new(), Vec::new());
        Turns { classes, window, unordered, counts, next: 0, windows: 0, length }
    }

    /// The members, by position in the given list, that have the next turns, one after the other.
    /// Empty only when there are no members.
    #[inline]
    pub(crate) fn next_class(&mut self) -> Range<usize> {
        while self.next == self.window.len() {
            if self.classes.is_empty() {
                return 0..0;
            }
            self.next_window();
        }
        let (_, class) = self.window[self.next];
        self.next += 1;
        self.classes[class as usize].members.clone()
    }

    fn next_window(&mut self) {
        self.windows += 1;
        self.next = 0;
        self.unordered.clear();
        let start = (self.windows - 1) as f64 * self.length;
        let end = self.windows as f64 * self.length;
        for (number, class) in (0u32..).zip(&mut self.classes) {
            while class.time < end {
                self.unordered.push((class.time.to_bits(), number));
                class.turn += 1;
                class.time = (class.turn as f64 + 0.5) / class.weight;
            }
        }
        self.order(start);
    }

    /// Puts the turns of the window that begins at `start` in order. Classes are in falling order of
    /// weight: at a tie, the greater weight goes first.
    fn order(&mut self, start: f64) {
        let Self { unordered, window, counts, .. } = self;
        let parts = unordered.len();
        let scale = parts as f64 / self.length;
        // As a later time is never rounded to a lesser number, it is never in an earlier part.
        let part = |time: u64| {
            (((f64::from_bits(time) - start) * scale) as usize).min(parts.saturating_sub(1))
        };
        counts.clear();
        counts.resize(parts + 1, 0);
        for &(time, _) in unordered.iter() {
            counts[part(time) + 1] += 1;
        }
        for at in 1..counts.len() {
            counts[at] += counts[at - 1];
        }
        window.clear();
        window.resize(parts, (0, 0));
        for &turn in unordered.iter() {
            // Where the part begins, and in the end where it ends.
            let place = &mut counts[part(turn.0)];
            window[*place] = turn;
            *place += 1;
        }
        let mut begin = 0;
        for &end in &counts[..parts] {
            if end - begin > 1 {
                window[begin..end].sort_unstable();
            }
            begin = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first_turns(weights: &[u32], count: usize) -> Vec<usize> {
        let mut turns = Turns::new(weights);
        let mut order = Vec::new();
        while order.len() < count {
            order.extend(turns.next_class());
        }
        order.truncate(count);
        order
    }

    #[test]
    fn equal_weights_are_round_robin() {
        assert_eq!(first_turns(&[7, 7, 7], 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn turns_come_at_the_times_that_the_weights_say() {
        // Times, by weight: 3 at 0, 1/2, 5/6, 7/6, 3/2 ...; 1 at 0, 3/2 ...
        assert_eq!(first_turns(&[3, 1], 7), [0, 1, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn the_greatest_weight_beside_the_least_has_all_turns_but_one() {
        let order = first_turns(&[u32::MAX, 1], 100_000);
        assert_eq!(order.iter().sum::<usize>(), 1);
    }

    #[test]
    fn nobody_has_no_turns() {
        assert_eq!(Turns::new(&[]).next_class(), 0..0);
    }

    proptest! {
        #[test]
        fn the_order_is_the_one_of_exact_fractions(
            mut weights in prop::collection::vec(1u32..1 << 27, 1..40),
            small in prop::collection::vec(1u32..20, 0..20),
        ) {
            weights.extend(small);
            weights.sort_unstable_by(|a, b| b.cmp(a));
            let order = first_turns(&weights, 3000);
            let mut turn = vec![0u64; weights.len()];
            let mut before = (0u64, u32::MAX, 0usize);
            for member in order {
                let weight = weights[member];
                let numerator = if turn[member] == 0 { 0 } else { 2 * turn[member] + 1 };
                turn[member] += 1;
                let (this, that) =
                    (numerator * u64::from(before.1), before.0 * u64::from(weight));
                prop_assert!(
                    this > that || (this == that && member > before.2) || before == (0, u32::MAX, 0),
                    "member {} after {}", member, before.2
                );
                before = (numerator, weight, member);
            }
        }

        #[test]
        fn two_members_take_turns_in_the_same_order_whoever_else_is_there(
            first in 1u32..1000,
            second in 1u32..1000,
            others in prop::collection::vec(1u32..2000, 0..30),
        ) {
            let mut pair = [first, second];
            pair.sort_unstable_by(|a, b| b.cmp(a));
            let alone = first_turns(&pair, 200);
            let mut all: Vec<(u32, usize)> = others.iter().map(|&weight| (weight, 2)).collect();
            all.extend([(pair[0], 0), (pair[1], 1)]);
            all.sort_by_key(|&(weight, who)| (core::cmp::Reverse(weight), who));
            let weights: Vec<u32> = all.iter().map(|&(weight, _)| weight).collect();
            let among: Vec<usize> = first_turns(&weights, 5000)
                .into_iter()
                .map(|member| all[member].1)
                .filter(|&who| who < 2)
                .take(200)
                .collect();
            prop_assert_eq!(&alone[..among.len()], &among[..]);
        }
    }
}
