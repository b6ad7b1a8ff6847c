//! Reads Arrow streams of rows from standard input.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Read};

use arrow_ipc::reader::StreamReader;

use super::columns::BatchRows;
use super::files::{MAGIC, guarded, take_batch};
use super::row::StoredRef;
use crate::capture::capture_kind;

/// The first bytes of an Arrow stream (Arrow columnar format, "Encapsulated message format").
const CONTINUATION: &[u8] = &[0xff; 4];

/// The last bytes of an Arrow stream (Arrow columnar format, "IPC Streaming Format").
const END_OF_STREAM: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Passes all rows of one or several Arrow streams to `take`. A pipe may contain the streams of
/// several programs, one after the other.
///
/// # Errors
///
/// Returns an error if the input is not an Arrow stream, is not complete or is damaged. Also
/// returns an error, with the number of the row, if a row is not valid or `take` rejects it.
pub(super) fn read_stream(
    input: impl Read,
    mut take: impl FnMut(StoredRef<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let mut input = BufReader::new(EndReader { input, first: Vec::new(), last: [0; 8] });
    let mut row = 0;
    loop {
        let opened =
            guarded(|| StreamReader::try_new(&mut input, None).map_err(|error| error.to_string()));
        let mut reader = match opened {
            Ok(reader) => reader,
            Err(error) => return Err(describe(&mut input, &error)),
        };
        loop {
            let next = guarded(|| reader.next().transpose().map_err(|error| error.to_string()));
            match next {
                Ok(Some(batch)) => {
                    take_batch(&BatchRows::of(&batch)?, &mut row, |_| true, &mut take)?;
                }
                Ok(None) => break,
                Err(error) => return Err(describe(reader.get_mut(), &error)),
            }
        }
        drop(reader);
        if input.fill_buf().map_err(|error| format!("cannot be read: {error}"))?.is_empty() {
            break;
        }
    }
    // The reader of Arrow accepts a stream that ends after any batch.
    if input.get_ref().is_complete() { Ok(()) } else { Err(not_complete()) }
}

fn not_complete() -> String {
    "is not complete; the program that wrote it failed or was stopped, so run it again".to_owned()
}

/// Returns the reason why a stream cannot be read, with the remedy. `error` is the error of the
/// Arrow reader, which does not distinguish these cases.
fn describe(input: &mut BufReader<EndReader<impl Read>>, error: &dyn Display) -> String {
    // A reader of a stream that was cut off fails at the end of the input, not before.
    let is_at_end = input.fill_buf().is_ok_and(<[u8]>::is_empty);
    let read = input.get_ref();
    let is_stream = read.first.starts_with(CONTINUATION) || CONTINUATION.starts_with(&read.first);
    if is_at_end && is_stream && !read.is_complete() {
        return not_complete();
    }
    if is_stream {
        return format!("is damaged: {error}; run the program that wrote it again");
    }
    if matches!(capture_kind(&read.first), Some("pcap" | "pcapng")) {
        return "is a capture, not an Arrow stream of rows; collect its rows with rasaudit collect first"
            .to_owned();
    }
    if read.first.starts_with(MAGIC) {
        return "is a Parquet file, not an Arrow stream; give the path of the file instead of -"
            .to_owned();
    }
    format!(
        "is not an Arrow stream: {error}; use the output of rasaudit collect --to - or rasaudit merge --to -"
    )
}

/// Remembers the first and the last bytes of an input.
struct EndReader<R> {
    input: R,
    first: Vec<u8>,
    last: [u8; 8],
}

impl<R> EndReader<R> {
    /// Returns whether the bytes so far end with the end of a stream.
    fn is_complete(&self) -> bool {
        self.last == END_OF_STREAM
    }
}

impl<R: Read> Read for EndReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let missing = self.last.len() - self.first.len();
        self.first.extend(&buffer[..read.min(missing)]);
        let kept = read.min(self.last.len());
        self.last.rotate_left(kept);
        let from = self.last.len() - kept;
        self.last[from..].copy_from_slice(&buffer[read - kept..read]);
        Ok(read)
    }
}
