//! Memory that one thread writes, on cache lines that no other thread touches.
//!
//! Two cores that write to one line take it from each other at every write, some 100 ns a time,
//! although neither wants what the other has written (false sharing). And the unit is two lines:
//! x86 fetches them in pairs (Intel 64 and IA-32 Architectures Optimization Reference Manual, "spatial
//! prefetcher"). What a worker writes for each packet therefore begins and ends at a multiple of
//! [`LINE`]: single values by an alignment, the arrays of counters by [`Lines`]. An allocator promises
//! neither: it hands out the rest of a line to whoever asks next.
//!
//! `worker/written.rs` lists what a worker writes, and holds it against this.

use std::ops::Deref;

/// Bytes that belong to one thread or to none: a pair of cache lines.
pub(crate) const LINE: usize = 128;

/// A value on lines of its own, wherever it lies.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct OnLines<T>(pub(crate) T);

/// An array on lines of its own, of elements that may be smaller than one.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    padded: Box<[T]>,
    /// Where the array begins in `padded`: at the first line.
    first: usize,
    count: usize,
}

impl<T> Lines<T> {
    /// Elements that share a line. They fill it, and so does no other number of them.
    const A_LINE: usize = {
        assert!(size_of::<T>() == align_of::<T>() && LINE.is_multiple_of(size_of::<T>()));
        LINE / size_of::<T>()
    };

    /// `count` elements.
    pub(crate) fn new(count: usize, element: impl Fn() -> T) -> Self {
        let whole_lines = count.next_multiple_of(Self::A_LINE);
        let padded: Box<[T]> = (0..whole_lines + Self::A_LINE - 1).map(|_| element()).collect();
        // Elements to go to the next line, fewer than a line has.
        let first = padded.as_ptr().align_offset(LINE).min(Self::A_LINE - 1);
        Self { padded, first, count }
    }

    /// The address of an element that need not be there.
    #[inline(always)]
    pub(crate) fn address(&self, index: usize) -> *const T {
        self.padded.as_ptr().wrapping_add(self.first + index)
    }
}

impl<T> Deref for Lines<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        self.padded.get(self.first..self.first + self.count).unwrap_or_default()
    }
}

impl<T> Deref for OnLines<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for OnLines<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(align(32))]
    struct Quarter(u8);

    #[test]
    fn arrays_begin_at_a_line_and_no_line_of_theirs_is_anothers() {
        let all: Vec<Lines<Quarter>> =
            (1..40).map(|count| Lines::new(count, || Quarter(7))).collect();
        for (count, lines) in (1..).zip(&all) {
            assert_eq!(**lines, vec![Quarter(7); count]);
            assert_eq!(lines.as_ptr() as usize % LINE, 0);
            assert_eq!(lines.address(count - 1), &raw const lines[count - 1]);
            // The rest of the last line is the array's, too.
            let end = lines.padded.as_ptr_range().end as usize;
            let used = lines.as_ptr_range().end as usize;
            assert!(used.next_multiple_of(LINE) <= end, "{count}");
        }
    }
}
