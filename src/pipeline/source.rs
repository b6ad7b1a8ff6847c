//! Sources of flows: the frames of a capture, or ready-made flows.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::capture::{Batch, CaptureError, CaptureInput, CaptureReader, InputHash, ReadError};
use crate::flow::{Evidence, Retention, SideEvidence};
use crate::model::{ActivityHistogram, InputRecord, Nanos, VantagePoint};

/// An input that can be opened. A file can be opened any number of times, standard input only once.
pub trait Origin: fmt::Debug + Send + Sync {
    /// Opens the input. With `hash`, the SHA-256 of all data read is computed.
    ///
    /// # Errors
    ///
    /// Returns an error if the input cannot be opened or has the wrong format.
    fn open(&self, hash: bool) -> Result<Box<dyn Source>, CaptureError>;

    /// Returns whether the input states the sensor that captured it. The default is `false`.
    fn has_vantage_point(&self) -> bool {
        false
    }
}

/// Evidence that several sources have in common, such as the rows of a store, which are merged over
/// many captures. Any of these sources may return any part of the evidence. The evidence can be
/// read again.
pub trait SharedEvidence: fmt::Debug + Send + Sync {
    /// Prepares for reading all evidence, from the start. `retention` states which evidence of
    /// single packets is wanted.
    fn begin(&self, retention: &Retention);

    /// Checks, after all sources were read, that the evidence is complete.
    ///
    /// # Errors
    ///
    /// Returns all problems, each with the name of the file or input.
    fn check(&self) -> Result<(), Vec<(String, String)>>;

    /// Reads only the sides that started a message that continues in another segment, and the
    /// sample that shows whether packets are doubled. If they cannot be read, the check after
    /// reading all evidence returns the reason.
    fn read_ahead(&self) -> SideEvidence;

    /// Returns whether the evidence contains what is needed to find duplicate packets.
    fn has_packets(&self) -> bool;

    /// Returns whether the evidence states the numbers of duplicates, which an earlier run decided.
    /// They include duplicates of fragments that are still to be joined.
    fn knows_duplicates(&self) -> bool;

    /// Returns the times of the last frames before a capture stopped. By default, no capture is
    /// known to have stopped.
    fn interruptions(&self) -> Vec<Nanos> {
        Vec::new()
    }

    /// Returns when each vantage point with a name watched. By default, none has a name.
    fn vantage_points(&self) -> BTreeMap<VantagePoint, ActivityHistogram> {
        BTreeMap::new()
    }

    /// Returns the greatest share of frames, from 0 to 1, that a vantage point with a name lost
    /// according to its counters. Frames that other vantage points saw do not reduce this share.
    fn vantage_loss(&self) -> f64 {
        0.0
    }
}

/// A source that is being read.
pub trait Source: Send {
    /// Fills `chunk` with the next data. Returns false at the end of the source. Even then, or if
    /// an error is returned, `chunk` may contain data.
    ///
    /// # Errors
    ///
    /// Returns an error if the rest cannot be read. The data before it is valid.
    fn next(&mut self, chunk: &mut Chunk) -> Result<bool, ReadError>;

    /// Returns the number of bytes read so far, for progress displays.
    fn position(&self) -> u64;

    /// Finishes reading and records the facts about the whole source. A source of ready-made flows
    /// also records the counters and capture times of the frames behind its flows, because no other
    /// code has seen these frames.
    ///
    /// # Errors
    ///
    /// Returns an error if the end could not be read.
    fn finish(
        self: Box<Self>,
        record: &mut InputRecord,
        timeline: &mut ActivityHistogram,
    ) -> io::Result<()>;
}

/// The data that a source returns in one step: frames, ready-made flows, or both.
#[derive(Default)]
pub struct Chunk {
    /// The frames to decode. Their buffer is reused.
    pub frames: Batch,
    /// Ready-made flows and their side evidence.
    pub evidence: Option<Evidence>,
}

/// A capture file or standard input.
impl Origin for CaptureInput {
    fn open(&self, hash: bool) -> Result<Box<dyn Source>, CaptureError> {
        let hash = if hash { InputHash::Compute } else { InputHash::Skip };
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
