//! Reads a source in large blocks and splits it into batches of whole records.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, OnceLock};

use super::compression::{self, Decompressed, HashingReader, InputHash};
use super::file_type::describe_magic;
use super::pcap::{FILE_HEADER, Pcap};
use super::pcapng::PcapNg;
use super::{BLOCK, Batch, CaptureError, CaptureInput, ReadError, RecordParser, ZeroRun};
use crate::model::InputRecord;

/// A source that is being read.
pub struct CaptureReader {
    /// The bytes of the capture after decompression.
    input: Box<dyn Read + Send>,
    /// The source before decompression.
    stored: HashingReader,
    /// The SHA-256 of the capture after decompression, once it is known; `None` if the source is
    /// not compressed.
    content: Option<Arc<OnceLock<[u8; 32]>>>,
    parser: Box<dyn RecordParser>,
    format: String,
    /// Bytes that were read but not parsed: the start of a record that continues in the next block.
    remainder: Vec<u8>,
    /// Bytes to skip before the next record.
    skip: u64,
    /// Offset of the first byte of `remainder` in the decompressed file.
    offset: u64,
    /// Number of bytes that the next record needs to be complete, as far as known.
    need: usize,
    ended: bool,
    /// Zeros at the end of the file.
    final_zeros: ZeroRun,
}

impl CaptureReader {
    /// Opens `source` and reads its file header.
    pub fn open(source: &CaptureInput, hash: InputHash) -> Result<Self, CaptureError> {
        if source.special {
            return Err(CaptureError::Special);
        }
        let input: Box<dyn Read + Send> = match &source.path {
            Some(path) => Box::new(File::open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound if path.is_symlink() => CaptureError::DanglingLink,
                _ => CaptureError::Io(error),
            })?),
            None => Box::new(io::stdin()),
        };
        Self::new(input, hash)
    }

    /// Opens a byte stream and reads its file header, like [`CaptureReader::open`].
    pub fn new(input: Box<dyn Read + Send>, hash: InputHash) -> Result<Self, CaptureError> {
        const START: usize = 512;
        let mut stored = HashingReader::new(input, hash);
        let mut start = ReadBuffer::default();
        start.fill(&mut stored, START).map_err(CaptureError::Io)?;
        let mut input: Box<dyn Read + Send> = Box::new(stored.clone());
        let mut packed = None;
        let mut content = None;
        if let Some(unpacked) = compression::decompress(start.filled(), &stored) {
            let Decompressed { input: unpacked, format: name, content: hash } =
                unpacked.map_err(CaptureError::Io)?;
            input = unpacked;
            packed = Some(name);
            content = Some(hash);
            start.restart(&[]);
            // Any bytes that precede the error are examined below as the start of a capture.
            if let Err(error) = start.fill(&mut *input, START)
                && start.filled().is_empty()
            {
                return Err(CaptureError::Compressed { format: name, source: error });
            }
        }
        let start = start.filled();
        let (parser, format, header): (Box<dyn RecordParser>, _, _) =
            if let Some(pcap) = Pcap::new(start) {
                (Box::new(pcap), "pcap", FILE_HEADER)
            } else if let Some(pcapng) = PcapNg::new(start) {
                (Box::new(pcapng), "pcapng", 0)
            } else {
                let description = describe_magic(start);
                return Err(match (Pcap::is_cut(start), packed) {
                    (true, _) => CaptureError::Cut(start.len() as u64),
                    (false, None) => CaptureError::NotACapture(description.to_owned()),
                    (false, Some(name)) => CaptureError::NotACapture(format!(
                        "{name} data that contains {description}"
                    )),
                });
            };
        let format = packed.map_or_else(|| format.to_owned(), |name| format!("{format}, {name}"));
        let remainder = start[header..].to_vec();
        let offset = header as u64;
        Ok(Self {
            input,
            stored,
            content,
            parser,
            format,
            remainder,
            skip: 0,
            offset,
            need: 0,
            ended: false,
            final_zeros: ZeroRun::default(),
        })
    }

    /// Fills `batch` with the next whole records. Returns false at the end of the source. The batch
    /// may contain frames even then, and also if an error is returned.
    pub fn next(&mut self, batch: &mut Batch) -> Result<bool, ReadError> {
        batch.frames.clear();
        if self.ended {
            return Ok(false);
        }
        let at = self.offset;
        let damaged = |what: String, offset| ReadError { what, offset, is_cut: false };
        self.skip_bytes().map_err(|e| damaged(e.to_string(), at))?;
        batch.buffer.restart(&self.remainder);
        let target = BLOCK.max(self.need);
        let read = batch.buffer.fill(&mut *self.input, target);
        let bytes = batch.buffer.filled();
        let parsed = self.parser.parse_records(bytes, &mut batch.frames);
        let consumed = parsed.consumed.min(bytes.len());
        self.skip = (parsed.consumed - consumed) as u64;
        self.offset += consumed as u64;
        self.need = parsed.need;
        if let Some(what) = parsed.damage {
            self.ended = true;
            return Err(damaged(what, self.offset));
        }
        self.remainder.clear();
        self.remainder.extend_from_slice(&bytes[consumed..]);
        match read {
            Ok(false) => Ok(true),
            Ok(true) => {
                self.ended = true;
                if self.remainder.iter().all(|byte| *byte == 0) && self.skip == 0 {
                    self.final_zeros.add(self.offset, self.remainder.len() as u64);
                    return Ok(false);
                }
                Err(ReadError {
                    is_cut: true,
                    ..damaged("cut off inside a record".into(), self.offset)
                })
            }
            Err(error) => {
                self.ended = true;
                Err(damaged(error.to_string(), self.offset))
            }
        }
    }

    /// Discards the bytes of a block that is not needed.
    fn skip_bytes(&mut self) -> io::Result<()> {
        let mut block = ReadBuffer::default();
        while self.skip > 0 {
            block.restart(&[]);
            let count = self.skip.min(BLOCK as u64) as usize;
            let ended = block.fill(&mut *self.input, count)?;
            self.skip -= block.filled as u64;
            self.offset += block.filled as u64;
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// Returns the number of bytes read from the source so far, before decompression.
    pub fn position(&self) -> u64 {
        self.stored.position()
    }

    /// Finishes reading and stores what is known about the source in `record`. A requested hash
    /// covers the whole source, including parts that could not be parsed.
    pub fn finish(mut self, record: &mut InputRecord) -> io::Result<()> {
        let metadata = self.parser.metadata();
        let mut zeros = metadata.zeros;
        if self.final_zeros.bytes > 0 {
            zeros.add(self.final_zeros.first, self.final_zeros.bytes);
        }
        record.error = metadata.wrong_headers(zeros.bytes);
        record.zeros = (zeros.first, zeros.bytes);
        record.format = self.format;
        record.link_types = metadata.link_types;
        record.link_types.sort_unstable();
        record.filters = metadata.filters;
        record.filters.sort_unstable();
        record.loss = metadata.loss;
        record.hidden_nanos = metadata.hidden_nanos;
        record.impossible_drops = metadata.impossible_drops;
        record.sha256 = self.stored.finish()?;
        if let Some(content) = self.content.filter(|_| record.sha256.is_some()) {
            // The hash is complete when the decompressor has reached the end. If it fails, the
            // content is not known.
            let _ = io::copy(&mut self.input, &mut io::sink());
            record.unpacked = content.get().copied();
        }
        Ok(())
    }
}

/// A buffer that does not shrink when it is emptied, so that its memory is zeroed only once, not at
/// each use.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl ReadBuffer {
    /// Returns the filled part.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// Appends `more` to the filled part.
    #[cfg(feature = "bpf")]
    pub fn extend(&mut self, more: &[u8]) {
        let end = self.filled + more.len();
        if self.bytes.len() < end {
            self.bytes.resize(end.next_power_of_two(), 0);
        }
        self.bytes[self.filled..end].copy_from_slice(more);
        self.filled = end;
    }

    /// Replaces the content with `start`.
    pub fn restart(&mut self, start: &[u8]) {
        if self.bytes.len() < start.len() {
            self.bytes.resize(start.len(), 0);
        }
        self.bytes[..start.len()].copy_from_slice(start);
        self.filled = start.len();
    }

    /// Reads until the buffer contains `target` bytes or the input ends. Returns true at the end of
    /// the input. Bytes that were read before an error are kept.
    fn fill(&mut self, input: &mut dyn Read, target: usize) -> io::Result<bool> {
        if self.bytes.len() < target {
            self.bytes.resize(target, 0);
        }
        while self.filled < target {
            match input.read(&mut self.bytes[self.filled..target]) {
                Ok(0) => return Ok(true),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}
