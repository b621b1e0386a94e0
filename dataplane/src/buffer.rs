//! Where a packet's bytes live: one small trait, so that the whole path runs the same over a
//! DPDK mbuf and over a `Vec`.
//!
//! A buffer owns one packet. It cannot be cloned; dropping it frees it, transmitting consumes
//! it. Its bytes are one contiguous slice: the DPDK form makes a chain of segments contiguous
//! on receive, and a chain that does not fit says so through [`Buffer::is_segmented`], which
//! the parser turns into a counted drop.

/// What the device says about the IPv4 header checksum of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumHint {
    /// The device did not look: verify in software.
    Unverified,
    /// The device found it right.
    Good,
    /// The device found it wrong.
    Bad,
}

/// One packet's bytes, with room in front for an outer header.
pub trait Buffer: Sized {
    /// The packet, from its first Ethernet byte.
    fn data(&self) -> &[u8];

    /// The packet, to be rewritten in place.
    fn data_mut(&mut self) -> &mut [u8];

    /// Moves the start of the packet by `after - before` bytes: `before` bytes are cut off the
    /// front and `after` bytes of unspecified content put there. Returns `false`, with the
    /// packet unchanged, when the packet is shorter than `before` or the headroom too small.
    #[must_use]
    fn replace_front(&mut self, before: usize, after: usize) -> bool;

    /// Both at once: `before` bytes are cut off the front, everything from `end` on off the back,
    /// and `after` bytes of unspecified content put in front. Returns `false`, with the packet
    /// unchanged, when it does not reach `end`, `before` lies behind `end`, or the headroom is too
    /// small.
    #[must_use]
    #[inline(always)]
    fn reframe(&mut self, before: usize, end: usize, after: usize) -> bool {
        let fits = before <= end && end <= self.data().len() && self.replace_front(before, after);
        if fits {
            self.truncate(end - before + after);
        }
        fits
    }

    /// As [`Buffer::reframe`], of a packet that is not segmented, and that has `FRONT` bytes then at
    /// least: they are given to `fill`.
    #[must_use]
    #[inline(always)]
    fn reframe_front<const FRONT: usize>(
        &mut self,
        before: usize,
        end: usize,
        after: usize,
        fill: impl FnOnce(&mut [u8; FRONT]),
    ) -> bool {
        let fits = FRONT + before <= end + after && self.reframe(before, end, after);
        if let Some(front) = self.data_mut().first_chunk_mut().filter(|_| fits) {
            fill(front);
        }
        fits
    }

    /// Cuts the packet to `length` bytes; longer than it is: no effect.
    fn truncate(&mut self, length: usize);

    /// Appends `bytes`; `false`, with the packet unchanged, when the buffer has no room.
    #[must_use]
    fn append(&mut self, bytes: &[u8]) -> bool;

    /// The packet did not fit one segment and could not be made contiguous; `data` holds its
    /// first part only.
    fn is_segmented(&self) -> bool {
        false
    }

    /// The device's word on the IPv4 header checksum.
    fn checksum_hint(&self) -> ChecksumHint {
        ChecksumHint::Unverified
    }

    /// Whether the device found the IPv4 header checksum wrong.
    #[inline(always)]
    fn has_bad_checksum(&self) -> bool {
        self.checksum_hint() == ChecksumHint::Bad
    }

    /// Frees a packet that another worker's pool has to get back: past this thread's cache, which
    /// would keep it from its owner.
    fn release(self) {}

    /// Asks the CPU for the first bytes of the packet; a hint without effect on results.
    fn prefetch(&self) {}
}

/// The in-memory buffer of tests, fuzzers, `replay` and `explain`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frame {
    bytes: Vec<u8>,
    start: usize,
    segmented: bool,
}

/// Free bytes in front of a [`Frame`], the same as DPDK's default headroom.
pub const FRAME_HEADROOM: usize = 128;

impl Frame {
    /// A frame that holds a copy of `packet`.
    pub fn new(packet: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(FRAME_HEADROOM + packet.len());
        bytes.resize(FRAME_HEADROOM, 0);
        bytes.extend_from_slice(packet);
        Self { bytes, start: FRAME_HEADROOM, segmented: false }
    }

    /// A frame that claims, like a chained mbuf, to hold only the first part of its packet.
    pub fn segmented(packet: &[u8]) -> Self {
        Self { segmented: true, ..Self::new(packet) }
    }
}

impl Buffer for Frame {
    fn data(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    fn replace_front(&mut self, before: usize, after: usize) -> bool {
        let Some(start) = (self.start + before).checked_sub(after) else { return false };
        if before > self.data().len() {
            return false;
        }
        self.start = start;
        true
    }

    fn truncate(&mut self, length: usize) {
        self.bytes.truncate(self.start + length);
    }

    fn append(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        true
    }

    fn is_segmented(&self) -> bool {
        self.segmented
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_the_front_moves_the_start_both_ways() {
        let mut frame = Frame::new(&[1, 2, 3, 4]);
        assert!(frame.replace_front(2, 3));
        assert_eq!(frame.data().len(), 5);
        assert_eq!(&frame.data()[3..], &[3, 4]);
        assert!(frame.replace_front(5, 0));
        assert!(frame.data().is_empty());
    }

    #[test]
    fn a_front_that_does_not_fit_changes_nothing() {
        let mut frame = Frame::new(&[1, 2, 3]);
        assert!(!frame.replace_front(4, 0));
        assert!(!frame.replace_front(0, FRAME_HEADROOM + 1));
        assert_eq!(frame.data(), &[1, 2, 3]);
    }
}
