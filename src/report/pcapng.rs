//! Writes the common parts of pcapng files (draft-ietf-opsawg-pcapng). Timestamps have a resolution
//! of one nanosecond, and each file names this program.

use std::io::{self, Write};

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

/// Starts a pcapng file with a Section Header Block. The comment is about the file as a whole.
pub(crate) fn begin<W: Write>(out: W, comment: Option<&str>) -> io::Result<PcapNgWriter<W>> {
    let program = concat!("rasaudit ", env!("CARGO_PKG_VERSION"));
    let mut options: Vec<_> = comment
        .map(|text| SectionHeaderOption::Comment(text.to_owned().into()))
        .into_iter()
        .collect();
    options.push(SectionHeaderOption::UserApplication(program.into()));
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        options,
        ..SectionHeaderBlock::default()
    };
    PcapNgWriter::with_section_header(out, section).map_err(plain)
}

/// Adds an interface. `snaplen` is the number of bytes kept of each frame; zero means all bytes.
pub(crate) fn add_interface<W: Write>(
    file: &mut PcapNgWriter<W>,
    link: u16,
    snaplen: u32,
    name: Option<&str>,
) -> io::Result<()> {
    const NANOSECONDS: u8 = 9;
    let mut options: Vec<_> = name
        .map(|name| InterfaceDescriptionOption::IfName(name.to_owned().into()))
        .into_iter()
        .collect();
    options.push(InterfaceDescriptionOption::IfTsResol(NANOSECONDS));
    let block =
        InterfaceDescriptionBlock { linktype: DataLink::from(u32::from(link)), snaplen, options };
    file.write_pcapng_block(block).map(drop).map_err(plain)
}

/// Returns the underlying I/O error unchanged, and any other error as an I/O error.
pub(crate) fn plain(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
