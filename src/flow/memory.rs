//! Asking the processor to fetch memory that will be needed soon, and the allocator to give back what is not. The
//! one place of the project with `unsafe`.
//!
//! A flow table of a million flows misses the caches three times a packet. Plain reads ahead of need wait for
//! each other, because the processor cannot look past some hundred instructions; a prefetch is done with at
//! once. `docs/performance.md` has what it is worth.

/// Asks for the first cache line of something, where there is anything.
#[inline(always)]
pub(super) fn prefetch<T>(thing: Option<&T>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(thing) = thing {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the pointer comes from a live reference; a prefetch reads nothing that the program could
        // see, and changes nothing but the caches. SSE is part of every x86-64.
        #[allow(unsafe_code, reason = "measured: see docs/performance.md")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(thing).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(thing.is_some());
}

/// Has large blocks returned to the system when they are freed, for the whole process.
///
/// The GNU allocator maps large blocks of their own, but once one of them was freed it takes blocks up to that size
/// from its heap instead, where freed tables stay between what still lives: an audit of a million flows held
/// 250 MiB of them. Stating the threshold, here the one that it starts with, turns that off.
pub(super) fn return_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: `mallopt` takes two numbers and locks its own state; it says with its result whether it did
        // anything, and nothing of ours hangs on that.
        #[allow(unsafe_code, reason = "measured: see docs/performance.md")]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
