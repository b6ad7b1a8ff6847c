//! BPF filters, compiled by libpcap. A build without the feature `bpf` refuses every expression.

use std::collections::HashMap;

#[cfg(feature = "bpf")]
use pcap::BpfProgram;

use super::CaptureError;

/// A filter expression and its programs, one for each link type seen. An expression without `vlan`
/// also accepts tagged frames. Each worker has its own filter.
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
        // libpcap's error must quote the user's expression.
        compile(expression, 1)?;
        let program = compile_transparent(expression, 1)?;
        let programs = HashMap::from([(1, Some(program))]);
        Ok(Self { expression: expression.to_owned(), programs, padded: Vec::new() })
    }

    /// Returns whether the filter accepts the frame. If libpcap cannot compile the expression for a
    /// link type, no frame of that type is accepted. A truncated frame is padded with zeros to its
    /// length on the wire before it is filtered.
    pub fn passes(&mut self, link: u16, data: &[u8], wire_len: u32) -> bool {
        let expression = &self.expression;
        let program =
            self.programs.entry(link).or_insert_with(|| compile_transparent(expression, link).ok());
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

/// Extends an expression so that it accepts a frame with one or two VLAN tags if it accepts the
/// same frame without them. An expression without `vlan` would exclude tagged frames, and its
/// negation would include all of them. Returns `None` if the expression itself uses `vlan`.
pub(super) fn vlan_transparent(filter: &str) -> Option<String> {
    let mut words = filter.split(|c: char| !c.is_ascii_alphanumeric());
    if words.any(|word| word == "vlan") {
        return None;
    }
    // `vlan` moves the position of the headers for the rest of the expression, even if it is
    // negated. `ether` does not. The types are those that `vlan` accepts.
    let untagged = |at: usize| {
        let types = ["0x8100", "0x88a8", "0x9100"];
        types.map(|tag| format!("ether[{at}:2] != {tag}")).join(" and ")
    };
    let [first, second] = [12, 16].map(untagged);
    Some(format!(
        "({first} and ({filter})) or (vlan and (({second} and ({filter})) or (vlan and ({filter}))))"
    ))
}

/// Compiles an expression so that it also accepts tagged frames. If the link type has no VLAN tags,
/// the extended expression does not compile, and the expression itself is used instead.
fn compile_transparent(expression: &str, link: u16) -> Result<BpfProgram, CaptureError> {
    let extended = vlan_transparent(expression).and_then(|text| compile(&text, link).ok());
    extended.map_or_else(|| compile(expression, link), Ok)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "bpf")]
    #[test]
    fn a_tagged_frame_is_accepted_if_it_would_be_without_its_tags() {
        let tagged = |tags: usize| {
            let mut frame = vec![2; 12];
            (0..tags).for_each(|_| frame.extend([0x81, 0, 0, 7]));
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb]);
            frame.resize(80, 0);
            frame
        };
        let cases = [
            ("port 443", true),
            ("udp", false),
            ("net 10.0.0.0/8", true),
            ("not port 443", false),
            ("not udp", true),
        ];
        for (expression, passes) in cases {
            let mut filter = Filter::new(expression).unwrap();
            for tags in 0..3 {
                assert_eq!(filter.passes(1, &tagged(tags), 80), passes, "{expression} {tags}");
            }
        }
        // An expression that names tags means what it says.
        let mut filter = Filter::new("vlan 7 and port 443").unwrap();
        assert_eq!([0, 1].map(|tags| filter.passes(1, &tagged(tags), 80)), [false, true]);
        // Raw IP packets have no tags.
        assert!(Filter::new("port 443").unwrap().passes(
            super::super::RAW_IP,
            &tagged(0)[14..],
            66
        ));
    }

    #[cfg(not(feature = "bpf"))]
    #[test]
    fn every_expression_is_refused() {
        let refused = Filter::new("tcp").map(drop).map_err(|error| error.to_string());
        let message = "this build cannot filter frames, because it lacks the feature bpf";
        assert_eq!(refused, Err(message.to_owned()));
    }
}
