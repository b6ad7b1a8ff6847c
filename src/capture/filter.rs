//! BPF filters, compiled by libpcap.

use std::collections::HashMap;

use pcap::{BpfProgram, Capture, Linktype};

use super::{CaptureError, DLT_RAW, RAW_IP};

/// A filter expression with its programs, one for each link type seen. Each worker owns one.
pub struct Filter {
    expression: String,
    programs: HashMap<u16, Option<BpfProgram>>,
    /// A frame, padded to its length on the wire.
    padded: Vec<u8>,
}

impl Filter {
    /// Checks `expression` against Ethernet. The error is libpcap's own.
    pub fn new(expression: &str) -> Result<Self, CaptureError> {
        if expression.trim().is_empty() {
            return Err(CaptureError::EmptyFilter);
        }
        let program = compile(expression, 1)?;
        let programs = HashMap::from([(1, Some(program))]);
        Ok(Self { expression: expression.to_owned(), programs, padded: Vec::new() })
    }

    /// Returns whether the filter lets the frame pass. If the expression makes no sense for a link
    /// type (libpcap refuses to compile it), none of its frames pass. A frame that the capture cut
    /// short is filtered at its length on the wire, with zeros in place of the missing bytes.
    pub fn passes(&mut self, link: u16, data: &[u8], wire_len: u32) -> bool {
        let expression = &self.expression;
        let program = self.programs.entry(link).or_insert_with(|| compile(expression, link).ok());
        let Some(program) = program else {
            return false;
        };
        let wire = (wire_len as usize).min(super::MAX_RECORD);
        if wire <= data.len() {
            return program.filter(data);
        }
        self.padded.clear();
        self.padded.extend_from_slice(data);
        self.padded.resize(wire, 0);
        program.filter(&self.padded)
    }
}

fn compile(expression: &str, link: u16) -> Result<BpfProgram, CaptureError> {
    let link = if link == RAW_IP { DLT_RAW } else { link };
    Capture::dead(Linktype(link.into()))
        .and_then(|capture| capture.compile(expression, true))
        .map_err(CaptureError::Filter)
}

/// Returns the number of a link type with its name in libpcap's registry, or the number alone.
pub fn link_name(link: u16) -> String {
    match Linktype(i32::from(link)).get_name() {
        Ok(name) => format!("{link} ({name})"),
        Err(_) => link.to_string(),
    }
}
