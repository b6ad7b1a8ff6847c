//! Hints to the processor to fetch memory that will be needed soon, and to the allocator to return
//! memory that is free. This is the only place in the project with `unsafe`.
//!
//! A flow table of a million flows misses the caches three times for each packet. Plain reads ahead
//! of need wait for each other, because the processor cannot look past some hundred instructions,
//! whereas a prefetch completes at once. `docs/performance.md` shows what it is worth.

/// Prefetches the first cache line of a value, if there is one.
#[inline(always)]
pub(super) fn prefetch<T>(thing: Option<&T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(thing) = thing {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the pointer comes from a live reference. A prefetch does not read anything that
        // the program could see, and does not change anything but the caches. SSE is part of every
        // x86-64.
        #[allow(unsafe_code, reason = "measured: see docs/performance.md")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(thing).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(thing.is_some());
}

/// Makes the allocator return large blocks to the system when they are freed, for the whole
/// process.
///
/// The GNU allocator maps each large block separately. Once such a block was freed, though, it
/// takes blocks up to that size from its heap instead, where freed tables stay between blocks that
/// are still in use. An audit of a million flows held 250 MiB of them. Setting the threshold, here
/// to its initial value, turns that off.
pub(super) fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: `mallopt` takes two numbers and locks its own state. Its result shows whether it
        // changed anything, and the program does not depend on that.
        #[allow(unsafe_code, reason = "measured: see docs/performance.md")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
