//! Decompresses captures while they are read: gzip, zstd, xz, lz4 and bzip2. Files are never held
//! in memory as a whole, so a small file that decompresses to an endless stream costs time, not
//! memory.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crossbeam_channel::{Receiver, Sender, bounded};
use lz4_flex::frame::FrameDecoder;
use sha2::{Digest, Sha256};

/// The maximum window of the zstd decompressor and the maximum memory of the xz decompressor, in
/// bytes. The presets of these formats do not need more.
const MAX_WINDOW: u64 = 128 << 20;

/// Whether the SHA-256 hash of a source is computed while the source is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputHash {
    /// The hash is not computed.
    Skip,
    /// The hash covers all bytes of the source as they are stored.
    Compute,
}

type RawInput = Box<dyn Read + Send>;
type Opener = fn(BufReader<SniffedReader>) -> io::Result<RawInput>;
/// Reads a file from its start, although some bytes have already been read to identify its format.
type SniffedReader = io::Chain<Cursor<Vec<u8>>, HashingReader>;

/// The supported formats, each with its name, its first bytes and its decompressor.
const FORMATS: &[(&str, &[u8], Opener)] = &[
    ("gzip", b"\x1f\x8b", |input| Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)))),
    ("zstd", b"\x28\xb5\x2f\xfd", |input| {
        let mut decoder = zstd::Decoder::with_buffer(input)?;
        decoder.window_log_max(MAX_WINDOW.ilog2())?;
        Ok(Box::new(decoder))
    }),
    ("xz", b"\xfd7zXZ\0", |input| {
        let flags = liblzma::stream::CONCATENATED;
        let stream = liblzma::stream::Stream::new_stream_decoder(MAX_WINDOW, flags)?;
        Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream)))
    }),
    ("lz4", b"\x04\x22\x4d\x18", |input| Ok(Box::new(Lz4(Some(FrameDecoder::new(input)))))),
    ("lz4 (legacy)", &LEGACY, |input| Ok(Box::new(Legacy::new(input)))),
    ("bzip2", b"BZh", |input| Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(input)))),
];

/// Reads concatenated lz4 frames. [`FrameDecoder`] alone stops after the first one.
struct Lz4(Option<FrameDecoder<BufReader<SniffedReader>>>);

impl Read for Lz4 {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.0 {
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut input) = self.0.take().map(FrameDecoder::into_inner) else { break };
            if !input.fill_buf()?.is_empty() {
                self.0 = Some(FrameDecoder::new(input));
            }
        }
        Ok(0)
    }
}

/// The first bytes of a legacy lz4 frame (`lz4 -l`; lz4_Frame_format.md, "Legacy frame").
const LEGACY: [u8; 4] = *b"\x02\x21\x4c\x18";

/// Reads concatenated legacy lz4 frames. Their blocks consist of a length and data, without
/// checksums or an end mark.
struct Legacy {
    input: BufReader<SniffedReader>,
    packed: Vec<u8>,
    block: Vec<u8>,
    at: usize,
}

impl Legacy {
    /// The decompressed size of a full block in bytes.
    const BLOCK: usize = 8 << 20;
    /// The maximum compressed size of a block in bytes, which a block of incompressible data
    /// reaches.
    const MAX_PACKED: usize = Self::BLOCK + Self::BLOCK / 255 + 16;

    fn new(input: BufReader<SniffedReader>) -> Self {
        Self { input, packed: Vec::new(), block: Vec::new(), at: 0 }
    }

    /// Decompresses the next block. Returns false at the end of the input.
    fn read_block(&mut self) -> io::Result<bool> {
        let length = loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            let mut word = [0; 4];
            self.input.read_exact(&mut word)?;
            if word != LEGACY {
                break u32::from_le_bytes(word) as usize;
            }
        };
        if length > Self::MAX_PACKED {
            let what = format!("an lz4 block claims an impossible length of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        self.packed.resize(length, 0);
        self.input.read_exact(&mut self.packed)?;
        self.block.resize(Self::BLOCK, 0);
        let unpacked = lz4_flex::block::decompress_into(&self.packed, &mut self.block);
        self.block.truncate(*unpacked.as_ref().unwrap_or(&0));
        self.at = 0;
        unpacked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        Ok(true)
    }
}

impl Read for Legacy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.read_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// A compressed source while it is decompressed in a thread of its own.
pub(super) struct Decompressed {
    /// The decompressed bytes.
    pub input: RawInput,
    /// The name of the compression format.
    pub format: &'static str,
    /// The SHA-256 of all decompressed bytes. It is set at the end of the source if the hash of the
    /// source was requested and all of it could be decompressed.
    pub content: Arc<OnceLock<[u8; 32]>>,
}

/// Decompresses a source; `None` if it is not compressed in one of the supported formats. `start`
/// contains the first bytes, which have already been read from `source`.
pub(super) fn decompress(start: &[u8], source: &HashingReader) -> Option<io::Result<Decompressed>> {
    let (format, opened) = decoder_for(start, source.clone())?;
    let hasher = source.lock().hasher.as_ref().map(|_| Sha256::new());
    let content = Arc::new(OnceLock::new());
    let thread = opened.and_then(|input| DecompressThread::start(input, hasher, content.clone()));
    Some(thread.map(|input| Decompressed { input: Box::new(input), format, content }))
}

/// Returns the name of the compression format of a source, and a decoder; `None` if the source is
/// not compressed in one of the supported formats.
fn decoder_for(
    start: &[u8],
    source: HashingReader,
) -> Option<(&'static str, io::Result<RawInput>)> {
    let (name, _, open) = FORMATS.iter().find(|(_, magic, _)| start.starts_with(magic))?;
    let from_start = Cursor::new(start.to_vec()).chain(source);
    Some((name, open(BufReader::with_capacity(super::BLOCK / 4, from_start))))
}

/// The number of bytes that are read of a source to recognize its compression format.
const MAGIC: u64 = 8;

/// Opens a file to read its decompressed content; `None` if the file is not compressed in one of
/// the supported formats.
pub(super) fn open_compressed(path: &Path) -> io::Result<Option<impl Read>> {
    let mut file = HashingReader::new(Box::new(File::open(path)?), InputHash::Skip);
    let mut start = Vec::new();
    file.by_ref().take(MAGIC).read_to_end(&mut start)?;
    decoder_for(&start, file).map(|(_, input)| input).transpose()
}

/// The maximum number of decompressed blocks that wait for the reader.
const MAX_WAITING: usize = 4;

/// A decompressor that works ahead in its own thread. The thread ends at the end of its input,
/// after an error, or when this value is dropped.
struct DecompressThread {
    blocks: Receiver<io::Result<Vec<u8>>>,
    /// The channel that returns used blocks to the thread, which fills them again.
    empty: Sender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
}

impl DecompressThread {
    /// Starts the thread. At the end of the input, it puts the SHA-256 into `content` if there is a
    /// hasher.
    fn start(
        mut input: RawInput,
        mut hasher: Option<Sha256>,
        content: Arc<OnceLock<[u8; 32]>>,
    ) -> io::Result<Self> {
        let (full, blocks) = bounded(MAX_WAITING);
        let (empty, emptied) = bounded::<Vec<u8>>(MAX_WAITING + 2);
        std::thread::Builder::new().name("decompressor".to_owned()).spawn(move || {
            loop {
                let mut block = emptied.try_recv().unwrap_or_default();
                block.clear();
                let read = input.by_ref().take(super::BLOCK as u64).read_to_end(&mut block);
                // Data that was read before an error is passed on before the error.
                let ended = block.len() < super::BLOCK;
                if let Some(hasher) = &mut hasher {
                    hasher.update(&block);
                }
                if ended
                    && read.is_ok()
                    && let Some(hasher) = hasher.take()
                {
                    // Nothing else sets the value.
                    let _ = content.set(hasher.finalize().into());
                }
                if full.send(Ok(block)).is_err() {
                    return;
                }
                if let Err(error) = read {
                    let _ = full.send(Err(error));
                    return;
                }
                if ended {
                    return;
                }
            }
        })?;
        Ok(Self { blocks, empty, block: Vec::new(), at: 0 })
    }
}

impl Read for DecompressThread {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            let Ok(next) = self.blocks.recv() else { return Ok(0) };
            let _ = self.empty.try_send(std::mem::replace(&mut self.block, next?));
            self.at = 0;
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// A source as it is stored on disk or arrives through a pipe. It counts and, if requested, hashes
/// all bytes that are read from it. Clones continue to read the same source.
#[derive(Clone)]
pub(super) struct HashingReader(Arc<Mutex<HashState>>);

struct HashState {
    input: RawInput,
    read: u64,
    hasher: Option<Sha256>,
}

impl HashingReader {
    pub fn new(input: RawInput, hash: InputHash) -> Self {
        let hasher = match hash {
            InputHash::Skip => None,
            InputHash::Compute => Some(Sha256::new()),
        };
        Self(Arc::new(Mutex::new(HashState { input, read: 0, hasher })))
    }

    fn lock(&self) -> MutexGuard<'_, HashState> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Returns the number of bytes read from the source so far.
    pub fn position(&self) -> u64 {
        self.lock().read
    }

    /// If the hash was requested, reads the rest of the source and returns the SHA-256 hash of all
    /// its bytes in hex; otherwise returns `None` and reads nothing.
    pub fn finish(&mut self) -> io::Result<Option<String>> {
        if self.lock().hasher.is_none() {
            return Ok(None);
        }
        io::copy(&mut BufReader::with_capacity(super::BLOCK, self.clone()), &mut io::sink())?;
        let hasher = self.lock().hasher.take();
        Ok(hasher.map(|hasher| crate::model::hex(&hasher.finalize())))
    }
}

impl Read for HashingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let read = state.input.read(buffer)?;
        state.read += read as u64;
        if let Some(hasher) = &mut state.hasher {
            hasher.update(&buffer[..read]);
        }
        Ok(read)
    }
}
