//! BPF filters, compiled by libpcap.

use std::collections::HashMap;

use pcap::{BpfProgram, Capture, Linktype};

use super::{CaptureError, DLT_RAW, RAW_IP};

/// A filter expression and its programs, one for each link type seen. Each worker has its own
/// filter.
pub struct Filter {
    expression: String,
    programs: HashMap<u16, Option<BpfProgram>>,
    /// Buffer for a frame that is padded to its length on the wire.
    padded: Vec<u8>,
}

impl Filter {
    /// Compiles `expression` for Ethernet, to check it. Returns [`CaptureError::EmptyFilter`] if it
    /// is empty, or libpcap's error if it is not valid.
    pub fn new(expression: &str) -> Result<Self, CaptureError> {
        if expression.trim().is_empty() {
            return Err(CaptureError::EmptyFilter);
        }
        let program = compile(expression, 1)?;
        let programs = HashMap::from([(1, Some(program))]);
        Ok(Self { expression: expression.to_owned(), programs, padded: Vec::new() })
    }

    /// Returns whether the filter accepts the frame. If libpcap cannot compile the expression for a
    /// link type, no frame of that type is accepted. A truncated frame is filtered at its length on
    /// the wire, with zeros in place of the missing bytes.
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

/// Returns the number of a link type, followed by its name if libpcap knows one.
pub fn link_name(link: u16) -> String {
    match Linktype(i32::from(link)).get_name() {
        Ok(name) => format!("{link} ({name})"),
        Err(_) => link.to_string(),
    }
}
