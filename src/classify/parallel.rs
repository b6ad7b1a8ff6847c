//! Divides work among threads. The result does not depend on their number.

use std::ops::Range;
use std::thread;

/// The minimum number of members in a range other than the last one. A smaller range takes less
/// time than starting a thread.
const LEAST: usize = 4096;

/// Divides a list of `len` members into ranges for `jobs` threads. Returns the results of `work`,
/// in the order of the ranges.
pub(super) fn map_ranges<T: Send>(
    len: usize,
    jobs: usize,
    work: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let size = len.div_ceil(jobs.max(1)).max(LEAST);
    if len <= size {
        return vec![work(0..len)];
    }
    let ranges = (0..len).step_by(size).map(|from| from..(from + size).min(len));
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = ranges.map(|range| scope.spawn(move || work(range))).collect();
        threads.into_iter().map(join).collect()
    })
}

/// Returns the results of two closures, which run at the same time if `jobs` is at least 2.
pub(super) fn run_both<A, B: Send>(
    jobs: usize,
    first: impl FnOnce() -> A,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    if jobs < 2 {
        return (first(), second());
    }
    thread::scope(|scope| {
        let second = scope.spawn(second);
        (first(), join(second))
    })
}

/// Returns the result of a thread, or resumes its panic.
fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_in_order_and_hold_each_member_once() {
        for jobs in [0, 1, 2, 3, 8] {
            for len in [0, 1, LEAST, LEAST + 1, 5 * LEAST + 3] {
                let all: Vec<usize> = map_ranges(len, jobs, Iterator::collect::<Vec<_>>)
                    .into_iter()
                    .flatten()
                    .collect();
                assert_eq!(all, (0..len).collect::<Vec<_>>(), "{len} on {jobs}");
            }
            assert_eq!(run_both(jobs, || 1, || 2), (1, 2));
        }
    }
}
