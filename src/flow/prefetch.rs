//! Asking the processor to fetch memory that will be needed soon. The one place of the project with `unsafe`.
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
