//! Cache prefetch: a hint to the CPU, with no effect on results.

/// Asks for the cache line at `address`, to be read soon. Any address is allowed: a hint never
/// faults.
#[inline(always)]
pub(crate) fn read<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetch instructions never fault, whatever the address; SSE is part of x86-64.
    #[expect(unsafe_code, reason = "no safe form of the prefetch instruction exists")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: PRFM never faults, whatever the address, and writes nothing.
    #[expect(unsafe_code, reason = "no safe form of the prefetch instruction exists")]
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, readonly));
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = address;
}
