//! Hints that make the processor prefetch memory and the allocator return free memory. This is the
//! only file of the project with `unsafe` code.
//!
//! With a million flows, each packet causes three cache misses in the flow table. Plain reads wait
//! for each other, because the processor looks only a few hundred instructions ahead, whereas a
//! prefetch does not block. `docs/performance.md` shows the effect.

/// Prefetches the first cache line of `thing`. Does nothing if `thing` is `None`, or on a processor
/// other than x86-64.
#[inline(always)]
pub(super) fn prefetch<T>(thing: Option<&T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(thing) = thing {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the pointer comes from a live reference. A prefetch has no effect that the
        // program can observe and changes only the caches. SSE is part of every x86-64 processor.
        #[allow(unsafe_code, reason = "measured: see docs/performance.md")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(thing).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(thing.is_some());
}

/// Makes the allocator of the whole process return large blocks to the system when they are freed.
/// Does nothing unless the program runs on Linux with the GNU C library.
///
/// The GNU allocator initially maps each large block separately. Once such a block is freed, the
/// allocator takes blocks up to that size from the heap instead, where freed tables remain between
/// blocks that are still in use. In an audit of a million flows, this held 250 MiB of freed memory.
/// Setting the threshold explicitly, here to its initial value, disables this behaviour.
pub(super) fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: `mallopt` takes two numbers and locks its own state. Its result shows whether it
        // succeeded, and the program does not depend on that.
        #[allow(unsafe_code, reason = "measured: see docs/performance.md")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
