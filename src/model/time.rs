//! Packet time: integer nanoseconds since 1970-01-01 00:00:00 UTC, as recorded in the capture.

/// A point in packet time, in nanoseconds since the Unix epoch.
pub type Nanos = i64;

/// One second, in nanoseconds.
pub const SECOND: Nanos = 1_000_000_000;

/// The width of the buckets in which watched time is counted, in nanoseconds.
pub const BUCKET_NS: Nanos = 10 * SECOND;

/// The placeholder for the time of a frame whose capture format does not record one (pcapng Simple
/// Packet Blocks). It is not a point in time and never enters a minimum, a maximum or a bucket.
pub const NO_TIME: Nanos = Nanos::MIN;

/// Returns whether a timestamp may show when a packet was captured. Without a clock, some writers
/// set all timestamps to 0.
pub(crate) fn is_capture_time(time: Nanos) -> bool {
    time != NO_TIME && time != 0
}
