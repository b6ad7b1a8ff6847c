//! Lists what the decoder sees in each frame, for comparison with tshark.

use std::path::Path;

use rasaudit::capture::{Batch, CaptureReader, InputHash, expand};
use rasaudit::decode::{Body, Decoder, LINKS, Observation};

use super::tshark::Sees;

/// Returns the observation of each frame of a capture, or `Err` with the link type number if the
/// decoder does not support it. A frame that is not decoded yields the default observation.
pub fn ours(file: &Path) -> Vec<Result<Observation, u16>> {
    let sources = expand(&[file.to_owned()]).expect("the file is there");
    let Ok(mut reader) = CaptureReader::open(&sources[0], InputHash::Skip) else {
        return Vec::new();
    };
    let decoder = Decoder::default();
    let mut batch = Batch::default();
    let mut found = Vec::new();
    let mut more = true;
    while more {
        more = reader.next(&mut batch).unwrap_or(false);
        for frame in &batch.frames {
            let mut seen = Observation::default();
            let known = LINKS.iter().any(|link| link.number == frame.link);
            let decoded = decoder.decode(frame, batch.data(frame), &mut seen);
            found.push(match decoded {
                _ if !known => Err(frame.link),
                Ok(()) => Ok(seen),
                Err(_) => Ok(Observation::default()),
            });
        }
    }
    found
}

/// Returns the innermost packet in the form of tshark's results, for comparison.
pub fn shown(body: &Body) -> Sees {
    match body {
        Body::Transport { tuple, .. } if tuple.transport.has_ports() => Sees::Flow(
            format!("{} {}", tuple.src, tuple.sport),
            format!("{} {}", tuple.dst, tuple.dport),
            tuple.transport.0,
        ),
        Body::Fragment { .. } => Sees::Fragment,
        _ => Sees::Other,
    }
}
