//! IPv4 VIPs of one address, one port and one protocol, which nearly every packet is for: open
//! addressing at a load of at most a half, 16 bytes a slot, one cache line a lookup.

/// See the module. Never written after it is built.
#[derive(Debug)]
pub(super) struct ExactV4 {
    /// Key ([`ExactV4::key`], 0: free) and VIP index; a power of two.
    slots: Box<[(u64, u32)]>,
    /// Brings the top of a 64-bit product down to a slot number.
    shift: u32,
}

impl ExactV4 {
    pub(super) fn new(vips: &[(u64, u32)]) -> Self {
        let count = (vips.len() * 2).next_power_of_two().max(2);
        let mut slots = vec![(0, 0); count].into_boxed_slice();
        let shift = 64 - count.trailing_zeros();
        for &(key, index) in vips {
            let mut slot = Self::home(key, shift);
            while slots[slot].0 != 0 {
                slot = (slot + 1) & (count - 1);
            }
            slots[slot] = (key, index);
        }
        Self { slots, shift }
    }

    /// Never 0, and no two VIPs have the same.
    #[inline(always)]
    pub(super) fn key(address: u32, port_protocol: u32) -> u64 {
        1 << 63 | u64::from(port_protocol) << 32 | u64::from(address)
    }

    /// Multiplicative hashing (Knuth, The Art of Computer Programming, section 6.4): VIPs are the
    /// operator's, so nobody can aim at a slot.
    #[inline(always)]
    fn home(key: u64, shift: u32) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
    }

    #[inline(always)]
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        let mut slot = Self::home(key, self.shift);
        // A free slot ends the search; half of them are free.
        loop {
            match self.slots.get(slot & (self.slots.len() - 1)) {
                Some(&(found, index)) if found == key => return Some(index),
                Some(&(0, _)) | None => return None,
                Some(_) => slot += 1,
            }
        }
    }
}
