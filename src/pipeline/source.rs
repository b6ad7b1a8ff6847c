//! Where evidence comes from: the frames of a capture, or flows that others have built.

use std::fmt;
use std::io;

use crate::capture::{Batch, CaptureError, CaptureInput, CaptureReader, ReadError};
use crate::flow::Evidence;
use crate::model::{ActivityHistogram, InputRecord};

/// Something that can be read, any number of times.
pub trait Origin: fmt::Debug + Send + Sync {
    /// Opens it. With `hash`, the SHA-256 of all that is read is wanted.
    ///
    /// # Errors
    ///
    /// Where it cannot be opened, or is not what it should be.
    fn open(&self, hash: bool) -> Result<Box<dyn Source>, CaptureError>;
}

/// A source that is being read.
pub trait Source: Send {
    /// Fills `chunk` with what comes next. Returns false when the source has ended; something may be given then too,
    /// also when damage is reported.
    ///
    /// # Errors
    ///
    /// Where the rest cannot be read. What was given before counts.
    fn next(&mut self, chunk: &mut Chunk) -> Result<bool, ReadError>;

    /// Returns the bytes that were read so far, for whoever shows progress.
    fn position(&self) -> u64;

    /// Ends the reading and notes what is known of the whole. A source of flows also notes the account of the frames
    /// that they were made of, and when those were captured: nobody else has seen them.
    ///
    /// # Errors
    ///
    /// Where the end could not be read.
    fn finish(
        self: Box<Self>,
        record: &mut InputRecord,
        timeline: &mut ActivityHistogram,
    ) -> io::Result<()>;
}

/// What a source gives at once: frames, flows, or both.
#[derive(Default)]
pub struct Chunk {
    /// Frames, to be decoded. Their buffer is used again.
    pub frames: Batch,
    /// Flows and what is beside them.
    pub evidence: Option<Evidence>,
}

/// A capture file, or standard input.
impl Origin for CaptureInput {
    fn open(&self, hash: bool) -> Result<Box<dyn Source>, CaptureError> {
        Ok(Box::new(CaptureReader::open(self, hash)?))
    }
}

impl Source for CaptureReader {
    fn next(&mut self, chunk: &mut Chunk) -> Result<bool, ReadError> {
        self.next(&mut chunk.frames)
    }

    fn position(&self) -> u64 {
        self.position()
    }

    fn finish(
        self: Box<Self>,
        record: &mut InputRecord,
        _: &mut ActivityHistogram,
    ) -> io::Result<()> {
        (*self).finish(record)
    }
}
