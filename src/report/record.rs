//! Records the frames of a live audit in rotated pcapng files.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;

use super::pcapng::{self, plain};
use super::{FolderError, folder_of};
use crate::model::Nanos;

/// The size of an Enhanced Packet Block without its frame, in bytes.
const BLOCK: u64 = 32;

/// Size of the write buffer in bytes.
const BUFFER: usize = 1 << 20;

/// An interface whose frames are recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The name of the interface.
    pub name: String,
    /// The link type of its frames (number in the LINKTYPE_ registry).
    pub link: u16,
    /// Bytes that are kept of each frame.
    pub snaplen: u32,
}

/// Writes frames to rotated files. For `farm.pcapng`, they are `farm.000001.pcapng` and so on.
pub struct Recorder {
    folder: PathBuf,
    stem: String,
    extension: String,
    interfaces: Vec<Recorded>,
    /// The size in bytes after which the next file begins.
    size: u64,
    /// The number of files to keep.
    files: usize,
    number: u64,
    open: Option<(PcapNgWriter<BufWriter<File>>, u64)>,
    /// Whether writing failed. It is not attempted again before [`Recorder::recover`].
    is_broken: bool,
}

impl Recorder {
    /// Begins the first file. Its number follows those of existing files.
    pub fn new(
        path: &Path,
        size: u64,
        files: usize,
        interfaces: Vec<Recorded>,
    ) -> Result<Self, FolderError> {
        let text_or = |part: Option<&std::ffi::OsStr>, default: &str| {
            part.map_or_else(|| default.to_owned(), |text| text.to_string_lossy().into_owned())
        };
        let mut recorder = Self {
            folder: folder_of(path),
            stem: text_or(path.file_stem(), "capture"),
            extension: text_or(path.extension(), "pcapng"),
            interfaces,
            size,
            files,
            number: 0,
            open: None,
            is_broken: false,
        };
        let failed = |error| FolderError { path: path.to_owned(), error };
        recorder.number = recorder.existing_numbers().map_err(failed)?.last().copied().unwrap_or(0);
        recorder.begin().map_err(failed)?;
        Ok(recorder)
    }

    fn path_of(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}.{number:06}.{}", self.stem, self.extension))
    }

    /// Returns the numbers of the existing files, in ascending order.
    fn existing_numbers(&self) -> io::Result<Vec<u64>> {
        let number = |name: &str| {
            let name = name.strip_prefix(&self.stem)?.strip_prefix('.')?;
            let digits = name.strip_suffix(&self.extension)?.strip_suffix('.')?;
            (digits.len() >= 6).then(|| digits.parse().ok()).flatten()
        };
        let mut numbers: Vec<u64> = fs::read_dir(&self.folder)?
            .flatten()
            .filter_map(|entry| number(entry.file_name().to_str()?))
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Begins the next file, and removes the oldest files if there are too many.
    fn begin(&mut self) -> io::Result<()> {
        self.finish()?;
        self.number += 1;
        let file = File::create_new(self.path_of(self.number))?;
        let mut writer = pcapng::begin(BufWriter::with_capacity(BUFFER, file), None)?;
        for Recorded { name, link, snaplen } in &self.interfaces {
            pcapng::add_interface(&mut writer, *link, *snaplen, Some(name))?;
        }
        self.open = Some((writer, 0));
        let existing = self.existing_numbers()?;
        for old in &existing[..existing.len().saturating_sub(self.files)] {
            fs::remove_file(self.path_of(*old))?;
        }
        Ok(())
    }

    /// Writes frames of an interface, each given as time, length on the wire and captured bytes.
    /// After an error, nothing is written until [`Recorder::recover`] is called.
    pub fn record<'a>(
        &mut self,
        interface: usize,
        frames: impl Iterator<Item = (Nanos, u32, &'a [u8])>,
    ) -> io::Result<()> {
        if self.is_broken {
            return Ok(());
        }
        let written = self.write_frames(interface, frames);
        self.is_broken = written.is_err();
        written
    }

    fn write_frames<'a>(
        &mut self,
        interface: usize,
        frames: impl Iterator<Item = (Nanos, u32, &'a [u8])>,
    ) -> io::Result<()> {
        for (time, wire_len, data) in frames {
            if self.open.as_ref().is_none_or(|(_, written)| *written >= self.size) {
                self.begin()?;
            }
            let Some((writer, written)) = &mut self.open else { continue };
            writer
                .write_pcapng_block(EnhancedPacketBlock {
                    interface_id: interface as u32,
                    timestamp: Duration::from_nanos(u64::try_from(time).unwrap_or_default()),
                    original_len: wire_len,
                    data: Cow::Borrowed(data),
                    options: Vec::new(),
                })
                .map_err(plain)?;
            *written += BLOCK + (data.len() as u64).next_multiple_of(4);
        }
        Ok(())
    }

    /// Ends the current file and writes its buffered data.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.open.take() {
            Some((writer, _)) => writer.into_inner().flush(),
            None => Ok(()),
        }
    }

    /// Allows writing again after an error, in a new file. Returns whether there was an error.
    pub fn recover(&mut self) -> bool {
        let was_broken = std::mem::take(&mut self.is_broken);
        if was_broken {
            self.open = None;
        }
        was_broken
    }
}
