//! One packet in a DPDK buffer.
//!
//! Fields are reached by their offsets (see `dpdk-sys/wrapper.h`), which every DPDK release
//! has, and not by generated names, which differ between releases.

use std::ptr::NonNull;

use dpdk_sys::rte_mbuf;

use crate::buffer::{Buffer, ChecksumHint};
use crate::prefetch;

/// A packet that this value alone owns: dropping frees the buffer, transmitting gives it to the
/// device.
#[derive(Debug)]
#[repr(transparent)]
pub struct Mbuf {
    raw: NonNull<rte_mbuf>,
}

// SAFETY: an mbuf has no tie to the thread that received it; the pool it returns to is
// thread-safe.
unsafe impl Send for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `raw` must point to a live mbuf with reference count 1 that nobody else uses or frees.
    pub(super) unsafe fn from_raw(raw: NonNull<rte_mbuf>) -> Self {
        Self { raw }
    }

    /// The field at `offset`, which must be one of the `WEIR_MBUF_` offsets with its own type.
    #[inline(always)]
    fn field<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: from_raw's contract (live, ours alone); the offset is the field's own, so the
        // read is in bounds, aligned and initialised.
        unsafe { self.raw.as_ptr().cast::<u8>().add(offset).cast::<T>().read() }
    }

    #[inline(always)]
    fn set_field<T: Copy>(&mut self, offset: usize, value: T) {
        // SAFETY: as for `field`, and `&mut self` makes the access exclusive.
        unsafe { self.raw.as_ptr().cast::<u8>().add(offset).cast::<T>().write(value) }
    }

    #[inline(always)]
    fn data_offset(&self) -> u16 {
        self.field(dpdk_sys::WEIR_MBUF_DATA_OFF)
    }

    #[inline(always)]
    fn data_length(&self) -> u16 {
        self.field(dpdk_sys::WEIR_MBUF_DATA_LEN)
    }

    #[inline(always)]
    fn segments(&self) -> u16 {
        self.field(dpdk_sys::WEIR_MBUF_NB_SEGS)
    }

    #[inline(always)]
    fn start(&self) -> *mut u8 {
        let buffer: *mut u8 = self.field(dpdk_sys::WEIR_MBUF_BUF_ADDR);
        buffer.wrapping_add(usize::from(self.data_offset()))
    }

    #[inline(always)]
    fn set_length(&mut self, length: u16) {
        self.set_field(dpdk_sys::WEIR_MBUF_DATA_LEN, length);
        self.set_field(dpdk_sys::WEIR_MBUF_PKT_LEN, u32::from(length));
    }

    /// Makes a chain of segments one, when the first has room for the rest.
    #[inline(always)]
    pub(super) fn make_contiguous(&mut self) {
        if self.segments() != 1 {
            self.linearize();
        }
    }

    #[cold]
    fn linearize(&mut self) {
        // SAFETY: live and ours alone; when there is no room DPDK leaves the chain as it was,
        // and is_segmented says so.
        unsafe { dpdk_sys::rte_pktmbuf_linearize(self.raw.as_ptr()) };
    }
}

impl Buffer for Mbuf {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        // SAFETY: DPDK keeps data_off + data_len within the segment's buffer, received bytes are
        // initialised, and only `&mut self` methods write to it.
        unsafe { std::slice::from_raw_parts(self.start(), usize::from(self.data_length())) }
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `data`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start(), usize::from(self.data_length())) }
    }

    #[inline(always)]
    fn replace_front(&mut self, before: usize, after: usize) -> bool {
        let offset = usize::from(self.data_offset()) + before;
        let length = usize::from(self.data_length());
        if before > length || after > offset {
            return false;
        }
        // Neither can exceed 65,535: the end of the data stays where it was, inside buf_len.
        self.set_field(dpdk_sys::WEIR_MBUF_DATA_OFF, (offset - after) as u16);
        self.set_length((length - before + after) as u16);
        true
    }

    #[inline(always)]
    fn reframe(&mut self, before: usize, end: usize, after: usize) -> bool {
        let offset = usize::from(self.data_offset()) + before;
        let length = usize::from(self.data_length());
        if before > end || end > length || after > offset || self.segments() != 1 {
            return false;
        }
        // As in `replace_front`; and the end of the data moves only to the front.
        self.set_field(dpdk_sys::WEIR_MBUF_DATA_OFF, (offset - after) as u16);
        self.set_length((end - before + after) as u16);
        true
    }

    #[inline(always)]
    fn reframe_front<const FRONT: usize>(
        &mut self,
        before: usize,
        end: usize,
        after: usize,
        fill: impl FnOnce(&mut [u8; FRONT]),
    ) -> bool {
        let offset = usize::from(self.data_offset()) + before;
        let length = usize::from(self.data_length());
        // One segment, as the caller promises (the parser drops all others): the packet's length is
        // its data's.
        debug_assert!(!self.is_segmented());
        if before > end || end > length || after > offset || FRONT + before > end + after {
            return false;
        }
        // As in `reframe`.
        let (offset, length) = (offset - after, end - before + after);
        self.set_field(dpdk_sys::WEIR_MBUF_DATA_OFF, offset as u16);
        self.set_field(dpdk_sys::WEIR_MBUF_DATA_LEN, length as u16);
        self.set_field(dpdk_sys::WEIR_MBUF_PKT_LEN, length as u32);
        let buffer: *mut u8 = self.field(dpdk_sys::WEIR_MBUF_BUF_ADDR);
        // SAFETY: as for `data_mut`; the packet now begins at `offset` and has `length` bytes, which
        // are no fewer than `FRONT`.
        fill(unsafe { &mut *buffer.add(offset).cast::<[u8; FRONT]>() });
        true
    }

    #[inline(always)]
    fn truncate(&mut self, length: usize) {
        if length < usize::from(self.data_length()) && self.segments() == 1 {
            self.set_length(length as u16);
        }
    }

    fn append(&mut self, bytes: &[u8]) -> bool {
        let length = usize::from(self.data_length());
        let room: u16 = self.field(dpdk_sys::WEIR_MBUF_BUF_LEN);
        let end = usize::from(self.data_offset()) + length + bytes.len();
        if end > usize::from(room) || self.segments() != 1 {
            return false;
        }
        // SAFETY: the target range ends at `end`, within the buffer's buf_len bytes, and cannot
        // overlap `bytes`, because the buffer is ours alone.
        unsafe { self.start().add(length).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.set_length((length + bytes.len()) as u16);
        true
    }

    #[inline(always)]
    fn is_segmented(&self) -> bool {
        self.segments() != 1
    }

    #[inline(always)]
    fn has_bad_checksum(&self) -> bool {
        let flags: u64 = self.field(dpdk_sys::WEIR_MBUF_OL_FLAGS);
        flags & dpdk_sys::WEIR_RX_IP_CKSUM_MASK == dpdk_sys::WEIR_RX_IP_CKSUM_BAD
    }

    #[inline(always)]
    fn checksum_hint(&self) -> ChecksumHint {
        let flags: u64 = self.field(dpdk_sys::WEIR_MBUF_OL_FLAGS);
        match flags & dpdk_sys::WEIR_RX_IP_CKSUM_MASK {
            dpdk_sys::WEIR_RX_IP_CKSUM_GOOD => ChecksumHint::Good,
            dpdk_sys::WEIR_RX_IP_CKSUM_BAD => ChecksumHint::Bad,
            _ => ChecksumHint::Unverified,
        }
    }

    fn release(self) {
        let raw = self.raw;
        std::mem::forget(self);
        // SAFETY: ours alone, and `self` is forgotten, so nobody uses or frees it again.
        unsafe { dpdk_sys::weir_pktmbuf_free_uncached(raw.as_ptr()) };
    }

    #[inline(always)]
    fn prefetch(&self) {
        let start = self.start();
        prefetch::read(start);
        // Where an outer header will be written.
        prefetch::read(start.wrapping_sub(64));
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: ours alone, and never used again.
        unsafe { dpdk_sys::rte_pktmbuf_free(self.raw.as_ptr()) };
    }
}
