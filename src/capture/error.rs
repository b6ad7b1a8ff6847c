//! Errors that occur while frames are read.

use std::io;

/// Why an input cannot be read, or frames cannot be captured from an interface.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// An input that the user named does not exist or cannot be read.
    #[error("{name}: {source}")]
    Input {
        /// The name as the user gave it.
        name: String,
        /// The error that the operating system reported.
        source: io::Error,
    },
    /// A capture is truncated inside its file header, at this byte.
    #[error("cut off inside the file header at byte {0}")]
    Cut(u64),
    /// The input is compressed, but its start cannot be decompressed.
    #[error("cannot be decompressed as {format} ({source})")]
    Compressed {
        /// The name of the compression format, for example `gzip`.
        format: &'static str,
        /// The error of the decompressor.
        source: io::Error,
    },
    /// The input is neither pcap nor pcapng. The string describes what it looks like.
    #[error("is not a pcap or pcapng file; it looks like {0}")]
    NotACapture(String),
    /// A file in a directory is neither a regular file nor a directory.
    #[error("is a named pipe, a socket or a device; to read it, name it as an input")]
    Special,
    /// A file in a directory is a symbolic link without a target.
    #[error("is a link to a file or folder that does not exist")]
    DanglingLink,
    /// The operating system cannot open or read the input.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
    /// The filter expression is empty.
    #[error("the expression is empty")]
    EmptyFilter,
    /// The crate was built without the feature `bpf`, so it cannot filter frames.
    #[error("this build cannot filter frames, because it lacks the feature bpf")]
    NoFilters,
    /// libpcap cannot compile a filter expression, or cannot list the interfaces.
    #[cfg(feature = "bpf")]
    #[error("{0}")]
    Filter(#[source] pcap::Error),
    /// libpcap cannot open an interface, set its filter, or read from it any longer.
    #[cfg(feature = "bpf")]
    #[error("{}", without_prefix(&.0.to_string()))]
    Interface(#[source] pcap::Error),
    /// An interface is down.
    #[error("it is down")]
    Down,
    /// The kernel cannot distribute the frames of an interface among several threads.
    #[error("its frames cannot be distributed among several threads: {0}")]
    FanOut(#[source] io::Error),
}

/// Returns libpcap's message without its prefix, which is redundant after the name of an interface.
#[cfg(feature = "bpf")]
fn without_prefix(text: &str) -> &str {
    text.strip_prefix("libpcap error: ").unwrap_or(text)
}

/// Why reading stopped before the end of a source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct ReadError {
    /// Description of the problem.
    pub what: String,
    /// Offset of the first unreadable record, in bytes from the start of the decompressed file.
    pub offset: u64,
    /// Whether the file merely ends inside a record, as it does if writing was interrupted.
    pub is_cut: bool,
}
