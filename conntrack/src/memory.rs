//! Where a table lives: its own allocation, or memory the caller lends for good.
//!
//! ```text
//!  region  | entries: 64 bytes x (slots + MAX_PROBE) | tags and marks: 2 bytes x (slots + MAX_PROBE + pad) each |
//! ```
//!
//! Tags say which slots are in use; all zero is an empty table, and so are the marks of empty
//! slots. Entries of empty slots are cleared, so that the shortest look-up need not ask the tag.

use core::alloc::Layout;
use core::ops::{Deref, DerefMut};

use zerocopy::{FromBytes, FromZeros};

use crate::entry::Entry;
use crate::lanes::LANES;
use crate::tags::MAX_PROBE;

/// Most flows one table can be asked to hold (64 GiB of entries).
pub const MAX_FLOWS: usize = 1 << 30;

/// Why there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The size asked for makes no table.
    #[error("a flow table holds 1 to {MAX_FLOWS} flows, not {0}")]
    Flows(usize),
    /// The system has no such memory to give.
    #[error("no memory for a flow table of {0} bytes")]
    Exhausted(usize),
    /// The caller's memory is too small or not aligned.
    #[error("a flow table needs {needed} bytes aligned to {align}, given are {given}")]
    Region {
        /// Bytes needed.
        needed: usize,
        /// Alignment needed, bytes.
        align: usize,
        /// Bytes given.
        given: usize,
    },
}

/// Memory for one table.
pub struct Memory {
    pub(crate) flows: usize,
    pub(crate) slots: usize,
    pub(crate) tags: Region<u16>,
    pub(crate) marks: Region<u16>,
    pub(crate) entries: Region<Entry>,
}

impl Memory {
    /// Size and alignment of the memory for a table of `flows` flows.
    ///
    /// # Errors
    /// [`MemoryError::Flows`] outside 1..=[`MAX_FLOWS`].
    pub fn layout(flows: usize) -> Result<Layout, MemoryError> {
        let slots = slots(flows)?;
        let bytes = entry_bytes(slots) + 2 * tag_count(slots) * size_of::<u16>();
        Layout::from_size_align(bytes, align_of::<Entry>())
            .map_err(|_| MemoryError::Exhausted(bytes))
    }

    /// Memory of the table's own, from the global allocator, touched only when used.
    ///
    /// # Errors
    /// [`MemoryError::Flows`], or [`MemoryError::Exhausted`] when the allocator fails.
    pub fn allocate(flows: usize) -> Result<Memory, MemoryError> {
        let slots = slots(flows)?;
        let exhausted = |_| MemoryError::Exhausted(entry_bytes(slots));
        let tags = u16::new_vec_zeroed(tag_count(slots)).map_err(exhausted)?;
        let marks = u16::new_vec_zeroed(tag_count(slots)).map_err(exhausted)?;
        let entries = Entry::new_vec_zeroed(slots + MAX_PROBE).map_err(exhausted)?;
        Ok(Memory {
            flows,
            slots,
            tags: Region::Owned(tags.into_boxed_slice()),
            marks: Region::Owned(marks.into_boxed_slice()),
            entries: Region::Owned(entries.into_boxed_slice()),
        })
    }

    /// Memory that the caller has for the rest of the process, such as hugepages. `region`
    /// has at least the size and alignment of [`Memory::layout`]; what it holds is ignored.
    ///
    /// # Errors
    /// [`MemoryError::Flows`], or [`MemoryError::Region`] when it does not fit.
    pub fn from_region(flows: usize, region: &'static mut [u8]) -> Result<Memory, MemoryError> {
        let slots = slots(flows)?;
        let layout = Memory::layout(flows)?;
        let misfit = MemoryError::Region {
            needed: layout.size(),
            align: layout.align(),
            given: region.len(),
        };
        let (entries, tags) = region.split_at_mut_checked(entry_bytes(slots)).ok_or(misfit)?;
        let tags = tags.get_mut(..2 * tag_count(slots) * size_of::<u16>()).ok_or(misfit)?;
        let entries = <[Entry]>::mut_from_bytes(entries).map_err(|_| misfit)?;
        let tags = <[u16]>::mut_from_bytes(tags).map_err(|_| misfit)?;
        tags.fill(0);
        entries.iter_mut().for_each(Entry::clear);
        let (tags, marks) = tags.split_at_mut(tag_count(slots));
        let (tags, marks, entries) =
            (Region::Lent(tags), Region::Lent(marks), Region::Lent(entries));
        Ok(Memory { flows, slots, tags, marks, entries })
    }
}

/// Home slots for `flows` flows at a load of at most 90 %.
fn slots(flows: usize) -> Result<usize, MemoryError> {
    if !(1..=MAX_FLOWS).contains(&flows) {
        return Err(MemoryError::Flows(flows));
    }
    Ok((flows * 10).div_ceil(9))
}

fn entry_bytes(slots: usize) -> usize {
    (slots + MAX_PROBE) * size_of::<Entry>()
}

/// Probing never wraps around: the last home slot has `MAX_PROBE` slots to spill into, and
/// behind those lie zero tags that end every scan.
fn tag_count(slots: usize) -> usize {
    slots + MAX_PROBE + LANES
}

/// A slice that is owned, or lent for good.
pub(crate) enum Region<T: 'static> {
    Owned(Box<[T]>),
    Lent(&'static mut [T]),
}

// Both arms hold a pointer and a length in the same place, so there is no branch in these.
impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Region::Owned(slice) => slice,
            Region::Lent(slice) => slice,
        }
    }
}

impl<T> DerefMut for Region<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Region::Owned(slice) => slice,
            Region::Lent(slice) => slice,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_never_passes_ninety_percent() {
        for flows in [1, 2, 8, 9, 10, 1000, 2_000_000] {
            let slots = slots(flows).unwrap();
            assert!(flows * 10 <= slots * 9, "{flows} flows in {slots} slots");
            assert!((slots - 1) * 9 < flows * 10, "no more slots than needed");
        }
    }

    #[test]
    fn sizes_that_make_no_table_are_refused() {
        for flows in [0, MAX_FLOWS + 1, usize::MAX] {
            assert_eq!(Memory::layout(flows), Err(MemoryError::Flows(flows)));
            assert!(Memory::allocate(flows).is_err());
        }
    }

    #[test]
    fn a_region_too_small_or_crooked_is_refused_with_the_size_needed() {
        let layout = Memory::layout(10).unwrap();
        let words = Entry::new_vec_zeroed(layout.size() / 64 + 2).unwrap().leak();
        let bytes = zerocopy::IntoBytes::as_mut_bytes(words);
        let (crooked, rest) = bytes.split_at_mut(1);
        assert_eq!(crooked.len(), 1);
        let error = Memory::from_region(10, rest).err().unwrap();
        assert!(matches!(error, MemoryError::Region { needed, .. } if needed == layout.size()));
        let small = vec![0u8; layout.size() - 1].leak();
        assert!(Memory::from_region(10, small).is_err());
    }
}
