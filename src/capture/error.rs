//! Errors of reading frames.

use std::io;

/// Why an input cannot be read or an interface cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A name from the user does not lead to anything readable.
    #[error("{name}: {source}")]
    Input {
        /// The name.
        name: String,
        /// The underlying error.
        source: io::Error,
    },
    /// A capture ends inside its own header, at this byte.
    #[error("cut off inside the file header at byte {0}")]
    Cut(u64),
    /// The input is compressed, and its start cannot be decompressed.
    #[error("cannot be decompressed as {format} ({source})")]
    Compressed {
        /// The format.
        format: &'static str,
        /// The error of the decompressor.
        source: io::Error,
    },
    /// The input is something else; the text says what it looks like.
    #[error("is not a capture file; it looks like {0}")]
    NotACapture(String),
    /// The operating system refuses to read.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
    /// A filter expression is empty.
    #[error("the expression is empty")]
    EmptyFilter,
    /// libpcap cannot compile a filter expression.
    #[error("{0}")]
    Filter(#[source] pcap::Error),
    /// libpcap cannot read an interface, or cannot read it any more.
    #[error("{}", without_prefix(&.0.to_string()))]
    Interface(#[source] pcap::Error),
    /// An interface is down.
    #[error("it is down")]
    Down,
    /// The kernel does not distribute the frames of an interface to several threads.
    #[error("its frames cannot be shared out to several threads: {0}")]
    FanOut(#[source] io::Error),
}

/// Returns libpcap's message without its prefix, which adds nothing to the name of an interface.
fn without_prefix(text: &str) -> &str {
    text.strip_prefix("libpcap error: ").unwrap_or(text)
}

/// Why reading stopped before the end of a source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct ReadError {
    /// The problem.
    pub what: String,
    /// Where the first unreadable record starts, in bytes from the start of the file.
    pub offset: u64,
    /// Whether the file merely ends inside a record, as a file does if its writing was interrupted.
    pub is_cut: bool,
}
