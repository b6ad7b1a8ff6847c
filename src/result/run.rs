//! What an audit that has just run found.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Baseline, Explainer};
use crate::classify::{Judgement, Policy};
use crate::model::{
    ActivityHistogram, Duplicates, FrameCounters, InputRecord, Loss, Nanos, Transport,
};

/// Everything that a report tells of an audit that has just run.
pub struct AuditRun<'a> {
    /// The inputs, in the order of their names.
    pub inputs: &'a [InputRecord],
    /// What became of all frames.
    pub account: &'a FrameCounters,
    /// What the captures say they lost.
    pub loss: Loss,
    /// Packets that were seen more than once.
    pub duplicates: Duplicates,
    /// Later fragments whose first fragment is not in the capture: source, destination, protocol.
    pub orphans: &'a BTreeMap<(IpAddr, IpAddr, Transport), u64>,
    /// What the user wanted of the capture.
    pub wishes: &'a CaptureSelection,
    /// The findings of an earlier audit.
    pub known: Option<&'a Baseline>,
    /// Link types that are not decoded, by name, with their frames.
    pub unknown_links: Vec<(String, u64)>,
    /// Of what there was more than fits into memory, in words.
    pub trimmed: Vec<&'static str>,
    /// Frames that became observations, but of whose content nothing is known: in words, the most frames first.
    pub unread: Vec<(String, u64)>,
    /// When frames were captured.
    pub timeline: &'a ActivityHistogram,
    /// Frames whose stamps are doubted: they set no time.
    pub odd_stamps: u64,
    /// The policy; none where nothing was judged.
    pub policy: Option<&'a Policy>,
    /// The judgement; without a policy it holds conversations alone.
    pub outcome: &'a Judgement,
    /// Who tells the findings; nobody where nothing was judged.
    pub teller: Option<Explainer<'a>>,
    /// Why the exit code is what it is.
    pub exit_reasons: &'a [String],
}

/// What the user wanted of the capture.
#[derive(Clone, Default, Debug)]
pub struct CaptureSelection {
    /// The filter expression.
    pub filter: Option<String>,
    /// Frames before it were left out.
    pub since: Option<Nanos>,
    /// Frames from it on were left out.
    pub until: Option<Nanos>,
    /// Expiry dates are held against it.
    pub as_of: Option<Nanos>,
}
