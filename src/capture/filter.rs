//! BPF filters, compiled by libpcap. A build without the feature `bpf` refuses every expression.

use std::collections::HashMap;

#[cfg(feature = "bpf")]
use pcap::BpfProgram;

use super::CaptureError;
use crate::model::VLAN_TAG_TYPES;

/// A filter expression and its programs, one for each link type seen. Each worker has its own
/// filter.
pub struct Filter {
    expression: String,
    /// Whether frames are filtered without their VLAN tags, because the expression does not use
    /// `vlan`.
    ignores_tags: bool,
    programs: HashMap<u16, Option<BpfProgram>>,
    /// Buffer for a frame without its tags, or padded to its length on the wire.
    changed: Vec<u8>,
}

impl Filter {
    /// Compiles `expression` for Ethernet, to check it. Returns [`CaptureError::EmptyFilter`] if it
    /// is empty, libpcap's error if it is not valid, and [`CaptureError::NoFilters`] in a build
    /// without the feature `bpf`.
    pub fn new(expression: &str) -> Result<Self, CaptureError> {
        if expression.trim().is_empty() {
            return Err(CaptureError::EmptyFilter);
        }
        let programs = HashMap::from([(1, Some(compile(expression, 1)?))]);
        Ok(Self {
            expression: expression.to_owned(),
            ignores_tags: !uses_vlan(expression),
            programs,
            changed: Vec::new(),
        })
    }

    /// Returns whether libpcap can compile an expression for frames of a link type. For example, it
    /// has no `vlan` for Linux cooked captures.
    pub fn is_for(expression: &str, link: u16) -> bool {
        compile(expression, link).is_ok()
    }

    /// Returns whether the filter accepts the frame. If libpcap cannot compile the expression for a
    /// link type, no frame of that type is accepted. Unless the expression uses `vlan`, the VLAN
    /// tags of the frame are removed before it is filtered. A truncated frame is always padded with
    /// zeros to its length on the wire.
    pub fn passes(&mut self, link: u16, data: &[u8], wire_len: u32) -> bool {
        let expression = &self.expression;
        let program = self.programs.entry(link).or_insert_with(|| compile(expression, link).ok());
        let Some(program) = program else {
            return false;
        };
        let wire = (wire_len as usize).min(super::MAX_RECORD);
        let tags = if self.ignores_tags { VlanTags::of(link, data) } else { None };
        if tags.is_none() && wire <= data.len() {
            return program.filter(data);
        }
        self.changed.clear();
        match tags {
            Some(tags) => tags.copy_without(data, &mut self.changed),
            None => self.changed.extend_from_slice(data),
        }
        let wire = wire.saturating_sub(data.len() - self.changed.len());
        self.changed.resize(wire.max(self.changed.len()), 0);
        program.filter(&self.changed)
    }
}

/// The VLAN tags of a frame.
struct VlanTags {
    /// The offset of the type in the link-layer header.
    type_at: usize,
    /// The offset of the first tag's control information.
    from: usize,
    /// The offset after the type that follows the last tag.
    to: usize,
}

impl VlanTags {
    /// Returns the tags of a frame; `None` if it has none, or if the link type has no place for
    /// them.
    fn of(link: u16, data: &[u8]) -> Option<Self> {
        // Ethernet, and the two kinds of Linux cooked capture (LINKTYPE_LINUX_SLL and
        // LINKTYPE_LINUX_SLL2).
        let (type_at, from) = match link {
            1 => (12, 14),
            113 => (14, 16),
            276 => (0, 20),
            _ => return None,
        };
        let is_tag = |at: usize| {
            let bytes = data.get(at..)?.first_chunk()?;
            Some(VLAN_TAG_TYPES.contains(&u16::from_be_bytes(*bytes)))
        };
        let mut to = from;
        let mut place = type_at;
        while is_tag(place) == Some(true) && data.len() >= to + 4 {
            place = to + 2;
            to += 4;
        }
        (to > from).then_some(Self { type_at, from, to })
    }

    /// Appends the frame without the tags to `changed`.
    fn copy_without(&self, data: &[u8], changed: &mut Vec<u8>) {
        let start = changed.len();
        changed.extend_from_slice(&data[..self.from]);
        changed[start + self.type_at..][..2].copy_from_slice(&data[self.to - 2..self.to]);
        changed.extend_from_slice(&data[self.to..]);
    }
}

fn uses_vlan(expression: &str) -> bool {
    let mut words = expression.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| word == "vlan")
}

/// Extends an expression for a live interface so that it accepts a frame with one or two VLAN tags
/// of the types that `vlan` accepts if it accepts the same frame without them. An expression
/// without `vlan` would exclude tagged frames, and its negation would include all of them. Returns
/// `None` if the expression itself uses `vlan`.
///
/// A frame whose outermost tag has another type is never accepted. With three tags, an expression
/// cannot look behind all of them, so a negation accepts the frame.
#[cfg(feature = "bpf")]
pub(super) fn vlan_transparent(filter: &str) -> Option<String> {
    if uses_vlan(filter) {
        return None;
    }
    // `vlan` moves the position of the headers for the rest of the expression, even if it is
    // negated. `ether` does not.
    let untagged =
        |at: usize| VLAN_TAG_TYPES.map(|tag| format!("ether[{at}:2] != {tag}")).join(" and ");
    let [first, second] = [12, 16].map(untagged);
    Some(format!(
        "({first} and ({filter})) or (vlan and (({second} and ({filter})) or (vlan and ({filter}))))"
    ))
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
        let with_tags = |tags: &[u16]| {
            let mut frame = vec![2; 12];
            for tag in tags {
                frame.extend(tag.to_be_bytes());
                frame.extend([0, 7]);
            }
            frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2, 0xc3, 0x50, 1, 0xbb]);
            frame.resize(80, 0);
            frame
        };
        let tagged = |tags: usize| with_tags(&[0x8100; 4][..tags]);
        let cases = [
            ("port 443", true),
            ("udp", false),
            ("net 10.0.0.0/8", true),
            ("not port 443", false),
            ("not udp", true),
            ("ether[12:2] = 0x0800", true),
            ("greater 60", true),
            ("greater 81", false),
        ];
        for (expression, passes) in cases {
            let mut filter = Filter::new(expression).unwrap();
            for tags in 0..5 {
                assert_eq!(filter.passes(1, &tagged(tags), 80), passes, "{expression} {tags}");
            }
            for tag in VLAN_TAG_TYPES {
                let frame = with_tags(&[tag, 0x8100]);
                assert_eq!(filter.passes(1, &frame, 80), passes, "{expression} {tag:x}");
                // Cooked captures have the tags in the same order, but at other offsets.
                if expression.starts_with("ether") {
                    continue;
                }
                let cooked = [&[0; 2], &frame[..]].concat();
                assert_eq!(filter.passes(113, &cooked, 82), passes, "{expression} {tag:x}");
                let cooked = [&frame[12..14], &[0; 18], &frame[14..]].concat();
                assert_eq!(filter.passes(276, &cooked, 86), passes, "{expression} {tag:x}");
            }
            // The tag of a frame that ends within it is not removed.
            filter.passes(1, &tagged(1)[..15], 15);
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
