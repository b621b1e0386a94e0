//! Whose turn it is: weights as virtual time.
//!
//! A member of weight `w` has turn 0 at time 0 and turn `k` at time `(k + 1/2) / w`. Members of
//! equal weight have their turns at the same times, so they form a class that moves as one, and
//! the queue holds classes instead of members: a pool of equal weights is plain round robin.
//!
//! Invariant: the order of the turns of any two classes depends on their two weights only. That
//! is what keeps a change of one member from touching the order of the others.

use core::cmp::Ordering;
use core::ops::Range;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// All turns of a pool, in order, without end.
pub(crate) struct Turns {
    queue: BinaryHeap<Turn>,
}

/// The next turn of one class: at `numerator / (2 * weight)`.
struct Turn {
    /// 0 for turn 0, else `2k + 1`. With k below 2^24 and weights below 2^32, the products that
    /// are compared stay below 2^58.
    numerator: u64,
    weight: u32,
    /// Positions of its members.
    class: Range<u32>,
}

impl Turns {
    /// Turns of members with these weights, none of them 0, in falling order.
    pub(crate) fn new(weights: &[u32]) -> Turns {
        let mut queue = Vec::new();
        let mut start = 0;
        for class in weights.chunk_by(|a, b| a == b) {
            let end = start + class.len() as u32;
            queue.extend(class.first().map(|&weight| Turn {
                numerator: 0,
                weight,
                class: start..end,
            }));
            start = end;
        }
        Turns { queue: BinaryHeap::from(queue) }
    }

    /// The members, by position in the given list, that have the next turns, one after the other.
    /// Empty only when there are no members.
    #[inline]
    pub(crate) fn next_class(&mut self) -> Range<usize> {
        let Some(mut turn) = self.queue.peek_mut() else { return 0..0 };
        let class = turn.class.start as usize..turn.class.end as usize;
        turn.numerator += if turn.numerator == 0 { 3 } else { 2 };
        // Puts the class back where its next turn belongs.
        drop::<PeekMut<'_, Turn>>(turn);
        class
    }
}

impl Ord for Turn {
    /// The heap gives its greatest: that is the earliest turn, then the greater weight.
    fn cmp(&self, other: &Turn) -> Ordering {
        let this = self.numerator * u64::from(other.weight);
        let that = other.numerator * u64::from(self.weight);
        that.cmp(&this).then(self.weight.cmp(&other.weight))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Turn) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Eq for Turn {}

impl PartialEq for Turn {
    fn eq(&self, other: &Turn) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
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
    fn the_greatest_weights_and_times_do_not_overflow() {
        let last = 1 + 2 * u64::from(crate::MAX_SLOTS);
        let turn = |numerator, weight| Turn { numerator, weight, class: 0..1 };
        assert!(turn(last, u32::MAX) > turn(last, u32::MAX - 1));
        assert!(turn(1, 1) < turn(last, u32::MAX));
        assert_eq!(first_turns(&[u32::MAX, 1], 100).iter().sum::<usize>(), 1);
    }

    #[test]
    fn nobody_has_no_turns() {
        assert_eq!(Turns::new(&[]).next_class(), 0..0);
    }
}
