//! Why frames cannot be had.

use std::io;

/// Why an input cannot be read, or an interface not be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// What the user named leads to nothing readable.
    #[error("{name}: {source}")]
    Input {
        /// What was named.
        name: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A capture ends inside its own header, at this byte.
    #[error("cut off inside the file header at byte {0}")]
    Cut(u64),
    /// It is compressed, and cannot be decompressed from its start on.
    #[error("cannot be decompressed as {format} ({source})")]
    Compressed {
        /// The format.
        format: &'static str,
        /// What the decompressor says.
        source: io::Error,
    },
    /// It is something else; the text says what it looks like.
    #[error("is no capture file; it looks like {0}")]
    NotACapture(String),
    /// The operating system refuses.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
    /// A filter expression has no word.
    #[error("the expression is empty")]
    EmptyFilter,
    /// libpcap does not compile a filter expression.
    #[error("{0}")]
    Filter(#[source] pcap::Error),
    /// libpcap does not read an interface, or not any more.
    #[error("{}", without_prefix(&.0.to_string()))]
    Interface(#[source] pcap::Error),
    /// An interface is down.
    #[error("it is down")]
    Down,
    /// The kernel does not share the frames of an interface out to several threads.
    #[error("its frames cannot be shared out to several threads: {0}")]
    FanOut(#[source] io::Error),
}

/// libpcap's words without its name, which says nothing beside the name of an interface.
fn without_prefix(text: &str) -> &str {
    text.strip_prefix("libpcap error: ").unwrap_or(text)
}

/// Why reading stopped before the end of a source.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct ReadError {
    /// What is wrong.
    pub what: String,
    /// Where the first record that could not be read starts, in bytes from the start of the file.
    pub offset: u64,
    /// The file merely ends inside a record, as one does whose writing was broken off.
    pub is_cut: bool,
}
