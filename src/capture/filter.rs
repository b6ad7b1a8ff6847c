//! BPF filters, compiled by libpcap. A build without the feature `bpf` refuses every expression.

use std::collections::HashMap;

#[cfg(feature = "bpf")]
use pcap::BpfProgram;

use super::CaptureError;

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
    /// is empty, libpcap's error if it is not valid, and [`CaptureError::NoFilters`] in a build
    /// without the feature `bpf`.
    pub fn new(expression: &str) -> Result<Self, CaptureError> {
        if expression.trim().is_empty() {
            return Err(CaptureError::EmptyFilter);
        }
        let program = compile(expression, 1)?;
        let programs = HashMap::from([(1, Some(program))]);
        Ok(Self { expression: expression.to_owned(), programs, padded: Vec::new() })
    }

    /// Returns whether the filter accepts the frame. If libpcap cannot compile the expression for a
    /// link type, no frame of that type is accepted. A truncated frame is padded with zeros to its
    /// length on the wire before it is filtered.
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

/// The type of a compiled expression in a build without libpcap. It has no values.
#[cfg(not(feature = "bpf"))]
enum BpfProgram {}

#[cfg(not(feature = "bpf"))]
impl BpfProgram {
    fn filter(&self, _: &[u8]) -> bool {
        match *self {}
    }
}

#[cfg(feature = "bpf")]
fn compile(expression: &str, link: u16) -> Result<BpfProgram, CaptureError> {
    use super::{DLT_RAW, RAW_IP};
    let link = if link == RAW_IP { DLT_RAW } else { link };
    pcap::Capture::dead(pcap::Linktype(link.into()))
        .and_then(|capture| capture.compile(expression, true))
        .map_err(CaptureError::Filter)
}

#[cfg(not(feature = "bpf"))]
fn compile(_: &str, _: u16) -> Result<BpfProgram, CaptureError> {
    Err(CaptureError::NoFilters)
}

#[cfg(all(test, not(feature = "bpf")))]
mod tests {
    use super::*;

    #[test]
    fn every_expression_is_refused() {
        let refused = Filter::new("tcp").map(drop).map_err(|error| error.to_string());
        let message = "this build cannot filter frames, because it lacks the feature bpf";
        assert_eq!(refused, Err(message.to_owned()));
    }
}
