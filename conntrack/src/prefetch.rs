//! Asking the memory for a cache line ahead of its use, behind a safe function.
//!
//! A burst touches its lines a stage before it needs them, so that their misses overlap
//! instead of adding up. A prefetch is a hint: it reads nothing the program can see and
//! cannot fault, whatever the address.

/// Starts loading the cache line of `slice[index]`. Any index is allowed.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T], index: usize) {
    let line: *const u8 = slice.as_ptr().wrapping_add(index).cast();
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: PREFETCHT0 never faults and has no visible effect, for any address; SSE
        // is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: PRFM never faults and has no visible effect, for any address; it touches no
    // register, flag or stack.
    unsafe {
        core::arch::asm!(
            "prfm pldl1keep, [{line}]",
            line = in(reg) line,
            options(nostack, readonly, preserves_flags)
        );
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = line;
}
